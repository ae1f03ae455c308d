#include <gtest/gtest.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>

extern "C" {
#include "hyp/log.h"
}

namespace
{

__attribute__((format(printf, 1, 2))) std::string ours(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	int length = text_vformat(text, sizeof(text), format, args);
	va_end(args);
	EXPECT_EQ(length, static_cast<int>(strlen(text)));
	return text;
}

__attribute__((format(printf, 1, 2))) std::string theirs(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return text;
}

#define SAME(...) EXPECT_EQ(ours(__VA_ARGS__), theirs(__VA_ARGS__)) << #__VA_ARGS__

TEST(text, plain_text_and_percent_signs_come_through)
{
	SAME("hello");
	SAME("100%% of %s", "it");
	EXPECT_EQ(ours("%s", ""), "");
}

TEST(text, integers_print_as_in_the_c_library)
{
	for (int value : {0, 1, -1, 42, -42, 2147483647, -2147483647 - 1}) {
		SAME("%d %i %u %x %X", value, value, (unsigned)value, (unsigned)value,
		     (unsigned)value);
		SAME("[%8d] [%-8d] [%08d] [%+d]", value, value, value, value);
		SAME("[%.5d] [%8.5d] [%-8.5d]", value, value, value);
	}
}

TEST(text, lengths_cut_or_widen_the_argument)
{
	SAME("%hhu %hhd %hu %hd", (unsigned char)0xfe, (signed char)-2, (unsigned short)0xfffe,
	     (short)-2);
	SAME("%lu %ld %llx %zu", ~0ul, -1l, ~0ull, (size_t)1 << 40);
	SAME("%lld", (long long)(1ull << 63));
}

TEST(text, strings_obey_width_and_precision)
{
	SAME("[%10s] [%-10s] [%.2s] [%10.2s]", "abc", "abc", "abc", "abc");
	SAME("[%*s] [%-*s] [%.*s]", 6, "ab", 6, "ab", 1, "ab");
	SAME("[%*d] [%.*d]", -6, 7, 3, 7);
}

TEST(text, precision_keeps_off_text_that_does_not_end)
{
	const char unended[3] = {'a', 'b', 'c'};

	EXPECT_EQ(ours("%.3s", unended), "abc");
}

TEST(text, characters_and_pointers_print)
{
	SAME("[%c] [%3c] [%-3c]", 'x', 'y', 'z');
	SAME("%p", reinterpret_cast<void *>(0x1234abcd));
}

TEST(text, zero_with_precision_zero_is_empty)
{
	int none = 0;

	SAME("[%.*d] [%5.*d]", none, 0, none, 0);
}

TEST(text, missing_string_says_so)
{
	const char *volatile missing = nullptr;

	EXPECT_EQ(ours("%s", missing), "(null)");
}

TEST(text, every_buffer_size_truncates_and_ends_in_zero)
{
	const char whole[] = "ab -0042 xyz";
	const int length = sizeof(whole) - 1;

	for (size_t size = 1; size <= sizeof(whole) + 1; size++) {
		char text[32];

		memset(text, '#', sizeof(text));
		EXPECT_EQ(text_format(text, size, "ab %05d %s", -42, "xyz"), length);
		EXPECT_EQ(std::string(text), std::string(whole).substr(0, size - 1));
		EXPECT_EQ(text[size], '#') << "wrote behind the buffer";
	}
}

TEST(text, size_zero_writes_nothing)
{
	char byte = '#';

	EXPECT_EQ(text_format(&byte, 0, "%d", 12345), 5);
	EXPECT_EQ(byte, '#');
}

} // namespace

/* hyp/string.c, whose functions have the prefix hyp_ on the host, held against the C library's. */
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

extern "C" {
void *hyp_memcpy(void *to, const void *from, size_t size);
void *hyp_memmove(void *to, const void *from, size_t size);
void *hyp_memset(void *to, int byte, size_t size);
int hyp_memcmp(const void *a, const void *b, size_t size);
void *hyp_memchr(const void *start, int byte, size_t size);
size_t hyp_strlen(const char *text);
size_t hyp_strnlen(const char *text, size_t max);
int hyp_strcmp(const char *a, const char *b);
int hyp_strncmp(const char *a, const char *b, size_t max);
char *hyp_strchr(const char *text, int c);
char *hyp_strrchr(const char *text, int c);
}

namespace
{

constexpr size_t AREA = 128;
using area = std::vector<unsigned char>;

area numbered(unsigned first)
{
	area bytes(AREA);

	for (size_t i = 0; i < AREA; i++) {
		bytes[i] = static_cast<unsigned char>(first + i);
	}
	return bytes;
}

int sign(int value)
{
	return (value > 0) - (value < 0);
}

TEST(string, memcpy_copies_every_alignment_and_size_and_nothing_else)
{
	for (size_t to = 0; to < 9; to++) {
		for (size_t from = 0; from < 9; from++) {
			for (size_t size = 0; size <= 64; size++) {
				area source = numbered(1), ours = numbered(100), theirs = ours;

				EXPECT_EQ(hyp_memcpy(&ours[to], &source[from], size), &ours[to]);
				memcpy(&theirs[to], &source[from], size);
				ASSERT_EQ(ours, theirs) << to << " " << from << " " << size;
			}
		}
	}
}

TEST(string, memmove_survives_every_overlap)
{
	for (size_t to = 0; to < 40; to++) {
		for (size_t from = 0; from < 40; from++) {
			for (size_t size = 0; size <= 64; size += 3) {
				area ours = numbered(7), theirs = ours;

				EXPECT_EQ(hyp_memmove(&ours[to], &ours[from], size), &ours[to]);
				memmove(&theirs[to], &theirs[from], size);
				ASSERT_EQ(ours, theirs) << to << " " << from << " " << size;
			}
		}
	}
}

TEST(string, memset_fills_exactly_its_range_with_the_low_byte)
{
	for (size_t to = 0; to < 17; to++) {
		for (size_t size = 0; size <= 64; size++) {
			area ours = numbered(3), theirs = ours;

			EXPECT_EQ(hyp_memset(&ours[to], 0x1a5, size), &ours[to]);
			memset(&theirs[to], 0xa5, size);
			ASSERT_EQ(ours, theirs) << to << " " << size;
		}
	}
}

TEST(string, memcmp_finds_the_first_difference_as_unsigned_bytes)
{
	area a = numbered(0), b = a;

	EXPECT_EQ(hyp_memcmp(a.data(), b.data(), AREA), 0);
	for (size_t i = 0; i < AREA; i++) {
		b[i] ^= 0x80;
		EXPECT_EQ(sign(hyp_memcmp(a.data(), b.data(), AREA)),
			  sign(memcmp(a.data(), b.data(), AREA)));
		EXPECT_EQ(hyp_memcmp(a.data(), b.data(), i), 0);
		b[i] ^= 0x80;
	}
}

TEST(string, memchr_stops_at_its_size)
{
	area a = numbered(0);

	EXPECT_EQ(hyp_memchr(a.data(), 5, AREA), &a[5]);
	EXPECT_EQ(hyp_memchr(a.data(), 0x105, AREA), &a[5]) << "the byte is cut to eight bits";
	EXPECT_EQ(hyp_memchr(a.data(), 5, 5), nullptr);
	EXPECT_EQ(hyp_memchr(a.data(), 0, 0), nullptr);
}

TEST(string, lengths_count_to_the_zero_or_the_limit)
{
	EXPECT_EQ(hyp_strlen(""), 0u);
	EXPECT_EQ(hyp_strlen("abc"), 3u);
	EXPECT_EQ(hyp_strnlen("abc", 2), 2u);
	EXPECT_EQ(hyp_strnlen("abc", 9), 3u);
}

TEST(string, comparisons_have_the_sign_of_the_c_library)
{
	const char *const words[] = {"", "a", "ab", "abc", "b", "\xff", "a\xff"};

	for (const char *a : words) {
		for (const char *b : words) {
			EXPECT_EQ(sign(hyp_strcmp(a, b)), sign(strcmp(a, b))) << a << " " << b;
			for (size_t max = 0; max < 4; max++) {
				EXPECT_EQ(sign(hyp_strncmp(a, b, max)), sign(strncmp(a, b, max)));
			}
		}
	}
}

TEST(string, searches_find_first_last_and_the_end)
{
	const char text[] = "abcabc";

	EXPECT_EQ(hyp_strchr(text, 'b'), text + 1);
	EXPECT_EQ(hyp_strrchr(text, 'b'), text + 4);
	EXPECT_EQ(hyp_strchr(text, '\0'), text + 6);
	EXPECT_EQ(hyp_strrchr(text, '\0'), text + 6);
	EXPECT_EQ(hyp_strchr(text, 'x'), nullptr);
	EXPECT_EQ(hyp_strrchr(text, 'x'), nullptr);
}

} // namespace

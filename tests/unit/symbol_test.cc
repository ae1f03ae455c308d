#include <gtest/gtest.h>

extern "C" {
#include "hyp/symbol.h"
}

/* A table of the test's own, in place of the weak one. */
extern "C" const struct symbol symbols[] = {{0x10, 0}, {0x40, 4}, {0x48, 8}};
extern "C" const u32 symbol_count = 3;
extern "C" const char symbol_names[] = "one\0two\0six";

namespace
{

TEST(symbol, every_address_belongs_to_the_function_before_it)
{
	u32 start = 0;

	EXPECT_STREQ(symbol_find(0x10, &start), "one");
	EXPECT_EQ(start, 0x10u);
	EXPECT_STREQ(symbol_find(0x3f, &start), "one");
	EXPECT_EQ(start, 0x10u);
	EXPECT_STREQ(symbol_find(0x40, &start), "two");
	EXPECT_STREQ(symbol_find(0x47, &start), "two");
	EXPECT_STREQ(symbol_find(0xffffffff, &start), "six");
	EXPECT_EQ(start, 0x48u);
}

TEST(symbol, address_before_the_first_function_has_none)
{
	u32 start = 0;

	EXPECT_EQ(symbol_find(0xf, &start), nullptr);
}

} // namespace

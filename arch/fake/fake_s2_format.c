/*
 * The fake machine's table format, odd on purpose. A core that knows some real format's bits by
 * heart fails on it:
 *
 *   63     62    61         60    59   58      57    56   55..52       51..48       47..44
 *   absent large table used dirty used no exec write read memory large memory small nothing
 *
 *   43..12         11..9   8   7   6..3           2         1       0
 *   address 43..12 nothing cow log address 47..44 user exec present empty
 *
 * Present is bit 1, and empty is not zero; table and leaf are told apart by bit 62; the kernel may
 * execute where a bit is clear and the user where one is set; small and large leaves have their
 * memory type in different places; the address's high bits are at the low end.
 */
#include "fake.h"

#include <arch/s2.h>

#define EMPTY BIT(0)
#define PRESENT BIT(1)
#define USER_EXEC BIT(2)
#define ADDRESS_HIGH BITS(6, 3)
#define LOG BIT(7)
#define COW BIT(8)
#define ADDRESS BITS(43, 12)
#define MEMORY_SMALL BITS(51, 48)
#define MEMORY_LARGE BITS(55, 52)
#define READ BIT(56)
#define WRITE BIT(57)
#define NO_EXEC BIT(58)
#define ACCESSED BIT(59)
#define DIRTY BIT(60)
#define TABLE_ACCESSED BIT(61)
#define LARGE BIT(62)
#define ABSENT BIT(63)

#define NOTHING (BITS(11, 9) | BITS(47, 44))
static_assert(EMPTY + PRESENT + USER_EXEC + ADDRESS_HIGH + LOG + COW + ADDRESS + MEMORY_SMALL +
			      MEMORY_LARGE + READ + WRITE + NO_EXEC + ACCESSED + DIRTY +
			      TABLE_ACCESSED + LARGE + ABSENT + NOTHING ==
		      ~0ull,
	      "the drawing has each bit once");

static const u8 memory_codes[S2_MEMORY_TYPES] = {
	[S2_NORMAL] = 9, [S2_UNCACHED] = 4,	  [S2_DEVICE] = 2,
	[S2_FORCED] = 6, [S2_WRITE_THROUGH] = 15,
};

static u64 encode(struct s2_attr attr, bool large)
{
	u64 bits = ACCESSED;

	bits |= attr.perm & S2_READ ? READ : 0;
	bits |= attr.perm & S2_WRITE ? WRITE : 0;
	bits |= attr.perm & S2_EXEC_KERNEL ? 0 : NO_EXEC;
	bits |= attr.perm & S2_EXEC_USER ? USER_EXEC : 0;
	return bits | field_set(memory_codes[attr.memory], large ? MEMORY_LARGE : MEMORY_SMALL);
}

static struct s2_attr decode(u64 entry, bool large)
{
	u64 code = field_get(entry, large ? MEMORY_LARGE : MEMORY_SMALL);

	return (struct s2_attr){
		.perm = (entry & READ ? S2_READ : 0) | (entry & WRITE ? S2_WRITE : 0) |
			(entry & NO_EXEC ? 0 : S2_EXEC_KERNEL) |
			(entry & USER_EXEC ? S2_EXEC_USER : 0),
		.memory = s2_memory_of_code(memory_codes, code),
	};
}

static const struct s2_format fake_format = {
	.name = "fake",
	S2_GEOMETRY(12, 9),
	.levels = 4,
	.root_level_min = 1,
	.leaf_levels = BIT(0) | BIT(1) | BIT(2),
	.root_tables_max = 4,
	.perms = 0xffff,
	.memories = BIT(S2_MEMORY_TYPES) - 1,
	.present = PRESENT,
	.table = PRESENT,
	.page = PRESENT,
	.large = PRESENT | LARGE,
	.large_mask = LARGE,
	.large_value = LARGE,
	.address = ADDRESS,
	.address_high = ADDRESS_HIGH,
	.address_high_shift = 44 - 3,
	.perm_mask = READ | WRITE | NO_EXEC | USER_EXEC,
	.write = WRITE,
	.accessed = ACCESSED,
	.dirty = DIRTY,
	.log = LOG,
	.cow = COW,
	.accessed_table_mark = TABLE_ACCESSED,
	.empty = ABSENT | EMPTY,
	.absent = ABSENT,
	.absent_invert = BITS(51, 15) & ~BITS(27, 22),
	.encode = encode,
	.decode = decode,
};

const struct s2_format *arch_s2_format(void)
{
	return &fake_format;
}

unsigned arch_s2_ipa_bits(void)
{
	return 40;
}

unsigned arch_s2_ident_bits(void)
{
	return 8;
}

u8 fake_traits;

u8 arch_s2_traits(void)
{
	return fake_traits;
}

u64 fake_lines_cleaned;

void arch_s2_clean(const void *start, u64 size)
{
	u64 first = (u64)start / FAKE_LINE, last = ((u64)start + size - 1) / FAKE_LINE;

	fake_lines_cleaned += last - first + 1;
	if (fake_flush_hook.written) {
		fake_flush_hook.written(fake_flush_hook.context);
	}
}

void arch_s2_publish_table(unused const void *table, unused u64 size)
{
}

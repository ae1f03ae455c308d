/*
 * The fake machine's table format, odd on purpose: table and leaf are told apart by bit 62,
 * permissions lie at the top, present is bit 1, empty is not zero, and small and large leaves
 * differ. A core that knows some real format's bits by heart fails on it.
 */
#include "fake.h"

#include <arch/s2.h>

#define PRESENT BIT(1)
#define LARGE BIT(62)
#define READ BIT(56)
#define WRITE BIT(57)
#define EXEC BIT(58)
#define ACCESSED BIT(59)
#define UNCACHED_SMALL BIT(3)
#define UNCACHED_LARGE BIT(4)
#define DEVICE BIT(5)

static u64 encode(struct s2_attr attr, bool large)
{
	u64 bits = ACCESSED;

	bits |= attr.perm & S2_READ ? READ : 0;
	bits |= attr.perm & S2_WRITE ? WRITE : 0;
	bits |= attr.perm & S2_EXEC ? EXEC : 0;
	if (attr.memory == S2_UNCACHED) {
		bits |= large ? UNCACHED_LARGE : UNCACHED_SMALL;
	} else if (attr.memory == S2_DEVICE) {
		bits |= DEVICE;
	}
	return bits;
}

static struct s2_attr decode(u64 entry)
{
	bool uncached = entry & (entry & LARGE ? UNCACHED_LARGE : UNCACHED_SMALL);
	struct s2_attr attr = {
		.perm = (entry & READ ? S2_READ : 0) | (entry & WRITE ? S2_WRITE : 0) |
			(entry & EXEC ? S2_EXEC : 0),
		.memory = entry & DEVICE ? S2_DEVICE
			  : uncached	 ? S2_UNCACHED
					 : S2_NORMAL,
	};

	return attr;
}

static const struct s2_format fake_format = {
	.name = "fake",
	.page_shift = 12,
	.index_bits = 9,
	.levels = 4,
	.leaf_levels = BIT(0) | BIT(1) | BIT(2),
	.root_tables_max = 4,
	.present = PRESENT,
	.table = PRESENT,
	.page = PRESENT,
	.large = PRESENT | LARGE,
	.large_mask = LARGE,
	.large_value = LARGE,
	.address = BITS(51, 12),
	.accessed = ACCESSED,
	.write = WRITE,
	.empty = BIT(63) | BIT(0),
	.absent = BIT(63),
	.absent_invert = BITS(51, 12),
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

void arch_s2_publish_table(unused const void *table, unused u64 size)
{
}

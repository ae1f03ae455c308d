/* How a guest's RAM is cut in two, and what it is told of that. Picture: pc_map.h. */
#include "pc_map.h"

struct pc_ram pc_ram_split(u64 memory)
{
	u64 low = min_u64(memory, PC_LOW_RAM_MAX);

	return (struct pc_ram){.low = low, .high = memory - low};
}

static struct pc_range range_between(u64 start, u64 end, enum pc_range_type type)
{
	return (struct pc_range){.start = start, .size = end - start, .type = type};
}

u32 pc_ram_ranges(struct pc_ram ram, struct pc_range ranges[PC_RANGES_MAX])
{
	u32 count = 0;

	ranges[count++] = range_between(0, PC_CONVENTIONAL_END, PC_RANGE_USABLE);
	ranges[count++] = range_between(PC_CONVENTIONAL_END, PC_EXTENDED_BASE, PC_RANGE_RESERVED);
	ranges[count++] = range_between(PC_EXTENDED_BASE, ram.low, PC_RANGE_USABLE);
	if (ram.high != 0) {
		ranges[count++] = range_between(PC_HIGH_RAM_BASE, PC_HIGH_RAM_BASE + ram.high,
						PC_RANGE_USABLE);
	}
	return count;
}

/* A block device over memory: a file that came along, written in place. */
#ifndef HYP_BLOCK_RAM_H
#define HYP_BLOCK_RAM_H

#include "hyp/block.h"

struct block_ram {
	struct block block; /* first */
	u8 *bytes;
};

/* `bytes` and `name` stay where they are while the block is used; `size` is a multiple of
 * BLOCK_SECTOR_SIZE. Requests have ended when submit() returns; any CPUs may submit at once. */
void block_ram_init(struct block_ram *ram, const char *name, u8 *bytes, u64 size, bool read_only);

#endif

/* A block device over memory: requests are copies, and end at once. */
#include "hyp/block_ram.h"

#include <string.h>

static void copy(u8 *at, const struct block_request *request)
{
	for (u32 i = 0; i < request->piece_count; i++) {
		const struct block_piece *piece = &request->pieces[i];

		if (request->operation == BLOCK_READ) {
			memcpy(piece->bytes, at, piece->size);
		} else {
			memcpy(at, piece->bytes, piece->size);
		}
		at += piece->size;
	}
}

static enum status ram_submit(struct block *block, struct block_request *request)
{
	struct block_ram *ram = (struct block_ram *)block;
	enum status status = block_judge(block, request);

	if (status != OK) {
		return status;
	}
	if (request->operation != BLOCK_FLUSH) {
		copy(ram->bytes + request->sector * BLOCK_SECTOR_SIZE, request);
	}
	request->done(request, true);
	return OK;
}

static void ram_poll(unused struct block *block)
{
}

void block_ram_init(struct block_ram *ram, const char *name, u8 *bytes, u64 size, bool read_only)
{
	*ram = (struct block_ram){
		.block = {.name = name,
			  .sectors = size / BLOCK_SECTOR_SIZE,
			  .read_only = read_only,
			  .submit = ram_submit,
			  .poll = ram_poll},
		.bytes = bytes,
	};
}

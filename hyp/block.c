#include "hyp/block.h"

static u64 request_bytes(const struct block_request *request)
{
	u64 bytes = 0;

	for (u32 i = 0; i < request->piece_count; i++) {
		bytes += request->pieces[i].size;
	}
	return bytes;
}

enum status block_judge(const struct block *block, const struct block_request *request)
{
	u64 bytes, sectors;

	if (request->operation == BLOCK_FLUSH) {
		return OK;
	}
	if (request->piece_count > BLOCK_PIECES_MAX) {
		return INVALID;
	}
	bytes = request_bytes(request);
	sectors = bytes / BLOCK_SECTOR_SIZE;
	if (bytes % BLOCK_SECTOR_SIZE != 0 || request->sector > block->sectors ||
	    sectors > block->sectors - request->sector) {
		return INVALID;
	}
	return request->operation == BLOCK_WRITE && block->read_only ? DENIED : OK;
}

/*
 * A block device as its users see it: sectors of 512 bytes, requests that end later.
 *
 * What is behind it may be the machine's disk, a part of one, or memory. A request belongs to the
 * block from submit() until done() is called, exactly once, on any CPU, perhaps before submit()
 * returns; it may be submitted again from there.
 */
#ifndef HYP_BLOCK_H
#define HYP_BLOCK_H

#include "hyp/status.h"
#include "hyp/types.h"

#define BLOCK_SECTOR_SIZE 512
#define BLOCK_PIECES_MAX 32 /* pieces of memory in one request */

enum block_operation { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH };

struct block_request {
	enum block_operation operation;
	u64 sector;
	u32 piece_count;
	struct block_piece {
		void *bytes; /* in RAM of the machine, physically contiguous */
		u32 size;    /* bytes; the sum of all is a multiple of a sector */
	} pieces[BLOCK_PIECES_MAX];

	/* false: the device said that it went wrong, or is gone. */
	void (*done)(struct block_request *request, bool ok);
	void *context;		    /* the submitter's */
	struct block_request *next; /* the block's, while it has the request */
};

struct block {
	const char *name;
	u64 sectors;
	bool read_only;

	/* OK: done() was or will be called. INVALID (outside, or no whole sectors), DENIED
	 * (read_only), FULL (try again after a poll): it will not be. */
	enum status (*submit)(struct block *block, struct block_request *request);

	/* Calls done() for what has ended meanwhile; for who waits, and has no interrupt. */
	void (*poll)(struct block *block);
};

/* For submit(): may the request be taken? OK, INVALID or DENIED, as submit() says it. */
enum status block_judge(const struct block *block, const struct block_request *request);

#endif

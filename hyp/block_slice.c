#include "hyp/block_slice.h"

static struct block_slice *slice_of(struct block *block)
{
	return (struct block_slice *)block;
}

/* A flush is the whole one's: it knows no sectors. */
static enum status submit(struct block *block, struct block_request *request)
{
	struct block_slice *slice = slice_of(block);
	enum status status = block_judge(block, request);

	if (status != OK) {
		return status;
	}
	request->sector += slice->first;
	status = slice->whole->submit(slice->whole, request);
	if (status != OK) {
		request->sector -= slice->first;
	}
	return status;
}

static void poll(struct block *block)
{
	struct block_slice *slice = slice_of(block);

	slice->whole->poll(slice->whole);
}

enum status block_slice_init(struct block_slice *slice, struct block *whole, u64 first, u64 sectors,
			     bool read_only)
{
	if (first >= whole->sectors || sectors > whole->sectors - first) {
		return INVALID;
	}
	if (whole->read_only && !read_only) {
		return DENIED;
	}
	*slice = (struct block_slice){
		.block = {.name = whole->name,
			  .sectors = sectors ? sectors : whole->sectors - first,
			  .read_only = read_only,
			  .submit = submit,
			  .poll = poll},
		.whole = whole,
		.first = first,
	};
	return OK;
}

// A part of a disk is read and written where it lies, and nothing beside it.
#include <gtest/gtest.h>

#include "test_disk.h"

extern "C" {
#include "hyp/block_slice.h"
}

namespace
{

struct Asked {
	struct block_request request = {};
	u8 page[PAGE_SIZE] = {};
	bool ok = false;

	Asked(enum block_operation operation, u64 sector)
	{
		request.operation = operation;
		request.sector = sector;
		request.piece_count = 1;
		request.pieces[0] = {page, PAGE_SIZE};
		request.context = this;
		request.done = [](struct block_request *r, bool ok) {
			((Asked *)r->context)->ok = ok;
		};
	}

	enum status submit(struct block_slice *slice)
	{
		enum status status = slice->block.submit(&slice->block, &request);

		slice->block.poll(&slice->block);
		return status;
	}
};

TEST(BlockSlice, sectors_are_its_own)
{
	TestDisk disk(4);
	struct block_slice slice;
	Asked write(BLOCK_WRITE, 8), read(BLOCK_READ, 8), beyond(BLOCK_READ, 9);

	ASSERT_EQ(block_slice_init(&slice, &disk.block, 8, 16, false), OK);
	std::memset(write.page, 7, PAGE_SIZE);
	EXPECT_EQ(write.submit(&slice), OK);
	EXPECT_TRUE(write.ok);
	EXPECT_EQ(disk.bytes[2 * PAGE_SIZE - 1], 0);
	EXPECT_EQ(disk.bytes[2 * PAGE_SIZE], 7);
	EXPECT_EQ(disk.bytes[3 * PAGE_SIZE - 1], 7);
	EXPECT_EQ(disk.bytes[3 * PAGE_SIZE], 0);
	EXPECT_EQ(read.submit(&slice), OK);
	EXPECT_EQ(read.page[0], 7);
	EXPECT_EQ(beyond.submit(&slice), INVALID);
	EXPECT_EQ(beyond.request.sector, 9u);
}

TEST(BlockSlice, it_ends_with_its_disk_and_writes_no_more_than_that)
{
	TestDisk disk(4);
	struct block_slice slice;
	Asked write(BLOCK_WRITE, 0);

	ASSERT_EQ(block_slice_init(&slice, &disk.block, 8, 0, true), OK);
	EXPECT_EQ(slice.block.sectors, 24u);
	EXPECT_EQ(write.submit(&slice), DENIED);
	EXPECT_EQ(block_slice_init(&slice, &disk.block, 32, 0, true), INVALID);
	EXPECT_EQ(block_slice_init(&slice, &disk.block, 8, 25, true), INVALID);
	disk.block.read_only = true;
	EXPECT_EQ(block_slice_init(&slice, &disk.block, 8, 8, false), DENIED);
	EXPECT_EQ(block_slice_init(&slice, &disk.block, 8, 8, true), OK);
}

} // namespace

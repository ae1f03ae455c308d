// A disk for tests: requests end when it is polled, on whatever CPU; reads and writes fail on
// demand.
#ifndef TEST_DISK_H
#define TEST_DISK_H

#include <cstring>
#include <functional>
#include <mutex>
#include <vector>

extern "C" {
#include "hyp/addr.h"
#include "hyp/block.h"
}

struct TestDisk {
	struct block block = {}; // first
	std::vector<u8> bytes;
	unsigned failing_reads = 0, failing_writes = 0; // so many of the next ones fail
	std::function<void()> on_submit;		// the guest does something meanwhile

	explicit TestDisk(u64 pages) : bytes(pages * PAGE_SIZE)
	{
		block.name = "swap";
		block.sectors = bytes.size() / BLOCK_SECTOR_SIZE;
		block.submit = [](struct block *b, struct block_request *request) {
			return ((TestDisk *)b)->submit(request);
		};
		block.poll = [](struct block *b) { ((TestDisk *)b)->poll(); };
	}

      private:
	std::mutex mutex;
	struct block_request *waiting = nullptr;

	enum status submit(struct block_request *request)
	{
		enum status status = block_judge(&block, request);

		if (status != OK) {
			return status;
		}
		if (on_submit) {
			on_submit();
		}
		std::lock_guard<std::mutex> guard(mutex);

		request->next = waiting;
		waiting = request;
		return OK;
	}

	// Bytes move now: what was written to a page since it was submitted is on the disk, too.
	bool transfer(const struct block_request *request)
	{
		u8 *at = bytes.data() + request->sector * BLOCK_SECTOR_SIZE;
		unsigned *failing =
			request->operation == BLOCK_READ ? &failing_reads : &failing_writes;

		if (*failing > 0) {
			(*failing)--;
			return false;
		}
		for (u32 i = 0; i < request->piece_count; i++) {
			const auto *piece = &request->pieces[i];

			if (request->operation == BLOCK_READ) {
				std::memcpy(piece->bytes, at, piece->size);
			} else {
				copy_racing(at, piece->bytes, piece->size);
			}
			at += piece->size;
		}
		return true;
	}

	// A device reads pages that their guest may write at this moment, which is no race of
	// the program's: such a page's bytes are of no use to anybody.
	__attribute__((no_sanitize("thread"))) static void copy_racing(u8 *to, const void *from,
								       u64 size)
	{
		const volatile u64 *words = (const volatile u64 *)from;

		for (u64 i = 0; i < size / 8; i++) {
			((u64 *)to)[i] = words[i];
		}
	}

	void poll()
	{
		struct block_request *list, *request;
		std::vector<std::pair<struct block_request *, bool>> over;

		{
			std::lock_guard<std::mutex> guard(mutex);

			for (list = waiting; (request = list);) {
				list = request->next;
				over.push_back({request, transfer(request)});
			}
			waiting = nullptr;
		}
		for (auto &one : over) {
			one.first->done(one.first, one.second);
		}
	}
};

#endif

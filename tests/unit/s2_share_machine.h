// Several spaces over the same frames, and what must hold of them at any time: no leaf that a guest
// can write has a frame with another holder, and each reference is some leaf's.
#ifndef S2_SHARE_MACHINE_H
#define S2_SHARE_MACHINE_H

#include <map>
#include <thread>
#include <vector>

#include "s2_test_machine.h"

extern "C" {
#include "hyp/s2_share.h"
}

class S2ShareTest : public S2Test
{
      protected:
	struct Leaf {
		u64 at, entry, size;
		unsigned level;
	};

	void SetUp() override
	{
		S2Test::SetUp();
		ASSERT_EQ(s2_init(&child, GetParam().format, 40, kOwner + 1), OK);
	}

	void TearDown() override
	{
		judge();
		if (child.root) {
			s2_destroy(&child);
		}
		S2Test::TearDown();
	}

	// All of a space's leaves, from its tables.
	static std::vector<Leaf> leaves(struct s2 *space)
	{
		std::vector<Leaf> found;
		struct s2_cursor c;

		for (u64 at = 0; at < BIT(40); at = s2_cursor_end(&c)) {
			s2_cursor_start(&c, space, gpa(at));
			s2_cursor_descend_all(&c, 0);
			if (s2_entry_is_leaf(c.format, c.entry, c.level)) {
				found.push_back({at, c.entry, s2_span(c.format, c.level), c.level});
			}
		}
		return found;
	}

	static u64 raw(struct s2 *space, u64 at)
	{
		struct s2_cursor c;

		s2_cursor_start(&c, space, gpa(at));
		s2_cursor_descend_all(&c, 0);
		return c.entry;
	}

	// With no batch open.
	void judge()
	{
		const struct s2_format *f = GetParam().format;
		std::map<u64, u64> holders; // by head of block
		std::map<u64, u64> owners;  // how many spaces
		std::vector<struct s2 *> spaces = {&s2, &child};

		spaces.insert(spaces.end(), others.begin(), others.end());
		for (struct s2 *space : spaces) {
			std::map<u64, bool> mine;
			u64 count[3] = {};

			for (const Leaf &leaf : space->root ? leaves(space) : std::vector<Leaf>()) {
				count[leaf.level]++;
				each_block(leaf, [&](u64 head) {
					holders[head]++;
					mine[head] = true;
				});
			}
			for (auto &block : mine) {
				owners[block.first]++;
			}
			if (space->root) {
				EXPECT_EQ(space->stats.leaf_4k, count[0]);
				EXPECT_EQ(space->stats.leaf_2m, count[1]);
				EXPECT_EQ(space->stats.leaf_1g, count[2]);
			}
		}
		for (auto &block : holders) {
			EXPECT_EQ(frame_of(hpa(block.first))->refs, block.second)
				<< "block " << std::hex << block.first;
		}
		for (struct s2 *space : spaces) {
			for (const Leaf &leaf : space->root ? leaves(space) : std::vector<Leaf>()) {
				each_block(leaf, [&](u64 head) {
					EXPECT_FALSE(owners[head] > 1 && (leaf.entry & f->write))
						<< "writable and shared: " << std::hex << leaf.at;
				});
			}
		}
	}

	template <typename Fn> void each_block(const Leaf &leaf, Fn fn)
	{
		hpa_t first = s2_entry_hpa(GetParam().format, leaf.entry);

		for (u64 done = 0; done < leaf.size;) {
			struct frame *frame = frame_of(hpa_add(first, done));

			if (!frame) {
				return;
			}
			fn(frame_hpa(frame).v);
			done = frame_hpa(frame).v + order_bytes(frame->order) - first.v;
		}
	}

	enum status fork(u64 at, u64 size)
	{
		struct s2_batch batch;
		enum status status;

		s2_batch_open(&batch, &s2);
		status = s2_fork(&s2, &child, gpa(at), size, &batch);
		s2_batch_close(&batch);
		return status;
	}

	// What a guest's write comes to, with a frame of `level` for the copy. Was it copied?
	bool write(struct s2 *space, u64 at, u64 value, unsigned level = 0)
	{
		bool copied = false;

		while (!store(space, at, value)) {
			enum status status = s2_cow_fault(space, gpa(at), hpa_none(), 0);

			if (status == NOMEM) {
				hpa_t fresh = frame_alloc(9 * level, FRAME_GUEST, space->owner);

				status = s2_cow_fault(space, gpa(at), fresh, level);
				copied |= status == OK;
				if (status != OK) {
					frame_put(fresh);
				}
			}
			if (status != OK && status != EXISTS && status != AGAIN) {
				ADD_FAILURE() << status_name(status) << " at " << std::hex << at;
				break;
			}
		}
		return copied;
	}

	static bool store(struct s2 *space, u64 at, u64 value)
	{
		enum fake_access access;

		s2_entering(space);
		access = fake_store(space, gpa(at), value);
		s2_left(space);
		return access == FAKE_OK;
	}

	// Another CPU's copy of this very page is waited for, as a guest does by faulting again.
	static u64 read(struct s2 *space, u64 at)
	{
		for (unsigned tries = 0; tries < 1000000; tries++) {
			enum fake_access access;
			u64 value;

			s2_entering(space);
			access = fake_load(space, gpa(at), &value);
			s2_left(space);
			if (access == FAKE_OK) {
				return value;
			}
			std::this_thread::yield(); // to who has the page in the works
		}
		ADD_FAILURE() << "nothing to read at " << std::hex << at;
		return ~0ull;
	}

	struct s2 child = {};
	std::vector<struct s2 *> others;
};

#endif

// Populate: ranges filled by one CPU and by several, with what is there in the way, and with memory
// that ends too early.
#include "s2_test_machine.h"

#include <atomic>
#include <thread>
#include <vector>

namespace
{

// Where frames come from: counts what goes out and comes back.
struct Source {
	std::atomic<u64> taken{0}, given{0};
	std::atomic<u64> left{~0ull};	    // calls that still get something
	unsigned level_max = S2_LEVELS_MAX; // no block is larger
	bool none_usable = false;
	struct s2_populate *cancels = nullptr; // after so many
	u64 cancel_after = ~0ull;
};

hpa_t take(void *context, gpa_t, unsigned level)
{
	Source &source = *(Source *)context;

	if (level > source.level_max || source.left == 0) {
		return hpa_none();
	}
	source.left--;
	if (++source.taken >= source.cancel_after) {
		store_relaxed(&source.cancels->cancel, true);
	}
	return frame_alloc(9 * level, source.none_usable ? FRAME_HYP : FRAME_GUEST, 7);
}

void give(void *context, hpa_t frame, unsigned)
{
	((Source *)context)->given++;
	frame_put(frame);
}

class S2Populate : public S2Test
{
      protected:
	struct s2_populate job(u64 at, u64 size, unsigned level)
	{
		struct s2_populate p = {};

		p.s2 = &s2;
		p.gpa = gpa(at);
		p.size = size;
		p.attr = kRwx;
		p.level = (u8)level;
		p.take = take;
		p.give = give;
		p.context = &source;
		return p;
	}

	Source source;
};
INSTANTIATE_TEST_SUITE_P(formats, S2Populate, s2_kinds(), s2_kind_name);

TEST_P(S2Populate, fills_a_range_with_leaves_of_the_level)
{
	struct s2_populate p = job(MIB(2), MIB(4), 1);

	EXPECT_EQ(s2_populate_work(&p), OK);
	EXPECT_EQ(p.mapped_pages, 1024u);
	EXPECT_EQ(p.present_pages, 0u);
	EXPECT_EQ(s2.stats.leaf_2m, 2u);
	EXPECT_EQ(s2.stats.leaf_4k, 0u);
	EXPECT_TRUE(s2_validate(&s2, gpa(MIB(2)), MIB(4), S2_RWX));
	expect_nothing(MIB(2) - 1);
	expect_nothing(MIB(6));
}

TEST_P(S2Populate, what_sticks_out_of_the_level_gets_smaller_leaves)
{
	struct s2_populate p = job(MIB(2) - PAGE_SIZE, MIB(2) + 3 * PAGE_SIZE, 1);

	EXPECT_EQ(s2_populate_work(&p), OK);
	EXPECT_EQ(s2.stats.leaf_2m, 1u);
	EXPECT_EQ(s2.stats.leaf_4k, 3u);
	EXPECT_EQ(p.mapped_pages, 515u);
}

TEST_P(S2Populate, pages_only_where_pages_are_asked_for)
{
	struct s2_populate p = job(0, MIB(4), 0);

	EXPECT_EQ(s2_populate_work(&p), OK);
	EXPECT_EQ(s2.stats.leaf_4k, 1024u);
	EXPECT_EQ(s2.stats.leaf_2m, 0u);
}

TEST_P(S2Populate, what_is_there_stays_and_is_counted)
{
	hpa_t page = map_block(MIB(2) + 5 * PAGE_SIZE, 0), block = map_block(MIB(4), 1);
	struct s2_populate p = job(MIB(2), MIB(6), 1);

	EXPECT_EQ(s2_populate_work(&p), OK);
	EXPECT_EQ(p.mapped_pages, 1024u - 1);
	EXPECT_EQ(p.present_pages, 512u + 1);
	expect_maps(MIB(2) + 5 * PAGE_SIZE, page.v, "page");
	expect_maps(MIB(4), block.v, "block");
	// The table that was there stays, and gets pages.
	EXPECT_EQ(s2.stats.leaf_4k, 512u);
	EXPECT_EQ(s2.stats.leaf_2m, 2u);
	EXPECT_EQ(source.taken - source.given, 512u);
}

TEST_P(S2Populate, a_second_job_over_the_same_range_has_nothing_to_do)
{
	struct s2_populate p = job(0, MIB(4), 0), q = p;

	EXPECT_EQ(s2_populate_work(&p), OK);
	EXPECT_EQ(s2_populate_work(&q), OK);
	EXPECT_EQ(q.mapped_pages, 0u);
	EXPECT_EQ(q.present_pages, 1024u);
	// And a call on a job that is done does nothing at all.
	EXPECT_EQ(s2_populate_work(&p), OK);
	EXPECT_EQ(p.present_pages, 0u);
}

TEST_P(S2Populate, cancelling_keeps_what_is_mapped)
{
	struct s2_populate p = job(0, MIB(4), 0), q = p;

	source.cancels = &p;
	source.cancel_after = 700;
	EXPECT_EQ(s2_populate_work(&p), MORE);
	EXPECT_EQ(p.mapped_pages, 700u);
	EXPECT_EQ(s2.stats.leaf_4k, 700u);
	EXPECT_EQ(s2_populate_work(&p), MORE);
	EXPECT_EQ(s2.stats.leaf_4k, 700u);
	source.cancel_after = ~0ull;
	EXPECT_EQ(s2_populate_work(&q), OK);
	EXPECT_EQ(q.present_pages, 700u);
	EXPECT_EQ(q.mapped_pages, 324u);
}

TEST_P(S2Populate, without_frames_it_stops_and_counts_are_right)
{
	struct s2_populate p = job(0, MIB(4), 0);

	source.left = 100;
	EXPECT_EQ(s2_populate_work(&p), NOMEM);
	EXPECT_EQ(p.mapped_pages, 100u);
	EXPECT_TRUE(p.cancel);
	EXPECT_EQ(s2_populate_work(&p), MORE);
}

TEST_P(S2Populate, without_blocks_it_falls_to_pages_only_where_asked)
{
	struct s2_populate p = job(0, MIB(4), 1), q = p;

	source.level_max = 0;
	EXPECT_EQ(s2_populate_work(&p), NOMEM);
	EXPECT_EQ(p.mapped_pages, 0u);
	q.smaller = true;
	EXPECT_EQ(s2_populate_work(&q), OK);
	EXPECT_EQ(q.mapped_pages, 1024u);
	EXPECT_EQ(s2.stats.leaf_4k, 1024u);
}

// The n-th frame that is to become a table is missing, for every n.
TEST_P(S2Populate, without_tables_it_stops_and_gives_the_frame_back)
{
	for (u64 left = 0;; left++) {
		enum status status;

		s2_destroy(&s2);
		fake_memory(kMemory);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		hpa_t stock = guest_block(1);
		struct s2_populate p = job(GIB(1) - PAGE_SIZE, 2 * PAGE_SIZE, 0);

		frame_split(stock, 0);
		fake_memory_leave(left);
		p.context = &stock;
		p.take = [](void *context, gpa_t, unsigned) {
			hpa_t *next = (hpa_t *)context, frame = *next;

			*next = hpa_add(frame, PAGE_SIZE);
			return frame;
		};
		p.give = [](void *context, hpa_t frame, unsigned) { *(hpa_t *)context = frame; };
		status = s2_populate_work(&p);
		if (status == OK) {
			EXPECT_EQ(left, 4u);
			break;
		}
		EXPECT_EQ(status, NOMEM);
		EXPECT_EQ(p.mapped_pages, s2.stats.leaf_4k);
		EXPECT_EQ(p.mapped_pages, left / 2);
		for (u64 i = p.mapped_pages; i < 2; i++) {
			frame_put(stock);
			stock = hpa_add(stock, PAGE_SIZE);
		}
	}
	taken_for_good = frame_count(FRAME_HYP);
}

TEST_P(S2Populate, frames_that_no_guest_may_have_are_refused)
{
	struct s2_populate p = job(0, MIB(4), 0);

	source.none_usable = true;
	EXPECT_EQ(s2_populate_work(&p), DENIED);
	EXPECT_EQ(p.mapped_pages, 0u);
	EXPECT_EQ(source.taken, source.given);
	expect_nothing(0);
}

TEST_P(S2Populate, a_frame_that_no_leaf_can_have_is_given_back_and_ends_the_job)
{
	struct s2_populate p = job(0, MIB(4), 1), q = job(MIB(4), MIB(4), 1);

	p.take = [](void *context, gpa_t, unsigned) {
		((Source *)context)->taken++;
		return hpa(BIT(43) + PAGE_SIZE); // not aligned to 2 MiB
	};
	p.give = [](void *context, hpa_t frame, unsigned level) {
		EXPECT_EQ(frame.v, BIT(43) + PAGE_SIZE);
		EXPECT_EQ(level, 1u);
		((Source *)context)->given++;
	};
	EXPECT_EQ(s2_populate_work(&p), INVALID);
	EXPECT_TRUE(p.cancel);
	EXPECT_EQ(source.taken, 1u) << "it is no use to ask for more";
	EXPECT_EQ(source.given, 1u);
	EXPECT_EQ(p.mapped_pages, 0u);
	expect_nothing(0);
	EXPECT_EQ(s2_populate_work(&q), OK);
}

// At the root of a wide space there are tables alone.
TEST_P(S2Populate, a_level_without_leaves_is_invalid)
{
	s2_destroy(&s2);
	ASSERT_EQ(s2_init(&s2, GetParam().format, 48, kOwner), OK);
	ASSERT_EQ(s2.root_level, 3);
	struct s2_populate p = job(0, BIT(39), 3), q = job(0, MIB(2), 1);

	EXPECT_EQ(s2_populate_work(&p), INVALID);
	EXPECT_EQ(source.taken, 0u);
	EXPECT_EQ(s2_populate_work(&q), OK);
}

TEST_P(S2Populate, nonsense_is_invalid)
{
	struct s2_populate p = job(1, MIB(4), 0), q = job(0, 0, 0), r = job(0, MIB(2), 3);
	struct s2_populate s = job((1ull << 40) - PAGE_SIZE, 2 * PAGE_SIZE, 0),
			   t = job(0, MIB(2), 1);

	t.attr.memory = S2_MEMORY_TYPES;
	for (struct s2_populate *each : {&p, &q, &r, &s, &t}) {
		EXPECT_EQ(s2_populate_work(each), INVALID);
	}
	EXPECT_EQ(source.taken, 0u);
}

// Rights that a format has do not make up for a memory type that it has not, nor the other way
// round.
TEST_P(S2Populate, what_the_format_cannot_say_is_invalid)
{
	const struct s2_format *f = GetParam().format;
	u64 at = 0;

	for (u8 perm = 0; perm <= S2_RWX; perm++) {
		for (u8 memory = 0; memory < S2_MEMORY_TYPES; memory++, at += PAGE_SIZE) {
			struct s2_populate p = job(at, PAGE_SIZE, 0);
			bool rights = f->perms & BIT(perm), type = f->memories & BIT(memory);

			p.attr = {perm, memory};
			source.taken = 0;
			EXPECT_EQ(s2_populate_work(&p), rights && type ? OK : INVALID)
				<< "rights " << int(perm) << ", memory " << int(memory);
			EXPECT_EQ(source.taken, rights && type ? 1u : 0u)
				<< "rights " << int(perm) << ", memory " << int(memory);
		}
	}
	EXPECT_EQ(unmap(0, align_up(at, MIB(2))), OK);
}

TEST_P(S2Populate, tables_that_are_too_few_are_given_back)
{
	struct s2_reserve reserve = {};
	u64 free = frame_count(FRAME_FREE);

	fake_memory_leave(2);
	taken_for_good += free - 2;
	EXPECT_FALSE(s2_reserve_fill(&s2, &reserve, 3));
	EXPECT_EQ(frame_count(FRAME_FREE), 2u);
	EXPECT_EQ(reserve.first, nullptr);
	EXPECT_EQ(s2.stats.tables, tables_at_start);
	EXPECT_TRUE(s2_reserve_fill(&s2, &reserve, 2));
	s2_reserve_drop(&s2, &reserve);
}

TEST_P(S2Populate, places_in_transit_are_waited_for)
{
	struct s2_populate p = job(0, MIB(2), 0);
	struct s2_batch batch;

	map_block(5 * PAGE_SIZE, 0);
	map_block(100 * PAGE_SIZE, 0); // so that the table stays
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(5 * PAGE_SIZE), PAGE_SIZE, &batch), OK);
	std::thread worker([&] {
		fake_cpu_become(1);
		EXPECT_EQ(s2_populate_work(&p), OK);
	});
	while (__atomic_load_n(&s2.stats.leaf_4k, __ATOMIC_RELAXED) < 6) {
		std::this_thread::yield();
	}
	EXPECT_NE(s2_query(&s2, gpa(5 * PAGE_SIZE)).kind, S2_LEAF);
	s2_batch_close(&batch);
	worker.join();
	EXPECT_EQ(p.mapped_pages, 511u);
}

TEST_P(S2Populate, several_cpus_share_the_work_and_nothing_is_done_twice)
{
	constexpr unsigned kCpus = 4;
	struct s2_populate p = job(3 * PAGE_SIZE, MIB(24), 0);
	std::vector<std::thread> cpus;
	std::atomic<u64> faults{0};

	fake_cpus(kCpus + 1);
	for (unsigned i = 0; i < kCpus; i++) {
		cpus.emplace_back([&, i] {
			fake_cpu_become(i + 1);
			EXPECT_EQ(s2_populate_work(&p), OK);
		});
	}
	// Meanwhile the guest faults all over the place.
	for (u64 at = 3 * PAGE_SIZE; at < MIB(24); at += 7 * PAGE_SIZE) {
		hpa_t frame = guest_block(0);

		if (s2_map_leaf(&s2, gpa(at), 0, frame, kRwx) == OK) {
			faults++;
		} else {
			frame_put(frame);
		}
	}
	for (std::thread &cpu : cpus) {
		cpu.join();
	}
	EXPECT_EQ(p.mapped_pages + faults, MIB(24) / PAGE_SIZE);
	EXPECT_EQ(p.mapped_pages + p.present_pages, MIB(24) / PAGE_SIZE);
	EXPECT_EQ(s2.stats.leaf_4k, MIB(24) / PAGE_SIZE);
	EXPECT_EQ(source.taken - source.given, p.mapped_pages);
	EXPECT_TRUE(s2_validate(&s2, gpa(3 * PAGE_SIZE), MIB(24), S2_RWX));
}

} // namespace

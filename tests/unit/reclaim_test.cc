// Policies of choice: what all of them keep to, under random use; and what each is for.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>
#include <vector>

extern "C" {
#include "hyp/reclaim.h"
}

namespace
{

struct Cache {
	std::vector<struct reclaim_page> pages;
	std::set<u32> resident;
	std::set<u32> accessed;
	struct reclaim r;

	Cache(const struct reclaim_policy *policy, u32 page_count, u32 frames) : pages(page_count)
	{
		std::memset(pages.data(), 0xa5, page_count * sizeof(pages[0]));
		reclaim_init(&r, policy, pages.data(), page_count, frames);
	}

	// The page that loses its frame.
	u32 evict()
	{
		for (u32 looks = 0;; looks++) {
			u32 page = r.policy->candidate(&r);

			if (page == RECLAIM_NONE || looks > 8 * r.frames + 8) {
				ADD_FAILURE() << r.policy->name << " finds nobody";
				return RECLAIM_NONE;
			}
			EXPECT_EQ(resident.count(page), 1u) << r.policy->name;
			if (r.policy->judge(&r, page, accessed.erase(page) != 0)) {
				resident.erase(page);
				return page;
			}
		}
	}

	// True: it had a frame.
	bool use(u32 page)
	{
		if (resident.count(page)) {
			accessed.insert(page);
			return true;
		}
		if (resident.size() == r.frames) {
			evict();
		}
		r.policy->resident(&r, page);
		resident.insert(page);
		return false;
	}

	void forget(u32 page)
	{
		reclaim_forget(&r, page);
		resident.erase(page);
		accessed.erase(page);
	}

	void expect_lists_are_whole()
	{
		std::set<u32> seen;
		u32 counted = 0;

		for (u32 list = 1; list < RECLAIM_LISTS; list++) {
			u32 before = RECLAIM_NONE;

			for (u32 p = r.lists[list].first; p != RECLAIM_NONE; p = pages[p].next) {
				ASSERT_EQ(pages[p].list, list);
				ASSERT_EQ(pages[p].prev, before);
				ASSERT_TRUE(seen.insert(p).second) << "page " << p << " twice";
				before = p;
			}
			ASSERT_EQ(r.lists[list].last, before);
			counted += r.lists[list].count;
		}
		ASSERT_EQ(seen, resident) << r.policy->name;
		ASSERT_EQ(counted, resident.size());
	}
};

class EveryPolicy : public testing::TestWithParam<const struct reclaim_policy *>
{
};

TEST_P(EveryPolicy, knows_each_page_that_has_a_frame_once)
{
	for (u32 frames : {1u, 2u, 3u, 10u, 100u}) {
		Cache cache(GetParam(), 300, frames);
		std::mt19937 random(frames);

		for (u32 i = 0; i < 20000; i++) {
			u32 page = random() % (i / 1000 % 2 ? 300 : 1 + frames);

			if (random() % 50 == 0) {
				cache.forget(page);
			} else {
				cache.use(page);
			}
			if (i % 500 == 0) {
				cache.expect_lists_are_whole();
			}
		}
	}
}

TEST_P(EveryPolicy, has_many_candidates_out_at_once)
{
	Cache cache(GetParam(), 100, 64);
	std::vector<u32> out;

	for (u32 page = 0; page < 64; page++) {
		cache.use(page);
	}
	for (u32 i = 0; i < 64; i++) {
		out.push_back(cache.r.policy->candidate(&cache.r));
	}
	EXPECT_EQ(std::set<u32>(out.begin(), out.end()), cache.resident);
	EXPECT_EQ(cache.r.policy->candidate(&cache.r), RECLAIM_NONE);
	for (u32 page : out) {
		if (cache.r.policy->judge(&cache.r, page, page % 2)) {
			cache.resident.erase(page);
		}
	}
	EXPECT_EQ(cache.resident.size(), 32u) << "who was accessed stays, who was not goes";
	cache.expect_lists_are_whole();
}

TEST_P(EveryPolicy, decides_by_what_it_was_told_alone)
{
	Cache a(GetParam(), 200, 40), b(GetParam(), 200, 40);
	std::mt19937 random(7);

	for (u32 i = 0; i < 5000; i++) {
		u32 page = random() % 200;

		ASSERT_EQ(a.use(page), b.use(page)) << i;
	}
	EXPECT_EQ(a.resident, b.resident);
}

TEST_P(EveryPolicy, keeps_a_working_set_that_fits)
{
	Cache cache(GetParam(), 100, 100);

	for (u32 i = 0; i < 1000; i++) {
		EXPECT_EQ(cache.use(i % 100), i >= 100);
	}
}

INSTANTIATE_TEST_SUITE_P(policies, EveryPolicy,
			 testing::Values(&reclaim_clock, &reclaim_gen, &reclaim_qd,
					 &reclaim_adaptive),
			 [](const auto &info) { return std::string(info.param->name); });

TEST(Reclaim, policies_are_found_by_name)
{
	for (u32 i = 0; reclaim_policies[i]; i++) {
		EXPECT_EQ(reclaim_policy_find(reclaim_policies[i]->name), reclaim_policies[i]);
	}
	EXPECT_EQ(reclaim_policy_find("belady"), nullptr);
}

TEST(Reclaim, distance_counts_the_pages_let_go_since)
{
	Cache cache(&reclaim_clock, 10, 2);

	cache.use(0);
	EXPECT_EQ(reclaim_distance(&cache.r, 0), RECLAIM_NONE) << "it was never let go";
	for (u32 page = 1; page < 6; page++) {
		cache.use(page);
	}
	EXPECT_EQ(reclaim_distance(&cache.r, 0), 4u);
	EXPECT_EQ(reclaim_distance(&cache.r, 3), 1u);
	reclaim_forget(&cache.r, 3);
	EXPECT_EQ(reclaim_distance(&cache.r, 3), RECLAIM_NONE);
}

TEST(Reclaim, clock_gives_who_was_accessed_one_more_round)
{
	Cache cache(&reclaim_clock, 10, 3);

	for (u32 page : {0, 1, 2, 0, 2}) {
		cache.use(page);
	}
	EXPECT_EQ(cache.evict(), 1u);
	EXPECT_EQ(cache.evict(), 0u);
	EXPECT_EQ(cache.evict(), 2u);
}

TEST(Reclaim, gen_keeps_who_comes_back_soon_longer_than_who_is_new)
{
	Cache cache(&reclaim_gen, 10, 3);

	for (u32 page : {0, 1, 2, 3}) {
		cache.use(page); /* the last lets 0 go */
	}
	cache.use(0); /* back at once; lets 1 go */
	EXPECT_EQ(cache.evict(), 2u);
	EXPECT_EQ(cache.evict(), 3u);
	EXPECT_EQ(cache.evict(), 0u);
}

// How many of `warm` are there after a reader of `length` pages passed that nobody uses again.
u32 left_after_scan(const struct reclaim_policy *policy, u32 warm, u32 length)
{
	Cache cache(policy, 10000, 2 * warm);
	u32 left = 0;

	for (u32 round = 0; round < 4; round++) {
		for (u32 page = 0; page < 4 * warm; page++) {
			cache.use(page % warm);
			cache.use(5000 + round * warm + page / 4);
		}
	}
	for (u32 i = 0; i < length; i++) {
		cache.use(1000 + i);
	}
	for (u32 page = 0; page < warm; page++) {
		left += cache.resident.count(page);
	}
	return left;
}

TEST(Reclaim, a_scan_passes_by_quick_demotion_and_sweeps_clock_away)
{
	EXPECT_EQ(left_after_scan(&reclaim_clock, 100, 1000), 0u);
	EXPECT_EQ(left_after_scan(&reclaim_qd, 100, 1000), 100u);
	EXPECT_EQ(left_after_scan(&reclaim_adaptive, 100, 1000), 100u);
}

TEST(Reclaim, adaptive_gives_new_pages_room_when_they_are_what_comes_back)
{
	Cache cache(&reclaim_adaptive, 10000, 100);

	for (u32 i = 0; i < 400; i++) {
		cache.use(i % 50);
		cache.use(i % 50 + 50);
		cache.use(200 + i);
	}

	u32 before = cache.r.target;

	/* Pairs of uses, farther apart than the queue is long. */
	for (u32 i = 0; i < 2000; i++) {
		cache.use(1000 + i);
		if (i >= 30) {
			cache.use(1000 + i - 30);
		}
	}
	EXPECT_GT(cache.r.target, before + 20);
}

} // namespace

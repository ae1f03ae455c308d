// Stores: every page comes back as it went, from wherever it was; and the pool packs, moves and
// frees.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <vector>

extern "C" {
#include "../../arch/fake/fake.h"
#include "hyp/frame.h"
#include "hyp/store.h"
#include "hyp/store_pool.h"
}

namespace
{

using Page = std::vector<u8>;

Page filled_with(u32 word)
{
	Page page(PAGE_SIZE);

	for (u64 i = 0; i < PAGE_SIZE; i += 4) {
		std::memcpy(&page[i], &word, 4);
	}
	return page;
}

// The first `noise` bytes are random, and the rest is zero.
Page noisy(u64 noise, unsigned seed)
{
	Page page(PAGE_SIZE);
	std::mt19937 random(seed);

	for (u64 i = 0; i < noise; i++) {
		page[i] = (u8)random();
	}
	return page;
}

class Store : public testing::Test
{
      protected:
	void begin(u32 allowed, u64 pool_max = MIB(8), u64 pages = 4096)
	{
		fake_cpus(1);
		fake_memory(MIB(32));
		ASSERT_EQ(store_init(allowed, pages, pool_max), OK);
		began = true;
		frames_at_start = frame_count(FRAME_HYP);
	}

	void TearDown() override
	{
		if (began) {
			store_fini();
			EXPECT_EQ(frame_count(FRAME_HYP), taken_for_good);
		}
	}

	u64 put(const Page &page, enum store_kind kind)
	{
		u64 slot = ~0ull;

		EXPECT_EQ(store_put(page.data(), &slot), OK);
		EXPECT_EQ(store_kind_of(slot), kind);
		EXPECT_EQ(slot >> STORE_SLOT_BITS, 0u);
		return slot;
	}

	Page get(u64 slot)
	{
		Page page(PAGE_SIZE, 0xee);

		EXPECT_TRUE(store_get(slot, page.data()));
		return page;
	}

	bool began = false;
	u64 frames_at_start = 0, taken_for_good = 0;
};

TEST_F(Store, each_page_goes_to_the_first_store_that_takes_it_and_comes_back)
{
	begin(STORE_ALL);
	struct {
		Page page;
		enum store_kind kind;
	} const cases[] = {
		{filled_with(0), STORE_zero},
		{filled_with(1), STORE_same},
		{filled_with(0xffffffff), STORE_same},
		{filled_with(0x80000000), STORE_same},
		{noisy(1, 1), STORE_zswap},
		{noisy(100, 2), STORE_zswap},
		{noisy(2900, 3), STORE_zswap},
	};

	for (const auto &c : cases) {
		u64 slot = put(c.page, c.kind);

		EXPECT_EQ(get(slot), c.page);
		EXPECT_EQ(get(slot), c.page) << "it stays until it is freed";
		store_free(slot);
	}
	EXPECT_EQ(store_pool_stats.mem_used_total, 0u);
}

// A page that differs in its last byte alone is not taken for a filled one.
TEST_F(Store, a_page_is_filled_to_its_end)
{
	begin(STORE_ALL);
	for (u32 word : {0u, 7u}) {
		for (u64 at : {u64(0), u64(8), PAGE_SIZE / 2, PAGE_SIZE - 1}) {
			Page page = filled_with(word);

			page[at] ^= 0x80;
			u64 slot = put(page, STORE_zswap);
			EXPECT_EQ(get(slot), page);
			store_free(slot);
		}
	}
}

TEST_F(Store, what_does_not_shrink_is_refused_and_counted)
{
	Page page = noisy(PAGE_SIZE, 4);
	u64 slot;

	begin(STORE_ALL);
	EXPECT_EQ(store_put(page.data(), &slot), FULL);
	EXPECT_EQ(store_stats.reject_compress_poor, 1u);
	EXPECT_EQ(store_pool_stats.mem_used_total, 0u);
}

TEST_F(Store, a_store_that_is_not_allowed_takes_nothing)
{
	u64 slot;

	begin((u32)BIT(STORE_zswap));
	u64 zero = put(filled_with(0), STORE_zswap), same = put(filled_with(9), STORE_zswap);
	EXPECT_EQ(get(zero), filled_with(0));
	EXPECT_EQ(get(same), filled_with(9));
	store_free(zero);
	store_free(same);
	store_fini();

	begin((u32)BIT(STORE_zero));
	EXPECT_EQ(store_put(filled_with(9).data(), &slot), FULL);
	EXPECT_EQ(store_put(noisy(10, 1).data(), &slot), FULL);
	EXPECT_EQ(store_kind_of(put(filled_with(0), STORE_zero)), STORE_zero);
}

TEST_F(Store, the_pool_keeps_its_limit_and_takes_again_when_something_went)
{
	std::vector<u64> slots;
	u64 slot;

	begin((u32)BIT(STORE_zswap), KIB(64));
	while (store_put(noisy(2000, (unsigned)slots.size()).data(), &slot) == OK) {
		slots.push_back(slot);
		ASSERT_LE(store_pool_stats.mem_used_total, KIB(64));
	}
	EXPECT_EQ(store_stats.pool_limit_hit, 1u);
	EXPECT_GE(slots.size(), 16u);
	for (u64 i = 0; i < slots.size(); i++) {
		EXPECT_EQ(get(slots[i]), noisy(2000, (unsigned)i));
	}
	store_free(slots.back());
	EXPECT_EQ(store_put(noisy(2000, 99).data(), &slots.back()), OK);
	for (u64 s : slots) {
		store_free(s);
	}
}

TEST_F(Store, more_objects_than_were_asked_for_are_refused)
{
	u64 first, second, third;

	begin((u32)BIT(STORE_zswap), MIB(1), 2);
	ASSERT_EQ(store_put(noisy(10, 1).data(), &first), OK);
	ASSERT_EQ(store_put(noisy(10, 2).data(), &second), OK);
	EXPECT_EQ(store_put(noisy(10, 3).data(), &third), FULL);
	store_free(first);
	store_free(second);
}

TEST_F(Store, without_a_frame_for_the_pool_a_page_is_refused)
{
	u64 slot;

	begin((u32)BIT(STORE_zswap));
	fake_memory_leave(0);
	EXPECT_EQ(store_put(noisy(10, 1).data(), &slot), FULL);
	EXPECT_EQ(store_stats.reject_alloc_fail, 1u);
	taken_for_good = frame_count(FRAME_HYP) - frames_at_start;
}

TEST_F(Store, checksums_tell_pages_apart)
{
	Page page = noisy(PAGE_SIZE, 5);
	u32 sum = store_checksum(store_hash(page.data()));

	for (u64 bit = 0; bit < PAGE_SIZE * 8; bit += 61) {
		page[bit / 8] ^= (u8)(1 << bit % 8);
		EXPECT_NE(store_checksum(store_hash(page.data())), sum) << bit;
		page[bit / 8] ^= (u8)(1 << bit % 8);
	}
	std::swap_ranges(page.begin(), page.begin() + 8, page.begin() + 8);
	EXPECT_NE(store_checksum(store_hash(page.data())), sum) << "words that changed places";
}

class Pool : public testing::Test
{
      protected:
	void SetUp() override
	{
		fake_cpus(1);
		fake_memory(MIB(32));
		ASSERT_EQ(store_pool_init(4096, 512), OK);
	}

	void TearDown() override
	{
		for (auto &entry : objects) {
			store_pool_free(entry.first);
		}
		store_pool_fini();
		EXPECT_EQ(frame_count(FRAME_HYP), 0u);
	}

	void put(u32 size)
	{
		Page bytes(size);
		u32 handle;

		for (u8 &byte : bytes) {
			byte = (u8)random();
		}
		if (store_pool_put(bytes.data(), size, &handle) == OK) {
			ASSERT_EQ(objects.count(handle), 0u) << "a handle that is in use";
			objects[handle] = bytes;
		}
	}

	void free_one()
	{
		auto entry = objects.begin();

		std::advance(entry, random() % objects.size());
		store_pool_free(entry->first);
		objects.erase(entry);
	}

	void expect_all()
	{
		u8 bytes[STORE_POOL_OBJECT_MAX];

		for (auto &entry : objects) {
			u32 size = store_pool_get(entry.first, bytes);

			ASSERT_EQ(Page(bytes, bytes + size), entry.second);
		}
		EXPECT_EQ(store_pool_stats.objects, objects.size());
	}

	std::mt19937 random{1};
	std::map<u32, Page> objects;
};

TEST_F(Pool, objects_of_all_sizes_survive_a_long_life)
{
	for (unsigned step = 0; step < 20000; step++) {
		unsigned what = random() % 100;

		if (what < 52 || objects.empty()) {
			put(1 + random() % STORE_POOL_OBJECT_MAX);
		} else if (what < 99) {
			free_one();
		} else {
			store_pool_compact(random() % 8);
		}
		if (step % 997 == 0) {
			expect_all();
		}
	}
	expect_all();
}

TEST_F(Pool, every_size_fits_into_a_frame)
{
	for (u32 size = 1; size <= STORE_POOL_OBJECT_MAX; size += 7) {
		put(size);
	}
	put(STORE_POOL_OBJECT_MAX);
	expect_all();
}

TEST_F(Pool, small_objects_share_a_frame)
{
	for (unsigned i = 0; i < 63; i++) {
		put(56);
	}
	EXPECT_EQ(store_pool_stats.mem_used_total, PAGE_SIZE);
	put(1);
	EXPECT_EQ(store_pool_stats.mem_used_total, 2 * PAGE_SIZE);
}

TEST_F(Pool, compaction_gives_frames_back_and_loses_nothing)
{
	for (unsigned i = 0; i < 1000; i++) {
		put(600);
	}
	for (unsigned i = 0; i < 700; i++) {
		free_one();
	}
	u64 before = store_pool_stats.mem_used_total;
	u32 given = store_pool_compact(512);

	EXPECT_EQ(store_pool_stats.mem_used_total, before - given * PAGE_SIZE);
	// 300 objects of 10 chunks, six to a frame.
	EXPECT_LE(store_pool_stats.mem_used_total, 52 * PAGE_SIZE);
	EXPECT_EQ(store_pool_compact(512), 0u) << "there is nothing left to do";
	expect_all();
}

} // namespace

// What the tests of s2 stand on: a space of each format on a fake machine of each kind.
#ifndef S2_TEST_MACHINE_H
#define S2_TEST_MACHINE_H

#include <gtest/gtest.h>

#include <string>

extern "C" {
#include "../../arch/arm64/s2_armv8.h"
#include "../../arch/arm64/s2_tlbi.h"
#include "../../arch/arm64/s2_vtcr.h"
#include "../../arch/fake/fake.h"
#include "../../arch/x86_64/s2_ept.h"
#include "../../arch/x86_64/s2_npt.h"
#include "hyp/s2.h"
#include "hyp/s2_cursor.h"
#include "hyp/s2_ident.h"
#include <arch/s2.h>
}

struct S2Kind {
	const char *name;
	const struct s2_format *format;
	bool broadcasts;
};

inline const struct s2_attr kRwx = {S2_RWX, S2_NORMAL};

// A memory type, or the other one that a format without it has.
inline u8 s2_memory_or_forced(const struct s2_format *f, u8 memory)
{
	return f->memories >> memory & 1 ? memory : (u8)S2_FORCED;
}

// What `fn` does with a batch of its own, which is closed then.
template <typename Fn> enum status in_batch(struct s2 *s2, Fn fn)
{
	struct s2_batch batch;
	enum status status;

	s2_batch_open(&batch, s2);
	status = fn(&batch);
	s2_batch_close(&batch);
	return status;
}

inline enum status unmap_of(struct s2 *s2, u64 at, u64 size)
{
	return in_batch(s2,
			[&](struct s2_batch *batch) { return s2_unmap(s2, gpa(at), size, batch); });
}

inline enum status protect_of(struct s2 *s2, u64 at, u64 size, u8 perm)
{
	return in_batch(s2, [&](struct s2_batch *batch) {
		return s2_protect(s2, gpa(at), size, perm, batch);
	});
}

// Begins to watch anew; tables of which nothing was used go, with what they map.
inline enum status harvest_and_free(struct s2 *s2, u64 at, u64 size, struct s2_harvest *h)
{
	return in_batch(s2, [&](struct s2_batch *batch) {
		*h = {};
		h->clear = true;
		h->tables = S2_TABLES_FREE;
		h->batch = batch;
		return s2_harvest(s2, gpa(at), size, h);
	});
}

// Where tables have flags hardware sets them, and leaves'; others fault at the first use.
inline u8 s2_hardware_flags(const struct s2_format *format)
{
	return format->accessed_table ? S2_HARDWARE_ACCESSED : 0;
}

class S2Test : public ::testing::TestWithParam<S2Kind>
{
      protected:
	static constexpr u16 kOwner = 7;
	static constexpr u64 kMemory = MIB(64);

	void SetUp() override
	{
		fake_broadcasts = GetParam().broadcasts;
		fake_traits |= s2_hardware_flags(GetParam().format);
		fake_cpus(2);
		fake_tlb_clear();
		fake_memory(kMemory);
		free_before = frame_count(FRAME_FREE);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		tables_at_start = s2.stats.tables;
	}

	void TearDown() override
	{
		if (s2.root) {
			s2_destroy(&s2);
		}
		EXPECT_EQ(frame_count(FRAME_FREE) + taken_for_good, free_before) << "frames leaked";
		fake_traits = 0;
	}

	hpa_t guest_block(unsigned order)
	{
		hpa_t frame = frame_alloc(order, FRAME_GUEST, kOwner);

		EXPECT_FALSE(hpa_is_none(frame));
		return frame;
	}

	// Maps one fresh block of the level at `at` and returns it.
	hpa_t map_block(u64 at, unsigned level)
	{
		hpa_t frame = guest_block(9 * level);

		EXPECT_EQ(s2_map(&s2, gpa(at), frame, PAGE_SIZE << (9 * level), kRwx, S2_ERROR),
			  OK);
		return frame;
	}

	enum status unmap(u64 at, u64 size)
	{
		return unmap_of(&s2, at, size);
	}

	void expect_maps(u64 at, u64 to, const char *what)
	{
		struct s2_leaf leaf = s2_query(&s2, gpa(at));

		EXPECT_EQ(leaf.kind, S2_LEAF) << what << " at " << std::hex << at;
		EXPECT_EQ(leaf.hpa.v, to) << what << " at " << std::hex << at;
	}

	void expect_nothing(u64 at)
	{
		EXPECT_EQ(s2_query(&s2, gpa(at)).kind, S2_EMPTY) << std::hex << at;
	}

	struct s2 s2 = {};
	u64 free_before = 0, tables_at_start = 0;
	u64 taken_for_good = 0;
};

inline std::string s2_kind_name(const ::testing::TestParamInfo<S2Kind> &info)
{
	return info.param.name;
}

inline auto s2_kinds_without_broadcast()
{
	return ::testing::Values(S2Kind{"fake_generations", arch_s2_format(), false});
}

inline auto s2_kinds()
{
	return ::testing::Values(
		S2Kind{"fake_broadcast", arch_s2_format(), true},
		S2Kind{"fake_generations", arch_s2_format(), false},
		S2Kind{"armv8", &s2_armv8_4k, true}, S2Kind{"armv8_fwb", &s2_armv8_4k_fwb, true},
		S2Kind{"ept", &s2_ept, false}, S2Kind{"ept_software", &s2_ept_software, false},
		S2Kind{"npt", &s2_npt, false});
}

#endif

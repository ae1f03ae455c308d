// RAM of several ranges: where it is, where it is not, and all of it piece by piece.
#include <utility>
#include <vector>

#include "guest_test_machine.h"

extern "C" {
#include "arch/s2.h"
}

namespace
{

using Pieces = std::vector<std::pair<u64, u64>>;

struct vm_ram a_pc(u64 low, u64 high)
{
	struct vm_ram ram = {};

	vm_ram_add(&ram, gpa(0), low);
	vm_ram_add(&ram, gpa(GIB(4)), high);
	return ram;
}

Pieces pieces_of(const struct vm_ram &ram, u64 done = 0)
{
	Pieces pieces;

	while (done < ram.size) {
		struct vm_ram_range piece = vm_ram_piece(&ram, done);

		pieces.emplace_back(piece.base.v, piece.size);
		done += piece.size;
	}
	return pieces;
}

TEST(VmRam, all_of_it_is_its_ranges_in_their_order)
{
	EXPECT_EQ(pieces_of(a_pc(GIB(3), MIB(512))), (Pieces{{0, GIB(3)}, {GIB(4), MIB(512)}}));
	EXPECT_EQ(pieces_of(a_pc(MIB(64), 0)), (Pieces{{0, MIB(64)}}));
	EXPECT_EQ(pieces_of({}), Pieces{});
}

TEST(VmRam, a_piece_goes_from_where_one_asks_to_its_ranges_end)
{
	struct vm_ram ram = a_pc(GIB(3), MIB(512));

	EXPECT_EQ(pieces_of(ram, GIB(3) - 1), (Pieces{{GIB(3) - 1, 1}, {GIB(4), MIB(512)}}));
	EXPECT_EQ(pieces_of(ram, GIB(3)), (Pieces{{GIB(4), MIB(512)}}));
	EXPECT_EQ(pieces_of(ram, GIB(3) + MIB(511)), (Pieces{{GIB(4) + MIB(511), MIB(1)}}));
}

TEST(VmRam, size_and_end_are_of_all_ranges)
{
	struct vm_ram large = a_pc(GIB(3), MIB(512)), small = a_pc(MIB(64), 0), none = {};

	EXPECT_EQ(large.size, GIB(3) + MIB(512));
	EXPECT_EQ(vm_ram_end(&large).v, GIB(4) + MIB(512));
	EXPECT_EQ(small.size, MIB(64));
	EXPECT_EQ(vm_ram_end(&none).v, 0u);
	EXPECT_EQ(vm_ram_end(&small).v, MIB(64));
}

TEST(VmRam, what_lies_in_two_ranges_or_between_is_not_contained)
{
	struct vm_ram ram = a_pc(GIB(3), MIB(512));

	EXPECT_TRUE(vm_ram_contains(&ram, gpa(0), GIB(3)));
	EXPECT_TRUE(vm_ram_contains(&ram, gpa(GIB(4)), MIB(512)));
	EXPECT_FALSE(vm_ram_contains(&ram, gpa(0), GIB(3) + 1));
	EXPECT_FALSE(vm_ram_contains(&ram, gpa(GIB(3)), 1));
	EXPECT_FALSE(vm_ram_contains(&ram, gpa(GIB(4) - 1), 1));
	EXPECT_FALSE(vm_ram_contains(&ram, gpa(GIB(4) - 1), 2));
	EXPECT_FALSE(vm_ram_contains(&ram, gpa(GIB(4) + MIB(512) - 1), 2));
	EXPECT_FALSE(vm_ram_contains(&ram, gpa(GIB(4) + 8), ~0ull));
	EXPECT_FALSE(vm_ram_contains(&ram, gpa(0), ~0ull));
}

TEST(VmRam, a_range_that_is_not_there_contains_nothing_and_meets_nothing)
{
	struct vm_ram ram = {}, low = a_pc(MIB(64), 0);

	EXPECT_FALSE(vm_ram_contains(&ram, gpa(0), 0));
	EXPECT_FALSE(vm_ram_contains(&low, gpa(MIB(64)), 1));
	EXPECT_FALSE(vm_ram_meets(&ram, gpa(0), ~0ull));
	EXPECT_FALSE(vm_ram_meets(&low, gpa(MIB(64)), GIB(8)));
}

TEST(VmRam, a_range_meets_what_shares_a_byte_with_it)
{
	struct vm_ram ram = a_pc(GIB(3), MIB(512));

	EXPECT_FALSE(vm_ram_meets(&ram, gpa(GIB(3)), GIB(1)));
	EXPECT_TRUE(vm_ram_meets(&ram, gpa(GIB(3) - 1), 2));
	EXPECT_TRUE(vm_ram_meets(&ram, gpa(GIB(3)), GIB(1) + 1));
	EXPECT_TRUE(vm_ram_meets(&ram, gpa(GIB(4) + MIB(511)), GIB(1)));
	EXPECT_FALSE(vm_ram_meets(&ram, gpa(GIB(4) + MIB(512)), GIB(1)));
	EXPECT_TRUE(vm_ram_meets(&ram, gpa(GIB(2)), GIB(4)));
}

TEST(VmRamDeath, ranges_that_touch_or_go_down_are_a_mistake_of_ours)
{
	struct vm_ram ram = a_pc(GIB(3), 0);

	EXPECT_DEATH(vm_ram_add(&ram, gpa(GIB(3)), MIB(2)), "");
	EXPECT_DEATH(vm_ram_add(&ram, gpa(GIB(1)), MIB(2)), "");
}

// ---- A guest whose RAM goes on behind a hole --------------------------------------------------

class VmWithHole : public GuestMachine
{
      protected:
	static constexpr u64 HIGH = GIB(4), HIGH_SIZE = MIB(8);

	void SetUp() override
	{
		GuestMachine::SetUp();
		vm_ram_add(&vm->ram, gpa(HIGH), HIGH_SIZE);
	}

	enum status put(u64 at, u64 value)
	{
		return vm_memory_write(vm, gpa(at), &value, sizeof(value));
	}

	u64 get(u64 at)
	{
		u64 value = 0;

		EXPECT_EQ(vm_memory_read(vm, gpa(at), &value, sizeof(value)), OK);
		return value;
	}
};

TEST_F(VmWithHole, memory_is_there_at_both_ends_and_not_between)
{
	EXPECT_EQ(put(RAM, 1), OK);
	EXPECT_EQ(put(RAM + RAM_SIZE - 8, 2), OK);
	EXPECT_EQ(put(HIGH, 3), OK);
	EXPECT_EQ(put(HIGH + HIGH_SIZE - 8, 4), OK);
	EXPECT_EQ(put(RAM + RAM_SIZE, 5), INVALID);
	EXPECT_EQ(put(RAM + RAM_SIZE - 4, 5), INVALID);
	EXPECT_EQ(put(HIGH - 4, 5), INVALID);
	EXPECT_EQ(put(HIGH + HIGH_SIZE - 4, 5), INVALID);
	EXPECT_EQ(get(RAM), 1u);
	EXPECT_EQ(get(RAM + RAM_SIZE - 8), 2u);
	EXPECT_EQ(get(HIGH), 3u);
	EXPECT_EQ(get(HIGH + HIGH_SIZE - 8), 4u);
}

TEST_F(VmWithHole, devices_have_room_in_the_hole_alone)
{
	struct mmio_ops ops = {};

	EXPECT_EQ(vm_mmio_add(vm, {gpa(HIGH - PAGE_SIZE), 2 * PAGE_SIZE, &ops, nullptr, "over"}),
		  INVALID);
	EXPECT_EQ(vm_mmio_add(vm, {gpa(RAM + RAM_SIZE - 1), PAGE_SIZE, &ops, nullptr, "over"}),
		  INVALID);
	EXPECT_EQ(vm_mmio_add(vm, {gpa(HIGH - PAGE_SIZE), PAGE_SIZE, &ops, nullptr, "in"}), OK);
}

TEST_F(VmWithHole, memory_behind_the_last_address_is_refused)
{
	struct config_vm config = {};
	char why[128] = "";

	std::strcpy(config.name, "large");
	config.cpus = 1;
	config.weight = CONFIG_WEIGHT_DEFAULT;
	config.memory = BIT(arch_s2_ipa_bits()) - RAM + MIB(2);
	EXPECT_EQ(vm_build(&config, why, sizeof(why)), FULL);
	EXPECT_STREQ(why, "its memory would end behind the 40 bits of its addresses");
	config.memory -= MIB(2);
	EXPECT_EQ(vm_build(&config, why, sizeof(why)), OK);
}

u64 left_by_reset;

void see_the_reset(struct vcpu *vcpu)
{
	left_by_reset = frame_count_owned(FRAME_GUEST, vcpu->vm->number);
	vm_destroy(vcpu->vm);
	vcpu->exit.reason = EXIT_INTERRUPT;
}

TEST_F(VmWithHole, a_reset_takes_the_memory_of_all_ranges)
{
	ASSERT_EQ(put(RAM, 1), OK);
	ASSERT_EQ(put(HIGH, 2), OK);
	ASSERT_NE(frame_count_owned(FRAME_GUEST, vm->number), 0u);
	left_by_reset = ~0ull;
	vm_reset(vm);
	run(see_the_reset);
	EXPECT_EQ(left_by_reset, 0u);
}

} // namespace

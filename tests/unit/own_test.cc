// Lamina's own part of a machine: what the firmware said, gathered and judged; what is mapped with
// which right; which address is in a hole under a stack.
#include <gtest/gtest.h>

#include <csetjmp>
#include <cstring>
#include <map>

extern "C" {
#include "../../arch/fake/fake.h"

#include "hyp/boot_info.h"
#include "hyp/own.h"
#include "hyp/summary.h"
}

// The image that a linker script would lay out: text, constants, data, and slots of stacks.
__asm__(".pushsection .bss\n"
	".balign 4096\n"
	".globl image_start, text_end, rodata_end, data_start, data_end, stacks_start, image_end\n"
	"image_start: .skip 8192\n"
	"text_end: .skip 4096\n"
	"rodata_end:\n"
	"data_start: .skip 12288\n"
	"data_end:\n"
	"stacks_start: .skip 16 * 0x8000\n"
	"image_end: .skip 4096\n"
	".popsection");

// Entries for the tests' eyes: address, level, kind, and a bit for a leaf.
extern "C" {
u64 arch_own_leaf(u64 address, unsigned level, enum own_kind kind)
{
	return address | 1 | (u64)level << 1 | (u64)kind << 4;
}

u64 arch_own_table(const u64 *table)
{
	return (u64)table | BIT(63);
}

u64 *arch_own_table_of(u64 entry, unsigned)
{
	return entry & BIT(63) ? (u64 *)(entry & ~BIT(63)) : nullptr;
}

unsigned arch_own_leaf_level_max(void)
{
	return 2;
}
}

namespace
{

std::jmp_buf refused;
int refused_with;

void note_end(int status)
{
	refused_with = status;
	std::longjmp(refused, 1);
}

template <class F> bool refuses(F f)
{
	fake_machine_end = note_end;
	refused_with = -1;
	if (setjmp(refused) == 0) {
		f();
	}
	fake_machine_end = nullptr;
	return refused_with == RUN_PANICKED;
}

u64 address(const u8 *symbol)
{
	return (u64)symbol;
}

struct boot_range around_image()
{
	return {align_down(address(image_start), GIB(1)), align_up(address(image_end), GIB(1))};
}

struct config_module module(u64 at, u64 size)
{
	return {.name = "m", .bytes = (const u8 *)at, .size = size, .address = 0};
}

class BootInfo : public testing::Test
{
      protected:
	struct boot_info info = {};

	void SetUp() override
	{
		fake_cpus(2);
	}
};

TEST_F(BootInfo, banks_are_whole_pages_in_ascending_order)
{
	boot_add_bank(&info, {MIB(8) + 1, MIB(9) - 1});
	boot_add_bank(&info, {MIB(1), MIB(2)});
	boot_add_bank(&info, {MIB(4) + 1, MIB(4) + 4095}); // no whole page
	boot_add_bank(&info, {MIB(2), MIB(3)});
	ASSERT_EQ(info.bank_count, 3u);
	EXPECT_EQ(info.banks[0].start, MIB(1));
	EXPECT_EQ(info.banks[1].start, MIB(2));
	EXPECT_EQ(info.banks[2].start, MIB(8) + PAGE_SIZE);
	EXPECT_EQ(info.banks[2].end, MIB(9) - PAGE_SIZE);
}

TEST_F(BootInfo, modules_are_in_ascending_order_and_reserved)
{
	boot_add_module(&info, module(MIB(5) + 8, 100));
	boot_add_module(&info, module(MIB(3), 5000));
	ASSERT_EQ(info.module_count, 2u);
	EXPECT_EQ(info.modules[0].bytes, (const u8 *)MIB(3));
	ASSERT_EQ(info.reserved_count, 2u);
	EXPECT_EQ(info.reserved[0].start, MIB(5));
	EXPECT_EQ(info.reserved[0].end, MIB(5) + PAGE_SIZE);
	EXPECT_EQ(info.reserved[1].end, MIB(3) + 2 * PAGE_SIZE);
}

TEST_F(BootInfo, each_cpu_is_listed_once_and_more_than_there_is_room_for_are_counted)
{
	for (u64 id = 0; id < CPU_MAX + 3; id++) {
		boot_add_cpu(&info, id * 0x100);
		boot_add_cpu(&info, 0);
	}
	EXPECT_EQ(info.cpu_count, (u32)CPU_MAX);
	EXPECT_EQ(info.cpus_ignored, 3u);
	EXPECT_EQ(info.cpu_hw_ids[1], 0x100u);
}

TEST_F(BootInfo, what_makes_sense_is_accepted_and_the_image_reserved)
{
	u64 image = address(image_start);

	boot_add_bank(&info, around_image());
	boot_add_module(&info, module(around_image().start, MIB(1)));
	EXPECT_FALSE(refuses([&] { boot_check(&info, {0, PAGE_SIZE}); }));
	EXPECT_EQ(info.reserved[info.reserved_count - 1].start, image);
}

TEST_F(BootInfo, no_memory_banks_that_overlap_and_modules_in_the_way_are_refused)
{
	EXPECT_TRUE(refuses([&] { boot_check(&info, {0, 0}); })) << "no memory";
	boot_add_bank(&info, {MIB(1), MIB(3)});
	boot_add_bank(&info, {MIB(2), MIB(4)});
	EXPECT_TRUE(refuses([&] { boot_check(&info, {0, 0}); })) << "banks overlap";
	auto with = [&](std::initializer_list<struct config_module> modules,
			struct boot_range tables = {0, 0}) {
		info = {};
		boot_add_bank(&info, around_image());
		for (const struct config_module &m : modules) {
			boot_add_module(&info, m);
		}
		return refuses([&] { boot_check(&info, tables); });
	};
	u64 base = around_image().start;

	EXPECT_FALSE(with({module(base, 10), module(base + 10, 10)}));
	EXPECT_TRUE(with({module(base, 10), module(base + 9, 10)})) << "each other";
	EXPECT_TRUE(with({module(address(image_start) + 5, 1)})) << "the image";
	EXPECT_TRUE(with({module(base - 1, 2)})) << "not in memory";
	EXPECT_TRUE(with({module(base, 10)}, {base + 5, base + 6})) << "the firmware's tables";
}

TEST_F(BootInfo, too_much_of_anything_is_refused)
{
	EXPECT_TRUE(refuses([&] {
		for (u64 i = 0; i <= BOOT_BANKS_MAX; i++) {
			boot_add_bank(&info, {MIB(i), MIB(i) + PAGE_SIZE});
		}
	}));
	EXPECT_TRUE(refuses([&] {
		for (u64 i = 0; i <= BOOT_RESERVED_MAX; i++) {
			boot_reserve(&info, MIB(i), MIB(i) + 1);
		}
	}));
}

// ---- The address space ----

struct Leaf {
	unsigned level;
	enum own_kind kind;
};

void collect(const u64 *table, unsigned level, u64 base, std::map<u64, Leaf> &leaves)
{
	for (u64 i = 0; i < OWN_TABLE_ENTRIES; i++) {
		u64 at = base + (i << (12 + 9 * level));

		if (table[i] & BIT(63)) {
			collect((const u64 *)(table[i] & ~BIT(63)), level - 1, at, leaves);
		} else if (table[i]) {
			EXPECT_EQ(align_down(table[i], PAGE_SIZE), at) << "VA = PA";
			leaves[at] = {unsigned(table[i] >> 1 & 7), own_kind(table[i] >> 4 & 7)};
		}
	}
}

std::map<u64, Leaf> leaves_of(const u64 *root)
{
	std::map<u64, Leaf> leaves;

	collect(root, OWN_ROOT_LEVEL, 0, leaves);
	return leaves;
}

TEST(OwnMap, a_range_has_the_largest_leaves_that_fit)
{
	u64 *root = own_map_new();

	own_map_range(root, GIB(1) - MIB(2) - PAGE_SIZE, GIB(2) + PAGE_SIZE, OWN_DATA);
	std::map<u64, Leaf> leaves = leaves_of(root);

	ASSERT_EQ(leaves.size(), 4u);
	EXPECT_EQ(leaves[GIB(1) - MIB(2) - PAGE_SIZE].level, 0u);
	EXPECT_EQ(leaves[GIB(1) - MIB(2)].level, 1u);
	EXPECT_EQ(leaves[GIB(1)].level, 2u);
	EXPECT_EQ(leaves[GIB(2)].level, 0u);
}

TEST(OwnMap, a_device_is_mapped_with_the_pages_that_it_touches)
{
	u64 *root = own_map_new();

	own_map_device(root, {0xfec00010, 0xfec01001});
	std::map<u64, Leaf> leaves = leaves_of(root);

	ASSERT_EQ(leaves.size(), 2u);
	EXPECT_EQ(leaves[0xfec00000].kind, OWN_DEVICE);
	EXPECT_EQ(leaves[0xfec01000].kind, OWN_DEVICE);
}

TEST(OwnMap, two_things_at_one_address_are_refused)
{
	u64 *root = own_map_new();

	own_map_range(root, MIB(2), MIB(4), OWN_DATA);
	EXPECT_TRUE(refuses([&] { own_map_range(root, MIB(2), MIB(4), OWN_TEXT); }));
	EXPECT_TRUE(refuses([&] { own_map_range(root, MIB(2), MIB(2) + PAGE_SIZE, OWN_TEXT); }))
		<< "a page inside of a block";
}

TEST(OwnMap, each_part_of_the_image_has_its_own_right_and_nothing_is_under_a_stack)
{
	struct boot_info info = {};
	u64 *root = own_map_new();

	info.banks[0] = around_image();
	info.bank_count = 1;
	own_map_memory(root, &info, 48);
	std::map<u64, Leaf> leaves = leaves_of(root);
	auto kind = [&](const u8 *symbol) { return leaves.at(address(symbol)).kind; };

	EXPECT_EQ(kind(image_start), OWN_TEXT);
	EXPECT_EQ(kind(text_end), OWN_CONSTANT);
	EXPECT_EQ(kind(data_start), OWN_DATA);
	EXPECT_EQ(leaves.at(address(image_end)).kind, OWN_DATA) << "plain memory behind it";
	for (u32 cpu = 0; cpu < STACK_SLOTS; cpu++) {
		EXPECT_EQ(leaves.count(own_stack_top(cpu) - PAGE_SIZE), 1u);
		EXPECT_EQ(leaves.count(own_emergency_top(cpu) - PAGE_SIZE), 1u);
		EXPECT_EQ(leaves.count(own_stack_top(cpu) - STACK_SIZE - PAGE_SIZE), 0u);
		EXPECT_EQ(leaves.count(own_emergency_top(cpu) - STACK_EMERGENCY_SIZE - PAGE_SIZE),
			  0u);
	}
}

TEST(OwnMap, memory_that_no_address_reaches_and_an_image_elsewhere_are_refused)
{
	struct boot_info info = {};

	info.banks[0] = {0, GIB(1)};
	info.bank_count = 1;
	EXPECT_TRUE(refuses([&] { own_map_memory(own_map_new(), &info, 48); }));
	info.banks[0] = around_image();
	EXPECT_TRUE(refuses([&] { own_map_memory(own_map_new(), &info, 30); }));
}

// ---- Stacks ----

TEST(OwnStack, an_address_in_a_hole_is_told_from_others)
{
	fake_cpus(2);
	fake_cpu_become(1);
	EXPECT_STREQ(own_stack_hole(own_stack_top(1) - STACK_SIZE - 1),
		     " (guard page: stack overflow)");
	EXPECT_STREQ(own_stack_hole(own_emergency_top(1) - STACK_EMERGENCY_SIZE - 1),
		     " (guard page: emergency stack overflow)");
	EXPECT_STREQ(own_stack_hole(own_stack_top(1) - 1), "");
	EXPECT_STREQ(own_stack_hole(0), "");
	EXPECT_TRUE(own_stack_has(own_stack_top(1) - 16, 16));
	EXPECT_FALSE(own_stack_has(own_stack_top(1) - 8, 16)) << "it would stick out";
	EXPECT_TRUE(own_stack_has(own_emergency_top(1) - 16, 16));
	EXPECT_FALSE(own_stack_has(own_stack_top(0) - 16, 16)) << "another CPU's";
	fake_cpu_become(0);
}

} // namespace

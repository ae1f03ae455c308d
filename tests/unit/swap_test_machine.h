// Guests that are overcommitted, on the fake machine.
#ifndef SWAP_TEST_MACHINE_H
#define SWAP_TEST_MACHINE_H

#include "s2_test_machine.h"

#include <cstring>
#include <random>
#include <vector>

extern "C" {
#include "../../arch/fake/fake.h"
#include "../../hyp/config_internal.h"
#include "../../hyp/swap_internal.h"
#include "hyp/frame.h"
#include "hyp/store_pool.h"
#include "hyp/swap.h"
#include "hyp/vm.h"
}

class SwapTest : public testing::TestWithParam<S2Kind>
{
      protected:
	static constexpr u64 kRam = GIB(1); // where the fake architecture puts it

	// What a machine is asked for; guests are added to it.
	void SetUp() override
	{
		config_default_machine(&config);
		config.guest_memory = MIB(8);
		config.zswap_max = MIB(4);
	}

	struct config_vm *add_guest(u64 memory, bool small_pages = true)
	{
		struct config_vm *guest = &config.vms[config.vm_count++];

		*guest = {};
		std::snprintf(guest->name, sizeof(guest->name), "guest%u", config.vm_count);
		guest->valid = true;
		guest->cpus = 1;
		guest->memory = memory;
		guest->weight = CONFIG_WEIGHT_DEFAULT;
		guest->small_pages = small_pages;
		return guest;
	}

	// Memory is there, and no guest yet.
	virtual void machine_is_up()
	{
	}

	void build(unsigned cpus = 1)
	{
		const struct s2_format *format = GetParam().format;
		char why[128] = "";

		fake_broadcasts = GetParam().broadcasts;
		fake_traits = s2_hardware_flags(format);

		fake_cpus(cpus);
		fake_tlb_clear();
		fake_memory(MIB(64));
		vm_count = 0;
		machine_is_up();
		ASSERT_EQ(swap_init(&config), OK);
		for (u32 i = 0; i < config.vm_count; i++) {
			ASSERT_EQ(vm_build(&config.vms[i], why, sizeof(why)), OK) << why;
			vms[i]->state = VM_RUNNING;
			s2_destroy(&vms[i]->s2);
			ASSERT_EQ(s2_init(&vms[i]->s2, format, 40, vms[i]->number), OK);
		}
		vm = vms[0];
		swap = vm->swap;
		built = true;
	}

	void TearDown() override
	{
		struct config none = {};

		for (u32 i = 0; built && i < vm_count; i++) {
			expect_adds_up(vms[i]);
			swap_end(vms[i]);
			s2_destroy(&vms[i]->s2);
		}
		EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
		EXPECT_EQ(frame_count(FRAME_SHARED), 0u);
		EXPECT_EQ(swap_machine_sharing(), 0u);
		EXPECT_EQ(frame_count(FRAME_TABLE), 0u);
		if (built) {
			EXPECT_EQ(swap_machine_charged(), 0u);
			EXPECT_EQ(store_pool_stats.objects, 0u);
			store_fini();
		}
		swap_init(&none);
		vm_count = 0;
		fake_traits = 0;
	}

	// The guest's own write, faulting until it gets through.
	enum status write(struct vm *to, u64 page, const void *bytes, u64 size = PAGE_SIZE)
	{
		return vm_memory_write(to, gpa(kRam + page * PAGE_SIZE), bytes, size);
	}

	std::vector<u8> read(struct vm *from, u64 page)
	{
		std::vector<u8> bytes(PAGE_SIZE, 0xee);

		EXPECT_EQ(
			vm_memory_read(from, gpa(kRam + page * PAGE_SIZE), bytes.data(), PAGE_SIZE),
			OK);
		return bytes;
	}

	// Content by page and version: some pages zero, some filled, most compressible.
	static std::vector<u8> content(u64 page, u32 version)
	{
		std::vector<u8> bytes(PAGE_SIZE);
		std::mt19937 random((u32)(page * 1000003 + version));

		if (page % 8 == 1) {
			std::memset(bytes.data(), (int)(version * 3 + 1), PAGE_SIZE);
		} else if (page % 8 != 0) {
			for (u64 i = 0; i < 512 + page % 5 * 300; i++) {
				bytes[i] = (u8)random();
			}
		}
		return bytes;
	}

	void write_page(struct vm *to, u64 page, u32 version)
	{
		ASSERT_EQ(write(to, page, content(page, version).data()), OK);
	}

	// What is accessed from now on is told from the rest.
	void watch(struct vm *of)
	{
		struct s2_harvest harvest = {};

		harvest.clear = true;
		ASSERT_EQ(s2_harvest(&of->s2, gpa(kRam), of->ram.size, &harvest), OK);
	}

	// The guest's own access to a page that is mapped.
	void access(struct vm *of, u64 page)
	{
		ASSERT_EQ(s2_mark_accessed(&of->s2, gpa(kRam + page * PAGE_SIZE)), OK);
	}

	u64 out(struct swap *from, u64 pages)
	{
		u64 freed = 0;

		EXPECT_EQ(swap_out(from, pages, &freed), OK);
		return freed;
	}

	enum s2_kind kind_at(struct vm *of, u64 page)
	{
		return s2_query(&of->s2, gpa(kRam + page * PAGE_SIZE)).kind;
	}

	// What the records, the table, the counters and the frame table say is one story.
	void expect_adds_up(struct vm *of)
	{
		struct swap *s = of->swap;
		struct swap_census c;
		struct swap_totals t;
		u64 stored = 0, outs = 0, ins = 0, faults = 0;

		swap_count(s, &c, &t);
		for (u32 kind = 0; kind < STORE_KINDS; kind++) {
			EXPECT_EQ(c.stored[kind], s->stored[kind]) << store_name((store_kind)kind);
			stored += c.stored[kind];
			outs += t.out[kind];
			ins += t.in[kind];
			faults += swap_latency_count(&t.latency[SWAP_FROM_STORES + kind]);
		}
		EXPECT_EQ(c.untouched + c.resident + c.shared + stored, c.total);
		EXPECT_EQ(c.resident, s->charged);
		EXPECT_EQ((c.resident + c.shared) * PAGE_SIZE, vm_memory_current(of));
		outs += t.counters.swpout_clean;
		EXPECT_EQ(t.counters.pgsteal, outs);
		EXPECT_EQ(t.counters.workingset_refault, ins);
		EXPECT_EQ(faults + t.counters.swap_ra, ins);
		EXPECT_EQ(swap_latency_count(&t.latency[SWAP_FROM_FLIGHT]), t.counters.pgrescued);
		EXPECT_EQ(swap_latency_count(&t.latency[SWAP_FROM_SHARED]), t.counters.cow_ksm);
		EXPECT_EQ(swap_latency_count(&s->room), t.counters.direct_reclaim);
		EXPECT_EQ(outs - ins - t.counters.pgdiscard, stored);
		EXPECT_EQ(frame_count_owned(FRAME_GUEST, of->number), c.resident);
	}

	struct config config;
	struct vm *vm = nullptr;
	struct swap *swap = nullptr;
	bool built = false;
};

#endif

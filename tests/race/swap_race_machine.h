// Guests that are overcommitted, on the fake machine, whose CPUs are threads.
#ifndef SWAP_RACE_MACHINE_H
#define SWAP_RACE_MACHINE_H

#include <gtest/gtest.h>

#include <cstdio>

extern "C" {
#include "../../arch/arm64/s2_armv8.h"
#include "../../arch/fake/fake.h"
#include "../../hyp/config_internal.h"
#include "hyp/ksm.h"
#include "hyp/store_pool.h"
#include "hyp/swap.h"
#include "hyp/vm_memory_give_up.h"
#include <arch/s2.h>
}

class SwapRaceMachine
{
      protected:
	static constexpr u64 kRam = GIB(1); // where the fake architecture puts it

	// Memory is there, and no guest yet.
	void begin(u32 cpus, bool broadcasts, u64 guest_memory, u64 zswap_max)
	{
		fake_broadcasts = broadcasts;
		fake_cpus(cpus);
		fake_tlb_clear();
		fake_memory(MIB(64));
		vm_count = 0;
		config_default_machine(&config);
		config.guest_memory = guest_memory;
		config.zswap_max = zswap_max;
	}

	void add_guest(u32 cpus, u64 memory, bool small_pages)
	{
		struct config_vm *guest = &config.vms[config.vm_count++];

		std::snprintf(guest->name, sizeof(guest->name), "guest%u", config.vm_count);
		guest->valid = true;
		guest->cpus = cpus;
		guest->memory = memory;
		guest->weight = CONFIG_WEIGHT_DEFAULT;
		guest->small_pages = small_pages;
	}

	void build(const struct s2_format *format)
	{
		char why[128] = "";

		ASSERT_EQ(swap_init(&config), OK);
		ASSERT_EQ(ksm_init(&config), OK);
		for (u32 i = 0; i < config.vm_count; i++) {
			ASSERT_EQ(vm_build(&config.vms[i], why, sizeof(why)), OK) << why;
			vms[i]->state = VM_RUNNING;
			s2_destroy(&vms[i]->s2);
			ASSERT_EQ(s2_init(&vms[i]->s2, format, 40, vms[i]->number), OK);
		}
	}

	// Nothing is left of any guest.
	void end()
	{
		struct config none = {};

		fake_cpu_become(0);
		for (u32 i = 0; i < vm_count; i++) {
			swap_end(vms[i]);
			s2_destroy(&vms[i]->s2);
		}
		EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
		EXPECT_EQ(frame_count(FRAME_SHARED), 0u);
		EXPECT_EQ(store_pool_stats.objects, 0u);
		EXPECT_EQ(swap_machine_sharing(), 0u);
		EXPECT_EQ(swap_machine_charged(), 0u);
		ksm_fini();
		store_fini();
		swap_init(&none);
		fake_broadcasts = true;
		vm_count = 0;
	}

	struct config config;
};

#endif

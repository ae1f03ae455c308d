// The scheduler on one fake CPU: fake guests that burn fake time, and how it was shared out.
#include <gtest/gtest.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <functional>

extern "C" {
#include "../../arch/fake/fake.h"
#include "hyp/run.h"
#include "hyp/sched.h"
#include "hyp/vcpu.h"
#include "hyp/vm.h"
#include <arch_enter.h>
}

namespace
{

std::jmp_buf ended;
std::function<void(struct vcpu *)> script;

void machine_ended(int)
{
	std::longjmp(ended, 1);
}

void run_script(struct vcpu *vcpu)
{
	script(vcpu);
}

class Sched : public testing::Test
{
      protected:
	void SetUp() override
	{
		fake_cpus(1);
		fake_memory(MIB(64));
		fake_now = 1000;
		vm_count = 0;
		fake_guest = run_script;
	}

	void TearDown() override
	{
		fake_guest = nullptr;
		fake_machine_end = nullptr;
		vm_count = 0;
	}

	struct vm *add_guest(const char *name, u32 cpus, u32 weight)
	{
		static const u8 kernel[64] = {};
		struct config_vm config = {};
		char why[128] = "";

		std::strcpy(config.name, name);
		config.cpus = cpus;
		config.memory = MIB(4);
		config.weight = weight;
		config.kernel_module.bytes = kernel;
		config.kernel_module.size = sizeof(kernel);
		EXPECT_EQ(vm_build(&config, why, sizeof(why)), OK) << why;
		return vms[vm_count - 1];
	}

	// Runs until every guest has ended.
	void run()
	{
		fake_machine_end = machine_ended;
		run_begin(vm_count);
		for (u32 i = 0; i < vm_count; i++) {
			vm_start(vms[i]);
		}
		if (setjmp(ended) == 0) {
			sched_loop();
		}
	}

	// The guest runs for `ns` and is interrupted, as if by the hypervisor's timer when that is
	// due.
	static void burn(struct vcpu *vcpu, u64 ns)
	{
		fake_now += ns;
		vcpu->exit.reason = EXIT_INTERRUPT;
		if (fake_now >= this_cpu()->timer_deadline) {
			sched_tick();
		}
	}
};

TEST_F(Sched, equal_weights_get_equal_time)
{
	struct vm *a = add_guest("a", 1, 256), *b = add_guest("b", 1, 256);

	script = [&](struct vcpu *vcpu) {
		burn(vcpu, 100000);
		if (fake_now > 1000000000) {
			vm_off(vcpu->vm);
		}
	};
	run();
	EXPECT_NEAR((double)a->vcpus[0]->run_ns, 5e8, 2.5e7);
	EXPECT_NEAR((double)b->vcpus[0]->run_ns, 5e8, 2.5e7);
}

TEST_F(Sched, weights_are_shares)
{
	struct vm *heavy = add_guest("heavy", 1, 768), *light = add_guest("light", 1, 256);

	script = [&](struct vcpu *vcpu) {
		burn(vcpu, 100000);
		if (fake_now > 2000000000) {
			vm_off(vcpu->vm);
		}
	};
	run();
	EXPECT_NEAR((double)heavy->vcpus[0]->run_ns / (double)light->vcpus[0]->run_ns, 3.0, 0.2);
}

TEST_F(Sched, who_runs_alone_is_not_interrupted_and_its_wfi_is_not_trapped)
{
	struct vm *alone = add_guest("alone", 1, 256);
	bool trapped = false, timer = false;

	script = [&](struct vcpu *vcpu) {
		trapped |= vcpu->arch.trap_idle;
		timer |= this_cpu()->timer_deadline != ~0ull;
		burn(vcpu, 1000000);
		if (fake_now > 100000000) {
			vm_off(vcpu->vm);
		}
	};
	run();
	EXPECT_FALSE(trapped);
	EXPECT_FALSE(timer);
	EXPECT_EQ(alone->state, VM_OFF);
}

TEST_F(Sched, who_waits_for_an_interrupt_gives_its_cpu_away)
{
	struct vm *sleeper = add_guest("sleeper", 1, 256), *worker = add_guest("worker", 1, 256);
	u64 sleeps = 0;

	script = [&](struct vcpu *vcpu) {
		if (vcpu->vm == sleeper && !vm_has_ended(worker)) {
			vcpu->arch.irq = false;
			vcpu->exit.reason = EXIT_IDLE;
			fake_now += 1000;
			sleeps++;
			return;
		}
		burn(vcpu, 1000000);
		if (vcpu->vm == worker && fake_now > 300000000) {
			vm_off(worker);
			sleeper->vcpus[0]->arch.irq = true;
			vcpu_request(sleeper->vcpus[0], VCPU_REQUEST_IRQ);
		} else if (vcpu->vm == sleeper) {
			vm_off(sleeper);
		}
	};
	run();
	EXPECT_EQ(sleeps, 1u) << "it was woken by its interrupt alone";
	EXPECT_GT(worker->vcpus[0]->run_ns, 290000000u);
}

TEST_F(Sched, who_is_woken_without_an_interrupt_goes_on_waiting)
{
	struct vm *sleeper = add_guest("sleeper", 1, 256), *worker = add_guest("worker", 1, 256);
	u64 woken = 0, entered = 0;

	script = [&](struct vcpu *vcpu) {
		if (vcpu->vm == sleeper) {
			entered++;
			vcpu->exit.reason = EXIT_IDLE;
			if (vcpu->arch.irq) {
				vm_off(sleeper);
			}
			return;
		}
		burn(vcpu, 20000000);
		vcpu_request(sleeper->vcpus[0], VCPU_REQUEST_IRQ); /* one that it masks */
		if (++woken == 10) {
			sleeper->vcpus[0]->arch.irq = true;
			vcpu_request(sleeper->vcpus[0], VCPU_REQUEST_IRQ);
			vm_off(worker);
		}
	};
	run();
	EXPECT_EQ(entered, 2u) << "once to wait, once with its interrupt";
}

TEST_F(Sched, a_paused_guest_does_not_run_until_it_is_unpaused)
{
	struct vm *paused = add_guest("paused", 1, 256), *other = add_guest("other", 1, 256);
	u64 ran_paused = 0;

	script = [&](struct vcpu *vcpu) {
		burn(vcpu, 1000000);
		if (vcpu->vm == paused) {
			ran_paused += paused->state == VM_PAUSED;
			vm_pause(paused);
			if (fake_now > 200000000) {
				vm_unpause(paused);
				vm_off(paused);
			}
			return;
		}
		if (fake_now > 200000000) {
			vm_unpause(paused);
			vm_off(other);
		}
	};
	run();
	EXPECT_EQ(ran_paused, 0u);
	EXPECT_GT(other->vcpus[0]->run_ns, 190000000u);
}

// Housekeeping comes between a vCPU's reading of its requests and its being put aside.
TEST_F(Sched, who_is_unpaused_or_ended_on_its_way_out_is_not_left_behind)
{
	static struct vm *paused;
	static void (*meanwhile)(struct vm *);

	for (void (*change)(struct vm *) : {vm_unpause, vm_off}) {
		u32 entries = 0;

		fake_now = 1000;
		vm_count = 0;
		paused = add_guest("a", 1, 256);
		add_guest("b", 1, 256);
		meanwhile = change;
		script = [&](struct vcpu *vcpu) {
			burn(vcpu, 1000000);
			if (vcpu->vm != paused) {
				if (paused->state == VM_OFF && fake_now > 500000000) {
					vm_off(vcpu->vm);
				} else if (fake_now > 1000000000) {
					machine_ended(0); /* the other was left behind */
				}
			} else if (++entries == 1) {
				vm_pause(paused);
				sched_every(0, [] {
					sched_no_chores();
					meanwhile(paused);
				});
			} else {
				vm_off(paused);
			}
		};
		run();
		EXPECT_EQ(entries, change == vm_off ? 1u : 2u);
		EXPECT_LT(fake_now, 1000000000u);
	}
}

// A chore that takes longer than its period leaves the guest its time all the same, and no timer is
// set to a moment that has passed.
TEST_F(Sched, a_long_chore_is_not_due_again_at_once)
{
	static u64 ended_at, shortest, count;

	ended_at = count = 0;
	shortest = ~0ull;
	add_guest("a", 1, 256);
	sched_every_somewhere(10, [] {
		if (ended_at) {
			shortest = std::min(shortest, fake_now - ended_at);
		}
		fake_now += 60000000;
		ended_at = fake_now;
		count++;
	});
	script = [&](struct vcpu *vcpu) {
		EXPECT_GT(this_cpu()->timer_deadline, fake_now);
		burn(vcpu, 1000000);
		if (fake_now > 1000000000) {
			sched_no_chores();
			vm_off(vcpu->vm);
		}
	};
	run();
	EXPECT_GE(count, 10u);
	EXPECT_GE(shortest, 10000000u);
}

// Of three that wait, the last in the queue is named; what it runs is charged to it, so that in the
// end each had its share.
TEST_F(Sched, a_turn_goes_to_who_is_named_and_shares_stay_what_they_were)
{
	struct vm *a = add_guest("a", 2, 256), *b = add_guest("b", 1, 256),
		  *c = add_guest("c", 1, 256);
	u64 given = 0, followed = 0, next = 0;
	struct vcpu *named = nullptr;

	script = [&](struct vcpu *vcpu) {
		if (named) {
			followed += vcpu == named;
			named = nullptr;
		}
		burn(vcpu, 100000);
		if (fake_now > 1000000000) {
			for (struct vm *vm : {a, b, c}) {
				vm_off(vm);
			}
			return;
		}
		if (vcpu->vm == a && vcpu->id == 0) {
			vcpu_on(a->vcpus[1], 0, 0);
			if (fake_now >= next && sched_yield_to(a->vcpus[1])) {
				next = fake_now + 25000000;
				named = a->vcpus[1];
				given++;
			}
		}
	};
	run();
	EXPECT_GT(given, 20u);
	EXPECT_GT(followed, given * 3 / 4);
	for (struct vcpu *vcpu : {a->vcpus[0], a->vcpus[1], b->vcpus[0], c->vcpus[0]}) {
		EXPECT_NEAR((double)vcpu->run_ns, 2.5e8, 2.5e7);
	}
}

TEST_F(Sched, two_that_give_each_other_turns_keep_nobody_waiting)
{
	struct vm *pair = add_guest("pair", 2, 256), *other = add_guest("other", 1, 256);
	u64 other_ran_at = 0, longest = 0;

	script = [&](struct vcpu *vcpu) {
		if (vcpu->vm == other) {
			longest = std::max(longest, fake_now - other_ran_at);
		}
		burn(vcpu, 100000);
		if (vcpu->vm == other) {
			other_ran_at = fake_now;
		} else {
			vcpu_on(pair->vcpus[1], 0, 0);
			sched_yield_to(pair->vcpus[!vcpu->id]);
		}
		if (fake_now > 1000000000) {
			vm_off(pair);
			vm_off(other);
		}
	};
	run();
	EXPECT_NEAR((double)other->vcpus[0]->run_ns, 3.3e8, 3.3e7);
	EXPECT_LT(longest, 60000000u);
}

TEST_F(Sched, no_turn_is_given_to_who_does_not_wait)
{
	struct vm *vm = add_guest("vm", 2, 256);
	u64 given = 0;

	script = [&](struct vcpu *vcpu) {
		burn(vcpu, 1000);
		given += sched_yield_to(vm->vcpus[0]) + sched_yield_to(vm->vcpus[1]);
		EXPECT_EQ(vcpu->requests, 0u);
		vm_off(vm);
	};
	run();
	EXPECT_EQ(given, 0u);
}

TEST_F(Sched, racing_cpu_on_succeeds_once_and_off_can_be_turned_on_again)
{
	struct vm *vm = add_guest("smp", 2, 256);
	int succeeded = 0, starts = 0;

	script = [&](struct vcpu *vcpu) {
		burn(vcpu, 1000);
		if (vcpu->id == 1) {
			EXPECT_EQ(vcpu->arch.x[0], 77u);
			starts++;
			vcpu_off(vcpu);
			return;
		}
		if (vcpu_is_on(vm->vcpus[1])) {
			EXPECT_EQ(vcpu_on(vm->vcpus[1], 0, 0), EXISTS);
			atomic_or(&vcpu->requests, VCPU_REQUEST_RELAX);
		} else if (starts < 10) {
			succeeded += vcpu_on(vm->vcpus[1], 0x1000, 77) == OK;
		} else {
			vm_off(vm);
		}
	};
	run();
	EXPECT_EQ(starts, 10);
	EXPECT_EQ(succeeded, 10);
}

TEST_F(Sched, the_last_vcpu_that_turns_itself_off_ends_the_guest)
{
	struct vm *vm = add_guest("off", 1, 256);

	script = [&](struct vcpu *vcpu) {
		burn(vcpu, 1000);
		vcpu_off(vcpu);
	};
	run();
	EXPECT_EQ(vm->state, VM_OFF);
}

} // namespace

// Sharing with threads as CPUs: guests write and read pages that are alike, while others merge
// them, take them away, and give some up. Every page has the bytes that its guest wrote last.
#include "swap_race_machine.h"

#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

namespace
{

constexpr u32 kGuests = 2, kUsers = 4, kCpus = kUsers + 2;
constexpr u64 kSize = MIB(2), kPages = kSize / PAGE_SIZE;
constexpr u64 kSteps = 3000, kStepsMost = 200000;
constexpr u64 kWords = 8; // of a page, that are used

struct Kind {
	const char *name;
	const struct s2_format *format;
	bool broadcasts, small_pages;
	u64 guest_memory;
};

class KsmRace : public SwapRaceMachine, public ::testing::TestWithParam<Kind>
{
      protected:
	void SetUp() override
	{
		begin(kCpus, GetParam().broadcasts, GetParam().guest_memory, MIB(1));
		config.ksm = true;
		for (u32 i = 0; i < kGuests; i++) {
			add_guest(2, kSize, GetParam().small_pages);
		}
		build(GetParam().format);
	}

	void TearDown() override
	{
		fake_cpu_become(0);
		for (u32 i = 0; i < kGuests; i++) {
			expect_adds_up(vms[i]);
		}
		end();
	}

	void expect_adds_up(struct vm *vm)
	{
		struct swap_census c;
		struct swap_totals t;

		swap_count(vm->swap, &c, &t);
		EXPECT_EQ(c.resident, vm->swap->charged);
		EXPECT_EQ((c.resident + c.shared) * PAGE_SIZE, vm_memory_current(vm));
		EXPECT_EQ(frame_count_owned(FRAME_GUEST, vm->number), c.resident);
		EXPECT_EQ(c.untouched + c.resident + c.shared + c.stored[STORE_zero] +
				  c.stored[STORE_same] + c.stored[STORE_zswap],
			  c.total);
	}

	// As the MMU would: by what the CPU's TLB remembers, and a fault where that does not do.
	static u64 access(struct vm *vm, gpa_t at, bool write, u64 value = 0)
	{
		enum status status = AGAIN;

		while (status == OK || status == AGAIN) {
			struct exit fault = {};
			enum fake_access found;

			s2_entering(&vm->s2);
			found = write ? fake_store(&vm->s2, at, value)
				      : fake_load(&vm->s2, at, &value);
			s2_left(&vm->s2);
			if (found == FAKE_OK) {
				return value;
			}
			struct s2_leaf leaf = s2_query(&vm->s2, at);

			fault.gpa = at;
			fault.access = write ? ACCESS_WRITE : ACCESS_READ;
			fault.accessed = leaf.kind == S2_LEAF && !leaf.accessed;
			status = vm_memory_fault(vm, &fault);
		}
		ADD_FAILURE() << status_name(status) << " at " << std::hex << at.v;
		return ~0ull;
	}

	// Few contents, so that many pages are alike; 0 is a page that was never written.
	static u64 word(u64 page, u32 version, u64 i)
	{
		return version ? ((page % 8 + 1) << 32 | version) * (2 * i + 1) : 0;
	}

	static gpa_t place(u64 page, u64 i)
	{
		return gpa(kRam + page * PAGE_SIZE + i * (PAGE_SIZE / kWords));
	}

	// A page that was given up is zero from some word on, or all of it.
	void verify(struct vm *vm, u64 page, u32 *version)
	{
		for (u64 i = 0; i < kWords; i++) {
			u64 found = access(vm, place(page, i), false);

			if (gives_up && found == 0) {
				*version = 0;
			}
			ASSERT_EQ(found, word(page, *version, i))
				<< "page " << page << " word " << i;
		}
	}

	static bool has_seen_enough()
	{
		return ksm_counters().pages_merged > 200 && written_again() > 100;
	}

	static u64 written_again()
	{
		u64 count = 0;

		for (u32 i = 0; i < kGuests; i++) {
			count += load_relaxed(&vms[i]->swap->totals.counters.cow_ksm);
		}
		return count;
	}

	void use(u32 user)
	{
		struct vm *vm = vms[user / 2];
		std::vector<u32> version(kPages);
		std::mt19937 random(user + 1);

		fake_cpu_become(user);
		for (u64 step = 1; (step <= kSteps || !has_seen_enough()) && step <= kStepsMost &&
				   !HasFatalFailure();
		     step++) {
			u64 page = random() % (kPages / 2) * 2 + user % 2;

			if (random() % 4 > 0) {
				verify(vm, page, &version[page]);
				continue;
			}
			version[page] = 1 + random() % 2;
			for (u64 i = 0; i < kWords; i++) {
				access(vm, place(page, i), true, word(page, version[page], i));
			}
		}
		running--;
	}

	void scan()
	{
		fake_cpu_become(kUsers);
		while (running > 0) {
			ksm_tick();
		}
	}

	void take_away()
	{
		std::mt19937 random(5);

		fake_cpu_become(kUsers + 1);
		while (running > 0) {
			struct vm *vm = vms[random() % kGuests];
			struct vm_ram_range range = {gpa(kRam + random() % 500 * PAGE_SIZE),
						     8 * PAGE_SIZE};
			struct swap_census census;
			struct swap_totals totals;
			u64 freed;

			swap_out(vm->swap, 32, &freed);
			if (gives_up && random() % 32 == 0) {
				vm_memory_give_up(vm, &range, 1);
			}
			swap_count(vm->swap, &census, &totals);
			EXPECT_EQ(census.untouched + census.resident + census.shared +
					  census.stored[STORE_zero] + census.stored[STORE_same] +
					  census.stored[STORE_zswap],
				  kPages);
			EXPECT_LE(swap_machine_charged(), swap_machine_max());
			std::this_thread::sleep_for(
				std::chrono::microseconds(200)); // others want the lock
		}
	}

	void run()
	{
		std::vector<std::thread> cpus;

		for (u32 user = 0; user < kUsers; user++) {
			cpus.emplace_back([this, user] { use(user); });
		}
		cpus.emplace_back([this] { scan(); });
		cpus.emplace_back([this] { take_away(); });
		for (std::thread &cpu : cpus) {
			cpu.join();
		}
		fake_cpu_become(0);
		EXPECT_TRUE(has_seen_enough()) << ksm_counters().pages_merged << " merged, "
					       << written_again() << " written again";
	}

	bool gives_up = false; // pages may be zero again at any time
	std::atomic<u32> running{kUsers};
};
INSTANTIATE_TEST_SUITE_P(
	kinds, KsmRace,
	::testing::Values(Kind{"armv8", &s2_armv8_4k, true, true, MIB(16)},
			  Kind{"short_of_memory", &s2_armv8_4k, true, true, MIB(2)},
			  Kind{"blocks", &s2_armv8_4k, true, false, MIB(16)},
			  Kind{"generations", arch_s2_format(), false, true, MIB(16)}),
	[](const auto &info) { return info.param.name; });

TEST_P(KsmRace, no_byte_is_lost)
{
	run();
}

TEST_P(KsmRace, what_is_given_up_is_zero_and_all_else_stays)
{
	gives_up = true;
	run();
}

} // namespace

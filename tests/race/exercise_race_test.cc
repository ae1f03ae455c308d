// vCPUs as threads, each working on the table between its own accesses: no byte of RAM may change
// but by those who write it, whatever frames are out, rights withheld or leaves broken just then.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

extern "C" {
#include "../../arch/arm64/s2_armv8.h"
#include "../../arch/fake/fake.h"
#include "hyp/exercise.h"
#include <arch/s2.h>
}

namespace
{

constexpr u32 kCpus = 3;
constexpr u64 kRam = GIB(1); // where the fake architecture puts it
constexpr u64 kSize = MIB(6);
constexpr u64 kPages = kSize / PAGE_SIZE;

struct Kind {
	const char *name;
	const struct s2_format *format;
	bool broadcasts;
};

class ExerciseRace : public ::testing::TestWithParam<Kind>
{
      protected:
	void SetUp() override
	{
		struct config_vm config = {};
		char why[128] = "";

		fake_broadcasts = GetParam().broadcasts;
		fake_cpus(kCpus);
		fake_tlb_clear();
		fake_memory(MIB(64));
		vm_count = 0;
		std::strcpy(config.name, "test");
		config.cpus = kCpus;
		config.memory = kSize;
		config.weight = CONFIG_WEIGHT_DEFAULT;
		config.exercise = 3;
		ASSERT_EQ(vm_build(&config, why, sizeof(why)), OK) << why;
		vm = vms[0];
		s2_destroy(&vm->s2);
		ASSERT_EQ(s2_init(&vm->s2, GetParam().format, 40, vm->number), OK);
	}

	void TearDown() override
	{
		fake_cpu_become(0);
		exercise_end(vm);
		EXPECT_EQ(frame_count(FRAME_GUEST), kPages);
		s2_destroy(&vm->s2);
		EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
		EXPECT_EQ(frame_count(FRAME_TABLE), 0u);
		fake_broadcasts = true;
		vm_count = 0;
	}

	void fault(u64 at, u8 access)
	{
		struct s2_leaf leaf = s2_query(&vm->s2, gpa(at));
		struct exit exit = {};
		enum status status;

		exit.reason = EXIT_MEMORY;
		exit.gpa = gpa(at);
		exit.access = access;
		exit.accessed = leaf.kind == S2_LEAF && (leaf.attr.perm & access) && !leaf.accessed;
		status = vm_memory_fault(vm, &exit);
		EXPECT_TRUE(status == OK || status == AGAIN) << status_name(status);
	}

	template <typename Access> void until_done(u64 at, u8 access, Access try_it)
	{
		for (;;) {
			s2_entering(&vm->s2);
			enum fake_access result = try_it();
			s2_left(&vm->s2);
			if (result == FAKE_OK) {
				return;
			}
			fault(at, access);
		}
	}

	// A CPU writes its own pages, every third one, and remembers what it wrote.
	void run(u32 cpu, u64 accesses)
	{
		std::vector<u64> written(kPages);
		std::mt19937_64 random(cpu);

		fake_cpu_become(cpu);
		for (u64 i = 1; i <= accesses; i++) {
			u64 page = random() % (kPages / kCpus) * kCpus + cpu, found = 0;
			u64 at = kRam + page * PAGE_SIZE;

			until_done(at, ACCESS_READ,
				   [&] { return fake_load(&vm->s2, gpa(at), &found); });
			if (found != written[page]) {
				wrong++;
			}
			if (i % 2) {
				written[page] = i << 8 | cpu;
				until_done(at, ACCESS_WRITE, [&] {
					return fake_store(&vm->s2, gpa(at), written[page]);
				});
			}
			exercise_step(vm->vcpus[cpu]);
		}
	}

	struct vm *vm = nullptr;
	std::atomic<u64> wrong{0};
};
// ARMv8's is walked the short way, which most faults take.
INSTANTIATE_TEST_SUITE_P(machines, ExerciseRace,
			 ::testing::Values(Kind{"broadcast", arch_s2_format(), true},
					   Kind{"generations", arch_s2_format(), false},
					   Kind{"armv8", &s2_armv8_4k, true}),
			 [](const auto &info) { return info.param.name; });

TEST_P(ExerciseRace, what_a_cpu_wrote_is_what_it_reads)
{
	std::vector<std::thread> threads;

	for (u32 cpu = 0; cpu < kCpus; cpu++) {
		threads.emplace_back([this, cpu] { run(cpu, 2500); });
	}
	for (auto &thread : threads) {
		thread.join();
	}
	EXPECT_EQ(wrong.load(), 0u);
	for (u32 kind = 0; kind < EXERCISE_KINDS; kind++) {
		// Pages of one block that nobody has pulled apart are a matter of luck; groups this
		// format has not.
		if (kind == EXERCISE_collapse || kind == EXERCISE_hint) {
			continue;
		}
		EXPECT_GT(exercise_count(vm, (enum exercise_kind)kind).times, 0u) << kind;
	}
	EXPECT_GT(vm->counters.permission_faults, 0u);
	EXPECT_FALSE(vm_has_ended(vm)) << vm->last_words;
}

} // namespace

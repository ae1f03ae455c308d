// A disk with threads as CPUs: a vCPU notifies and resets, the block ends requests on another CPU,
// a third CPU's vCPU hears of it. Nothing is lost, and nothing of before a reset comes back.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

extern "C" {
#include "../../arch/fake/fake.h"
#include "hyp/dev_virtio_blk.h"
#include "hyp/dev_virtio_mmio.h"
#include "hyp/vcpu.h"
#include "hyp/vm_reach.h"
#include "hyp/vm_virtio.h"
}

namespace
{

constexpr u64 kRam = GIB(1);
constexpr u32 kSize = 8; // of the queue

struct Descriptor {
	u64 address;
	u32 length;
	u16 flags, next;
};

struct Header {
	u32 type, reserved;
	u64 sector;
};

// Its requests end when another thread gets to them; sector n is full of n.
struct ThreadBlock {
	struct block block = {};
	std::mutex mutex;
	std::vector<struct block_request *> held;

	ThreadBlock()
	{
		block.name = "thread";
		block.sectors = 4096;
		block.submit = [](struct block *b, struct block_request *r) {
			auto *self = (ThreadBlock *)b;
			std::lock_guard<std::mutex> guard(self->mutex);

			self->held.push_back(r);
			return OK;
		};
		block.poll = [](struct block *b) { ((ThreadBlock *)b)->end_all(); };
	}

	void end_all()
	{
		std::vector<struct block_request *> mine;
		{
			std::lock_guard<std::mutex> guard(mutex);

			mine.swap(held);
		}
		for (auto *r : mine) {
			std::memset(r->pieces[0].bytes, (int)r->sector, r->pieces[0].size);
			r->done(r, true);
		}
	}
};

class VirtioRace : public ::testing::Test
{
      protected:
	void SetUp() override
	{
		struct config_vm config = {};
		char why[128] = "";

		fake_broadcasts = true;
		fake_cpus(3);
		fake_tlb_clear();
		fake_memory(MIB(32));
		vm_count = 0;
		std::strcpy(config.name, "test");
		config.cpus = 1;
		config.memory = MIB(8);
		config.weight = CONFIG_WEIGHT_DEFAULT;
		ASSERT_EQ(vm_build(&config, why, sizeof(why)), OK) << why;
		vm = vms[0];
		vm->state = VM_RUNNING;
		vm->virtio[0] = virtio_blk_create(vm, 48, &block.block);
		ASSERT_NE(vm->virtio[0], nullptr);
	}

	void TearDown() override
	{
		fake_cpu_become(0);
		vm_virtio_end(vm);
		s2_destroy(&vm->s2);
		EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
		vm_count = 0;
	}

	void put(u64 reg, u64 value)
	{
		virtio_mmio_ops.write(vm, vm->vcpus[0], reg, 4, value);
	}

	template <typename T> void write(u64 at, T value)
	{
		ASSERT_EQ(vm_memory_write(vm, gpa(at), &value, sizeof(value)), OK);
	}

	template <typename T> T read(u64 at)
	{
		T value = {};

		EXPECT_EQ(vm_memory_read(vm, gpa(at), &value, sizeof(value)), OK);
		return value;
	}

	// Words of rings: the device looks at them while they are written.
	void store(u64 at, u16 value)
	{
		const auto fn = [](void *context, void *bytes) {
			__atomic_store_n((u16 *)bytes, *(u16 *)context, __ATOMIC_RELEASE);
		};

		ASSERT_EQ(vm_reach(vm, gpa(at), sizeof(value), fn, &value), OK);
	}

	u16 load(u64 at)
	{
		u16 value = 0;
		const auto fn = [](void *context, void *bytes) {
			*(u16 *)context = __atomic_load_n((u16 *)bytes, __ATOMIC_ACQUIRE);
		};

		EXPECT_EQ(vm_reach(vm, gpa(at), sizeof(value), fn, &value), OK);
		return value;
	}

	void reset()
	{
		put(0x70, 0);
		put(0x24, 1);
		put(0x20, 1); // VERSION_1
		put(0x70, 1 | 2 | 8);
		write(kRam + 0x1000, (u32)0);
		write(kRam + 0x2000, (u32)0);
		filled = 0;
		put(0x38, kSize);
		put(0x80, kRam);
		put(0x90, kRam + 0x1000);
		put(0xa0, kRam + 0x2000);
		put(0x44, 1);
		put(0x70, 1 | 2 | 8 | 4);
	}

	// Two requests of three descriptors each, for sectors that tell them apart.
	void ask(u64 sector)
	{
		for (u16 i = 0; i < 2; i++) {
			u64 at = kRam + 0x10000 + i * 0x2000;
			u16 first = (u16)(i * 3);

			write(at, Header{0, 0, sector + i});
			write(at + 0x1000, (u8)0xee);
			write(at + 0x100, (u8)0xee);
			write(kRam + first * 16, Descriptor{at, 16, 1, (u16)(first + 1)});
			write(kRam + first * 16 + 16,
			      Descriptor{at + 0x1000, 512, 3, (u16)(first + 2)});
			write(kRam + first * 16 + 32, Descriptor{at + 0x100, 1, 2, 0});
			store(kRam + 0x1004 + filled % kSize * 2, first);
			store(kRam + 0x1002, ++filled);
		}
		put(0x50, 0);
	}

	void wait_used()
	{
		while (load(kRam + 0x2002) != filled) {
			std::this_thread::yield();
		}
	}

	struct vm *vm;
	ThreadBlock block;
	u16 filled = 0;
	std::atomic<bool> is_over{false};
};

TEST_F(VirtioRace, every_request_ends_once_and_resets_leave_nothing)
{
	std::thread disk([this] {
		fake_cpu_become(1);
		while (!is_over) {
			block.end_all();
		}
	});
	std::thread other([this] {
		fake_cpu_become(2);
		while (!is_over) {
			virtio_vm_work(vm);
		}
	});

	fake_cpu_become(0);
	reset();
	for (u64 step = 0; step < 150; step++) {
		ask(step % 200);
		if (step % 5 == 4) {
			reset();
			continue;
		}
		wait_used();
		for (u64 i = 0; i < 2; i++) {
			ASSERT_EQ(read<u8>(kRam + 0x10100 + i * 0x2000), 0) << step;
			ASSERT_EQ(read<u8>(kRam + 0x11000 + i * 0x2000), step % 200 + i) << step;
		}
	}
	is_over = true;
	disk.join();
	other.join();
}

} // namespace

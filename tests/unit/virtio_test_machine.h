/*
 * A guest with a virtio device, and a driver for it, written from the specification (virtio 1.2):
 * registers 4.2.2, initialisation 3.1, split virtqueues 2.7. It knows nothing of the device's code.
 */
#ifndef TESTS_VIRTIO_TEST_MACHINE_H
#define TESTS_VIRTIO_TEST_MACHINE_H

#include "guest_test_machine.h"

#include <vector>

extern "C" {
#include "hyp/dev_virtio.h"
#include "hyp/dev_virtio_mmio.h"
#include "hyp/vm_virtio.h"
}

namespace
{

/* 4.2.2, 2.1 and 6: in the specification's words. */
constexpr u64 kDeviceID = 0x8, kDeviceFeatures = 0x10, kDeviceFeaturesSel = 0x14,
	      kDriverFeatures = 0x20, kDriverFeaturesSel = 0x24, kQueueSel = 0x30,
	      kQueueNumMax = 0x34, kQueueNum = 0x38, kQueueReady = 0x44, kQueueNotify = 0x50,
	      kInterruptStatus = 0x60, kInterruptACK = 0x64, kStatus = 0x70, kQueueDescLow = 0x80,
	      kQueueDriverLow = 0x90, kQueueDeviceLow = 0xa0, kConfigGeneration = 0xfc,
	      kConfig = 0x100;
constexpr u32 kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8, kNeedsReset = 64;
constexpr u64 kVersion1 = 1ull << 32, kIndirect = 1ull << 28;
constexpr u16 kNext = 1, kWrite = 2, kIndirectFlag = 4;

struct Descriptor {
	u64 address;
	u32 length;
	u16 flags, next;
};
static_assert(sizeof(Descriptor) == 16, "2.7.5");

struct Used {
	u32 id, length;
};

class VirtioMachine : public GuestMachine
{
      protected:
	static constexpr u32 kLine = 48;
	static constexpr u32 kQueueSize = 16;
	static constexpr u64 kRings = RAM + MIB(1); /* a queue's parts: 64 KiB for each queue */
	static constexpr u64 kData = RAM + MIB(8);

	/* What the derived class made is in slot 0 from now on. */
	void install(struct virtio_device *device)
	{
		ASSERT_NE(device, nullptr);
		vm->virtio[0] = device;
	}

	void TearDown() override
	{
		vm_virtio_end(vm);
		GuestMachine::TearDown();
	}

	/* ---- Registers */

	u32 get(u64 reg, unsigned size = 4)
	{
		return (u32)virtio_mmio_ops.read(vm, vcpu, reg, size);
	}

	void put(u64 reg, u64 value, unsigned size = 4)
	{
		virtio_mmio_ops.write(vm, vcpu, reg, size, value);
	}

	u64 offered()
	{
		u64 low, high;

		put(kDeviceFeaturesSel, 0);
		low = get(kDeviceFeatures);
		put(kDeviceFeaturesSel, 1);
		high = get(kDeviceFeatures);
		return high << 32 | low;
	}

	void accept(u64 features)
	{
		put(kStatus, 0);
		ASSERT_EQ(get(kStatus), 0u);
		put(kStatus, kAcknowledge);
		put(kStatus, kAcknowledge | kDriver);
		put(kDriverFeaturesSel, 0);
		put(kDriverFeatures, (u32)features);
		put(kDriverFeaturesSel, 1);
		put(kDriverFeatures, features >> 32);
		put(kStatus, kAcknowledge | kDriver | kFeaturesOk);
	}

	void put64(u64 reg, u64 value)
	{
		put(reg, (u32)value);
		put(reg + 4, value >> 32);
	}

	static u64 ring(u32 queue)
	{
		return kRings + queue * KIB(64);
	}

	void make_queue(u32 queue, u32 size = kQueueSize)
	{
		std::vector<u8> zero(KIB(64));

		write(ring(queue), zero.data(), zero.size());
		put(kQueueSel, queue);
		put(kQueueNum, size);
		put64(kQueueDescLow, ring(queue));
		put64(kQueueDriverLow, ring(queue) + KIB(16));
		put64(kQueueDeviceLow, ring(queue) + KIB(32));
		put(kQueueReady, 1);
		filled[queue] = seen[queue] = 0;
	}

	void go(u64 features, u32 queues)
	{
		accept(features);
		ASSERT_TRUE(get(kStatus) & kFeaturesOk);
		for (u32 i = 0; i < queues; i++) {
			make_queue(i);
			ASSERT_EQ(get(kQueueReady), 1u);
		}
		put(kStatus, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
	}

	bool is_broken()
	{
		return get(kStatus) & kNeedsReset;
	}

	bool line()
	{
		return (vm->arch.irq_lines >> kLine) & 1;
	}

	/* ---- Memory and rings */

	void write(u64 at, const void *bytes, u64 size)
	{
		ASSERT_EQ(vm_memory_write(vm, gpa(at), bytes, size), OK);
	}

	template <typename T> void write(u64 at, const T &value)
	{
		write(at, &value, sizeof(value));
	}

	template <typename T> T read(u64 at)
	{
		T value = {};

		EXPECT_EQ(vm_memory_read(vm, gpa(at), &value, sizeof(value)), OK);
		return value;
	}

	std::vector<u8> read_bytes(u64 at, u64 size)
	{
		std::vector<u8> bytes(size);

		EXPECT_EQ(vm_memory_read(vm, gpa(at), bytes.data(), size), OK);
		return bytes;
	}

	void describe(u32 queue, u32 n, Descriptor d)
	{
		write(ring(queue) + n * sizeof(d), d);
	}

	/* Makes the chain that begins with descriptor `head` available. */
	void offer(u32 queue, u16 head)
	{
		u64 available = ring(queue) + KIB(16);

		write(available + 4 + 2 * (filled[queue] % kQueueSize), head);
		write(available + 2, ++filled[queue]);
	}

	/* A chain of these, from descriptor `first` on; `next` and the flag are filled in. */
	void chain(u32 queue, std::vector<Descriptor> pieces, u16 first = 0)
	{
		for (size_t i = 0; i < pieces.size(); i++) {
			if (i + 1 < pieces.size()) {
				pieces[i].flags |= kNext;
				pieces[i].next = (u16)(first + i + 1);
			}
			describe(queue, (u32)(first + i), pieces[i]);
		}
		offer(queue, first);
	}

	void notify(u32 queue)
	{
		put(kQueueNotify, queue);
	}

	u16 used_index(u32 queue)
	{
		return read<u16>(ring(queue) + KIB(32) + 2);
	}

	/* The next buffer that came back; there must be one. */
	Used take_used(u32 queue)
	{
		EXPECT_NE(seen[queue], used_index(queue)) << "nothing came back";
		return read<Used>(ring(queue) + KIB(32) + 4 + 8 * (seen[queue]++ % kQueueSize));
	}

	/* What a vCPU does that was asked, as it enters. */
	bool enter()
	{
		bool was_asked = vm->vcpus[0]->requests & VCPU_REQUEST_DEVICE;

		if (was_asked) {
			atomic_and(&vm->vcpus[0]->requests, ~(u32)VCPU_REQUEST_DEVICE);
			virtio_vm_work(vm);
		}
		return was_asked;
	}

	u16 filled[4] = {}, seen[4] = {};
};

} // namespace

#endif

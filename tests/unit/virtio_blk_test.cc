// A guest's disk, and what all virtio devices have in common, seen through it.
#include "virtio_test_machine.h"

#include <algorithm>

extern "C" {
#include "hyp/block_ram.h"
#include "hyp/dev_virtio_blk.h"
}

namespace
{

constexpr u64 kSegMax = 1 << 2, kReadOnly = 1 << 5, kBlkSize = 1 << 6, kFlush = 1 << 9;
constexpr u32 kIn = 0, kOut = 1, kFlushRequest = 4, kGetId = 8, kDiscard = 11;
constexpr u8 kOk = 0, kIoErr = 1, kUnsupported = 2;

struct Header {
	u32 type, reserved;
	u64 sector;
};

// A block whose requests end when the test says so.
struct SlowBlock {
	struct block block;
	std::vector<u8> bytes;
	std::vector<struct block_request *> held;
	enum status answer = OK;
	u32 polls = 0;

	explicit SlowBlock(u64 sectors) : block{}, bytes(sectors * 512)
	{
		block.name = "slow";
		block.sectors = sectors;
		block.submit = [](struct block *b, struct block_request *r) {
			auto *self = (SlowBlock *)b;

			if (self->answer == OK) {
				self->held.push_back(r);
			}
			return self->answer;
		};
		block.poll = [](struct block *b) {
			auto *self = (SlowBlock *)b;

			self->polls++;
			self->end_all(true);
		};
	}

	void end_all(bool ok)
	{
		for (auto *r : std::exchange(held, {})) {
			u64 at = r->sector * 512;

			for (u32 i = 0; ok && i < r->piece_count; i++) {
				u8 *mine = bytes.data() + at, *its = (u8 *)r->pieces[i].bytes;

				std::memcpy(r->operation == BLOCK_READ ? its : mine,
					    r->operation == BLOCK_READ ? mine : its,
					    r->pieces[i].size);
				at += r->pieces[i].size;
			}
			r->done(r, ok);
		}
	}
};

class VirtioBlk : public VirtioMachine
{
      protected:
	static constexpr u64 kSectors = 4096;
	std::vector<u8> disk = std::vector<u8>(kSectors * 512);
	struct block_ram ram = {};
	SlowBlock slow = SlowBlock(kSectors);

	void SetUp() override
	{
		VirtioMachine::SetUp();
		for (size_t i = 0; i < disk.size(); i++) {
			disk[i] = (u8)(i * 7 + (i >> 9) * 3);
		}
		slow.bytes = disk;
	}

	void begin(bool read_only = false)
	{
		block_ram_init(&ram, "disk.img", disk.data(), disk.size(), read_only);
		install(virtio_blk_create(vm, kLine, &ram.block));
		go(kVersion1 | kIndirect | kFlush, 1);
	}

	void begin_slow()
	{
		install(virtio_blk_create(vm, kLine, &slow.block));
		go(kVersion1 | kIndirect | kFlush, 1);
	}

	static constexpr u64 kStatusAt = kData - 1;

	void ask(u32 type, u64 sector, std::vector<Descriptor> data, u16 first = 0)
	{
		u64 header = kData - 256 + first * 16;
		std::vector<Descriptor> all = {{header, 16, 0, 0}};

		write(header, Header{type, 0, sector});
		write(kStatusAt, (u8)0xee);
		all.insert(all.end(), data.begin(), data.end());
		all.push_back({kStatusAt, 1, kWrite, 0});
		chain(0, all, first);
		notify(0);
	}

	u8 status()
	{
		return read<u8>(kStatusAt);
	}
};

/* ---- The transport --------------------------------------------------------------------------- */

TEST_F(VirtioBlk, says_what_it_is)
{
	begin();
	EXPECT_EQ(get(0), 0x74726976u);
	EXPECT_EQ(get(4), 2u);
	EXPECT_EQ(get(kDeviceID), 2u);
	EXPECT_EQ(offered(), kVersion1 | kIndirect | kSegMax | kBlkSize | kFlush);
	EXPECT_EQ(get(kConfig) | (u64)get(kConfig + 4) << 32, kSectors);
	EXPECT_EQ(virtio_mmio_ops.read(vm, vcpu, kConfig, 8), kSectors);
	EXPECT_EQ(get(kConfig + 12), 126u) << "seg_max";
	EXPECT_EQ(get(kConfig + 20), 512u) << "blk_size";
	EXPECT_EQ(get(kConfig + 20, 1), 0u);
	EXPECT_EQ(get(kConfig + 21, 1), 2u);
	EXPECT_EQ(get(kConfig + 0xf0), 0u) << "behind its configuration";
	EXPECT_EQ(virtio_mmio_ops.read(vm, vcpu, 0x200 + kDeviceID, 4), 0u) << "slot 1 is empty";
	put(kQueueSel, 1);
	EXPECT_EQ(get(kQueueNumMax), 0u);
	put(kQueueSel, 0);
	EXPECT_EQ(get(kQueueNumMax), 128u);
}

TEST_F(VirtioBlk, features_that_were_not_offered_are_not_accepted)
{
	begin();
	accept(kVersion1 | 1 << 29);
	EXPECT_FALSE(get(kStatus) & kFeaturesOk);
	accept(kFlush);
	EXPECT_FALSE(get(kStatus) & kFeaturesOk) << "without VERSION_1";
	accept(kVersion1);
	EXPECT_TRUE(get(kStatus) & kFeaturesOk);
}

TEST_F(VirtioBlk, does_nothing_before_the_driver_is_ready)
{
	begin();
	accept(kVersion1);
	make_queue(0);
	ask(kIn, 0, {{kData, 512, kWrite, 0}});
	EXPECT_EQ(used_index(0), 0u);
	EXPECT_FALSE(line());
	put(kStatus, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
	notify(0);
	EXPECT_EQ(used_index(0), 1u);
}

TEST_F(VirtioBlk, interrupts_until_that_is_acknowledged)
{
	begin();
	ask(kIn, 0, {{kData, 512, kWrite, 0}});
	EXPECT_TRUE(line());
	EXPECT_EQ(get(kInterruptStatus), 1u);
	put(kInterruptACK, 2);
	EXPECT_TRUE(line());
	put(kInterruptACK, 1);
	EXPECT_FALSE(line());
	write(ring(0) + KIB(16), (u16)1); // VIRTQ_AVAIL_F_NO_INTERRUPT
	ask(kIn, 0, {{kData, 512, kWrite, 0}});
	EXPECT_EQ(used_index(0), 2u);
	EXPECT_FALSE(line());
}

/* ---- Requests -------------------------------------------------------------------------------- */

TEST_F(VirtioBlk, reads_what_is_on_the_disk)
{
	begin();
	ask(kIn, 5, {{kData + 100, 700, kWrite, 0}, {kData + 5000, 324, kWrite, 0}});
	Used used = take_used(0);

	EXPECT_EQ(used.id, 0u);
	EXPECT_EQ(used.length, 1025u);
	EXPECT_EQ(status(), kOk);
	EXPECT_TRUE(std::equal(&disk[5 * 512], &disk[5 * 512 + 700],
			       read_bytes(kData + 100, 700).begin()));
	EXPECT_TRUE(std::equal(&disk[5 * 512 + 700], &disk[7 * 512],
			       read_bytes(kData + 5000, 324).begin()));
}

TEST_F(VirtioBlk, writes_to_the_disk_and_nowhere_else)
{
	std::vector<u8> before = disk, bytes(1024, 0xa5);

	begin();
	write(kData, bytes.data(), bytes.size());
	ask(kOut, 9, {{kData, 1000, 0, 0}, {kData + 1000, 24, 0, 0}});
	EXPECT_EQ(take_used(0).length, 1u);
	EXPECT_EQ(status(), kOk);
	std::copy(bytes.begin(), bytes.end(), before.begin() + 9 * 512);
	EXPECT_EQ(disk, before);
}

TEST_F(VirtioBlk, a_request_larger_than_its_buffer_goes_in_steps)
{
	const u64 size = KIB(300);

	begin();
	ask(kIn, 0, {{kData, (u32)size, kWrite, 0}});
	while (enter()) { // it gives way to others in between
	}
	EXPECT_EQ(take_used(0).length, size + 1);
	EXPECT_TRUE(std::equal(disk.begin(), disk.begin() + (long)size,
			       read_bytes(kData, size).begin()));
	ask(kOut, 1000, {{kData, (u32)size, 0, 0}});
	while (enter()) {
	}
	EXPECT_EQ(status(), kOk);
	EXPECT_TRUE(std::equal(disk.begin(), disk.begin() + (long)size, disk.begin() + 512000));
}

TEST_F(VirtioBlk, flushes_and_tells_its_name)
{
	begin();
	ask(kFlushRequest, 0, {});
	EXPECT_EQ(status(), kOk);
	ask(kGetId, 0, {{kData, 20, kWrite, 0}});
	EXPECT_EQ(status(), kOk);
	EXPECT_STREQ((const char *)read_bytes(kData, 20).data(), "disk.img");
	ask(kDiscard, 0, {{kData, 16, 0, 0}});
	EXPECT_EQ(status(), kUnsupported);
}

TEST_F(VirtioBlk, an_indirect_table_is_a_chain)
{
	Descriptor table[] = {{kData + 256, 16, kNext, 2},
			      {kData + 512, 1, kWrite, 0},
			      {kData + 4096, 512, kWrite | kNext, 1}};

	begin();
	write(kData + 256, Header{kIn, 0, 3});
	write(kData, table, sizeof(table));
	describe(0, 7, {kData, sizeof(table), kIndirectFlag, 0});
	offer(0, 7);
	notify(0);
	EXPECT_EQ(take_used(0).id, 7u);
	EXPECT_EQ(read<u8>(kData + 512), kOk);
	EXPECT_EQ(read<u8>(kData + 4096), disk[3 * 512]);
}

struct Refused {
	const char *name;
	u32 type;
	u64 sector;
	u32 bytes;
};

TEST_F(VirtioBlk, what_is_not_on_the_disk_is_an_error)
{
	const Refused table[] = {
		{"behind", kIn, kSectors, 512},
		{"across", kIn, kSectors - 1, 1024},
		{"wraps", kIn, ~0ull, 1024},
		{"far", kIn, 1ull << 60, 512},
		{"no sector", kIn, 0, 500},
		{"write behind", kOut, kSectors, 512},
		{"write wraps", kOut, ~0ull - 1, 4096},
		{"half a sector", kOut, 1, 256},
	};
	std::vector<u8> before = disk;

	begin();
	for (const Refused &r : table) {
		u16 flags = r.type == kIn ? kWrite : 0;

		ask(r.type, r.sector, {{kData, r.bytes, flags, 0}});
		EXPECT_EQ(status(), kIoErr) << r.name;
		EXPECT_FALSE(is_broken()) << r.name;
	}
	EXPECT_EQ(disk, before);
}

TEST_F(VirtioBlk, a_read_only_disk_is_not_written)
{
	std::vector<u8> before = disk;

	begin(true);
	EXPECT_TRUE(offered() & kReadOnly);
	ask(kOut, 0, {{kData, 512, 0, 0}});
	EXPECT_EQ(status(), kIoErr);
	EXPECT_EQ(disk, before);
	ask(kIn, 0, {{kData, 512, kWrite, 0}});
	EXPECT_EQ(status(), kOk);
}

/* ---- A block that takes its time ------------------------------------------------------------- */

TEST_F(VirtioBlk, a_request_ends_when_a_vcpu_hears_that_the_block_has_done_with_it)
{
	begin_slow();
	ask(kIn, 2, {{kData, 512, kWrite, 0}});
	EXPECT_EQ(used_index(0), 0u);
	ASSERT_EQ(slow.held.size(), 1u);
	fake_cpu_become(1);
	slow.end_all(true);
	EXPECT_EQ(used_index(0), 0u) << "guest memory is not touched from there";
	fake_cpu_become(0);
	EXPECT_TRUE(enter());
	EXPECT_EQ(take_used(0).length, 513u);
	EXPECT_TRUE(line());
	EXPECT_EQ(read<u8>(kData), disk[2 * 512]);
}

TEST_F(VirtioBlk, errors_of_the_block_are_told)
{
	begin_slow();
	ask(kIn, 2, {{kData, 512, kWrite, 0}});
	slow.end_all(false);
	enter();
	EXPECT_EQ(status(), kIoErr);
	slow.answer = INVALID;
	ask(kFlushRequest, 0, {});
	EXPECT_EQ(status(), kIoErr);
	EXPECT_EQ(used_index(0), 2u);
}

TEST_F(VirtioBlk, more_requests_than_it_has_wait_in_the_queue)
{
	begin_slow();
	for (u16 i = 0; i < 12; i++) {
		Header header = {kIn, 0, i};

		write(kData - 1024 + i * 16, header);
		write(kData + KIB(8) * i, Descriptor{kData - 1024 + i * 16, 16, kNext, 1});
		write(kData + KIB(8) * i + 16,
		      Descriptor{kData + KIB(8) * i + 4096, 512, kNext | kWrite, 2});
		write(kData + KIB(8) * i + 32, Descriptor{kData + KIB(8) * i + 2048, 1, kWrite, 0});
		describe(0, i, {kData + KIB(8) * i, 48, kIndirectFlag, 0});
		offer(0, i);
	}
	notify(0);
	EXPECT_EQ(slow.held.size(), (size_t)VIRTIO_BLK_REQUESTS);
	slow.end_all(true);
	enter();
	slow.end_all(true);
	enter();
	EXPECT_EQ(used_index(0), 12u);
	for (u16 i = 0; i < 12; i++) {
		EXPECT_EQ(read<u8>(kData + KIB(8) * i + 4096), disk[i * 512]) << i;
	}
}

TEST_F(VirtioBlk, what_the_block_has_no_room_for_is_tried_again)
{
	begin_slow();
	slow.answer = FULL;
	ask(kIn, 2, {{kData, 512, kWrite, 0}});
	EXPECT_EQ(used_index(0), 0u);
	EXPECT_LT(vm->virtio_wake_at, ~0ull);
	slow.answer = OK;
	virtio_vm_work(vm);
	ASSERT_EQ(slow.held.size(), 1u);
	slow.end_all(true);
	enter();
	EXPECT_EQ(status(), kOk);
}

TEST_F(VirtioBlk, after_a_reset_nothing_of_before_it_reaches_the_guest)
{
	begin_slow();
	ask(kIn, 2, {{kData, 512, kWrite, 0}});
	put(kStatus, 0);
	EXPECT_EQ(get(kStatus), 0u);
	go(kVersion1, 1);
	write(kData, (u8)0x77);
	slow.end_all(true);
	enter();
	EXPECT_EQ(read<u8>(kData), 0x77);
	EXPECT_EQ(used_index(0), 0u);
	EXPECT_FALSE(line());
	for (u32 i = 0; i < 3 * VIRTIO_BLK_REQUESTS; i++) { // and none of ours was lost
		ask(kIn, 1, {{kData, 512, kWrite, 0}});
		slow.end_all(true);
		enter();
		ASSERT_EQ(status(), kOk);
	}
}

TEST_F(VirtioBlk, a_guest_that_ends_waits_for_its_requests)
{
	begin_slow();
	ask(kIn, 2, {{kData, 512, kWrite, 0}});
	vm_virtio_end(vm);
	EXPECT_EQ(slow.polls, 1u);
	EXPECT_EQ(vm->virtio[0], nullptr);
}

/* ---- Hostile rings --------------------------------------------------------------------------- */

struct Hostile {
	const char *name;
	std::vector<Descriptor> table; /* from descriptor 0 on */
	u16 head;
};

const Hostile hostile[] = {
	{"a loop", {{MIB(1032), 16, kNext, 1}, {MIB(1032), 16, kNext, 0}}, 0},
	{"itself", {{MIB(1032), 16, kNext, 0}}, 0},
	{"head out of range", {}, 16},
	{"head far out of range", {}, 0xffff},
	{"next out of range", {{MIB(1032), 16, kNext, 16}}, 0},
	{"outside", {{MIB(1), 16, 0, 0}}, 0},
	{"across the end", {{MIB(1056) - 8, 16, 0, 0}}, 0},
	{"the length wraps", {{~0ull - 8, 0xffffffff, 0, 0}}, 0},
	{"all lengths", {{MIB(1032), 0xffffffff, 0, 0}}, 0},
	{"to write, then to read", {{MIB(1032), 16, kWrite | kNext, 1}, {MIB(1032), 16, 0, 0}}, 0},
	{"no header", {{MIB(1032), 1, kWrite, 0}}, 0},
	{"half a header", {{MIB(1032), 8, kNext, 1}, {MIB(1032), 1, kWrite, 0}}, 0},
	{"no status", {{MIB(1032), 16, 0, 0}}, 0},
	{"indirect with next", {{MIB(1032), 16, kIndirectFlag | kNext, 1}}, 0},
	{"indirect of nothing", {{MIB(1032), 0, kIndirectFlag, 0}}, 0},
	{"indirect of halves", {{MIB(1032), 24, kIndirectFlag, 0}}, 0},
	{"indirect outside", {{MIB(4096), 32, kIndirectFlag, 0}}, 0},
	{"indirect wraps", {{~0xfull, 32, kIndirectFlag, 0}}, 0},
	/* Itself is its table: an indirect descriptor in an indirect table. */
	{"indirect in indirect", {{MIB(1025), 32, kIndirectFlag, 0}}, 0},
};

TEST_F(VirtioBlk, a_hostile_chain_needs_a_reset_and_no_more)
{
	std::vector<u8> before = disk;

	begin();
	for (const Hostile &h : hostile) {
		go(kVersion1 | kIndirect, 1);
		for (u32 i = 0; i < h.table.size(); i++) {
			describe(0, i, h.table[i]);
		}
		offer(0, h.head);
		notify(0);
		EXPECT_TRUE(is_broken()) << h.name;
		EXPECT_EQ(get(kInterruptStatus) & 2, 2u) << h.name;
		EXPECT_EQ(used_index(0), 0u) << h.name;
		notify(0);
		put(kStatus, 0);
		EXPECT_FALSE(is_broken()) << h.name;
		EXPECT_FALSE(line()) << h.name;
	}
	go(kVersion1 | kIndirect, 1);
	ask(kIn, 0, {{kData, 512, kWrite, 0}});
	EXPECT_EQ(status(), kOk) << "and then it works again";
	EXPECT_EQ(disk, before);
}

TEST_F(VirtioBlk, a_ring_with_more_entries_than_it_holds_needs_a_reset)
{
	begin();
	write(ring(0) + KIB(16) + 2, (u16)(kQueueSize + 1));
	notify(0);
	EXPECT_TRUE(is_broken());
}

struct BadQueue {
	const char *name;
	u32 size;
	u64 descriptors, available, used;
};

TEST_F(VirtioBlk, a_queue_that_makes_no_sense_does_not_become_ready)
{
	const BadQueue table[] = {
		{"no size", 0, kRings, kRings + KIB(16), kRings + KIB(32)},
		{"no power of two", 12, kRings, kRings + KIB(16), kRings + KIB(32)},
		{"too large", 256, kRings, kRings + KIB(16), kRings + KIB(32)},
		{"huge", 0x80000000, kRings, kRings + KIB(16), kRings + KIB(32)},
		{"descriptors askew", 16, kRings + 8, kRings + KIB(16), kRings + KIB(32)},
		{"available askew", 16, kRings, kRings + KIB(16) + 1, kRings + KIB(32)},
		{"used askew", 16, kRings, kRings + KIB(16), kRings + KIB(32) + 2},
		{"descriptors outside", 16, 0, kRings + KIB(16), kRings + KIB(32)},
		{"available outside", 16, kRings, ~1ull, kRings + KIB(32)},
		{"used across the end", 16, kRings, kRings + KIB(16), RAM + RAM_SIZE - 64},
	};

	begin();
	for (const BadQueue &q : table) {
		accept(kVersion1);
		put(kQueueSel, 0);
		put(kQueueNum, q.size);
		put64(kQueueDescLow, q.descriptors);
		put64(kQueueDriverLow, q.available);
		put64(kQueueDeviceLow, q.used);
		put(kQueueReady, 1);
		EXPECT_EQ(get(kQueueReady), 0u) << q.name;
		EXPECT_TRUE(is_broken()) << q.name;
		put(kStatus, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
		notify(0);
	}
}

TEST_F(VirtioBlk, a_ready_queue_is_not_moved)
{
	begin();
	put(kQueueSel, 0);
	put(kQueueNum, 3);
	put64(kQueueDescLow, 0);
	ask(kIn, 0, {{kData, 512, kWrite, 0}});
	EXPECT_EQ(status(), kOk);
	put(kQueueReady, 0);
	ask(kIn, 0, {{kData, 512, kWrite, 0}});
	EXPECT_EQ(status(), 0xee);
}

TEST_F(VirtioBlk, any_register_takes_any_value)
{
	const u64 values[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff};

	begin();
	for (u64 reg = 0; reg < 0x200; reg++) {
		for (u64 value : values) {
			for (unsigned size = 1; size <= 8; size *= 2) {
				put(reg, value, size);
				virtio_mmio_ops.read(vm, vcpu, reg, size);
			}
		}
	}
	go(kVersion1, 1);
	ask(kIn, 0, {{kData, 512, kWrite, 0}});
	EXPECT_EQ(status(), kOk);
}

} // namespace

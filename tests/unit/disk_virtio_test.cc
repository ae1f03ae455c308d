// The driver of the machine's disks, against a device written from the specification (virtio 1.2:
// 2.1 status, 2.7 split queues, 4.2.2 registers, 5.2 block device). It knows nothing of the driver.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

extern "C" {
#include "../../arch/fake/fake.h"
#include "hyp/disk_virtio.h"
#include "hyp/disks.h"
#include "hyp/frame.h"
#include <arch/boot.h>
}

namespace
{

constexpr u64 kAt = 0x0a000e00;
constexpr u32 kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8;
constexpr u64 kVersion1 = 1ull << 32, kSegMax = 1 << 2, kReadOnly = 1 << 5, kFlush = 1 << 9;
constexpr u16 kNext = 1, kWrite = 2;

struct Descriptor {
	u64 address;
	u32 length;
	u16 flags, next;
};

struct Header {
	u32 type, reserved;
	u64 sector;
};

class Device
{
      public:
	u32 magic = 0x74726976, version = 2, id = 2, queue_max = 256, seg_max = 254;
	u64 features = kVersion1 | kSegMax | kFlush | 1ull << 40;
	std::string name = "swap";
	std::vector<u8> bytes = std::vector<u8>(MIB(1));
	bool refuses_features = false, is_silent = false;
	u32 fails_type = ~0u;	       // requests of this type end with an error
	std::vector<u32> types;	       // of all requests, in order
	std::vector<u32> pieces;       // and how many pieces of data each had
	std::vector<u16> out_of_order; // heads that are kept back

	Device()
	{
		fake_device_hook = {
			this,
			[](void *device, u64 at) { return ((Device *)device)->read(at - kAt); },
			[](void *device, u64 at, u32 value) {
				((Device *)device)->write(at - kAt, value);
			},
		};
	}

	~Device()
	{
		fake_device_hook = {};
	}

	u32 read(u64 offset)
	{
		switch (offset) {
		case 0x0:
			return magic;
		case 0x4:
			return version;
		case 0x8:
			return id;
		case 0x10:
			return (u32)(features >> (32 * features_select));
		case 0x34:
			return queue_max;
		case 0x60:
			return interrupts;
		case 0x70:
			return status;
		case 0xfc:
			return 0;
		case 0x100:
			return (u32)(bytes.size() / 512);
		case 0x104:
			return 0;
		case 0x10c:
			return seg_max;
		default:
			ADD_FAILURE() << "read of register " << offset;
			return 0;
		}
	}

	void write(u64 offset, u32 value)
	{
		switch (offset) {
		case 0x14:
			features_select = value;
			return;
		case 0x20:
			set_half(&taken, driver_select, value);
			return;
		case 0x24:
			driver_select = value;
			return;
		case 0x30:
			EXPECT_EQ(value, 0u);
			return;
		case 0x38:
			queue_size = value;
			return;
		case 0x44:
			ready = value;
			return;
		case 0x50:
			EXPECT_TRUE(status & kDriverOk) << "3.1.1: not before DRIVER_OK";
			work();
			return;
		case 0x64:
			interrupts &= ~value;
			return;
		case 0x70:
			write_status(value);
			return;
		case 0x80:
		case 0x84:
			set_half(&descriptors, (offset & 4) / 4, value);
			return;
		case 0x90:
		case 0x94:
			set_half(&available, (offset & 4) / 4, value);
			return;
		case 0xa0:
		case 0xa4:
			set_half(&used, (offset & 4) / 4, value);
			return;
		default:
			ADD_FAILURE() << "write of register " << offset;
		}
	}

	// Takes what is available; a silent device does not answer.
	void work()
	{
		const u16 *ring = (const u16 *)hpa_ptr(hpa(available));

		EXPECT_TRUE(ready);
		while (next_available != ring[1]) {
			u16 head = ring[2 + next_available++ % queue_size];

			if (is_silent) {
				out_of_order.push_back(head);
			} else {
				answer(head);
			}
		}
	}

	void answer(u16 head)
	{
		u16 *ring = (u16 *)hpa_ptr(hpa(used));
		u32 *element = (u32 *)(ring + 2) + 2 * (ring[1] % queue_size);

		element[0] = head;
		element[1] = serve(head);
		ring[1]++;
		interrupts |= ((const u16 *)hpa_ptr(hpa(available)))[0] & 1 ? 0 : 1; // 2.7.7
	}

	u64 taken = 0;
	u32 status = 0, interrupts = 0;
	bool was_reset = false;

      private:
	u32 features_select = 0, driver_select = 0, queue_size = 0;
	u64 descriptors = 0, available = 0, used = 0;
	bool ready = false;
	u16 next_available = 0;

	static void set_half(u64 *word, u32 half, u32 value)
	{
		((u32 *)word)[half] = value;
	}

	// 2.1.1: bits are only added; 0 resets.
	void write_status(u32 value)
	{
		if (value == 0) {
			next_available = 0;
			ready = false;
			was_reset = true;
		} else {
			EXPECT_EQ(value & status, status);
		}
		status = refuses_features ? value & ~kFeaturesOk : value;
		if (value & kFeaturesOk) {
			EXPECT_EQ(taken & ~features, 0u) << "2.2: no feature that was not offered";
		}
	}

	std::vector<Descriptor> chain(u16 head)
	{
		const Descriptor *table = (const Descriptor *)hpa_ptr(hpa(descriptors));
		std::vector<Descriptor> all;

		for (u16 at = head;; at = all.back().next) {
			EXPECT_LT(at, queue_size);
			all.push_back(table[at]);
			if (!(all.back().flags & kNext) || all.size() > queue_size) {
				return all;
			}
		}
	}

	// Returns how many bytes were written to memory.
	u32 serve(u16 head)
	{
		std::vector<Descriptor> all = chain(head);
		Header header;
		u32 written = 1;
		u8 result;

		EXPECT_EQ(all.front().length, sizeof(header));
		EXPECT_FALSE(all.front().flags & kWrite);
		EXPECT_EQ(all.back().length, 1u);
		EXPECT_TRUE(all.back().flags & kWrite);
		std::memcpy(&header, hpa_ptr(hpa(all.front().address)), sizeof(header));
		types.push_back(header.type);
		pieces.push_back((u32)all.size() - 2);
		result = header.type == fails_type ? 1 : 0;
		for (size_t i = 1; i + 1 < all.size(); i++) {
			written += move(header, all[i], result == 0);
			header.sector += all[i].length / 512;
		}
		std::memcpy(hpa_ptr(hpa(all.back().address)), &result, 1);
		return written;
	}

	u32 move(const Header &header, const Descriptor &piece, bool ok)
	{
		void *memory = hpa_ptr(hpa(piece.address));
		u8 *at = bytes.data() + header.sector * 512;

		EXPECT_EQ(!(piece.flags & kWrite), header.type == 1) << "2.7.5.1: who writes there";
		if (!ok) {
			return 0;
		}
		if (header.type == 8) {
			std::memset(memory, 0, piece.length);
			std::memcpy(memory, name.data(), std::min<size_t>(name.size(), 20));
		} else if (header.type == 1) {
			std::memcpy(at, memory, piece.length);
		} else {
			std::memcpy(memory, at, piece.length);
		}
		return piece.flags & kWrite ? piece.length : 0;
	}
};

class DiskVirtio : public testing::Test
{
      protected:
	void SetUp() override
	{
		fake_cpus(1);
		fake_memory(MIB(8));
		fake_now = 1;
	}

	void TearDown() override
	{
		if (disk) {
			disk_virtio_close(disk);
		}
		EXPECT_EQ(frame_count(FRAME_HYP), 0u);
	}

	void open()
	{
		ASSERT_EQ(disk_virtio_open(kAt, &disk), OK);
	}

	struct Asked {
		struct block_request request = {};
		unsigned times = 0;
		bool ok = false;
	};

	// `count` pages, in pieces, from `sector` on.
	std::unique_ptr<Asked> ask(enum block_operation operation, u64 sector, u8 *pages, u32 count)
	{
		auto asked = std::make_unique<Asked>();

		asked->request.operation = operation;
		asked->request.sector = sector;
		asked->request.piece_count = count;
		for (u32 i = 0; i < count; i++) {
			asked->request.pieces[i] = {pages + i * PAGE_SIZE, PAGE_SIZE};
		}
		asked->request.context = asked.get();
		asked->request.done = [](struct block_request *request, bool ok) {
			Asked *asked = (Asked *)request->context;

			asked->times++;
			asked->ok = ok;
		};
		return asked;
	}

	enum status submit(Asked &asked)
	{
		return disk->submit(disk, &asked.request);
	}

	void expect_done(Asked &asked, bool ok)
	{
		ASSERT_EQ(submit(asked), OK);
		disk->poll(disk);
		EXPECT_EQ(asked.times, 1u);
		EXPECT_EQ(asked.ok, ok);
	}

	void expect_refused(const char *why)
	{
		fake_uart_clear();
		EXPECT_EQ(disk_virtio_open(kAt, &disk), INVALID);
		EXPECT_NE(std::strstr(fake_uart_output(), why), nullptr) << fake_uart_output();
		disk = nullptr;
	}

	Device device;
	struct block *disk = nullptr;
};

TEST_F(DiskVirtio, it_is_begun_as_the_specification_says)
{
	open();
	EXPECT_EQ(device.status, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
	EXPECT_EQ(device.taken, kVersion1 | kSegMax | kFlush);
	EXPECT_STREQ(disk->name, "swap");
	EXPECT_EQ(disk->sectors, MIB(1) / 512);
	EXPECT_FALSE(disk->read_only);
}

TEST_F(DiskVirtio, where_no_disk_is_nothing_is_touched)
{
	device.id = 0;
	EXPECT_EQ(disk_virtio_open(kAt, &disk), NOENT);
	device.id = 1;
	EXPECT_EQ(disk_virtio_open(kAt, &disk), NOENT);
	device.magic = 7;
	EXPECT_EQ(disk_virtio_open(kAt, &disk), NOENT);
	EXPECT_FALSE(device.was_reset);
}

TEST_F(DiskVirtio, a_device_that_cannot_be_driven_is_refused_with_the_reason)
{
	device.version = 1;
	expect_refused("it is no modern device");
	device.version = 2;
	device.features = kSegMax;
	expect_refused("it is no modern device");
	device.features = kVersion1;
	expect_refused("it does not say how many pieces a request may have");
	device.features |= kSegMax;
	device.seg_max = 16;
	expect_refused("its requests have too few pieces");
	device.seg_max = 254;
	device.queue_max = 32;
	expect_refused("its queue is too short for one request");
	device.queue_max = 256;
	device.refuses_features = true;
	expect_refused("it does not work with the features that it offers");
}

TEST_F(DiskVirtio, a_long_name_ends_where_the_specification_says)
{
	device.name = "twenty-characters-of-name";
	open();
	EXPECT_STREQ(disk->name, "twenty-characters-of");
}

TEST_F(DiskVirtio, what_is_written_can_be_read_in_other_pieces)
{
	u8 *pages = (u8 *)hyp_alloc(8 * PAGE_SIZE);

	open();
	for (u64 i = 0; i < 4 * PAGE_SIZE; i++) {
		pages[i] = (u8)(i * 7 + i / 4096);
	}
	auto write = ask(BLOCK_WRITE, 16, pages, 4);

	expect_done(*write, true);
	EXPECT_EQ(std::memcmp(device.bytes.data() + 16 * 512, pages, 4 * PAGE_SIZE), 0);
	auto read = ask(BLOCK_READ, 24, pages + 4 * PAGE_SIZE, 3);

	expect_done(*read, true);
	EXPECT_EQ(std::memcmp(pages + PAGE_SIZE, pages + 4 * PAGE_SIZE, 3 * PAGE_SIZE), 0);
	EXPECT_EQ(device.types, (std::vector<u32>{8, 1, 0}));
	EXPECT_EQ(device.pieces, (std::vector<u32>{1, 4, 3}));
	hyp_free(pages);
}

TEST_F(DiskVirtio, outside_of_the_disk_nothing_is_asked)
{
	u8 *page = (u8 *)hyp_alloc(PAGE_SIZE);

	open();
	auto late = ask(BLOCK_READ, MIB(1) / 512 - 7, page, 1);

	EXPECT_EQ(submit(*late), INVALID);
	EXPECT_EQ(late->times, 0u);
	EXPECT_EQ(device.types.size(), 1u);
	hyp_free(page);
}

TEST_F(DiskVirtio, a_read_only_disk_is_not_written)
{
	u8 *page = (u8 *)hyp_alloc(PAGE_SIZE);

	device.features |= kReadOnly;
	open();
	EXPECT_TRUE(disk->read_only);
	auto write = ask(BLOCK_WRITE, 0, page, 1);

	EXPECT_EQ(submit(*write), DENIED);
	hyp_free(page);
}

TEST_F(DiskVirtio, a_flush_is_the_devices_if_it_knows_one)
{
	open();
	auto flush = ask(BLOCK_FLUSH, 0, nullptr, 0);

	expect_done(*flush, true);
	EXPECT_EQ(device.types.back(), 4u);
	disk_virtio_close(disk);
	device.features &= ~kFlush;
	open();
	device.types.clear();
	auto nothing = ask(BLOCK_FLUSH, 0, nullptr, 0);

	expect_done(*nothing, true);
	EXPECT_TRUE(device.types.empty());
}

TEST_F(DiskVirtio, an_error_is_the_requests_alone)
{
	u8 *page = (u8 *)hyp_alloc(PAGE_SIZE);

	open();
	device.fails_type = 1;
	auto write = ask(BLOCK_WRITE, 0, page, 1), read = ask(BLOCK_READ, 0, page, 1);

	expect_done(*write, false);
	expect_done(*read, true);
	hyp_free(page);
}

TEST_F(DiskVirtio, many_are_under_way_and_end_in_any_order)
{
	u8 *pages = (u8 *)hyp_alloc(16 * PAGE_SIZE);
	std::vector<std::unique_ptr<Asked>> all;
	u64 begun = 0;

	open();
	device.is_silent = true;
	for (u64 i = 0; i < 16; i++) {
		std::memset(device.bytes.data() + i * PAGE_SIZE, (int)i + 1, PAGE_SIZE);
		all.push_back(ask(BLOCK_READ, i * 8, pages + i * PAGE_SIZE, 1));
	}
	while (begun < 16 && submit(*all[begun]) == OK) {
		begun++;
	}
	EXPECT_EQ(begun, 256u / 34u); // the queue, in chains of 32 pieces, header and status
	disk->poll(disk);
	for (u64 i = 0; i < begun; i++) {
		EXPECT_EQ(all[i]->times, 0u);
	}
	for (u64 i = begun; i-- > 0;) {
		device.answer(device.out_of_order[i]);
		disk->poll(disk);
		EXPECT_EQ(all[i]->times, 1u);
		EXPECT_EQ(pages[i * PAGE_SIZE], i + 1);
	}
	device.is_silent = false;
	expect_done(*all[begun], true); // there is room again
	hyp_free(pages);
}

TEST_F(DiskVirtio, a_device_that_names_a_request_twice_or_none_is_not_believed)
{
	u8 *page = (u8 *)hyp_alloc(PAGE_SIZE);

	open();
	auto read = ask(BLOCK_READ, 0, page, 1);

	expect_done(*read, true);
	device.answer(0);
	disk->poll(disk);
	EXPECT_EQ(read->times, 1u);
	read->times = 0;
	expect_done(*read, true);
	hyp_free(page);
}

TEST_F(DiskVirtio, a_device_that_does_not_answer_is_reset_and_gone)
{
	u8 *page = (u8 *)hyp_alloc(PAGE_SIZE);

	open();
	device.is_silent = true;
	auto read = ask(BLOCK_READ, 0, page, 1), later = ask(BLOCK_READ, 0, page, 1);

	ASSERT_EQ(submit(*read), OK);
	fake_now += DISK_VIRTIO_PATIENCE_NS;
	disk->poll(disk);
	EXPECT_EQ(read->times, 0u);
	device.was_reset = false;
	fake_now += 1;
	disk->poll(disk);
	EXPECT_TRUE(device.was_reset);
	EXPECT_EQ(read->times, 1u);
	EXPECT_FALSE(read->ok);
	EXPECT_NE(std::strstr(fake_uart_output(), "has not answered for 30 s"), nullptr);
	expect_done(*later, false);
	hyp_free(page);
}

TEST_F(DiskVirtio, without_memory_it_is_refused_and_nothing_is_kept)
{
	fake_memory_leave(1);
	u64 before = frame_count(FRAME_HYP);

	EXPECT_EQ(disk_virtio_open(kAt, &disk), NOMEM);
	EXPECT_EQ(frame_count(FRAME_HYP), before);
	disk = nullptr;
	fake_memory(MIB(8));
}

TEST_F(DiskVirtio, disks_are_found_by_name)
{
	struct boot_info info = {};

	info.virtio[info.virtio_count++] = {kAt, 79};
	disks_open(&info);
	ASSERT_NE(disks_find("swap"), nullptr);
	EXPECT_EQ(disks_find("swap")->sectors, MIB(1) / 512);
	EXPECT_EQ(disks_find("swa"), nullptr);
	disk = disks_find("swap");
	auto flush = ask(BLOCK_FLUSH, 0, nullptr, 0);

	EXPECT_EQ(device.interrupts, 0u);
	EXPECT_EQ(fake_device_hook.enabled_irq, 0u);
	disks_listen(disk);
	EXPECT_EQ(fake_device_hook.enabled_irq, 79u);
	ASSERT_EQ(submit(*flush), OK);
	EXPECT_EQ(device.interrupts, 1u);
	EXPECT_FALSE(disks_interrupt(78));
	EXPECT_EQ(flush->times, 0u);
	EXPECT_TRUE(disks_interrupt(79));
	EXPECT_EQ(flush->times, 1u);
	EXPECT_EQ(device.interrupts, 0u);
	disk = nullptr;
	disks_close();
	EXPECT_EQ(disks_find("swap"), nullptr);
}

} // namespace

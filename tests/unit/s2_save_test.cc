// Images of tables: what comes back is what was saved, and nothing that is not one gets in.
#include "s2_test_machine.h"

#include <algorithm>
#include <functional>
#include <vector>

extern "C" {
#include "hyp/s2_image.h"
}

namespace
{

using Bytes = std::vector<u8>;

bool append(void *context, const void *bytes, u64 size)
{
	Bytes &image = *(Bytes *)context;

	image.insert(image.end(), (const u8 *)bytes, (const u8 *)bytes + size);
	return true;
}

// Frames of the frame table get one more holder; beyond it they are nobody's.
struct Frames {
	std::function<bool(struct s2_image_range &)> change = [](struct s2_image_range &) {
		return true;
	};
	u64 taken = 0, given = 0;
};

bool take(void *context, struct s2_image_range *range)
{
	Frames &frames = *(Frames *)context;

	if (!frames.change(*range)) {
		return false;
	}
	if (range->kind == S2_LEAF) {
		frames.taken++;
		if (frame_of(hpa(range->value))) {
			frame_get(hpa(range->value));
		}
	}
	return true;
}

void give(void *context, hpa_t frame, unsigned)
{
	((Frames *)context)->given++;
	if (frame_of(frame)) {
		frame_put(frame);
	}
}

// CRC-32 bit by bit, as 802.3 has it.
u32 crc_of(u32 crc, const u8 *bytes, size_t size)
{
	crc = ~crc;
	for (size_t i = 0; i < size; i++) {
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++) {
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
		}
	}
	return ~crc;
}

struct Record {
	u64 word0, word1, word2;
};

// An image with all checksums right, whatever it says.
Bytes forge(const std::vector<Record> &records)
{
	Bytes image;
	u32 crc = 0, number = 0;

	for (const Record &record : records) {
		for (u64 word : {record.word0, record.word1, record.word2}) {
			for (int i = 0; i < 8; i++) {
				image.push_back((u8)(word >> i * 8));
			}
		}
		for (int i = 0; i < 4; i++) {
			image.push_back((u8)(number >> i * 8));
		}
		number++;
		crc = crc_of(crc, &image[image.size() - 28], 28);
		for (int i = 0; i < 4; i++) {
			image.push_back((u8)(crc >> i * 8));
		}
	}
	return image;
}

class S2Save : public S2Test
{
      protected:
	u64 root_tables; // of `other`, with those above

	void SetUp() override
	{
		S2Test::SetUp();
		ASSERT_EQ(s2_init(&other, GetParam().format, 40, kOwner), OK);
		root_tables = other.stats.tables;
		restore.s2 = &other;
		restore.take = take;
		restore.give = give;
		restore.context = &frames;
		restore.tables_max = 1000;
	}

	void TearDown() override
	{
		if (other.root) {
			s2_destroy(&other);
		}
		EXPECT_EQ(frames.given > frames.taken, false);
		S2Test::TearDown();
	}

	Bytes image(u64 budget = ~0ull)
	{
		struct s2_save save;
		enum status status;
		Bytes bytes;

		s2_save_begin(&save, &s2, append, &bytes);
		while ((status = s2_save_step(&save, budget)) == MORE) {
		}
		EXPECT_EQ(status, OK);
		EXPECT_EQ(bytes.size() % S2_IMAGE_RECORD, 0u);
		return bytes;
	}

	// Feeds it all, so many bytes and entries at a time.
	enum status feed(const Bytes &bytes, u64 piece = ~0ull, u64 budget = ~0ull)
	{
		enum status status = s2_restore_begin(&restore);

		EXPECT_EQ(status, OK);
		for (u64 at = 0; at < bytes.size() && status != INVALID;) {
			u64 size = min_u64(piece, bytes.size() - at), taken;

			status = s2_restore_feed(&restore, &bytes[at], size, budget, &taken);
			at += taken;
			if (status == OK) {
				EXPECT_EQ(taken, size);
			}
		}
		while ((status = ({
				u64 none;
				s2_restore_feed(&restore, NULL, 0, budget, &none);
			})) == MORE) {
		}
		return s2_restore_end(&restore);
	}

	void expect_empty()
	{
		gpa_t gap;

		EXPECT_EQ(s2_find_gap(&other, gpa(0), gpa(1ull << 40), 1ull << 40, PAGE_SIZE, &gap),
			  OK);
		EXPECT_EQ(other.stats.leaf_4k + other.stats.leaf_2m + other.stats.leaf_1g, 0u);
		EXPECT_EQ(other.stats.tables, root_tables);
	}

	void expect_refused(const Bytes &bytes, enum s2_restore_why why)
	{
		EXPECT_EQ(feed(bytes), INVALID);
		EXPECT_STREQ(s2_restore_text(restore.why), s2_restore_text(why));
		expect_empty();
		u64 taken;

		EXPECT_EQ(s2_restore_feed(&restore, bytes.data(), bytes.size(), 1, &taken),
			  INVALID);
		EXPECT_EQ(taken, 0u);
	}

	// Both spaces say the same of every address.
	void expect_same()
	{
		for (u64 at = 0; at < 1ull << 40;) {
			struct s2_leaf a = s2_query(&s2, gpa(at)), b = s2_query(&other, gpa(at));

			ASSERT_EQ(a.kind, b.kind) << std::hex << at;
			if (a.kind != S2_EMPTY) {
				ASSERT_EQ(a.level, b.level) << std::hex << at;
			}
			ASSERT_EQ(a.accessed, b.accessed) << std::hex << at;
			ASSERT_EQ(a.dirty, b.dirty) << std::hex << at;
			ASSERT_EQ(a.shared, b.shared) << std::hex << at;
			ASSERT_EQ(a.attr.perm, b.attr.perm) << std::hex << at;
			ASSERT_EQ(a.attr.memory, b.attr.memory) << std::hex << at;
			ASSERT_EQ(a.attr.notify, b.attr.notify) << std::hex << at;
			ASSERT_EQ(a.hpa.v, b.hpa.v) << std::hex << at;
			ASSERT_EQ(a.payload, b.payload) << std::hex << at;
			at = align_down(at, PAGE_SIZE << (9 * std::min(a.level, b.level))) +
			     (PAGE_SIZE << (9 * std::min(a.level, b.level)));
		}
		EXPECT_EQ(s2.stats.leaf_4k, other.stats.leaf_4k);
		EXPECT_EQ(s2.stats.leaf_2m, other.stats.leaf_2m);
		EXPECT_EQ(s2.stats.leaf_1g, other.stats.leaf_1g);
	}

	u64 *slot(u64 at)
	{
		struct s2_cursor c;

		s2_cursor_start(&c, &s2, gpa(at));
		s2_cursor_descend(&c, 0);
		return c.slot;
	}

	// Something of everything.
	void fill()
	{
		const struct s2_format *f = s2.format;
		struct s2_harvest harvest = {};

		map_block(MIB(2), 1);
		map_block(MIB(2) * 3, 0);
		map_block(MIB(2) * 3 + PAGE_SIZE, 0);
		map_block(MIB(2) * 3 + 5 * PAGE_SIZE, 0);
		ASSERT_EQ(s2_map(&s2, gpa(GIB(2)), hpa(BIT(43)), GIB(2),
				 {S2_RW, s2_memory_or_forced(f, S2_DEVICE)}, S2_ERROR),
			  OK);
		ASSERT_EQ(s2_map(&s2, gpa(GIB(4)), hpa(BIT(42)), 3 * PAGE_SIZE,
				 {S2_RX, s2_memory_or_forced(f, S2_UNCACHED)}, S2_ERROR),
			  OK);
		harvest.clear = true;
		ASSERT_EQ(s2_harvest(&s2, gpa(GIB(4)), PAGE_SIZE, &harvest), OK);
		s2_slot_set_flag(&s2, slot(GIB(4) + PAGE_SIZE), s2.format->dirty);
		for (u64 i = 0; i < 20; i++) {
			ASSERT_EQ(s2_set_typed(&s2, gpa(GIB(5) + i * PAGE_SIZE), 0, S2_STORED,
					       1000 + i, NULL),
				  OK);
		}
		ASSERT_EQ(s2_set_typed(&s2, gpa(GIB(6)), 2, S2_MMIO, 7, NULL), OK);
		ASSERT_EQ(s2_set_typed(&s2, gpa(GIB(7)), 2, S2_MMIO, 7, NULL), OK);
		ASSERT_EQ(s2_set_typed(&s2, gpa(GIB(8)), 1, S2_MMIO, BIT(48) - 1, NULL), OK);
		map_block((1ull << 40) - PAGE_SIZE, 0);
	}

	// Two neighbours whose frames follow one another: a leaf of the level, and a page.
	void map_pair(struct s2_attr first, struct s2_attr second, unsigned level = 0)
	{
		u64 size = PAGE_SIZE << (9 * level), behind = MIB(2) + size;

		ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(BIT(43)), size, first, S2_ERROR), OK);
		ASSERT_EQ(
			s2_map(&s2, gpa(behind), hpa(BIT(43) + size), PAGE_SIZE, second, S2_ERROR),
			OK);
	}

	// What was mapped is so many ranges of the image, and comes back from them.
	void expect_ranges(unsigned count, const char *what)
	{
		SCOPED_TRACE(what);
		Bytes bytes = image();

		EXPECT_EQ(bytes.size(), (count + 2) * S2_IMAGE_RECORD);
		EXPECT_EQ(feed(bytes), OK) << s2_restore_text(restore.why);
		expect_same();
		ASSERT_EQ(unmap(0, MIB(8)), OK);
		ASSERT_EQ(unmap_of(&other, 0, MIB(8)), OK);
	}

	// `other` is a space of this kind now.
	void remake_other(const struct s2_format *format, unsigned ipa_bits)
	{
		s2_destroy(&other);
		ASSERT_EQ(s2_init(&other, format, ipa_bits, kOwner), OK);
		root_tables = other.stats.tables;
	}

	// One of each kind.
	Bytes small_image()
	{
		map_block(MIB(2), 0);
		EXPECT_EQ(s2_set_typed(&s2, gpa(MIB(4)), 1, S2_STORED, 5, NULL), OK);
		EXPECT_EQ(s2_set_typed(&s2, gpa(GIB(6)), 2, S2_MMIO, 7, NULL), OK);
		return image();
	}

	Record header(u64 ipa_bits = 40)
	{
		return {S2_IMAGE_MAGIC << 12 | S2_IMAGE_VERSION << 8 | 1,
			ipa_bits << 16 | 9 << 8 | 12, 0};
	}

	// A page of a device, readable and writable.
	static constexpr u64 kRw = S2_RW;
	const Record leaf = {MIB(2) | 2, PAGE_SIZE | kRw, BIT(43)};

	struct s2 other = {};
	struct s2_restore restore = {};
	Frames frames;
};
INSTANTIATE_TEST_SUITE_P(formats, S2Save, s2_kinds(), s2_kind_name);

TEST_P(S2Save, an_empty_space_has_an_image)
{
	Bytes bytes = image();

	EXPECT_EQ(bytes.size(), 2u * S2_IMAGE_RECORD);
	EXPECT_EQ(feed(bytes), OK);
	expect_empty();
}

TEST_P(S2Save, what_was_saved_comes_back)
{
	fill();
	EXPECT_EQ(feed(image()), OK) << s2_restore_text(restore.why);
	expect_same();
	EXPECT_EQ(frames.given, 0u);
}

TEST_P(S2Save, an_image_is_as_long_as_there_are_differences)
{
	struct s2_attr attr = {S2_RW, s2_memory_or_forced(s2.format, S2_DEVICE)};

	ASSERT_EQ(s2_map(&s2, gpa(0), hpa(BIT(43)), GIB(4), attr, S2_ERROR), OK);
	EXPECT_EQ(image().size(), 3u * S2_IMAGE_RECORD);
	EXPECT_EQ(feed(image()), OK);
	expect_same();
}

TEST_P(S2Save, neighbours_that_differ_in_one_thing_stay_two)
{
	const struct s2_format *f = s2.format;
	const struct s2_attr rw = {S2_RW, S2_NORMAL}, notify = {S2_RW, S2_NORMAL, true};
	u64 behind = MIB(2) + PAGE_SIZE;

	map_pair(rw, rw);
	expect_ranges(1, "nothing");
	map_pair(rw, rw, 1);
	expect_ranges(2, "level");
	map_pair(rw, {S2_READ, S2_NORMAL});
	expect_ranges(2, "permissions");
	map_pair(rw, {S2_RW, s2_memory_or_forced(f, S2_DEVICE)});
	expect_ranges(2, "memory type");
	if (f->decode(f->encode(notify, false), false).notify) {
		map_pair(rw, notify);
		expect_ranges(2, "notify");
		map_pair(notify, notify);
		expect_ranges(1, "nothing, though both tell the guest");
	}
	map_pair(rw, rw);
	s2_slot_set_flag(&s2, slot(behind), f->dirty);
	expect_ranges(2, "dirty");
	map_pair(rw, rw);
	*slot(behind) = (*slot(behind) & ~f->write) | f->cow;
	expect_ranges(2, "shared");
}

// A leaf of a format that has none of the level below: its parts are smaller still.
TEST_P(S2Save, what_is_left_of_a_leaf_is_told_of_in_leaves_that_there_are)
{
	struct s2_format odd = *GetParam().format;

	odd.leaf_levels = BIT(0) | BIT(2);
	remake_other(&odd, 40);
	EXPECT_EQ(s2_map(&other, gpa(GIB(1)), hpa(BIT(43)), GIB(1), kRwx, S2_ERROR), OK);
	EXPECT_EQ(other.stats.leaf_1g, 1u);
	struct s2_image_range all = s2_image_look(&other, GIB(1));
	struct s2_image_range rest = s2_image_look(&other, GIB(1) + MIB(2));

	EXPECT_EQ(all.level, 2);
	EXPECT_EQ(all.size, GIB(1));
	EXPECT_EQ(rest.level, 0) << "2 MiB are none of its leaves";
	EXPECT_EQ(rest.size, GIB(1) - MIB(2));
	EXPECT_EQ(rest.value, BIT(43) + MIB(2));
	s2_destroy(&other); // while its format is there
}

TEST_P(S2Save, in_steps_it_is_the_same_image)
{
	fill();
	Bytes bytes = image();

	for (u64 budget : {1, 2, 7, 500}) {
		EXPECT_EQ(image(budget), bytes);
	}
}

TEST_P(S2Save, an_image_may_be_fed_in_pieces_of_any_size)
{
	fill();
	Bytes bytes = image();

	for (u64 piece : {1, 3, 31, 33, 100}) {
		EXPECT_EQ(feed(bytes, piece, piece), OK) << piece;
		expect_same();
		s2_destroy(&other);
		ASSERT_EQ(s2_init(&other, GetParam().format, 40, kOwner), OK);
	}
}

TEST_P(S2Save, a_forged_image_that_is_right_is_taken)
{
	EXPECT_EQ(feed(forge({header(), leaf, {5, 0, 1}})), OK) << s2_restore_text(restore.why);
	struct s2_leaf got = s2_query(&other, gpa(MIB(2)));

	EXPECT_EQ(got.kind, S2_LEAF);
	EXPECT_EQ(got.hpa.v, BIT(43));
	EXPECT_EQ(got.attr.perm, S2_RW);
	EXPECT_FALSE(got.accessed);
	// And a space that is narrower fits into ours.
	s2_destroy(&other);
	ASSERT_EQ(s2_init(&other, GetParam().format, 40, kOwner), OK);
	EXPECT_EQ(feed(forge({header(32), leaf, {5, 0, 1}})), OK);
}

TEST_P(S2Save, every_flipped_bit_is_noticed)
{
	Bytes bytes = small_image();

	for (size_t bit = 0; bit < bytes.size() * 8; bit++) {
		bytes[bit / 8] ^= 1 << bit % 8;
		ASSERT_EQ(feed(bytes), INVALID) << bit;
		ASSERT_NE(restore.why, S2_RESTORE_FINE);
		bytes[bit / 8] ^= 1 << bit % 8;
	}
	expect_empty();
	EXPECT_EQ(feed(bytes), OK);
}

TEST_P(S2Save, every_truncated_image_is_refused)
{
	Bytes bytes = small_image();

	for (size_t size = 0; size < bytes.size(); size++) {
		expect_refused(Bytes(bytes.begin(), bytes.begin() + size), S2_RESTORE_TRUNCATED);
	}
}

TEST_P(S2Save, bytes_behind_the_end_are_refused)
{
	fill();
	Bytes bytes = image();

	bytes.push_back(0);
	expect_refused(bytes, S2_RESTORE_BEHIND_END);
}

TEST_P(S2Save, records_that_are_left_out_doubled_or_swapped_are_refused)
{
	fill();
	Bytes bytes = image();
	auto record = [&](size_t i) { return bytes.begin() + i * S2_IMAGE_RECORD; };
	Bytes without = bytes, twice = bytes, swapped = bytes;

	without.erase(without.begin() + 64, without.begin() + 96);
	expect_refused(without, S2_RESTORE_CORRUPT);
	twice.insert(twice.begin() + 64, record(1), record(2));
	expect_refused(twice, S2_RESTORE_CORRUPT);
	std::swap_ranges(swapped.begin() + 32, swapped.begin() + 64, swapped.begin() + 64);
	expect_refused(swapped, S2_RESTORE_CORRUPT);
}

TEST_P(S2Save, an_image_that_lies_is_refused_by_name)
{
	u64 top = 1ull << 40;
	Record end = {5, 0, 1};
	struct {
		std::vector<Record> records;
		enum s2_restore_why why;
	} lies[] = {
		{{{S2_IMAGE_MAGIC << 12 | 2 << 8 | 1, 40 << 16 | 9 << 8 | 12, 0}, end},
		 S2_RESTORE_VERSION},
		{{{(S2_IMAGE_MAGIC + 1) << 12 | 1 << 8 | 1, 40 << 16 | 9 << 8 | 12, 0}, end},
		 S2_RESTORE_NO_IMAGE},
		{{leaf, end}, S2_RESTORE_NO_IMAGE},
		{{header(41), end}, S2_RESTORE_GEOMETRY},
		{{header(1 << 20), end}, S2_RESTORE_GEOMETRY},
		{{{header().word0, 40 << 16 | 11 << 8 | 14, 0}, end}, S2_RESTORE_GEOMETRY},
		{{{header().word0, header().word1, 1}, end}, S2_RESTORE_RECORD},
		{{header(), header(), end}, S2_RESTORE_RECORD},
		{{header(), {MIB(2) | 6, PAGE_SIZE | kRw, 0}, end}, S2_RESTORE_RECORD},
		{{header(), {MIB(2) | 0, PAGE_SIZE | kRw, 0}, end}, S2_RESTORE_RECORD},
		{{header(), leaf, {5, 0, 2}}, S2_RESTORE_RECORD},
		{{header(), leaf, {5, 1, 1}}, S2_RESTORE_RECORD},
		{{header(), leaf, {PAGE_SIZE | 5, 0, 1}}, S2_RESTORE_RECORD},
		// Bits that mean nothing.
		{{header(), {MIB(2) | 2, PAGE_SIZE | kRw | BIT(8), BIT(43)}, end},
		 S2_RESTORE_RECORD},
		{{header(), {MIB(2) | 2, PAGE_SIZE | kRw | BIT(11), BIT(43)}, end},
		 S2_RESTORE_RECORD},
		{{header(), {MIB(2) | 3, PAGE_SIZE | kRw, 1}, end}, S2_RESTORE_RECORD},
		{{header(), {MIB(2) | 1 << 8 | 4, PAGE_SIZE, 1}, end}, S2_RESTORE_RECORD},
		{{header(), {MIB(2) | 4, PAGE_SIZE, BIT(48)}, end}, S2_RESTORE_RECORD},
		// Order.
		{{header(), leaf, leaf, {5, 0, 2}}, S2_RESTORE_ORDER},
		{{header(), leaf, {PAGE_SIZE | 2, PAGE_SIZE | kRw, BIT(43)}, end},
		 S2_RESTORE_ORDER},
		{{header(), {MIB(2) | 1 << 4 | 3, MIB(2), 1}, {MIB(3) | 3, PAGE_SIZE, 1}, end},
		 S2_RESTORE_ORDER},
		// Places.
		{{header(), {MIB(2) | 2, kRw, BIT(43)}, end}, S2_RESTORE_ALIGNMENT},
		{{header(), {MIB(3) | 1 << 4 | 2, MIB(2) | kRw, BIT(43)}, end},
		 S2_RESTORE_ALIGNMENT},
		{{header(), {MIB(2) | 1 << 4 | 2, MIB(3) | kRw, BIT(43)}, end},
		 S2_RESTORE_ALIGNMENT},
		{{header(), {MIB(2) | 1 << 4 | 2, MIB(2) | kRw, BIT(43) + PAGE_SIZE}, end},
		 S2_RESTORE_ALIGNMENT},
		{{header(), {MIB(2) | 2, PAGE_SIZE | kRw, BIT(43) + 1}, end}, S2_RESTORE_ALIGNMENT},
		{{header(), {MIB(2) | 2, MIB(2) | kRw, ~0xfffull}, end}, S2_RESTORE_ALIGNMENT},
		{{header(), {top | 2, PAGE_SIZE | kRw, BIT(43)}, end}, S2_RESTORE_OUTSIDE},
		{{header(), {(top - PAGE_SIZE) | 2, 2 * PAGE_SIZE | kRw, BIT(43)}, end},
		 S2_RESTORE_OUTSIDE},
		{{header(), {PAGE_SIZE | 2, ~0xfffull | kRw, 0}, end}, S2_RESTORE_OUTSIDE},
		{{header(), {MIB(2) | 4, ~0xfffull, 0}, end}, S2_RESTORE_OUTSIDE},
		// What the format has not.
		{{header(), {3 << 4 | 2, BIT(39) | kRw, BIT(43)}, end}, S2_RESTORE_LEVEL},
		{{header(), {15 << 4 | 2, PAGE_SIZE | kRw, BIT(43)}, end}, S2_RESTORE_LEVEL},
		{{header(), {15 << 4 | 3, PAGE_SIZE, 1}, end}, S2_RESTORE_LEVEL},
		{{header(), {MIB(2) | 15 << 8 | 2, PAGE_SIZE | kRw, BIT(43)}, end},
		 S2_RESTORE_ATTR},
		// What no entry can hold.
		{{header(), {MIB(2) | 2, PAGE_SIZE | kRw, BIT(52)}, end}, S2_RESTORE_FRAME},
	};

	for (const auto &lie : lies) {
		expect_refused(forge(lie.records), lie.why);
		// And behind something that is right: it goes again.
		if (lie.records[0].word0 == header().word0 &&
		    lie.records[0].word1 == header().word1 && lie.records[0].word2 == 0 &&
		    lie.records.size() == 3 && lie.records[2].word2 == 1) {
			std::vector<Record> records = lie.records;

			records.insert(records.begin() + 1, {2, PAGE_SIZE | kRw, BIT(42)});
			expect_refused(forge(records), lie.why);
		}
	}
	EXPECT_EQ(frames.given, 2u) << "what no entry can hold, which was asked for twice";
}

TEST_P(S2Save, violations_are_told_to_the_guest_where_the_format_can)
{
	Bytes bytes = forge({header(), {MIB(2) | 2, PAGE_SIZE | kRw | BIT(4), BIT(43)}, {5, 0, 1}});

	struct s2_attr attr = {};

	attr.perm = S2_RW;
	attr.notify = true;
	if (!other.format->decode(other.format->encode(attr, false), false).notify) {
		expect_refused(bytes, S2_RESTORE_ATTR);
		return;
	}
	EXPECT_EQ(feed(bytes), OK);
	EXPECT_TRUE(s2_query(&other, gpa(MIB(2))).attr.notify);
}

TEST_P(S2Save, the_caller_may_refuse_and_replace_frames)
{
	hpa_t own = guest_block(0);
	Bytes bytes = forge({header(), leaf, {5, 0, 1}});

	frames.change = [](struct s2_image_range &) { return false; };
	expect_refused(bytes, S2_RESTORE_FRAME);
	frames.change = [&](struct s2_image_range &range) {
		EXPECT_EQ(range.size, PAGE_SIZE);
		EXPECT_EQ(range.value, BIT(43));
		range.value = own.v;
		return true;
	};
	EXPECT_EQ(feed(bytes), OK);
	EXPECT_EQ(s2_query(&other, gpa(MIB(2))).hpa.v, own.v);
	frame_put(own);
}

TEST_P(S2Save, a_frame_that_no_guest_may_have_does_not_get_in)
{
	void *ours = hyp_alloc(PAGE_SIZE);

	frames.change = [&](struct s2_image_range &range) {
		range.value = ptr_hpa(ours).v;
		return true;
	};
	expect_refused(forge({header(), leaf, {5, 0, 1}}), S2_RESTORE_DENIED);
	EXPECT_EQ(frames.taken, frames.given);
	hyp_free(ours);
}

TEST_P(S2Save, a_frame_that_is_said_to_be_shared_is_not_writable)
{
	frames.change = [](struct s2_image_range &range) { return range.shared = true; };
	EXPECT_EQ(feed(forge({header(), leaf, {5, 0, 1}})), OK);
	EXPECT_EQ(s2_query(&other, gpa(MIB(2))).attr.perm, S2_READ);
	EXPECT_TRUE(s2_query(&other, gpa(MIB(2))).shared);
	EXPECT_EQ(other.marks & other.format->cow, other.format->cow);
}

TEST_P(S2Save, what_is_shared_and_not_to_be_written_needs_no_mark)
{
	const Record read_only = {MIB(2) | 2, PAGE_SIZE | S2_READ | BIT(7), BIT(43)};

	EXPECT_EQ(feed(forge({header(), read_only, {5, 0, 1}})), OK);
	struct s2_leaf got = s2_query(&other, gpa(MIB(2)));

	EXPECT_EQ(got.kind, S2_LEAF);
	EXPECT_EQ(got.attr.perm, S2_READ);
	EXPECT_FALSE(got.shared) << "a write is no reason to copy it";
}

// It is withheld when it would be given: write may be added later to what was read-only.
TEST_P(S2Save, what_is_shared_stays_so_when_it_may_be_written_later)
{
	const Record read_only = {MIB(2) | 2, PAGE_SIZE | S2_READ | BIT(7), BIT(43)};
	hpa_t frame = guest_block(0); // the test is the other holder

	frames.change = [&](struct s2_image_range &range) {
		range.value = frame.v;
		return true;
	};
	EXPECT_EQ(feed(forge({header(), read_only, {5, 0, 1}})), OK);
	EXPECT_EQ(frame_of(frame)->refs, 2u);
	EXPECT_EQ(protect_of(&other, MIB(2), PAGE_SIZE, S2_RW), OK);
	EXPECT_EQ(s2_query(&other, gpa(MIB(2))).attr.perm, S2_READ);
	EXPECT_TRUE(s2_query(&other, gpa(MIB(2))).shared);
	frame_put(frame);
}

// A format whose leaves have no mark for it cannot withhold write from what is shared.
TEST_P(S2Save, what_is_shared_needs_a_format_with_a_mark_for_it)
{
	struct s2_format bare = *GetParam().format;
	Record shared = leaf;

	bare.cow = 0;
	shared.word1 |= BIT(7);
	EXPECT_EQ(feed(forge({header(), shared, {5, 0, 1}})), OK);
	remake_other(&bare, 40);
	expect_refused(forge({header(), shared, {5, 0, 1}}), S2_RESTORE_ATTR);
	EXPECT_EQ(frames.taken, 1u) << "nobody was asked for its frames";
	EXPECT_EQ(feed(forge({header(), leaf, {5, 0, 1}})), OK);
	s2_destroy(&other); // while its format is there
}

// At the root of a wide space there are tables alone; what is no memory may be said there too.
TEST_P(S2Save, a_leaf_of_a_level_without_leaves_is_refused)
{
	remake_other(GetParam().format, 48);
	ASSERT_EQ(other.root_level, 3);
	expect_refused(forge({header(48), {3 << 4 | 2, BIT(39) | kRw, BIT(43)}, {5, 0, 1}}),
		       S2_RESTORE_LEVEL);
	EXPECT_EQ(frames.taken, 0u);
	EXPECT_EQ(feed(forge({header(48), {3 << 4 | 4, BIT(39), 7}, {5, 0, 1}})), OK);
	EXPECT_EQ(s2_query(&other, gpa(0)).kind, S2_MMIO);
}

TEST_P(S2Save, what_is_withheld_from_a_leaf_comes_back_as_such)
{
	map_block(MIB(2), 0);
	u64 *entry = slot(MIB(2));

	*entry = (*entry & ~s2.format->write) | s2.format->cow;
	EXPECT_EQ(feed(image()), OK);
	expect_same();
	// The image says what the guest may do: a copy that is alone may be written.
	u64 word1 = 0;

	for (int i = 0; i < 8; i++) {
		word1 |= (u64)image()[S2_IMAGE_RECORD + 8 + i] << i * 8;
	}
	EXPECT_EQ(word1 & 0xff, S2_RWX | BIT(5) | BIT(7));
}

TEST_P(S2Save, an_image_may_not_take_more_tables_than_allowed)
{
	Bytes bytes = forge({header(), leaf, {GIB(1) | 2, PAGE_SIZE | kRw, BIT(43)}, {5, 0, 2}});
	u64 needed = root_tables + 4;

	restore.tables_max = needed - 1;
	expect_refused(bytes, S2_RESTORE_TABLES);
	restore.tables_max = needed;
	EXPECT_EQ(feed(bytes), OK);
}

// The n-th allocation fails, for every n.
TEST_P(S2Save, without_memory_nothing_is_left_behind)
{
	Bytes bytes = forge({header(),
			     leaf,
			     {GIB(1) | 3, PAGE_SIZE, 5},
			     {GIB(2) | 1 << 4 | 2, MIB(2) | kRw, BIT(43)},
			     {5, 0, 3}});

	for (u64 left = 0;; left++) {
		s2_destroy(&other);
		s2_destroy(&s2);
		fake_memory(kMemory);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		ASSERT_EQ(s2_init(&other, GetParam().format, 40, kOwner), OK);
		fake_memory_leave(left);
		if (feed(bytes) == OK) {
			EXPECT_EQ(left, 5u);
			break;
		}
		EXPECT_EQ(restore.why, S2_RESTORE_MEMORY);
		expect_empty();
		EXPECT_EQ(frame_count(FRAME_FREE), left);
	}
	taken_for_good = frame_count(FRAME_HYP);
}

TEST_P(S2Save, a_space_with_something_in_it_is_no_place_to_restore_to)
{
	ASSERT_EQ(s2_set_typed(&other, gpa(GIB(9)), 0, S2_MMIO, 1, NULL), OK);
	EXPECT_EQ(s2_restore_begin(&restore), INVALID);
}

TEST_P(S2Save, what_another_puts_there_meanwhile_is_a_refusal)
{
	frames.change = [&](struct s2_image_range &) {
		EXPECT_EQ(s2_map_leaf(&other, gpa(MIB(2)), 0, hpa(BIT(42)), kRwx), OK);
		return true;
	};
	expect_refused(forge({header(), leaf, {5, 0, 1}}), S2_RESTORE_TAKEN);
}

TEST_P(S2Save, what_is_in_transit_is_waited_for)
{
	struct s2_batch batch;
	struct s2_save save;
	Bytes bytes;

	map_block(MIB(2), 0);
	map_block(MIB(2) + PAGE_SIZE, 0);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2) + PAGE_SIZE), PAGE_SIZE, &batch), OK);
	s2_save_begin(&save, &s2, append, &bytes);
	EXPECT_EQ(s2_save_step(&save, ~0ull), AGAIN);
	EXPECT_EQ(save.at, MIB(2) + PAGE_SIZE);
	EXPECT_EQ(s2_save_step(&save, ~0ull), AGAIN);
	s2_batch_close(&batch);
	EXPECT_EQ(s2_save_step(&save, ~0ull), OK);
	EXPECT_EQ(s2_save_step(&save, ~0ull), OK);
	EXPECT_EQ(feed(bytes), OK);
	expect_same();
}

TEST_P(S2Save, a_writer_that_fails_ends_the_saving)
{
	struct s2_save save;
	u64 left;
	auto write = [](void *context, const void *, u64) {
		u64 &left = *(u64 *)context;

		return left > 0 && left--;
	};

	fill();
	for (left = 0; left < image().size() / S2_IMAGE_RECORD; left++) {
		u64 calls = left;

		s2_save_begin(&save, &s2, write, &calls);
		EXPECT_EQ(s2_save_step(&save, ~0ull), FULL);
		EXPECT_EQ(s2_save_step(&save, ~0ull), FULL);
	}
}

// Between two steps a region is folded that was half saved, and one is split that was not.
TEST_P(S2Save, entries_that_change_their_size_meanwhile_are_saved_once)
{
	struct s2_collapsed report;
	struct s2_batch batch;
	struct s2_save save;
	Bytes bytes;

	map_block(0, 1);
	map_block(MIB(2), 1);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(0), 0, &batch), OK);
	s2_batch_close(&batch);
	s2_save_begin(&save, &s2, append, &bytes);
	ASSERT_EQ(s2_save_step(&save, 100), MORE);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(0), MIB(2), 1, &batch, &report), OK);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &batch), OK);
	s2_batch_close(&batch);
	ASSERT_EQ(s2_query(&s2, gpa(0)).level, 1);
	ASSERT_EQ(s2_save_step(&save, ~0ull), OK);
	frames.change = [](struct s2_image_range &range) {
		range.value = BIT(43) + range.gpa.v;
		return true;
	};
	ASSERT_EQ(feed(bytes), OK) << s2_restore_text(restore.why);
	for (u64 at = 0; at < MIB(4); at += PAGE_SIZE) {
		ASSERT_EQ(s2_query(&other, gpa(at)).hpa.v, BIT(43) + at);
	}
	EXPECT_EQ(other.stats.leaf_4k, 1024u);
}

TEST(S2SaveText, every_reason_has_a_sentence)
{
	for (int why = 0; why <= S2_RESTORE_TAKEN; why++) {
		EXPECT_GT(strlen(s2_restore_text((enum s2_restore_why)why)), 4u);
	}
	EXPECT_STREQ(s2_restore_text((enum s2_restore_why)(S2_RESTORE_TAKEN + 1)),
		     "no such reason");
}

} // namespace

/*
 * The configuration's parser: what it takes, and in which words it refuses. Blobs are made here
 * with libfdt's writer, so that they can hold what dtc would not let through.
 */
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

extern "C" {
#include <libfdt.h>

#include "hyp/config.h"
#include "hyp/store.h"
#include "hyp/log.h"
#include "hyp/vm.h"
}

namespace
{

/* A blob under construction; nodes nest by calls. */
class Tree
{
      public:
	Tree() : bytes_(1 << 16)
	{
		fdt_create(bytes_.data(), (int)bytes_.size());
		fdt_finish_reservemap(bytes_.data());
		fdt_begin_node(bytes_.data(), "");
	}

	Tree &begin(const std::string &name)
	{
		EXPECT_EQ(fdt_begin_node(bytes_.data(), name.c_str()), 0);
		return *this;
	}

	Tree &end()
	{
		EXPECT_EQ(fdt_end_node(bytes_.data()), 0);
		return *this;
	}

	Tree &raw(const std::string &name, const std::string &value)
	{
		EXPECT_EQ(
			fdt_property(bytes_.data(), name.c_str(), value.data(), (int)value.size()),
			0);
		return *this;
	}

	Tree &text(const std::string &name, const std::string &value)
	{
		return raw(name, value + std::string(1, '\0'));
	}

	Tree &cells(const std::string &name, const std::vector<u32> &values)
	{
		std::string bytes;

		for (u32 value : values) {
			for (int shift = 24; shift >= 0; shift -= 8) {
				bytes.push_back((char)(value >> shift));
			}
		}
		return raw(name, bytes);
	}

	/* A guest without fault, left open. */
	Tree &guest(const std::string &name)
	{
		begin(name).text("compatible", "xen,domain").text("kernel", "vmlinuz");
		return *this;
	}

	Tree &whole_guest(const std::string &name)
	{
		return guest(name).cells("cpus", {1}).text("memory", "64M").end();
	}

	std::vector<u8> finish()
	{
		fdt_end_node(bytes_.data());
		EXPECT_EQ(fdt_finish(bytes_.data()), 0);
		return std::vector<u8>(bytes_.begin(),
				       bytes_.begin() + fdt_totalsize(bytes_.data()));
	}

      private:
	std::vector<u8> bytes_;
};

void collect(void *context, const struct config_problem *problem)
{
	char line[CONFIG_LINE_MAX];

	config_problem_text(problem, line, sizeof(line));
	static_cast<std::vector<std::string> *>(context)->push_back(line);
}

struct Parsed {
	enum status status;
	std::unique_ptr<struct config> config = std::make_unique<struct config>();
	std::vector<std::string> problems;
};

/* Parses a copy in an allocation of exactly its size, so that sanitizers see reads outside. */
Parsed parse(const std::vector<u8> &blob)
{
	Parsed parsed;
	u8 *copy = static_cast<u8 *>(malloc(blob.size()));

	if (!blob.empty()) {
		memcpy(copy, blob.data(), blob.size());
	}
	parsed.status =
		config_parse(copy, blob.size(), parsed.config.get(), collect, &parsed.problems);
	free(copy);
	return parsed;
}

/* A guest of which one property is what the test says, and the others are right. */
Parsed parse_guest(const std::string &property, const std::function<void(Tree &)> &write)
{
	Tree tree;

	tree.begin("chosen").begin("domU1").text("compatible", "xen,domain");
	if (property != "cpus") {
		tree.cells("cpus", {1});
	}
	if (property != "memory") {
		tree.text("memory", "64M");
	}
	if (property != "kernel") {
		tree.text("kernel", "vmlinuz");
	}
	write(tree);
	tree.end().end();
	return parse(tree.finish());
}

std::vector<std::string> problems_with(const std::string &property,
				       const std::function<void(Tree &)> &write)
{
	Parsed parsed = parse_guest(property, write);

	EXPECT_EQ(parsed.status, OK);
	EXPECT_EQ(parsed.config->vm_count, 1u);
	EXPECT_FALSE(parsed.config->vms[0].valid);
	return parsed.problems;
}

using Lines = std::vector<std::string>;

/* ---- What is right --------------------------------------------------------------------------- */

TEST(Config, a_guest_gets_all_that_its_node_says)
{
	Tree tree;

	tree.begin("chosen").text("lamina,log-level", "debug");
	tree.begin("domU1").text("compatible", "xen,domain").cells("cpus", {4});
	tree.cells("memory", {0, 0x40000}).text("kernel", "Image").text("ramdisk", "r.gz");
	tree.text("bootargs", "console=ttyAMA0 a=\"b c\"").text("lamina,name", "web");
	tree.cells("lamina,weight", {512}).cells("lamina,kernel-address", {0x40200000});
	tree.cells("lamina,ramdisk-address", {1, 0x48000000}).raw("vpl011", "").end().end();

	Parsed parsed = parse(tree.finish());
	const struct config_vm &vm = parsed.config->vms[0];

	EXPECT_EQ(parsed.status, OK);
	EXPECT_EQ(parsed.problems, Lines{});
	ASSERT_EQ(parsed.config->vm_count, 1u);
	EXPECT_EQ(parsed.config->log_level, (u32)LOG_DEBUG);
	EXPECT_TRUE(vm.valid);
	EXPECT_STREQ(vm.node, "domU1");
	EXPECT_STREQ(vm.name, "web");
	EXPECT_EQ(vm.cpus, 4u);
	EXPECT_EQ(vm.memory, MIB(256));
	EXPECT_EQ(vm.weight, 512u);
	EXPECT_STREQ(vm.kernel, "Image");
	EXPECT_STREQ(vm.ramdisk, "r.gz");
	EXPECT_STREQ(vm.bootargs, "console=ttyAMA0 a=\"b c\"");
	EXPECT_EQ(vm.kernel_address, 0x40200000u);
	EXPECT_EQ(vm.ramdisk_address, 0x148000000u);
}

TEST(Config, what_is_not_said_has_defaults)
{
	Tree tree;

	tree.begin("chosen").whole_guest("domU1").end();

	Parsed parsed = parse(tree.finish());
	const struct config_vm &vm = parsed.config->vms[0];

	EXPECT_TRUE(vm.valid);
	EXPECT_STREQ(vm.name, "domU1");
	EXPECT_EQ(vm.weight, (u32)CONFIG_WEIGHT_DEFAULT);
	EXPECT_STREQ(vm.ramdisk, "");
	EXPECT_STREQ(vm.bootargs, "");
	EXPECT_EQ(vm.kernel_address, 0u);
	EXPECT_EQ(parsed.config->log_level, (u32)LOG_INFO);
}

TEST(Config, overcommit_is_said_in_chosen_and_limits_in_guests)
{
	Tree tree;

	tree.begin("chosen").text("lamina,guest-memory", "256M").text("lamina,reclaim", "clock");
	tree.raw("lamina,stores", std::string("zero\0zswap\0", 11));
	tree.text("lamina,swap-disk", "2G")
		.text("lamina,zswap-max", "64M")
		.cells("lamina,stats-ms", {500})
		.raw("lamina,heatmap", "")
		.raw("lamina,trace", "")
		.raw("lamina,ksm", "");
	tree.begin("domU1").text("compatible", "xen,domain").cells("cpus", {1});
	tree.text("memory", "256M").text("kernel", "Image").text("lamina,memory-min", "16M");
	tree.text("lamina,memory-high", "128M").text("lamina,memory-max", "192M").end().end();

	Parsed parsed = parse(tree.finish());
	const struct config &config = *parsed.config;

	EXPECT_EQ(parsed.problems, Lines{});
	EXPECT_EQ(config.guest_memory, MIB(256));
	EXPECT_EQ(config.reclaim, &reclaim_clock);
	EXPECT_EQ(config.stores, BIT(STORE_zero) | BIT(STORE_zswap));
	EXPECT_EQ(config.swap_disk, GIB(2));
	EXPECT_EQ(config.zswap_max, MIB(64));
	EXPECT_EQ(config.stats_ms, 500u);
	EXPECT_TRUE(config.ksm);
	EXPECT_TRUE(config.heatmap);
	EXPECT_TRUE(config.trace);
	EXPECT_EQ(config.vms[0].memory_min, MIB(16));
	EXPECT_EQ(config.vms[0].memory_high, MIB(128));
	EXPECT_EQ(config.vms[0].memory_max, MIB(192));
}

TEST(Config, what_is_not_said_of_overcommit_has_defaults)
{
	Tree tree;

	tree.begin("chosen").text("lamina,guest-memory", "256M").whole_guest("domU1").end();

	Parsed parsed = parse(tree.finish());

	EXPECT_EQ(parsed.config->reclaim, &reclaim_adaptive);
	EXPECT_EQ(parsed.config->stores, STORE_ALL);
	EXPECT_EQ(parsed.config->zswap_max, MIB(128));
	EXPECT_EQ(parsed.config->stats_ms, 0u);
	EXPECT_FALSE(parsed.config->ksm);
	EXPECT_FALSE(parsed.config->heatmap);
	EXPECT_FALSE(parsed.config->trace);
	EXPECT_EQ(parsed.config->vms[0].memory_max, 0u);
}

TEST(Config, pages_are_shared_under_overcommit_alone)
{
	Tree tree;

	tree.begin("chosen").raw("lamina,ksm", "").whole_guest("domU1").end();
	EXPECT_EQ(parse(tree.finish()).problems,
		  Lines{"/chosen: lamina,ksm: pages are shared under overcommit alone (add "
			"lamina,guest-memory)"});
}

TEST(Config, overcommit_that_makes_no_sense_is_refused)
{
	auto problems = [](const std::function<void(Tree &)> &chosen,
			   const std::function<void(Tree &)> &guest) {
		Tree tree;

		tree.begin("chosen").text("lamina,guest-memory", "64M");
		chosen(tree);
		tree.begin("domU1").text("compatible", "xen,domain").cells("cpus", {1});
		tree.text("memory", "256M").text("kernel", "Image");
		guest(tree);
		tree.end().end();
		return parse(tree.finish()).problems;
	};
	auto nothing = [](Tree &) {};

	EXPECT_EQ(problems([](Tree &t) { t.text("lamina,reclaim", "lru"); }, nothing),
		  Lines{"/chosen: lamina,reclaim = \"lru\": want \"clock\" or \"gen\" or \"qd\" or "
			"\"adaptive\""});
	EXPECT_EQ(problems([](Tree &t) { t.text("lamina,stores", "tape"); }, nothing),
		  Lines{"/chosen: lamina,stores = \"tape\": want a list of \"zero\", \"same\", "
			"\"zswap\", \"disk\""});
	EXPECT_EQ(problems([](Tree &t) { t.text("lamina,stores", "disk"); }, nothing),
		  Lines{"/chosen: lamina,stores = disk: there is no disk (add "
			"lamina,swap-disk = \"1G\")"});
	EXPECT_EQ(problems([](Tree &t) { t.text("lamina,ksm", "on"); }, nothing),
		  Lines{"/chosen: lamina,ksm = \"on\": want no value (the word alone)"});
	EXPECT_EQ(problems([](Tree &t) { t.raw("lamina,heatmap", "").raw("lamina,trace", ""); },
			   nothing),
		  (Lines{"/chosen: lamina,heatmap: there is no sample (add lamina,stats-ms = "
			 "<1000>)",
			 "/chosen: lamina,trace: there is no sample (add lamina,stats-ms = "
			 "<1000>)"}));
	EXPECT_EQ(problems(
			  [](Tree &t) {
				  t.cells("lamina,stats-ms", {500}).text("lamina,trace", "all");
			  },
			  nothing),
		  Lines{"/chosen: lamina,trace = \"all\": want no value (the word alone)"});
	EXPECT_EQ(problems([](Tree &t) { t.cells("lamina,stats-ms", {0}); }, nothing),
		  Lines{"/chosen: lamina,stats-ms = <0>: out of range; want <10> to <3600000>"});
	EXPECT_EQ(problems(nothing, [](Tree &t) { t.text("lamina,memory-min", "512M"); })[0],
		  "/chosen/domU1: lamina,memory-min: more than its memory");
	EXPECT_EQ(problems(nothing,
			   [](Tree &t) {
				   t.text("lamina,memory-min", "32M");
				   t.text("lamina,memory-max", "16M");
			   }),
		  Lines{"/chosen/domU1: lamina,memory-min: more than its lamina,memory-max"});
	EXPECT_EQ(problems(nothing, [](Tree &t) { t.text("lamina,memory-min", "128M"); }),
		  Lines{"/chosen: lamina,guest-memory: guests' lamina,memory-min are 128 MiB "
			"together, and may not be more"});
	EXPECT_EQ(
		problems(nothing, [](Tree &t) { t.cells("lamina,exercise", {1}); }),
		Lines{"/chosen: domU1: its table is changed for tests, and cannot be overcommitted "
		      "(leave out lamina,guest-memory, or lamina,exercise and lamina,probe)"});
}

TEST(Config, memory_is_cells_of_kib_or_a_string_with_a_unit)
{
	const std::vector<std::pair<std::function<void(Tree &)>, u64>> forms = {
		{[](Tree &t) {
			 t.cells("memory", {0, 0x20000});
		 },
		 MIB(128)},
		{[](Tree &t) { t.cells("memory", {0x20000}); }, MIB(128)},
		{[](Tree &t) {
			 t.cells("memory", {0, 2048});
		 },
		 MIB(2)},
		{[](Tree &t) { t.text("memory", "64M"); }, MIB(64)},
		{[](Tree &t) { t.text("memory", "256M"); }, MIB(256)},
		{[](Tree &t) { t.text("memory", "1G"); }, GIB(1)},
		{[](Tree &t) { t.text("memory", "262144K"); }, MIB(256)},
		{[](Tree &t) { t.text("memory", "255G"); }, GIB(255)},
	};

	for (const auto &form : forms) {
		Parsed parsed = parse_guest("memory", form.first);

		EXPECT_EQ(parsed.problems, Lines{});
		EXPECT_EQ(parsed.config->vms[0].memory, form.second);
	}
}

TEST(Config, standard_words_of_device_trees_are_passed_over)
{
	Tree tree;

	tree.cells("#address-cells", {2}).cells("#size-cells", {2}).text("model", "m");
	tree.begin("chosen").cells("#address-cells", {1}).guest("domU1").cells("cpus", {1});
	tree.text("memory", "64M").cells("phandle", {1}).cells("linux,phandle", {1});
	tree.text("name", "domU1").end().end().begin("__symbols__").text("a", "b").end();

	EXPECT_EQ(parse(tree.finish()).problems, Lines{});
}

TEST(Config, no_more_virtual_cpus_than_a_machine_can_have)
{
	EXPECT_EQ(CONFIG_CPUS_MAX, VM_VCPUS_MAX);
	EXPECT_LE(CONFIG_VMS_MAX, VM_MAX);
}

/* ---- What is wrong in one guest -------------------------------------------------------------- */

TEST(Config, an_unknown_word_is_told_with_the_word_that_was_meant)
{
	const std::vector<std::pair<std::string, std::string>> words = {
		{"memroy", "memory"},
		{"mem0ry", "memory"},
		{"cpu", "cpus"},
		{"vcpus", "cpus"},
		{"cups", "cpus"},
		{"bootarg", "bootargs"},
		{"boot-args", "bootargs"},
		{"kernal", "kernel"},
		{"ramdsk", "ramdisk"},
		{"weight", "lamina,weight"},
		{"lamina,wieght", "lamina,weight"},
	};

	for (const auto &word : words) {
		Lines lines = problems_with("", [&](Tree &t) { t.text(word.first, "x"); });

		EXPECT_EQ(lines,
			  Lines{"/chosen/domU1: " + word.first +
				": unknown property (did you mean \"" + word.second + "\"?)"});
	}
}

TEST(Config, a_word_like_none_that_is_known_gets_no_hint)
{
	EXPECT_EQ(problems_with("", [](Tree &t) { t.text("xyzzy", "x"); }),
		  Lines{"/chosen/domU1: xyzzy: unknown property"});
}

TEST(Config, a_misspelt_word_is_not_reported_missing_as_well)
{
	EXPECT_EQ(problems_with("memory", [](Tree &t) { t.text("memroy", "64M"); }),
		  Lines{"/chosen/domU1: memroy: unknown property (did you mean \"memory\"?)"});
}

TEST(Config, what_a_guest_cannot_do_without_is_reported_missing)
{
	const auto nothing = [](Tree &) {};

	EXPECT_EQ(problems_with("cpus", nothing),
		  Lines{"/chosen/domU1: cpus: missing (write cpus = <1>)"});
	EXPECT_EQ(problems_with("memory", nothing),
		  Lines{"/chosen/domU1: memory: missing (write memory = \"256M\")"});
	EXPECT_EQ(problems_with("kernel", nothing),
		  Lines{"/chosen/domU1: kernel: missing (write kernel = \"FILE\")"});
}

TEST(Config, memory_that_makes_no_sense_is_refused_with_a_reason)
{
	const std::vector<std::pair<std::string, std::string>> strings = {
		{"256", "\"256\": has no unit; want K, M or G (did you mean \"256M\"?)"},
		{"1g", "\"1g\": unknown unit; want K, M or G (did you mean \"1G\"?)"},
		{"2GB", "\"2GB\": unknown unit; want K, M or G (did you mean \"2G\"?)"},
		{"7Q", "\"7Q\": unknown unit; want K, M or G (did you mean \"7M\"?)"},
		{"lots", "\"lots\": want a number and a unit, such as \"256M\""},
		{"-1M", "\"-1M\": want a number and a unit, such as \"256M\""},
		{"0M", "\"0M\": too little: the least is 2 MiB"},
		{"1024K", "\"1024K\": too little: the least is 2 MiB"},
		{"3M", "\"3M\": 3072 KiB is not a multiple of 2 MiB (write \"4M\")"},
		{"256G", "\"256G\": too much: the most is 255 GiB"},
		{"18446744073709551617M",
		 "\"18446744073709551617M\": too much: the most is 255 GiB"},
		{"17179869184G", "\"17179869184G\": too much: the most is 255 GiB"},
	};

	for (const auto &[text, line] : strings) {
		EXPECT_EQ(problems_with("memory", [&](Tree &t) { t.text("memory", text); }),
			  Lines{"/chosen/domU1: memory = " + line});
	}
}

TEST(Config, memory_of_a_wrong_number_of_cells_says_how_many)
{
	const std::string want = "; want <high low> in KiB, or a string such as \"256M\"";

	EXPECT_EQ(problems_with("memory",
				[](Tree &t) {
					t.cells("memory", {0, 0x20000, 7});
				}),
		  Lines{"/chosen/domU1: memory = <0 0x20000 7>: has 3 cells" + want});
	EXPECT_EQ(problems_with("memory", [](Tree &t) { t.raw("memory", ""); }),
		  Lines{"/chosen/domU1: memory: has no value" + want});
	EXPECT_EQ(problems_with("memory", [](Tree &t) { t.raw("memory", "\x01\x02\x03"); }),
		  Lines{"/chosen/domU1: memory = [01 02 03]: 3 bytes are no cells" + want});
	EXPECT_EQ(
		problems_with("memory",
			      [](Tree &t) {
				      t.cells("memory", {~0u, ~0u});
			      }),
		Lines{"/chosen/domU1: memory = <0xffffffff 0xffffffff>: too much: the most is 255 "
		      "GiB"});
}

TEST(Config, numbers_out_of_range_or_form_are_refused)
{
	EXPECT_EQ(problems_with("cpus", [](Tree &t) { t.cells("cpus", {0}); }),
		  Lines{"/chosen/domU1: cpus = <0>: out of range; want <1> to <8>"});
	EXPECT_EQ(problems_with("cpus", [](Tree &t) { t.cells("cpus", {9}); }),
		  Lines{"/chosen/domU1: cpus = <9>: out of range; want <1> to <8>"});
	EXPECT_EQ(
		problems_with("cpus", [](Tree &t) { t.text("cpus", "2"); }),
		Lines{"/chosen/domU1: cpus = \"2\": want one number in brackets, from <1> to <8>"});
	EXPECT_EQ(problems_with("", [](Tree &t) { t.text("lamina,page-size", "1G"); }),
		  Lines{"/chosen/domU1: lamina,page-size = \"1G\": want \"4K\" or \"2M\""});
	EXPECT_EQ(problems_with("", [](Tree &t) { t.cells("lamina,weight", {0}); }),
		  Lines{"/chosen/domU1: lamina,weight = <0>: out of range; want <1> to <65535>"});
	EXPECT_EQ(problems_with("", [](Tree &t) { t.cells("lamina,weight", {65536}); }),
		  Lines{"/chosen/domU1: lamina,weight = <0x10000>: out of range; want <1> to "
			"<65535>"});
	EXPECT_EQ(problems_with("", [](Tree &t) { t.cells("lamina,exercise", {0}); }),
		  Lines{"/chosen/domU1: lamina,exercise = <0>: out of range; want <1> to "
			"<65535>"});
	EXPECT_EQ(problems_with("", [](Tree &t) { t.cells("lamina,exercise", {65536}); }),
		  Lines{"/chosen/domU1: lamina,exercise = <0x10000>: out of range; want <1> to "
			"<65535>"});
	EXPECT_EQ(problems_with("", [](Tree &t) { t.text("lamina,exercise", "on"); }),
		  Lines{"/chosen/domU1: lamina,exercise = \"on\": want one number in brackets, "
			"from <1> to <65535>"});
	EXPECT_EQ(problems_with("",
				[](Tree &t) {
					t.cells("lamina,kernel-address", {1, 2, 3});
				}),
		  Lines{"/chosen/domU1: lamina,kernel-address = <1 2 3>: has 3 cells; want one or "
			"two "
			"(write <0x0 0x48000000>)"});
	EXPECT_EQ(problems_with("", [](Tree &t) { t.cells("lamina,kernel-address", {0}); }),
		  Lines{"/chosen/domU1: lamina,kernel-address = <0>: no RAM there (leave it out to "
			"let "
			"Lamina choose)"});
}

TEST(Config, strings_are_one_string_that_fits_and_prints)
{
	EXPECT_EQ(problems_with("kernel", [](Tree &t) { t.cells("kernel", {7}); }),
		  Lines{"/chosen/domU1: kernel = <7>: want a string in quotes"});
	EXPECT_EQ(problems_with("kernel", [](Tree &t) { t.text("kernel", ""); }),
		  Lines{"/chosen/domU1: kernel = [00]: want the name of a file"});
	EXPECT_EQ(problems_with("", [](Tree &t) { t.raw("bootargs", std::string("a\0b", 4)); }),
		  Lines{"/chosen/domU1: bootargs = <0x61006200>: want one string, not a list"});
	EXPECT_EQ(problems_with("", [](Tree &t) { t.text("bootargs", "a\x1b[2J"); }),
		  Lines{"/chosen/domU1: bootargs = [61 1b 5b 32 4a 00]: want a string without "
			"control "
			"characters"});
	EXPECT_EQ(problems_with("", [](Tree &t) { t.text("lamina,name", "a b"); }),
		  Lines{"/chosen/domU1: lamina,name = \"a b\": want 1 to 31 letters, digits or any "
			"of + "
			", - . @ _"});

	Lines lines =
		problems_with("", [](Tree &t) { t.text("bootargs", std::string(1024, 'x')); });

	ASSERT_EQ(lines.size(), 1u);
	EXPECT_NE(lines[0].find("xxx...: 1024 bytes long; at most 1023"), std::string::npos);
	EXPECT_EQ(parse_guest("", [](Tree &t) { t.text("bootargs", std::string(1023, 'x')); })
			  .problems,
		  Lines{});
}

TEST(Config, an_exercise_is_asked_for_by_its_seed)
{
	const auto seed_with = [](u32 seed) {
		return parse_guest("", [&](Tree &t) { t.cells("lamina,exercise", {seed}); })
			.config->vms[0]
			.exercise;
	};

	EXPECT_EQ(parse_guest("", [](Tree &) {}).config->vms[0].exercise, 0u);
	EXPECT_EQ(seed_with(1), 1u);
	EXPECT_EQ(seed_with(CONFIG_EXERCISE_MAX), 65535u);
}

TEST(Config, a_probe_is_a_word_without_a_value)
{
	EXPECT_FALSE(parse_guest("", [](Tree &) {}).config->vms[0].probe);
	EXPECT_TRUE(
		parse_guest("", [](Tree &t) { t.raw("lamina,probe", ""); }).config->vms[0].probe);
	EXPECT_EQ(problems_with("", [](Tree &t) { t.cells("lamina,probe", {1}); }),
		  Lines{"/chosen/domU1: lamina,probe = <1>: want no value (the word alone)"});
}

TEST(Config, page_size_chooses_small_pages_or_the_largest_that_fit)
{
	const auto small_pages_with = [](const std::string &text) {
		return parse_guest("", [&](Tree &t) { t.text("lamina,page-size", text); })
			.config->vms[0]
			.small_pages;
	};

	EXPECT_FALSE(parse_guest("", [](Tree &) {}).config->vms[0].small_pages);
	EXPECT_FALSE(small_pages_with("2M"));
	EXPECT_TRUE(small_pages_with("4K"));
}

TEST(Config, nodes_inside_a_guest_and_names_that_lie_are_refused)
{
	EXPECT_EQ(problems_with(
			  "",
			  [](Tree &t) {
				  t.begin("module@48000000").text("compatible", "multiboot,kernel");
				  t.end();
			  }),
		  Lines{"/chosen/domU1: module@48000000: a guest has no nodes inside (files are "
			"written "
			"as kernel = \"FILE\" and ramdisk = \"FILE\")"});
	EXPECT_EQ(problems_with("", [](Tree &t) { t.text("name", "web"); }),
		  Lines{"/chosen/domU1: name: unknown property (did you mean \"lamina,name\"?)"});
	EXPECT_EQ(
		problems_with("", [](Tree &t) { t.cells("lamina,ramdisk-address", {0x48000000}); }),
		Lines{"/chosen/domU1: lamina,ramdisk-address: there is no ramdisk to place (write "
		      "ramdisk = \"FILE\")"});
}

TEST(Config, a_property_given_twice_is_refused)
{
	EXPECT_EQ(problems_with("", [](Tree &t) { t.cells("cpus", {2}); }),
		  Lines{"/chosen/domU1: cpus = <2>: given twice"});
}

TEST(Config, all_problems_of_one_guest_are_told_and_the_others_stay_good)
{
	Tree tree;

	tree.begin("chosen").whole_guest("good1").guest("bad").cells("cpus", {99});
	tree.text("memory", "1M").text("ramdsk", "r").end().whole_guest("good2").end();

	Parsed parsed = parse(tree.finish());

	EXPECT_EQ(parsed.status, OK);
	EXPECT_EQ(parsed.problems.size(), 3u);
	ASSERT_EQ(parsed.config->vm_count, 3u);
	EXPECT_TRUE(parsed.config->vms[0].valid);
	EXPECT_FALSE(parsed.config->vms[1].valid);
	EXPECT_TRUE(parsed.config->vms[2].valid);
}

/* ---- What is wrong among guests and around them ---------------------------------------------- */

TEST(Config, the_later_of_two_guests_with_one_name_is_refused)
{
	Tree tree;

	tree.begin("chosen").whole_guest("domU1").guest("domU2").cells("cpus", {1});
	tree.text("memory", "64M").text("lamina,name", "domU1").end().end();

	Parsed parsed = parse(tree.finish());

	EXPECT_EQ(parsed.problems,
		  Lines{"/chosen/domU2: lamina,name = \"domU1\": /chosen/domU1 has the "
			"same name"});
	EXPECT_TRUE(parsed.config->vms[0].valid);
	EXPECT_FALSE(parsed.config->vms[1].valid);
}

TEST(Config, the_guest_after_the_last_possible_one_is_refused)
{
	Tree tree;

	tree.begin("chosen");
	for (int i = 0; i <= CONFIG_VMS_MAX; i++) {
		tree.whole_guest("g" + std::to_string(i));
	}
	tree.end();

	Parsed parsed = parse(tree.finish());

	EXPECT_EQ(parsed.problems, Lines{"/chosen/g16: one guest too many: at most 16"});
	EXPECT_EQ(parsed.config->vm_count, (u32)CONFIG_VMS_MAX);
}

TEST(Config, a_node_that_is_no_guest_is_told_once)
{
	Tree wrong, missing;

	wrong.begin("chosen").begin("domU1").text("compatible", "xen,domian").end().end();
	EXPECT_EQ(parse(wrong.finish()).problems,
		  Lines{"/chosen/domU1: compatible = \"xen,domian\": unknown; a guest is "
			"\"xen,domain\" "
			"(did you mean \"xen,domain\"?)"});
	missing.begin("chosen").begin("domU1").end().whole_guest("domU2").end();

	Parsed parsed = parse(missing.finish());

	EXPECT_EQ(parsed.status, OK);
	EXPECT_EQ(parsed.problems,
		  Lines{"/chosen/domU1: compatible: missing (a guest has compatible = "
			"\"xen,domain\")"});
}

TEST(Config, unknown_words_outside_guests_leave_them_good)
{
	Tree tree;

	tree.text("modle", "x").begin("chosen").text("lamina,log-level", "loud");
	tree.text("log-level", "info").whole_guest("domU1").end().begin("memory").end();

	Parsed parsed = parse(tree.finish());

	EXPECT_EQ(parsed.problems, (Lines{"/: modle: unknown property (did you mean \"model\"?)",
					  "/: memory: unknown node",
					  "/chosen: lamina,log-level = \"loud\": want \"error\", "
					  "\"warn\", \"info\" or "
					  "\"debug\"",
					  "/chosen: log-level: unknown property (did you mean "
					  "\"lamina,log-level\"?)"}));
	EXPECT_TRUE(parsed.config->vms[0].valid);
}

TEST(Config, a_tree_without_guests_is_refused_once)
{
	Tree empty, misspelt;

	EXPECT_EQ(parse(empty.finish()).problems, Lines{"/chosen: no guest in it (a guest is a "
							"node with compatible = \"xen,domain\")"});
	misspelt.begin("choosen").whole_guest("domU1").end();

	Parsed parsed = parse(misspelt.finish());

	EXPECT_EQ(parsed.status, INVALID);
	EXPECT_EQ(parsed.config->vm_count, 0u);
	EXPECT_EQ(parsed.problems, Lines{"/: choosen: unknown node (did you mean \"chosen\"?)"});
}

TEST(Config, a_flood_of_problems_ends_with_a_word_about_the_rest)
{
	Tree tree;

	tree.begin("chosen").guest("domU1");
	for (int i = 0; i < 200; i++) {
		tree.text("zz" + std::to_string(i), "");
	}
	tree.end().end();

	Parsed parsed = parse(tree.finish());

	EXPECT_EQ(parsed.problems.size(), (size_t)CONFIG_PROBLEMS_MAX);
	EXPECT_EQ(parsed.problems.back(), "more problems, not shown");
	EXPECT_FALSE(parsed.config->vms[0].valid);
}

/* ---- What is wrong with the blob ------------------------------------------------------------- */

std::vector<u8> good_blob()
{
	Tree tree;

	tree.begin("chosen").whole_guest("domU1").end();
	return tree.finish();
}

std::string only_problem(const std::vector<u8> &blob)
{
	Parsed parsed = parse(blob);

	EXPECT_EQ(parsed.status, INVALID);
	EXPECT_EQ(parsed.config->vm_count, 0u);
	EXPECT_EQ(parsed.problems.size(), 1u);
	return parsed.problems.empty() ? "" : parsed.problems[0];
}

TEST(Config, a_blob_cut_anywhere_is_refused_and_not_read_beyond)
{
	std::vector<u8> blob = good_blob();

	for (size_t size = 0; size < blob.size(); size++) {
		std::string line = only_problem({blob.begin(), blob.begin() + (long)size});

		EXPECT_EQ(line.substr(0, 11), "truncated: ") << size;
	}
	EXPECT_EQ(parse(blob).status, OK);
}

TEST(Config, a_wrong_magic_is_told_and_a_source_recognised)
{
	std::vector<u8> blob = good_blob();

	blob[3]++;
	EXPECT_EQ(only_problem(blob),
		  "not a device tree blob: magic is 0xd00dfeee, want 0xd00dfeed");
	memcpy(blob.data(), "/dts-v1/;", 9);
	EXPECT_EQ(only_problem(blob),
		  "not a device tree blob: magic is 0x2f647473, want 0xd00dfeed (a "
		  "source: dtc makes a blob of it)");
}

TEST(Config, old_formats_and_damaged_structures_are_refused)
{
	std::vector<u8> blob = good_blob();
	auto *header = reinterpret_cast<struct fdt_header *>(blob.data());

	fdt_set_version(header, 16);
	EXPECT_EQ(only_problem(blob), "device tree format 16; want 17");
	fdt_set_version(header, 17);
	fdt_set_off_dt_strings(header, 0x7ffffff0);
	EXPECT_EQ(only_problem(blob).substr(0, 21), "damaged device tree: ");
	blob = good_blob();
	header = reinterpret_cast<struct fdt_header *>(blob.data());
	fdt_set_size_dt_struct(header, 0xfffffff0);
	EXPECT_EQ(only_problem(blob), "damaged device tree: its structure leaves it");
	blob = good_blob();
	header = reinterpret_cast<struct fdt_header *>(blob.data());
	fdt_set_off_dt_struct(header, fdt_off_dt_struct(header) + 2);
	fdt_set_size_dt_struct(header, fdt_size_dt_struct(header) - 2);
	EXPECT_EQ(only_problem(blob), "damaged device tree: its structure is misaligned");
}

TEST(Config, a_property_of_negative_length_does_not_lead_in_a_circle)
{
	/* A property is a token, a length, a name, then the value: 12 bytes back is its own token.
	 */
	for (u32 length : {0xfffffff4u, 0xfffffff0u, 0x80000000u, 65535u, 0x1000u}) {
		std::vector<u8> blob = good_blob();
		const int chosen = fdt_subnode_offset(blob.data(), 0, "chosen");
		const int guest = fdt_subnode_offset(blob.data(), chosen, "domU1");
		int size;
		const void *value = fdt_getprop(blob.data(), guest, "kernel", &size);
		size_t offset = (size_t)(static_cast<const u8 *>(value) - blob.data()) - 8;

		for (int i = 0; i < 4; i++) {
			blob[offset + (size_t)i] = (u8)(length >> (24 - 8 * i));
		}

		std::string line = only_problem(blob);

		char want[80];

		snprintf(want, sizeof(want),
			 "damaged device tree: makes no sense before byte 0x%zx of it", offset + 8);
		EXPECT_EQ(line, want);
	}
}

TEST(Config, every_single_flipped_bit_leaves_a_sound_answer)
{
	std::vector<u8> blob = good_blob();

	for (size_t bit = 0; bit < blob.size() * 8; bit++) {
		blob[bit / 8] ^= (u8)(1 << bit % 8);

		Parsed parsed = parse(blob);

		EXPECT_EQ(parsed.status == OK, parsed.config->vm_count > 0) << bit;
		EXPECT_TRUE(parsed.status == OK || !parsed.problems.empty()) << bit;
		blob[bit / 8] ^= (u8)(1 << bit % 8);
	}
}

TEST(Config, a_blob_off_its_boundary_is_refused)
{
	alignas(8) static u8 memory[4096];
	std::vector<u8> blob = good_blob();
	auto config = std::make_unique<struct config>();
	Lines lines;

	memcpy(memory + 4, blob.data(), blob.size());
	EXPECT_EQ(config_parse(memory + 4, blob.size(), config.get(), collect, &lines), INVALID);
	EXPECT_EQ(config_parse(nullptr, 0, config.get(), collect, &lines), INVALID);
	EXPECT_EQ(lines, (Lines{"not in memory at an 8-byte boundary",
				"not in memory at an 8-byte boundary"}));
}

/* ---- Files ----------------------------------------------------------------------------------- */

/* Code by no known mark: a branch to itself, many times. */
std::vector<u8> flat_binary(size_t size)
{
	std::vector<u8> bytes;

	while (bytes.size() < size) {
		bytes.insert(bytes.end(), {0x00, 0x00, 0x00, 0x14});
	}
	return bytes;
}

struct Files {
	std::vector<std::pair<std::string, std::vector<u8>>> files;

	std::vector<struct config_module> modules() const
	{
		std::vector<struct config_module> list;

		for (const auto &file : files) {
			list.push_back(
				{file.first.c_str(), file.second.data(), file.second.size(), 0});
		}
		return list;
	}
};

Lines attach(Parsed &parsed, const Files &files)
{
	Lines lines;
	auto modules = files.modules();

	config_attach(parsed.config.get(), modules.data(), (u32)modules.size(), collect, &lines);
	return lines;
}

TEST(Config, attach_gives_each_guest_its_files)
{
	Parsed parsed = parse_guest("", [](Tree &t) {
		t.text("ramdisk", "r").cells("lamina,ramdisk-address", {0x42000000});
	});
	Files files{{{"r", {1, 2, 3}}, {"vmlinuz", flat_binary(4096)}}};

	EXPECT_EQ(attach(parsed, files), Lines{});

	const struct config_vm &vm = parsed.config->vms[0];

	EXPECT_TRUE(vm.valid);
	EXPECT_EQ(vm.kernel_module.bytes, files.files[1].second.data());
	EXPECT_EQ(vm.kernel_module.size, 4096u);
	EXPECT_EQ(vm.ramdisk_module.size, 3u);
	EXPECT_EQ(vm.ramdisk_module.address, 0x42000000u);
}

TEST(Config, attach_refuses_missing_and_empty_files_and_spares_the_rest)
{
	Tree tree;

	tree.begin("chosen").whole_guest("good").guest("bad").cells("cpus", {1});
	tree.text("memory", "64M").text("ramdisk", "empty").end();
	tree.begin("worse").text("compatible", "xen,domain").cells("cpus", {1});
	tree.text("memory", "64M").text("kernel", "nope").end().end();

	Parsed parsed = parse(tree.finish());
	Files files{{{"vmlinuz", flat_binary(4096)}, {"empty", {}}}};

	EXPECT_EQ(attach(parsed, files), (Lines{"/chosen/bad: ramdisk = \"empty\": an empty file",
						"/chosen/worse: kernel = \"nope\": file not found "
						"among those that came along"}));
	EXPECT_TRUE(parsed.config->vms[0].valid);
	EXPECT_FALSE(parsed.config->vms[1].valid);
	EXPECT_FALSE(parsed.config->vms[2].valid);
}

TEST(Config, attach_names_the_property_that_the_architecture_complains_about)
{
	const Files files{{{"vmlinuz", flat_binary(MIB(3))}, {"r", flat_binary(MIB(1))}}};
	const auto lines_of = [&](const std::string &property,
				  const std::function<void(Tree &)> &w) {
		Parsed parsed = parse_guest(property, w);
		Lines lines = attach(parsed, files);

		EXPECT_FALSE(parsed.config->vms[0].valid);
		return lines;
	};

	EXPECT_EQ(lines_of("memory", [](Tree &t) { t.text("memory", "2M"); }),
		  Lines{"/chosen/domU1: memory = 2 MiB: kernel (3 MiB) and device tree do not fit; "
			"need at "
			"least 4 MiB"});
	EXPECT_EQ(lines_of("", [](Tree &t) { t.cells("lamina,kernel-address", {0x40000001}); }),
		  Lines{"/chosen/domU1: lamina,kernel-address = <0x0 0x40000001>: want 0x40000000 "
			"+ n * "
			"0x1000, at the start of RAM or above"});
	EXPECT_EQ(lines_of("",
			   [](Tree &t) {
				   t.text("ramdisk", "r")
					   .cells("lamina,ramdisk-address", {0x40100000});
			   }),
		  Lines{"/chosen/domU1: lamina,ramdisk-address = <0x0 0x40100000>: ramdisk "
			"0x40100000 to "
			"0x40200000 overlaps kernel 0x40080000 to 0x40380000"});
}

TEST(Config, attach_by_names_alone_looks_at_no_bytes)
{
	Parsed parsed = parse_guest("", [](Tree &) {});
	const struct config_module module = {"vmlinuz", nullptr, 17, 0};
	Lines lines;

	config_attach(parsed.config.get(), &module, 1, collect, &lines);
	EXPECT_EQ(lines, Lines{});
	EXPECT_TRUE(parsed.config->vms[0].valid);
}

/* Refused as it stands in the first of two guests, whose words these are; the second has `other`.
 */
Lines attach_disks(const std::function<void(Tree &)> &words,
		   const std::function<void(Tree &)> &other)
{
	Tree tree;

	tree.begin("chosen").guest("a").cells("cpus", {1}).text("memory", "64M");
	words(tree);
	tree.end().guest("b").cells("cpus", {1}).text("memory", "64M");
	other(tree);
	tree.end().end();

	Parsed parsed = parse(tree.finish());
	Lines lines = parsed.problems;

	for (const std::string &line : attach(parsed, {{{"vmlinuz", flat_binary(4096)},
							{"disk", std::vector<u8>(1024)},
							{"odd", std::vector<u8>(1000)}}})) {
		lines.push_back(line);
	}
	EXPECT_EQ(parsed.config->vms[0].valid, lines.empty());
	return lines;
}

TEST(Config, a_disk_is_a_file_of_whole_sectors)
{
	const auto none = [](Tree &) {};

	EXPECT_EQ(attach_disks([](Tree &t) { t.text("lamina,disk", "disk"); }, none), Lines{});
	EXPECT_EQ(attach_disks([](Tree &t) { t.text("lamina,disk", "odd"); }, none),
		  Lines{"/chosen/a: lamina,disk = \"odd\": its size is no multiple of 512 bytes"});
	EXPECT_EQ(attach_disks([](Tree &t) { t.text("lamina,disk", "nope"); }, none),
		  Lines{"/chosen/a: lamina,disk = \"nope\": file not found among those that came "
			"along"});
	EXPECT_EQ(attach_disks([](Tree &t) { t.raw("lamina,disk-read-only", ""); }, none),
		  Lines{"/chosen/a: lamina,disk-read-only: there is no disk to read (write "
			"lamina,disk = \"FILE\")"});
	EXPECT_EQ(attach_disks([](Tree &t) { t.text("lamina,balloon", "yes"); }, none),
		  Lines{"/chosen/a: lamina,balloon = \"yes\": want no value (the word alone)"});
}

TEST(Config, a_disk_that_is_written_is_one_guests_alone)
{
	const auto writes = [](Tree &t) { t.text("lamina,disk", "disk"); };
	const auto reads = [](Tree &t) {
		t.text("lamina,disk", "disk").raw("lamina,disk-read-only", "");
	};
	const Lines refused{
		"/chosen/a: lamina,disk = \"disk\": a disk that is written is a file of "
		"one guest's alone; write lamina,disk-read-only, or give it a copy"};

	EXPECT_EQ(attach_disks(reads, reads), Lines{});
	EXPECT_EQ(attach_disks(writes, reads), refused);
	EXPECT_EQ(attach_disks(writes, [](Tree &t) { t.text("ramdisk", "disk"); }), refused);
	EXPECT_EQ(attach_disks([](Tree &t) { t.text("lamina,disk", "vmlinuz"); }, [](Tree &) {}),
		  Lines{"/chosen/a: lamina,disk = \"vmlinuz\": a disk that is written is a file of "
			"one guest's alone; write lamina,disk-read-only, or give it a copy"});
}

TEST(Config, parts_of_a_machines_disk_that_are_written_do_not_overlap)
{
	const auto part = [](const char *start, const char *size, bool reads = false) {
		return [=](Tree &t) {
			t.text("lamina,machine-disk", "sda");
			if (start) {
				t.text("lamina,disk-start", start);
			}
			if (size) {
				t.text("lamina,disk-size", size);
			}
			if (reads) {
				t.raw("lamina,disk-read-only", "");
			}
		};
	};
	const auto problems = [](const std::function<void(Tree &)> &a,
				 const std::function<void(Tree &)> &b) {
		Tree tree;

		tree.begin("chosen").guest("a").cells("cpus", {1}).text("memory", "64M");
		a(tree);
		tree.end().guest("b").cells("cpus", {1}).text("memory", "64M");
		b(tree);
		tree.end().end();
		return parse(tree.finish()).problems;
	};
	const Lines refused{"/chosen/b: lamina,machine-disk = sda: a has a part of it that "
			    "overlaps, and one of them writes (write lamina,disk-start and "
			    "lamina,disk-size)"};
	const auto none = [](Tree &) {};

	EXPECT_EQ(problems(part(nullptr, "8M"), part("8M", nullptr)), Lines{});
	EXPECT_EQ(problems(part(nullptr, "10M"), part("8M", nullptr)), refused);
	EXPECT_EQ(problems(part(nullptr, nullptr), part("8M", "2M")), refused);
	EXPECT_EQ(problems(part(nullptr, nullptr, true), part("8M", "2M")), refused);
	EXPECT_EQ(problems(part(nullptr, nullptr, true), part("8M", "2M", true)), Lines{});
	EXPECT_EQ(problems(none, [](Tree &t) { t.text("lamina,machine-disk", "swap"); }),
		  Lines{"/chosen/b: lamina,machine-disk = swap: it is the disk for pages"});
	EXPECT_EQ(problems(none, [](Tree &t) { t.text("lamina,disk-size", "2M"); }),
		  Lines{"/chosen/b: lamina,disk-size: there is no disk to have a part of (write "
			"lamina,machine-disk = \"NAME\")"});
	EXPECT_EQ(problems(none,
			   [](Tree &t) {
				   t.text("lamina,disk", "f").text("lamina,machine-disk", "sda");
			   }),
		  Lines{"/chosen/b: lamina,machine-disk = sda: it has a disk already (leave out "
			"lamina,disk)"});
}

/* ---- Texts ----------------------------------------------------------------------------------- */

TEST(Config, a_problem_is_one_line_without_what_is_empty)
{
	const struct config_problem all = {"/chosen/a", "p", "<1>", "is bad", "be good"};
	const struct config_problem bare = {"", "", "", "is bad", ""};
	const struct config_problem wild = {"/chosen/a\n\x1b[2J", "p", "", "is bad", ""};
	char text[64];

	config_problem_text(&all, text, sizeof(text));
	EXPECT_STREQ(text, "/chosen/a: p = <1>: is bad (be good)");
	config_problem_text(&bare, text, sizeof(text));
	EXPECT_STREQ(text, "is bad");
	config_problem_text(&wild, text, sizeof(text));
	EXPECT_STREQ(text, "/chosen/a??[2J: p: is bad");
}

TEST(Config, a_line_too_long_for_its_box_ends_in_dots)
{
	const struct config_problem problem = {"/chosen/a", "p", "<1>", "is bad", ""};
	char text[16];

	config_problem_text(&problem, text, sizeof(text));
	EXPECT_STREQ(text, "/chosen/a: p...");
	config_problem_text(&problem, text, 1);
	EXPECT_STREQ(text, "");
	text[0] = 'x';
	config_problem_text(&problem, text, 0);
	EXPECT_EQ(text[0], 'x');
}

TEST(Config, sizes_are_told_in_the_largest_unit_with_one_digit_behind_the_point)
{
	const std::vector<std::pair<u64, std::string>> sizes = {
		{0, "0 bytes"},		 {1023, "1023 bytes"},	{1024, "1 KiB"},
		{1536, "1.5 KiB"},	 {MIB(512), "512 MiB"}, {MIB(1536), "1.5 GiB"},
		{28049408, "26.8 MiB"},	 {GIB(255), "255 GiB"}, {GIB(2048), "2 TiB"},
		{~0ull, "16777216 TiB"},
	};

	for (const auto &[bytes, want] : sizes) {
		char text[32];

		config_size_text(bytes, text, sizeof(text));
		EXPECT_EQ(text, want);
	}
}

} // namespace

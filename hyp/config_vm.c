/*
 * One guest's node. The table below is the format: a word, how it is read, and what to write when
 * it is missing. Every property is looked at once, so one pass finds all that is wrong.
 */
#include <libfdt.h>

#include "hyp/log.h"

#include "config_internal.h"

typedef bool (*read_fn)(struct config_reporter *r, const struct config_property *p,
			struct config_vm *vm);

struct word {
	const char *name;
	read_fn read;
	const char *required; /* NULL: it may be missing; else what to write */
};

/* config_parse looked at it, and vpl011 asks for a UART that every guest has. */
static bool read_nothing(unused struct config_reporter *r, unused const struct config_property *p,
			 unused struct config_vm *vm)
{
	return true;
}

static bool read_cpus(struct config_reporter *r, const struct config_property *p,
		      struct config_vm *vm)
{
	return config_read_u32(r, p, 1, CONFIG_CPUS_MAX, &vm->cpus);
}

static bool read_memory(struct config_reporter *r, const struct config_property *p,
			struct config_vm *vm)
{
	return config_read_memory(r, p, &vm->memory);
}

static bool read_memory_min(struct config_reporter *r, const struct config_property *p,
			    struct config_vm *vm)
{
	return config_read_memory(r, p, &vm->memory_min);
}

static bool read_memory_high(struct config_reporter *r, const struct config_property *p,
			     struct config_vm *vm)
{
	return config_read_memory(r, p, &vm->memory_high);
}

static bool read_memory_max(struct config_reporter *r, const struct config_property *p,
			    struct config_vm *vm)
{
	return config_read_memory(r, p, &vm->memory_max);
}

static bool read_weight(struct config_reporter *r, const struct config_property *p,
			struct config_vm *vm)
{
	return config_read_u32(r, p, 1, CONFIG_WEIGHT_MAX, &vm->weight);
}

/* What the guest's stage-2 table may be made of: "2M" is the largest that fits, "4K" for
 * experiments. */
static bool read_page_size(struct config_reporter *r, const struct config_property *p,
			   struct config_vm *vm)
{
	char size[4];

	if (!config_read_string(r, p, size, sizeof(size))) {
		return false;
	}
	vm->small_pages = strcmp(size, "4K") == 0;
	return vm->small_pages || strcmp(size, "2M") == 0 ||
	       config_refuse(r, p, "want \"4K\" or \"2M\"", "");
}

/* A seed; see hyp/exercise.c. */
static bool read_exercise(struct config_reporter *r, const struct config_property *p,
			  struct config_vm *vm)
{
	return config_read_u32(r, p, 1, CONFIG_EXERCISE_MAX, &vm->exercise);
}

static bool read_probe(struct config_reporter *r, const struct config_property *p,
		       struct config_vm *vm)
{
	return config_read_word(r, p, &vm->probe);
}

static bool read_mailbox(struct config_reporter *r, const struct config_property *p,
			 struct config_vm *vm)
{
	return config_read_word(r, p, &vm->mailbox);
}

static bool read_bootargs(struct config_reporter *r, const struct config_property *p,
			  struct config_vm *vm)
{
	return config_read_string(r, p, vm->bootargs, sizeof(vm->bootargs));
}

static bool read_file_name(struct config_reporter *r, const struct config_property *p, char *name)
{
	if (!config_read_string(r, p, name, CONFIG_PATH_MAX)) {
		return false;
	}
	return name[0] != '\0' || config_refuse(r, p, "want the name of a file", "");
}

static bool read_kernel(struct config_reporter *r, const struct config_property *p,
			struct config_vm *vm)
{
	return read_file_name(r, p, vm->kernel);
}

static bool read_ramdisk(struct config_reporter *r, const struct config_property *p,
			 struct config_vm *vm)
{
	return read_file_name(r, p, vm->ramdisk);
}

static bool read_disk(struct config_reporter *r, const struct config_property *p,
		      struct config_vm *vm)
{
	return read_file_name(r, p, vm->disk);
}

static bool read_machine_disk(struct config_reporter *r, const struct config_property *p,
			      struct config_vm *vm)
{
	return config_read_string(r, p, vm->machine_disk, sizeof(vm->machine_disk)) &&
	       (vm->machine_disk[0] != '\0' || config_refuse(r, p, "want a disk's name", ""));
}

static bool read_disk_start(struct config_reporter *r, const struct config_property *p,
			    struct config_vm *vm)
{
	return config_read_memory(r, p, &vm->disk_start);
}

static bool read_disk_size(struct config_reporter *r, const struct config_property *p,
			   struct config_vm *vm)
{
	return config_read_memory(r, p, &vm->disk_size);
}

static bool read_disk_read_only(struct config_reporter *r, const struct config_property *p,
				struct config_vm *vm)
{
	return config_read_word(r, p, &vm->disk_read_only);
}

static bool read_balloon(struct config_reporter *r, const struct config_property *p,
			 struct config_vm *vm)
{
	return config_read_word(r, p, &vm->balloon);
}

/* 0 stands for "anywhere" in struct config_vm, and no guest has RAM there. */
static bool read_address(struct config_reporter *r, const struct config_property *p, u64 *address)
{
	if (!config_read_u64(r, p, address)) {
		return false;
	}
	return *address != 0 ||
	       config_refuse(r, p, "no RAM there", "leave it out to let Lamina choose");
}

static bool read_kernel_address(struct config_reporter *r, const struct config_property *p,
				struct config_vm *vm)
{
	return read_address(r, p, &vm->kernel_address);
}

static bool read_ramdisk_address(struct config_reporter *r, const struct config_property *p,
				 struct config_vm *vm)
{
	return read_address(r, p, &vm->ramdisk_address);
}

static bool read_name(struct config_reporter *r, const struct config_property *p,
		      struct config_vm *vm)
{
	char name[CONFIG_NAME_MAX];

	if (!config_read_string(r, p, name, sizeof(name))) {
		return false;
	}
	if (!config_is_plain_name(name)) {
		return config_refuse(r, p, "want 1 to 31 letters, digits or any of + , - . @ _",
				     "");
	}
	memcpy(vm->name, name, sizeof(name));
	return true;
}

static const struct word words[] = {
	{"compatible", read_nothing, NULL},
	{"cpus", read_cpus, "write cpus = <1>"},
	{"memory", read_memory, "write memory = \"256M\""},
	{"kernel", read_kernel, "write kernel = \"FILE\""},
	{"ramdisk", read_ramdisk, NULL},
	{"bootargs", read_bootargs, NULL},
	{"vpl011", read_nothing, NULL},
	{"lamina,name", read_name, NULL},
	{"lamina,weight", read_weight, NULL},
	{"lamina,memory-min", read_memory_min, NULL},
	{"lamina,memory-high", read_memory_high, NULL},
	{"lamina,memory-max", read_memory_max, NULL},
	{"lamina,page-size", read_page_size, NULL},
	{"lamina,exercise", read_exercise, NULL},
	{"lamina,probe", read_probe, NULL},
	{"lamina,mailbox", read_mailbox, NULL},
	{"lamina,disk", read_disk, NULL},
	{"lamina,disk-read-only", read_disk_read_only, NULL},
	{"lamina,machine-disk", read_machine_disk, NULL},
	{"lamina,disk-start", read_disk_start, NULL},
	{"lamina,disk-size", read_disk_size, NULL},
	{"lamina,balloon", read_balloon, NULL},
	{"lamina,kernel-address", read_kernel_address, NULL},
	{"lamina,ramdisk-address", read_ramdisk_address, NULL},
};

/* Returns the bit of the word that was meant, so that it is not reported missing as well; or 0. */
static u32 report_unknown(struct config_reporter *r, const char *name)
{
	struct config_guess guess = {.written = name};
	char hint[64];
	u32 meant = 0;

	for (u32 i = 0; i < ARRAY_COUNT(words); i++) {
		const char *best = guess.best;

		config_guess_consider(&guess, words[i].name);
		meant = guess.best != best ? (u32)BIT(i) : meant;
	}
	config_guess_text(&guess, hint, sizeof(hint));
	config_report(r, name, "", "unknown property", hint);
	return meant;
}

/* Blobs of before 2007 repeat the node's name as a property; with another value it is a mistake. */
static bool is_passed_over(const struct config_property *p, const struct config_vm *vm)
{
	if (config_is_same(p->name, "name")) {
		return config_is_string(p) && config_is_same((const char *)p->data, vm->node);
	}
	return config_is_standard_word(p->name);
}

/* A bit for each word: was there, and was perhaps meant by one that nobody knows. */
struct words_found {
	u32 seen, meant;
};

static void read_property(struct config_reporter *r, const struct config_property *p,
			  struct words_found *found, struct config_vm *vm)
{
	for (u32 i = 0; i < ARRAY_COUNT(words); i++) {
		if (!config_is_same(p->name, words[i].name)) {
			continue;
		}
		if (found->seen & BIT(i)) {
			config_refuse(r, p, "given twice", "");
			return;
		}
		found->seen |= (u32)BIT(i);
		words[i].read(r, p, vm);
		return;
	}
	if (!is_passed_over(p, vm)) {
		found->meant |= report_unknown(r, p->name);
	}
}

static void read_properties(struct config_reporter *r, const void *blob, int node,
			    struct config_vm *vm)
{
	struct words_found found = {0};
	int at;

	fdt_for_each_property_offset(at, blob, node)
	{
		struct config_property p = {0};
		int size = 0;

		p.data = fdt_getprop_by_offset(blob, at, &p.name, &size);
		if (p.data == NULL) {
			config_report(r, "", "", "has a damaged property", "");
			break;
		}
		p.size = (u32)size;
		read_property(r, &p, &found, vm);
	}
	for (u32 i = 0; i < ARRAY_COUNT(words); i++) {
		if (words[i].required != NULL && !((found.seen | found.meant) & BIT(i))) {
			config_report(r, words[i].name, "", "missing", words[i].required);
		}
	}
}

/* Xen's module nodes: here, files are properties. */
static void refuse_subnodes(struct config_reporter *r, const void *blob, int node)
{
	int child;

	fdt_for_each_subnode(child, blob, node)
	{
		const char *name = fdt_get_name(blob, child, NULL);

		config_report(r, name, "", "a guest has no nodes inside",
			      "files are written as kernel = \"FILE\" and ramdisk = \"FILE\"");
	}
}

static void read_node_name(struct config_reporter *r, const char *name, struct config_vm *vm)
{
	if (!config_is_plain_name(name)) {
		config_report(r, "", "",
			      "its name is not 1 to 31 letters, digits or any of + , - . @ _", "");
		return;
	}
	memcpy(vm->node, name, strlen(name) + 1);
	memcpy(vm->name, name, strlen(name) + 1);
}

/* A thing without anything to place it. */
static void check_ramdisk_address(struct config_reporter *r, const struct config_vm *vm)
{
	if (vm->ramdisk_address != 0 && vm->ramdisk[0] == '\0') {
		config_report(r, "lamina,ramdisk-address", "", "there is no ramdisk to place",
			      "write ramdisk = \"FILE\"");
	}
}

static void check_disk(struct config_reporter *r, const struct config_vm *vm)
{
	bool has_part = vm->machine_disk[0] != '\0';

	if (vm->disk_read_only && vm->disk[0] == '\0' && !has_part) {
		config_report(r, "lamina,disk-read-only", "", "there is no disk to read",
			      "write lamina,disk = \"FILE\"");
	}
	if (vm->disk[0] != '\0' && has_part) {
		config_report(r, "lamina,machine-disk", vm->machine_disk, "it has a disk already",
			      "leave out lamina,disk");
	}
	if ((vm->disk_start != 0 || vm->disk_size != 0) && !has_part) {
		config_report(r, vm->disk_start ? "lamina,disk-start" : "lamina,disk-size", "",
			      "there is no disk to have a part of",
			      "write lamina,machine-disk = \"NAME\"");
	}
}

/* min <= max <= memory, as far as they are given. */
static void check_memory_limits(struct config_reporter *r, const struct config_vm *vm)
{
	if (vm->memory_min > vm->memory) {
		config_report(r, "lamina,memory-min", "", "more than its memory", "");
	}
	if (vm->memory_max != 0 && vm->memory_min > vm->memory_max) {
		config_report(r, "lamina,memory-min", "", "more than its lamina,memory-max", "");
	}
}

void config_read_vm(struct config_reporter *r, const void *blob, int node, struct config_vm *vm)
{
	u32 problems_before = r->count;

	vm->weight = CONFIG_WEIGHT_DEFAULT;
	read_node_name(r, fdt_get_name(blob, node, NULL), vm);
	read_properties(r, blob, node, vm);
	refuse_subnodes(r, blob, node);
	if (r->count == problems_before) {
		check_ramdisk_address(r, vm);
		check_disk(r, vm);
		check_memory_limits(r, vm);
	}
	vm->valid = r->count == problems_before;
}

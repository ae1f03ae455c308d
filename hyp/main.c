/*
 * Lamina's table of contents: what happens from the first neutral line of C to the first guest.
 */
#include "hyp/banner.h"
#include "hyp/config.h"
#include "hyp/console.h"
#include "hyp/dev_virtio.h"
#include "hyp/disks.h"
#include "hyp/frame.h"
#include "hyp/ksm.h"
#include "hyp/log.h"
#include "hyp/run.h"
#include "hyp/s2_ident.h"
#include "hyp/sched.h"
#include "hyp/store_disk.h"
#include "hyp/summary.h"
#include "hyp/swap.h"
#include "hyp/swap_stats.h"
#include "hyp/vm.h"

#include <arch/boot.h>
#include <arch/cpu.h>
#include <arch/s2.h>

#include <string.h>

#define HOUSEKEEPING_MS 1000

/* ---- Memory: what the firmware gave, less what is taken ------------------------------------- */

static bool is_reserved(const struct boot_info *info, u64 at, u64 *next)
{
	for (u32 i = 0; i < info->reserved_count; i++) {
		const struct boot_range *r = &info->reserved[i];

		if (at >= r->start && at < r->end) {
			*next = r->end;
			return true;
		}
		if (r->start > at) {
			*next = min_u64(*next, r->start);
		}
	}
	return false;
}

/* Calls `fn` for each free piece of each bank, in order, until it returns true. */
static bool for_each_free(const struct boot_info *info, bool (*fn)(void *, u64, u64), void *context)
{
	for (u32 i = 0; i < info->bank_count; i++) {
		u64 at = info->banks[i].start, next;

		for (; at < info->banks[i].end; at = next) {
			next = info->banks[i].end;
			if (!is_reserved(info, at, &next) && fn(context, at, next)) {
				return true;
			}
		}
	}
	return false;
}

struct place {
	u64 bytes, at;
};

static bool find_place(void *context, u64 start, u64 end)
{
	struct place *place = context;

	if (end - start < place->bytes) {
		return false;
	}
	place->at = start;
	return true;
}

static bool give(void *context, u64 start, u64 end)
{
	const struct place *table = context;
	u64 from = start;

	if (start == table->at) {
		from = align_up(start + table->bytes, PAGE_SIZE);
	}
	if (from < end) {
		frame_give(hpa(from), hpa(end));
	}
	return false;
}

/* The frame table lies at the start of the first free piece that holds it. */
static void memory_init(const struct boot_info *info)
{
	u64 base = info->banks[0].start, end = info->banks[info->bank_count - 1].end;
	struct place table = {.bytes = frame_table_bytes(end - base)};

	if (!for_each_free(info, find_place, &table)) {
		panic("no %llu KiB of free memory in one piece for the frame table",
		      (unsigned long long)table.bytes >> 10);
	}
	frame_init(hpa(base), end - base, (void *)(uintptr_t)table.at);
	for_each_free(info, give, &table);
}

/* ---- Guests -------------------------------------------------------------------------------- */

static void report_problem(unused void *context, const struct config_problem *problem)
{
	char text[CONFIG_LINE_MAX];

	config_problem_text(problem, text, sizeof(text));
	log_error("config: %s", text);
}

/* The module that is a device tree blob is the configuration. */
static const struct config_module *find_config(const struct boot_info *info)
{
	static const u8 magic[] = {0xd0, 0x0d, 0xfe, 0xed};

	for (u32 i = 0; i < info->module_count; i++) {
		if (info->modules[i].size >= sizeof(magic) &&
		    memcmp(info->modules[i].bytes, magic, sizeof(magic)) == 0) {
			return &info->modules[i];
		}
	}
	return NULL;
}

static void read_config(const struct boot_info *info, struct config *config)
{
	const struct config_module *blob = find_config(info);

	if (!blob) {
		log_error("config: none of the %u modules is a device tree blob",
			  info->module_count);
		return;
	}
	if (config_parse(blob->bytes, blob->size, config, report_problem, NULL) == OK) {
		config_attach(config, info->modules, info->module_count, report_problem, NULL);
	}
	log_level = (enum log_level)config->log_level;
}

static bool needs_disks(const struct config *config)
{
	bool needs = config->swap_disk > 0;

	for (u32 i = 0; i < config->vm_count; i++) {
		needs |= config->vms[i].machine_disk[0] != '\0';
	}
	return needs;
}

/* A disk that is not there, or does not serve, is no reason not to run: other stores are. */
static void begin_swap_disk(void)
{
	struct block *disk = disks_find(CONFIG_SWAP_DISK);
	enum status status = disk ? store_disk_init(disk) : NOENT;

	if (status != OK) {
		log_error("config: /chosen: lamina,swap-disk: the machine's disk \"%s\" %s",
			  CONFIG_SWAP_DISK,
			  status == NOENT    ? "is missing"
			  : status == DENIED ? "is read-only"
			  : status == NOMEM  ? "is too large for the free memory"
					     : "has no room for a page");
	}
}

static void begin_chores(const struct config *config)
{
	sched_every_somewhere(SWAP_TICK_MS, swap_tick);
	sched_every_somewhere(KSM_TICK_MS, ksm_tick);
	if (config->stats_ms > 0) {
		swap_stats_init(config);
		sched_every(config->stats_ms, swap_stats_sample);
	}
}

/* Guests have too much memory for the machine: it is taken away where it is not used. False: that
 * cannot be, and they must not run without. */
static bool begin_overcommit(const struct config *config)
{
	if (config->guest_memory == 0) {
		return true;
	}
	if (config->swap_disk > 0 && (config->stores & BIT(STORE_disk))) {
		begin_swap_disk();
	}
	if (swap_init(config) != OK || ksm_init(config) != OK) {
		log_error("config: /chosen: lamina,guest-memory: there is no memory for the "
			  "records of guests' pages: no guest is started");
		return false;
	}
	if (frame_count(FRAME_FREE) < swap_machine_max()) {
		log_warn("config: /chosen: lamina,guest-memory is more than the %llu MiB that are "
			 "free",
			 (unsigned long long)frame_count(FRAME_FREE) * PAGE_SIZE / MIB(1));
	}
	begin_chores(config);
	return true;
}

/* One bad guest does not stop the others. */
static void build_guests(const struct config *config)
{
	for (u32 i = 0; i < config->vm_count; i++) {
		const struct config_vm *guest = &config->vms[i];
		char why[160] = "its configuration has errors, see above";

		if (guest->valid && vm_build(guest, why, sizeof(why)) == OK) {
			banner_guest(vms[vm_count - 1], guest);
		} else {
			summary_count_refused();
			banner_refused(guest, why);
		}
	}
}

static bool has_virtio(void)
{
	for (u32 i = 0; i < vm_count; i++) {
		if (vms[i]->virtio[0]) {
			return true;
		}
	}
	return false;
}

static void start_guests(void)
{
	u32 count = vm_count;

	if (count == 0) {
		log_error("there is no guest to run");
		summary_print(RUN_GUEST_CRASHED);
		arch_machine_end(RUN_GUEST_CRASHED);
	}
	if (has_virtio()) {
		sched_every_somewhere(VIRTIO_TICK_MS, virtio_tick);
	}
	run_begin(count);
	for (u32 i = 0; i < count; i++) {
		vm_start(vms[i]);
	}
}

/* Is `word` one of the words that the launcher passed? */
static bool has_option(const struct boot_info *info, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = info->command_line; *at;) {
		const char *end = strchr(at, ' ');
		size_t size = end ? (size_t)(end - at) : strlen(at);

		if (size == length && strncmp(at, word, length) == 0) {
			return true;
		}
		at += size + (end != NULL);
	}
	return false;
}

/* ---- The story ------------------------------------------------------------------------------ */

noreturn_fn void hyp_main(void)
{
	static struct config config;
	const struct boot_info *info = arch_boot_info();

	memory_init(info);
	s2_ident_init(arch_s2_ident_bits());
	cpu_start_others();
	console_init(has_option(info, "batch"));

	banner_machine();
	read_config(info, &config);
	if (needs_disks(&config)) {
		disks_open(info);
	}
	if (begin_overcommit(&config)) {
		build_guests(&config);
	}
	banner_keys();

	sched_every(HOUSEKEEPING_MS, console_tick);
	start_guests();
	sched_loop();
}

noreturn_fn void cpu_main(unused struct cpu *cpu)
{
	sched_loop();
}

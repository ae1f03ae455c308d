/* Commands about overcommit: what is where, what is used, and two that change something. */
#include "hyp/console.h"
#include "hyp/ksm.h"
#include "hyp/monitor.h"
#include "hyp/store_disk.h"
#include "hyp/store_pool.h"
#include "hyp/swap.h"
#include "hyp/units.h"
#include "hyp/vm.h"

#include <string.h>

static const char no_overcommit[] = "no overcommit: lamina,guest-memory in /chosen asks for it\n";

/* A guest that is overcommitted and still there; says why not otherwise. */
static struct vm *overcommitted_vm(const char *word)
{
	struct vm *vm = monitor_vm_or_say(word);

	if (vm && (!vm->swap || vm_has_ended(vm))) {
		console_print("d%u %s %s\n", vm->number, vm->name,
			      vm->swap ? "has ended" : "is not overcommitted");
		return NULL;
	}
	return vm;
}

/* ---- swap ------------------------------------------------------------------------------------ */

static void print_guest(const struct vm *vm)
{
	struct swap_census c;
	struct swap_totals t;

	swap_count(vm->swap, &c, &t);
	console_print("d%-3u %-14.14s %10s %10s %10s", vm->number, vm->name,
		      units_size(c.resident * PAGE_SIZE).text,
		      units_size(c.untouched * PAGE_SIZE).text,
		      units_size(c.shared * PAGE_SIZE).text);
	for (u32 kind = 0; kind < STORE_KINDS; kind++) {
		console_print(" %10s", units_size(c.stored[kind] * PAGE_SIZE).text);
	}
	console_print(" %10s %10s\n", units_count(t.counters.pgsteal).text,
		      units_count(t.counters.workingset_refault).text);
}

static void print_disk(void)
{
	const struct store_disk_stats *s = &store_disk_stats;

	if (s->disk_slots == 0) {
		return;
	}
	console_print("the disk has %s of %s in use%s; %s reads and %s writes, of which %s and %s "
		      "failed\n",
		      units_size(load_relaxed(&s->disk_used) * PAGE_SIZE).text,
		      units_size(s->disk_slots * PAGE_SIZE).text,
		      store_disk_is_on() ? "" : ", and takes no more",
		      units_count(load_relaxed(&s->disk_reads)).text,
		      units_count(load_relaxed(&s->disk_writes)).text,
		      units_count(load_relaxed(&s->disk_read_errors)).text,
		      units_count(load_relaxed(&s->disk_write_errors)).text);
}

void monitor_swap(u32 count unused, char **words unused)
{
	if (swap_machine_max() == 0) {
		console_print("%s", no_overcommit);
		return;
	}
	console_print("%-4s %-14s %10s %10s %10s", "ID", "Name", "resident", "untouched", "shared");
	for (u32 kind = 0; kind < STORE_KINDS; kind++) {
		console_print(" %10s", store_name((enum store_kind)kind));
	}
	console_print(" %10s %10s\n", "stolen", "refaults");
	for (u32 i = 0; i < vm_count; i++) {
		if (vms[i]->swap) {
			print_guest(vms[i]);
		}
	}
	print_disk();
	console_print("guests use %s of %s; the pool %s of %s, for %s of objects\n",
		      units_size(swap_machine_charged() * PAGE_SIZE).text,
		      units_size(swap_machine_max() * PAGE_SIZE).text,
		      units_size(load_relaxed(&store_pool_stats.mem_used_total)).text,
		      units_size(store_pool_stats.mem_limit).text,
		      units_size(load_relaxed(&store_pool_stats.compr_data_size)).text);
}

/* ---- wss, access ----------------------------------------------------------------------------- */

#define WSS_LINES 6 /* 1, 2, 4, ... rounds */

void monitor_wss(u32 count unused, char **words)
{
	struct vm *vm = overcommitted_vm(words[1]);
	u64 pages = 0;

	if (!vm) {
		return;
	}
	swap_age_round(vm->swap);
	console_print("d%u %s: used in the last rounds, of %s; a round is from one sample, or wss, "
		      "to the next\n",
		      vm->number, vm->name, units_size(vm->ram.size).text);
	for (u32 rounds = 1, line = 0; line < WSS_LINES; rounds *= 2, line++) {
		for (u32 ago = rounds / 2; ago < rounds; ago++) {
			pages += swap_age_pages(&vm->swap->age, ago);
		}
		console_print("  %2u %s %10s\n", rounds, rounds == 1 ? "round: " : "rounds:",
			      units_size(pages * PAGE_SIZE).text);
	}
}

/* Darker is younger: the mean of what the part's pages say. */
#define MAP_COLUMNS 64
#define MAP_ROWS 16
static const char shades[] = " .:-=+*#%@";

static char shade_of(const struct swap *swap, u64 first, u64 count)
{
	u64 darkness = 0, most = sizeof(shades) - 2;

	for (u64 page = first; page < first + count; page++) {
		u64 ago = swap_age_of(swap, page);

		darkness += ago < most ? most - ago : 0;
	}
	return shades[(darkness + count - 1) / count];
}

void monitor_access(u32 count unused, char **words)
{
	struct vm *vm = overcommitted_vm(words[1]);
	u64 pages, part;

	if (!vm) {
		return;
	}
	pages = vm->swap->page_count;
	part = max_u64(pages / (MAP_COLUMNS * MAP_ROWS), 1);
	console_print("d%u %s: each character is %s; '%c' was used in the last round, ' ' long "
		      "ago or never\n",
		      vm->number, vm->name, units_size(part * PAGE_SIZE).text,
		      shades[sizeof(shades) - 2]);
	for (u64 row = 0; row * MAP_COLUMNS * part < pages && console_hold_guest(vm); row++) {
		char line[MAP_COLUMNS + 1] = "";

		for (u64 i = 0; i < MAP_COLUMNS; i++) {
			u64 first = (row * MAP_COLUMNS + i) * part;

			if (first < pages) {
				line[i] = shade_of(vm->swap, first, min_u64(part, pages - first));
			}
		}
		console_release_guest();
		console_print("  |%s|\n", line);
	}
}

/* ---- mem-max, reclaim ------------------------------------------------------------------------ */

static bool read_size(const char *word, u64 *pages)
{
	u64 bytes;

	if (!monitor_number(word, &bytes) || bytes < PAGE_SIZE) {
		console_print("%s is no size; write 256M\n", word);
		return false;
	}
	*pages = bytes / PAGE_SIZE;
	return true;
}

void monitor_mem_max(u32 count, char **words)
{
	struct vm *vm = overcommitted_vm(words[1]);
	u64 pages;

	if (!vm) {
		return;
	}
	if (count == 3 && read_size(words[2], &pages)) {
		store_relaxed(&vm->swap->max, pages);
	}
	console_print("d%u %s has %s, and may have %s\n", vm->number, vm->name,
		      units_size(load_relaxed(&vm->swap->charged) * PAGE_SIZE).text,
		      units_size(load_relaxed(&vm->swap->max) * PAGE_SIZE).text);
}

/* As a write to memory.reclaim in Linux: as much as was asked for, or what can be had. */
void monitor_reclaim(u32 count unused, char **words)
{
	struct vm *vm = overcommitted_vm(words[1]);
	u64 wanted, got = 0, freed = 0;

	if (!vm || !read_size(words[2], &wanted)) {
		return;
	}
	for (u32 fruitless = 0; got < wanted && fruitless < 2;) {
		if (swap_out(vm->swap, wanted - got, &freed) != OK) {
			cpu_relax();
			continue;
		}
		got += freed;
		/* A first look may find all accessed, and begin to watch. */
		fruitless = freed > 0 ? 0 : fruitless + 1;
	}
	console_print("d%u %s gave %s\n", vm->number, vm->name, units_size(got * PAGE_SIZE).text);
}

/* ---- ksm ------------------------------------------------------------------------------------- */

static void print_ksm(void)
{
	struct ksm_counters c = ksm_counters();

	console_print("ksm is %s\n", ksm_is_on() ? "on" : "off");
#define X(name) console_print("%-15s %12s\n", #name, units_grouped(c.name).text);
	KSM_COUNTERS(X)
#undef X
}

void monitor_ksm(u32 count, char **words)
{
	bool on = count == 2 && strcmp(words[1], "on") == 0;

	if (swap_machine_max() == 0) {
		console_print("%s", no_overcommit);
	} else if (count == 1) {
		print_ksm();
	} else if (on || strcmp(words[1], "off") == 0) {
		ksm_turn(on);
		console_print("ksm is %s\n", words[1]);
	} else {
		console_print("%s is neither on nor off\n", words[1]);
	}
}

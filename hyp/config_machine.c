/* The words of /chosen itself: a table of them, as for guests; and what all guests together ask
 * for.
 */
#include <libfdt.h>

#include "hyp/log.h"
#include "hyp/store.h"

#include "config_internal.h"

typedef void (*read_fn)(struct config_reporter *r, const struct config_property *p,
			struct config *config);

/* One of `names`, which ends with NULL; -1: it is none, and was reported with `want`. */
static int read_choice(struct config_reporter *r, const struct config_property *p,
		       const char *const *names, const char *want)
{
	char word[16];

	if (!config_read_string(r, p, word, sizeof(word))) {
		return -1;
	}
	for (int i = 0; names[i]; i++) {
		if (config_is_same(word, names[i])) {
			return i;
		}
	}
	config_refuse(r, p, want, "");
	return -1;
}

static void read_log_level(struct config_reporter *r, const struct config_property *p,
			   struct config *config)
{
	/* In the order of enum log_level. */
	static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
	int level = read_choice(r, p, levels, "want \"error\", \"warn\", \"info\" or \"debug\"");

	config->log_level = level >= 0 ? (u32)level : config->log_level;
}

static void read_guest_memory(struct config_reporter *r, const struct config_property *p,
			      struct config *config)
{
	config_read_memory(r, p, &config->guest_memory);
}

static void read_reclaim(struct config_reporter *r, const struct config_property *p,
			 struct config *config)
{
	char name[16], want[CONFIG_REASON_TEXT] = "want";
	const struct reclaim_policy *policy;
	size_t used = strlen(want);

	if (!config_read_string(r, p, name, sizeof(name))) {
		return;
	}
	policy = reclaim_policy_find(name);
	if (policy) {
		config->reclaim = policy;
		return;
	}
	for (u32 i = 0; reclaim_policies[i]; i++) {
		used += (size_t)text_format(want + used, sizeof(want) - used, "%s \"%s\"",
					    i > 0 ? " or" : "", reclaim_policies[i]->name);
	}
	config_refuse(r, p, want, "");
}

struct stores {
	struct config_reporter *r;
	const struct config_property *p;
	u32 allowed;
};

static bool take_store(void *context, const char *name)
{
	struct stores *stores = context;
	enum store_kind kind = store_find(name);

	if (kind == STORE_KINDS) {
		return config_refuse(stores->r, stores->p,
				     "want a list of \"zero\", \"same\", \"zswap\", \"disk\"", "");
	}
	stores->allowed |= (u32)BIT(kind);
	return true;
}

static void read_stores(struct config_reporter *r, const struct config_property *p,
			struct config *config)
{
	struct stores stores = {.r = r, .p = p};

	if (config_read_strings(r, p, take_store, &stores)) {
		config->stores = stores.allowed;
	}
}

static void read_zswap_max(struct config_reporter *r, const struct config_property *p,
			   struct config *config)
{
	config_read_memory(r, p, &config->zswap_max);
}

static void read_swap_disk(struct config_reporter *r, const struct config_property *p,
			   struct config *config)
{
	config_read_memory(r, p, &config->swap_disk);
}

static void read_stats_ms(struct config_reporter *r, const struct config_property *p,
			  struct config *config)
{
	config_read_u32(r, p, CONFIG_STATS_MS_MIN, CONFIG_STATS_MS_MAX, &config->stats_ms);
}

static void read_ksm(struct config_reporter *r, const struct config_property *p,
		     struct config *config)
{
	config_read_word(r, p, &config->ksm);
}

static void read_heatmap(struct config_reporter *r, const struct config_property *p,
			 struct config *config)
{
	config_read_word(r, p, &config->heatmap);
}

static void read_trace(struct config_reporter *r, const struct config_property *p,
		       struct config *config)
{
	config_read_word(r, p, &config->trace);
}

static const struct word {
	const char *name;
	read_fn read;
} words[] = {
	{"lamina,log-level", read_log_level},
	{"lamina,guest-memory", read_guest_memory},
	{"lamina,reclaim", read_reclaim},
	{"lamina,stores", read_stores},
	{"lamina,zswap-max", read_zswap_max},
	{"lamina,swap-disk", read_swap_disk},
	{"lamina,ksm", read_ksm},
	{"lamina,stats-ms", read_stats_ms},
	{"lamina,heatmap", read_heatmap},
	{"lamina,trace", read_trace},
};

static void read_property(struct config_reporter *r, const struct config_property *p,
			  struct config *config)
{
	const char *names[ARRAY_COUNT(words)];

	for (u32 i = 0; i < ARRAY_COUNT(words); i++) {
		names[i] = words[i].name;
		if (config_is_same(p->name, words[i].name)) {
			words[i].read(r, p, config);
			return;
		}
	}
	config_is_known(r, p->name, names, ARRAY_COUNT(words), "unknown property");
}

void config_read_machine(struct config_reporter *r, const void *blob, int chosen,
			 struct config *config)
{
	int at;

	fdt_for_each_property_offset(at, blob, chosen)
	{
		struct config_property p = {0};
		int size = 0;

		p.data = fdt_getprop_by_offset(blob, at, &p.name, &size);
		p.size = (u32)size;
		if (p.data) {
			read_property(r, &p, config);
		}
	}
}

void config_default_machine(struct config *config)
{
	u32 best = 0;

	memset(config, 0, sizeof(*config));
	while (reclaim_policies[best + 1]) {
		best++;
	}
	config->log_level = LOG_INFO;
	config->reclaim = reclaim_policies[best];
	config->stores = STORE_ALL;
}

/* ---- Together -------------------------------------------------------------------------------- */

/* A guest whose pages Lamina moves about for a test, behind the back of who takes them away. */
static void check_guest(struct config_reporter *r, struct config_vm *vm)
{
	if (vm->exercise || vm->probe) {
		config_report(r, vm->node, "",
			      "its table is changed for tests, and cannot be overcommitted",
			      "leave out lamina,guest-memory, or lamina,exercise and lamina,probe");
		vm->valid = false;
	}
}

/* What goes with samples, where there are none. */
static void check_samples(struct config_reporter *r, const struct config *config)
{
	static const char add[] = "add lamina,stats-ms = <1000>";

	if (config->stats_ms == 0 && config->heatmap) {
		config_report(r, "lamina,heatmap", "", "there is no sample", add);
	}
	if (config->stats_ms == 0 && config->trace) {
		config_report(r, "lamina,trace", "", "there is no sample", add);
	}
}

void config_check_machine(struct config_reporter *r, struct config *config)
{
	char reason[CONFIG_REASON_TEXT];
	u64 min = 0;

	if (config->guest_memory == 0) {
		if (config->ksm) {
			config_report(r, "lamina,ksm", "",
				      "pages are shared under overcommit alone",
				      "add lamina,guest-memory");
		}
		return;
	}
	for (u32 i = 0; i < config->vm_count; i++) {
		check_guest(r, &config->vms[i]);
		min += config->vms[i].memory_min;
	}
	if (min > config->guest_memory) {
		text_format(reason, sizeof(reason),
			    "guests' lamina,memory-min are %llu MiB together, and may not be more",
			    (unsigned long long)(min / MIB(1)));
		config_report(r, "lamina,guest-memory", "", reason, "");
	}
	if (config->stores == BIT(STORE_disk) && config->swap_disk == 0) {
		config_report(r, "lamina,stores", "disk", "there is no disk",
			      "add lamina,swap-disk = \"1G\"");
	}
	check_samples(r, config);
	if (config->zswap_max == 0) {
		config->zswap_max = config->guest_memory / 2;
	}
}

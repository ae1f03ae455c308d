/*
 * From a blob to checked structs: /chosen, its guests, and what these must not share.
 *
 * config_check_blob() has walked all of the blob before a single offset of it is followed here.
 * Nothing recurses, and stacks at EL2 are small, so texts are made where they are needed, one at a
 * time.
 */
#include <libfdt.h>

#include "hyp/log.h"

#include "config_internal.h"

#define GUEST_COMPATIBLE "xen,domain"

static_assert(CONFIG_VMS_MAX == 16, "as read_guests tells people");

/* ---- The root and /chosen -------------------------------------------------------------------- */

bool config_is_known(struct config_reporter *r, const char *name, const char *const *words,
		     u32 count, const char *what)
{
	struct config_guess guess = {.written = name};
	char hint[64];

	if (config_is_standard_word(name)) {
		return true;
	}
	for (u32 i = 0; i < count; i++) {
		if (config_is_same(name, words[i])) {
			return true;
		}
		config_guess_consider(&guess, words[i]);
	}
	config_guess_text(&guess, hint, sizeof(hint));
	config_report(r, name, "", what, hint);
	return false;
}

static void read_root_properties(struct config_reporter *r, const void *blob)
{
	static const char *const words[] = {"compatible", "model"};
	int at;

	fdt_for_each_property_offset(at, blob, 0)
	{
		const char *name = "";

		if (fdt_getprop_by_offset(blob, at, &name, NULL) != NULL) {
			config_is_known(r, name, words, ARRAY_COUNT(words), "unknown property");
		}
	}
}

/* The node /chosen, or < 0. Other nodes are reported, but those that dtc itself makes. */
static int find_chosen(struct config_reporter *r, const void *blob)
{
	static const char *const words[] = {"chosen", "aliases", "__symbols__", "__fixups__",
					    "__local_fixups__"};
	int chosen = -1;
	int child;

	fdt_for_each_subnode(child, blob, 0)
	{
		const char *name = fdt_get_name(blob, child, NULL);

		if (!config_is_known(r, name, words, ARRAY_COUNT(words), "unknown node")) {
			continue;
		}
		if (config_is_same(name, words[0]) && chosen >= 0) {
			config_report(r, "/chosen", "", "given twice", "");
		} else if (config_is_same(name, words[0])) {
			chosen = child;
		}
	}
	return chosen;
}

/* ---- Guests ---------------------------------------------------------------------------------- */

static void report_compatible(struct config_reporter *r, const struct config_property *p)
{
	struct config_guess guess = {.written = (const char *)p->data};
	char hint[64];

	if (config_is_string(p)) {
		config_guess_consider(&guess, GUEST_COMPATIBLE);
	}
	config_guess_text(&guess, hint, sizeof(hint));
	config_refuse(r, p, "unknown; a guest is \"" GUEST_COMPATIBLE "\"", hint);
}

static bool is_guest(struct config_reporter *r, const void *blob, int node)
{
	struct config_property p = {.name = "compatible"};
	int size = 0;

	if (fdt_node_check_compatible(blob, node, GUEST_COMPATIBLE) == 0) {
		return true;
	}
	p.data = fdt_getprop(blob, node, p.name, &size);
	if (p.data == NULL) {
		config_report(r, p.name, "", "missing",
			      "a guest has compatible = \"" GUEST_COMPATIBLE "\"");
		return false;
	}
	p.size = (u32)size;
	report_compatible(r, &p);
	return false;
}

/* The later of two guests with one name is the bad one. */
static void check_name(struct config_reporter *r, struct config *config, struct config_vm *vm)
{
	char value[CONFIG_VALUE_TEXT], reason[CONFIG_REASON_TEXT];

	for (u32 i = 0; i < config->vm_count; i++) {
		const struct config_vm *other = &config->vms[i];

		if (vm->name[0] == '\0' || !config_is_same(vm->name, other->name)) {
			continue;
		}
		config_quote(vm->name, value, sizeof(value));
		text_format(reason, sizeof(reason), "/chosen/%s has the same name", other->node);
		config_report(r, "lamina,name", value, reason, "");
		vm->valid = false;
		return;
	}
}

static void node_path(const char *name, char *path, size_t size)
{
	text_format(path, size, "/chosen/%.*s", (int)size - (int)sizeof("/chosen/"), name);
}

/* The nodes of /chosen, in their order. */
static void read_guests(struct config_reporter *r, const void *blob, int chosen,
			struct config *config)
{
	char path[CONFIG_NODE_TEXT];
	int node;

	r->node = path;
	fdt_for_each_subnode(node, blob, chosen)
	{
		struct config_vm *vm = &config->vms[config->vm_count];

		node_path(fdt_get_name(blob, node, NULL), path, sizeof(path));
		if (!is_guest(r, blob, node)) {
			continue;
		}
		if (config->vm_count == CONFIG_VMS_MAX) {
			config_report(r, "", "", "one guest too many: at most 16", "");
			break;
		}
		config_read_vm(r, blob, node, vm);
		check_name(r, config, vm);
		config->vm_count++;
	}
	r->node = "";
}

static void read_tree(struct config_reporter *r, const void *blob, struct config *config)
{
	int chosen;

	r->node = "/";
	read_root_properties(r, blob);
	chosen = find_chosen(r, blob);
	if (chosen >= 0) {
		r->node = "/chosen";
		config_read_machine(r, blob, chosen, config);
		read_guests(r, blob, chosen, config);
		r->node = "/chosen";
		config_check_machine(r, config);
		config_check_disks(r, config);
	}
}

enum status config_parse(const void *blob, u64 size, struct config *config, config_report_fn report,
			 void *context)
{
	struct config_reporter r = {.report = report, .context = context, .node = ""};

	config_default_machine(config);
	if (!config_check_blob(&r, blob, size)) {
		return INVALID;
	}
	read_tree(&r, blob, config);
	if (config->vm_count > 0) {
		return OK;
	}
	/* A node that was meant to be a guest was reported by now, with the better reason. */
	if (r.count == 0) {
		r.node = "/chosen";
		config_report(&r, "", "", "no guest in it",
			      "a guest is a node with compatible = \"" GUEST_COMPATIBLE "\"");
	}
	return INVALID;
}

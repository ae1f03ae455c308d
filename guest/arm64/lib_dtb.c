/*
 * What a small guest wants to know of its device tree: RAM, CPUs, bootargs. Nothing else is read.
 *
 * Runs with the MMU off, so by bytes. Cells are two for addresses at the top and whatever /cpus
 * says for CPUs; QEMU's `virt` and the hypervisor's trees are alike in that, and hello checks it.
 * Format: Devicetree Specification 0.4, chapter 5.
 */
#include "lib.h"

#define FDT_MAGIC 0xd00dfeed
#define FDT_BEGIN_NODE 1
#define FDT_END_NODE 2
#define FDT_PROP 3
#define FDT_NOP 4
#define DEPTH_MAX 8

struct walk {
	const u8 *p;
	const char *strings;
	u32 depth;
	const char *name[DEPTH_MAX];
	u32 cpu_address_cells;
	struct machine *m;
};

static u64 big_endian(const u8 *p, u32 bytes)
{
	u64 v = 0;

	for (u32 i = 0; i < bytes; i++) {
		v = v << 8 | p[i];
	}
	return v;
}

/* "memory@40000000" is a "memory". */
static bool node_is(const char *node, const char *kind)
{
	size_t n = strlen(kind);

	return memcmp(node, kind, n) == 0 && (node[n] == '@' || !node[n]);
}

static void cpu_property(struct walk *w, const char *property, const u8 *value)
{
	struct machine *m = w->m;

	if (strcmp(property, "reg") == 0 && m->cpu_count < CPUS_MAX) {
		m->cpu_ids[m->cpu_count++] = big_endian(value, w->cpu_address_cells * 4);
	}
}

static void property(struct walk *w, const char *name, const u8 *value, u32 size)
{
	struct machine *m = w->m;

	if (w->depth == 2 && node_is(w->name[1], "memory") && strcmp(name, "reg") == 0 &&
	    size >= 16) {
		m->ram_base = big_endian(value, 8);
		m->ram_size = big_endian(value + 8, 8);
	} else if (w->depth == 2 && node_is(w->name[1], "chosen") &&
		   strcmp(name, "bootargs") == 0) {
		memcpy(m->bootargs, value,
		       size < sizeof(m->bootargs) ? size : sizeof(m->bootargs) - 1);
	} else if (w->depth == 2 && node_is(w->name[1], "cpus") &&
		   strcmp(name, "#address-cells") == 0) {
		w->cpu_address_cells = (u32)big_endian(value, 4);
	} else if (w->depth == 3 && node_is(w->name[1], "cpus") && node_is(w->name[2], "cpu")) {
		cpu_property(w, name, value);
	}
}

static const u8 *aligned(const u8 *p)
{
	return (const u8 *)(((u64)p + 3) & ~3ul);
}

/* One token; false at the end or where the tree makes no sense. */
static bool walk_token(struct walk *w)
{
	u32 token = (u32)big_endian(w->p, 4), size;

	w->p += 4;
	switch (token) {
	case FDT_NOP:
		return true;
	case FDT_BEGIN_NODE:
		if (w->depth == DEPTH_MAX) {
			return false;
		}
		w->name[w->depth++] = (const char *)w->p;
		w->p = aligned(w->p + strlen((const char *)w->p) + 1);
		return true;
	case FDT_END_NODE:
		return --w->depth > 0;
	case FDT_PROP:
		size = (u32)big_endian(w->p, 4);
		property(w, w->strings + big_endian(w->p + 4, 4), w->p + 8, size);
		w->p = aligned(w->p + 8 + size);
		return true;
	default:
		return false;
	}
}

bool dtb_read(u64 dtb, struct machine *m)
{
	const u8 *p = (const u8 *)dtb;
	struct walk w = {.m = m, .cpu_address_cells = 1};

	if (!dtb || big_endian(p, 4) != FDT_MAGIC) {
		return false;
	}
	m->tables = dtb;
	m->tables_size = big_endian(p + 4, 4);
	w.p = p + big_endian(p + 8, 4);
	w.strings = (const char *)p + big_endian(p + 12, 4);
	while (walk_token(&w)) {
	}
	return m->ram_size && m->cpu_count;
}

#include "vwalk.h"

#include "hyp/vm.h"

#include "cpureg.h"

#define ENTRY_PRESENT BIT(0)
#define ENTRY_WRITE BIT(1)
#define ENTRY_USER BIT(2)
#define ENTRY_ACCESSED BIT(5)
#define ENTRY_DIRTY BIT(6)
#define ENTRY_LARGE BIT(7)
#define ENTRY_PAT BIT(12) /* of a large page */
#define ENTRY_ADDRESS BITS(51, 12)
#define ENTRY_HIGH BITS(62, 52) /* ignored in long mode, reserved without */
#define ENTRY_NO_EXECUTE BIT(63)
#define ENTRY32_ADDRESS BITS(31, 12)
#define LARGE32_HIGH BITS(20, 13) /* address bits 39..32 of a 4 MiB page */
#define LARGE32_RESERVED BIT(21)
#define LEVELS_MAX 4

/* A page fault's error code (4.7). */
#define ERROR_PRESENT BIT(0)
#define ERROR_WRITE BIT(1)
#define ERROR_USER BIT(2)
#define ERROR_RESERVED BIT(3)

/* How one kind of paging looks. */
struct shape {
	unsigned levels, index_bits, entry_bytes;
	u64 root;	 /* mask of CR3 */
	u64 index_limit; /* of the top level: PAE has four entries there */
};

/* Where a walk is. */
struct walk {
	struct vm *vm;
	const struct vwalk_paging *paging;
	struct shape shape;
	u64 at;
	u64 table;	/* the next one */
	unsigned level; /* of the entry that was read last; counts from the leaf of 4 KiB */
	u64 entries[LEVELS_MAX]; /* by level, from the top one to that */
	gpa_t places[LEVELS_MAX];
};

static struct shape shape_of(const struct vwalk_paging *p)
{
	if (p->efer & EFER_LMA) {
		return (struct shape){4, 9, 8, ENTRY_ADDRESS, 512};
	}
	if (p->cr4 & CR4_PAE) {
		return (struct shape){3, 9, 8, BITS(31, 5), 4};
	}
	return (struct shape){2, 10, 4, ENTRY32_ADDRESS, 1024};
}

static struct walk begin(struct vm *vm, const struct vwalk_paging *p, u64 at)
{
	struct shape s = shape_of(p);

	return (struct walk){
		.vm = vm,
		.paging = p,
		.shape = s,
		.at = at,
		.table = p->cr3 & s.root,
		.level = s.levels,
	};
}

static unsigned shift_of(const struct walk *w)
{
	return PAGE_SHIFT + w->level * w->shape.index_bits;
}

static u64 address_mask(const struct walk *w)
{
	return w->shape.entry_bytes == 4 ? ENTRY32_ADDRESS : ENTRY_ADDRESS;
}

/* The next entry down. INVALID: its table is not in RAM. */
static enum status go_down(struct walk *w)
{
	const struct shape *s = &w->shape;
	u64 limit = w->level == s->levels ? s->index_limit : BIT(s->index_bits);
	enum status status;
	gpa_t place;
	u64 entry = 0;

	w->level--;
	place = gpa(w->table + (w->at >> shift_of(w)) % limit * s->entry_bytes);
	status = vm_memory_read(w->vm, place, &entry, s->entry_bytes);
	w->places[w->level] = place;
	w->entries[w->level] = entry;
	w->table = entry & address_mask(w);
	return status;
}

static bool is_there(const struct walk *w)
{
	return w->entries[w->level] & ENTRY_PRESENT;
}

static bool may_be_leaf(const struct walk *w)
{
	return w->level == 1 ? w->shape.entry_bytes == 8 || (w->paging->cr4 & CR4_PSE)
			     : w->level == 2 && w->shape.levels == 4;
}

static bool is_leaf(const struct walk *w)
{
	return w->level == 0 || ((w->entries[w->level] & ENTRY_LARGE) && may_be_leaf(w));
}

/* Where the leaf leads. */
static gpa_t leaf_address(const struct walk *w)
{
	u64 entry = w->entries[w->level], offset = BIT(shift_of(w)) - 1;
	u64 base = entry & address_mask(w) & ~offset;

	if (w->shape.entry_bytes == 4 && w->level > 0) {
		base |= field_get(entry, LARGE32_HIGH) << 32;
	}
	return gpa(base | (w->at & offset));
}

bool vwalk(struct vm *vm, const struct vwalk_paging *p, u64 at, gpa_t *where)
{
	struct walk w = begin(vm, p, at);

	if (!(p->cr0 & CR0_PG)) {
		*where = gpa((u32)at);
		return true;
	}
	do {
		if (go_down(&w) != OK || !is_there(&w)) {
			return false;
		}
	} while (!is_leaf(&w));
	*where = leaf_address(&w);
	return true;
}

/* ---- As the CPU's own access ----------------------------------------------------------------- */

/* PAE's four top entries are copies of registers, with neither rights nor flags (4.4.1). */
static bool is_pointer(const struct walk *w, unsigned level)
{
	return w->shape.levels == 3 && level == 2;
}

/* Bits of the entry that must be 0 (4.3, 4.4.2, 4.5.4). */
static u64 reserved_bits(const struct walk *w)
{
	const struct vwalk_paging *p = w->paging;
	bool large = w->level > 0 && is_leaf(w);
	u64 bits = p->reserved & ENTRY_ADDRESS;

	if (is_pointer(w, w->level)) {
		return 0;
	}
	if (w->shape.entry_bytes == 4) {
		return large ? LARGE32_RESERVED | field_set(p->reserved >> 32, LARGE32_HIGH) : 0;
	}
	bits |= p->efer & EFER_NXE ? 0 : ENTRY_NO_EXECUTE;
	bits |= w->shape.levels == 3 ? ENTRY_HIGH : 0;
	bits |= w->level == 3 ? ENTRY_LARGE : 0;
	return large ? bits | (BITS(shift_of(w) - 1, PAGE_SHIFT) & ~ENTRY_PAT) : bits;
}

/* What all entries of the way allow (4.6.1). */
static bool is_allowed(const struct walk *w, struct vwalk_use use)
{
	u64 rights = ~0ull;

	for (unsigned level = w->level; level < w->shape.levels; level++) {
		rights &= is_pointer(w, level) ? ~0ull : w->entries[level];
	}
	if (use.user ? !(rights & ENTRY_USER) : use.keeps_out && (rights & ENTRY_USER)) {
		return false;
	}
	return !use.write || (rights & ENTRY_WRITE) || (!use.user && !(w->paging->cr0 & CR0_WP));
}

/* From the top down: what is written to an entry that is another one by now is not written. */
static enum vwalk_result set_flags(const struct walk *w, bool write)
{
	for (unsigned level = w->shape.levels; level-- > w->level;) {
		u64 entry = w->entries[level], flags = ENTRY_ACCESSED;
		enum status status;

		flags |= write && level == w->level ? ENTRY_DIRTY : 0;
		if ((entry & flags) == flags || is_pointer(w, level)) {
			continue;
		}
		status = vm_memory_swap(w->vm, w->places[level], w->shape.entry_bytes, entry,
					entry | flags);
		if (status != OK) {
			return status == NOMEM ? VWALK_NOMEM : VWALK_AGAIN;
		}
	}
	return VWALK_OK;
}

/* To the leaf. */
static enum vwalk_result find_leaf(struct walk *w, u32 *error)
{
	do {
		enum status status = go_down(w);

		if (status != OK || !is_there(w)) {
			return status == NOMEM ? VWALK_NOMEM : VWALK_FAULT;
		}
		if (w->entries[w->level] & reserved_bits(w)) {
			*error |= ERROR_PRESENT | ERROR_RESERVED;
			return VWALK_FAULT;
		}
	} while (!is_leaf(w));
	return VWALK_OK;
}

enum vwalk_result vwalk_access(struct vm *vm, const struct vwalk_paging *p, u64 at,
			       struct vwalk_use use, gpa_t *where, u32 *error)
{
	struct walk w = begin(vm, p, at);
	enum vwalk_result result;

	if (!(p->cr0 & CR0_PG)) {
		*where = gpa((u32)at);
		return VWALK_OK;
	}
	*error = (u32)((use.write ? ERROR_WRITE : 0) | (use.user ? ERROR_USER : 0));
	result = find_leaf(&w, error);
	if (result == VWALK_OK && !is_allowed(&w, use)) {
		*error |= ERROR_PRESENT;
		result = VWALK_FAULT;
	}
	if (result == VWALK_OK) {
		*where = leaf_address(&w);
		result = set_flags(&w, use.write);
	}
	return result;
}

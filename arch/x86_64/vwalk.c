#include "vwalk.h"

#include "hyp/vm.h"

#include "cpureg.h"

#define ENTRY_PRESENT BIT(0)
#define ENTRY_LARGE BIT(7)
#define ENTRY_ADDRESS BITS(51, 12)
#define ENTRY32_ADDRESS BITS(31, 12)
#define LARGE32_HIGH BITS(20, 13) /* address bits 39..32 of a 4 MiB page */

/* How one kind of paging looks. */
struct shape {
	unsigned levels, index_bits, entry_bytes;
	u64 root;	 /* mask of CR3 */
	u64 index_limit; /* of the top level: PAE has four entries there */
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

static bool read_entry(struct vm *vm, u64 at, unsigned bytes, u64 *entry)
{
	*entry = 0;
	return vm_memory_read(vm, gpa(at), entry, bytes) == OK && (*entry & ENTRY_PRESENT);
}

/* Where a leaf with `shift` bits of offset leads. */
static u64 leaf_address(const struct shape *s, u64 entry, unsigned shift, u64 at)
{
	u64 base = entry & (s->entry_bytes == 4 ? ENTRY32_ADDRESS : ENTRY_ADDRESS);

	base &= ~(BIT(shift) - 1);
	if (s->entry_bytes == 4 && shift > PAGE_SHIFT) {
		base |= field_get(entry, LARGE32_HIGH) << 32;
	}
	return base | (at & (BIT(shift) - 1));
}

static bool may_be_leaf(const struct shape *s, const struct vwalk_paging *p, unsigned level)
{
	return level == 1 ? s->entry_bytes == 8 || (p->cr4 & CR4_PSE)
			  : level == 2 && s->levels == 4;
}

bool vwalk(struct vm *vm, const struct vwalk_paging *p, u64 at, gpa_t *where)
{
	struct shape s = shape_of(p);
	u64 table = p->cr3 & s.root, entry;

	if (!(p->cr0 & CR0_PG)) {
		*where = gpa((u32)at);
		return true;
	}
	for (unsigned level = s.levels; level-- > 0;) {
		unsigned shift = PAGE_SHIFT + level * s.index_bits;
		u64 limit = level + 1 == s.levels ? s.index_limit : BIT(s.index_bits);

		if (!read_entry(vm, table + (at >> shift) % limit * s.entry_bytes, s.entry_bytes,
				&entry)) {
			return false;
		}
		if (level == 0 || ((entry & ENTRY_LARGE) && may_be_leaf(&s, p, level))) {
			*where = gpa(leaf_address(&s, entry, shift, at));
			return true;
		}
		table = entry & (s.entry_bytes == 4 ? ENTRY32_ADDRESS : ENTRY_ADDRESS);
	}
	return false;
}

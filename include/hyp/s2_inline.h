/* The parts of s2.h that are inline: what every entry to and exit from a guest runs, and the query,
 * of which callers use little. Included by s2.h alone. */
#ifndef HYP_S2_INLINE_H
#define HYP_S2_INLINE_H

static inline void s2_entering(struct s2 *s2)
{
	struct s2_cpu *me = &s2->cpu[this_cpu_id()];

	if (!arch_s2_broadcasts()) {
		store_relaxed(&me->in_guest, load_relaxed(&s2->flush_generation));
		/* Either a closer sees us in the guest, or we see the generation it asks for. */
		fence_full();
	}
	if (unlikely(load_relaxed(&me->flushed) < load_relaxed(&s2->flush_generation))) {
		s2_entering_slow(s2);
	}
}

static inline void s2_left(struct s2 *s2)
{
	if (!arch_s2_broadcasts()) {
		store_release(&s2->cpu[this_cpu_id()].in_guest, 0);
	}
}

static inline struct s2_attr s2_ram(const struct s2 *s2)
{
	struct s2_attr attr = {.perm = S2_RWX, .memory = s2->format->ram};

	return attr;
}

/* Page-aligned, not empty, inside the space. */
static inline bool s2_range_is_valid(const struct s2 *s2, gpa_t at, u64 size)
{
	u64 last = at.v + size - 1;

	return ((at.v | size) & s2->inside[0]) == 0 && last >= at.v && last >> s2->ipa_bits == 0;
}

/* The entry that translates `gpa`, or that does not: outside the space it is empty. */
struct s2_found {
	u64 entry;
	u64 level;
};
struct s2_found s2_find(struct s2 *s2, gpa_t gpa);

/* An entry that hardware does not follow, in words. */
struct s2_leaf s2_leaf_absent(const struct s2 *s2, struct s2_found found);

/* A call that depends on nothing else: it is not made when nobody wants its result. */
typedef __attribute__((const)) struct s2_attr (*s2_decode_fn)(u64 entry, bool leaf_is_large);

static inline struct s2_leaf s2_leaf_present(const struct s2 *s2, struct s2_found found, gpa_t at)
{
	const struct s2_format *f = s2->format;
	u64 entry = found.entry;
	struct s2_leaf leaf = {
		.kind = S2_LEAF,
		.level = (u8)found.level,
		.accessed = (entry & f->accessed) != 0,
		.dirty = (entry & f->dirty) || ((entry & f->log) && (entry & f->write)),
		.shared = (entry & f->cow) != 0,
		.hinted = (entry & f->contiguous) != 0,
		.attr = ((s2_decode_fn)f->decode)(entry, found.level > 0),
		.hpa = hpa(entry & f->address),
	};

	if (unlikely(!f->plain)) {
		leaf.hpa.v |= (entry & f->address_high) << f->address_high_shift;
	}
	leaf.hpa.v += at.v & s2->inside[found.level];
	return leaf;
}

static inline struct s2_leaf s2_query(struct s2 *s2, gpa_t at)
{
	struct s2_found found = s2_find(s2, at);

	return likely(found.entry & s2->format->present) ? s2_leaf_present(s2, found, at)
							 : s2_leaf_absent(s2, found);
}

#endif

/* The part of s2.h that every entry to and exit from a guest runs. Included by s2.h alone. */
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

#endif

#include "hyp/s2_ident.h"

#include "hyp/bitmap.h"
#include "hyp/log.h"

#include <arch/s2.h>

#include <string.h>

#define NUMBERS_MAX 65536

static struct {
	struct lock lock;
	u64 generation; /* identities of this one are good; in bits 63..16 */
	u32 numbers;	/* 2^bits */
	u32 next;	/* where the search for a free number goes on */
	u64 used[NUMBERS_MAX / 64];
	u64 active[CPU_MAX];   /* identity loaded on each CPU; 0 = none, or taken by a rollover */
	u64 reserved[CPU_MAX]; /* what was loaded at the last rollover */
	u32 owes_flush;	       /* bit n: CPU n must forget everything before it loads a space */
} idents;

u64 s2_ident_rollovers;

void s2_ident_init(unsigned bits)
{
	check(bits >= 1 && bits <= 16);
	memset(&idents, 0, sizeof(idents));
	idents.generation = BIT(16);
	idents.numbers = 1u << bits;
	idents.next = 1;
	bitmap_set(idents.used, 0);
}

/* Numbers that CPUs have loaded stay theirs in the new generation; the others are free again. */
static void roll_over(void)
{
	s2_ident_rollovers++;
	store_release(&idents.generation, idents.generation + BIT(16));
	for (u32 i = 0; i < ARRAY_COUNT(idents.used); i++) {
		idents.used[i] = 0;
	}
	bitmap_set(idents.used, 0);
	for (u32 cpu = 0; cpu < CPU_MAX; cpu++) {
		u64 active = atomic_swap(&idents.active[cpu], 0);

		/* A CPU that loaded nothing since the last rollover still runs what it had then. */
		if (active) {
			idents.reserved[cpu] = active;
		}
		if (idents.reserved[cpu]) {
			bitmap_set(idents.used, S2_IDENT_NUMBER(idents.reserved[cpu]));
		}
	}
	if (arch_s2_broadcasts()) {
		arch_s2_flush_idents();
	} else {
		idents.owes_flush = ~0u;
	}
}

/* Spaces whose number was reserved take it along into this generation, on every CPU that has it. */
static bool keep_reserved(struct s2 *s2, u64 renewed)
{
	bool kept = false;

	for (u32 cpu = 0; cpu < CPU_MAX; cpu++) {
		if (s2->ident && idents.reserved[cpu] == s2->ident) {
			idents.reserved[cpu] = renewed;
			kept = true;
		}
	}
	return kept;
}

static bool find_free(u32 *number)
{
	for (u32 i = 0; i < idents.numbers; i++) {
		u32 n = (idents.next + i) % idents.numbers;

		if (!bitmap_has(idents.used, n)) {
			*number = n;
			return true;
		}
	}
	return false;
}

static void renew(struct s2 *s2)
{
	u64 same = idents.generation | S2_IDENT_NUMBER(s2->ident);
	u32 number;

	if (keep_reserved(s2, same)) {
		store_release(&s2->ident, same);
		return;
	}
	if (!find_free(&number)) {
		roll_over();
		check(find_free(
			&number)); /* fewer CPUs than numbers: checked at init by the caller */
	}
	bitmap_set(idents.used, number);
	idents.next = number + 1;
	store_release(&s2->ident, idents.generation | number);
}

void s2_ident_load(struct s2 *s2)
{
	u32 cpu = this_cpu_id();
	u64 ident = load_acquire(&s2->ident);
	u64 active = load_acquire(&idents.active[cpu]);

	/* The swap fails when a rollover takes `active` meanwhile; then the lock sorts it out. */
	if (active && !((ident ^ load_acquire(&idents.generation)) >> 16) &&
	    cas_u64(&idents.active[cpu], active, ident)) {
		return;
	}
	lock_take(&idents.lock);
	if ((s2->ident ^ idents.generation) >> 16) {
		renew(s2);
	}
	if (idents.owes_flush & (1u << cpu)) {
		idents.owes_flush &= ~(1u << cpu);
		arch_s2_flush_idents();
	}
	store_release(&idents.active[cpu], s2->ident);
	lock_drop(&idents.lock);
}

void s2_ident_unload(void)
{
	u32 cpu = this_cpu_id();

	lock_take(&idents.lock);
	idents.active[cpu] = 0;
	idents.reserved[cpu] = 0;
	lock_drop(&idents.lock);
}

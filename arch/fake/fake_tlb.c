/*
 * The TLB of a fake CPU: an open hash of every page it ever translated, per space. It forgets when
 * told, never by itself; a full table is a test that is too large, and says so.
 */
#include "fake.h"

#include "hyp/s2_cursor.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <arch/s2.h>

#define SLOTS 65536

struct remembered {
	const struct s2 *s2; /* NULL = free slot */
	u64 page;	     /* guest frame number */
	u64 frame;	     /* host frame number */
	u8 perm;
	bool stage2, combined; /* which of the two kinds are remembered */
};

static struct tlb {
	pthread_mutex_t lock;
	struct remembered slots[SLOTS];
	u32 used[SLOTS]; /* which slots, so that forgetting costs what is remembered */
	u32 used_count;
} tlbs[CPU_MAX];

__attribute__((constructor)) static void init_locks(void)
{
	for (u32 i = 0; i < CPU_MAX; i++) {
		pthread_mutex_init(&tlbs[i].lock, NULL);
	}
}

static struct remembered *find(struct tlb *tlb, const struct s2 *s2, u64 page)
{
	u64 hash = (page * 0x9e3779b97f4a7c15ull) ^ ((u64)(uintptr_t)s2 >> 6);

	for (u64 i = 0; i < SLOTS; i++) {
		struct remembered *r = &tlb->slots[(hash + i) % SLOTS];

		if (!r->s2 || (r->s2 == s2 && r->page == page)) {
			return r;
		}
	}
	fprintf(stderr, "fake TLB: more than %d pages remembered\n", SLOTS);
	abort();
}

/*
 * What hardware does on a write through the leaf: sets its dirty flag, or makes it writable where
 * that is its dirty state. An entry is remembered as writable only after that. False: it may not.
 */
static bool set_dirty(struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	u64 bits = f->log_is_hardware ? f->write : f->dirty;
	bool does = c->s2->traits & S2_HARDWARE_DIRTY;

	for (;;) {
		bool may = (c->entry & f->write) ||
			   (does && f->log_is_hardware && (c->entry & f->log));

		if (!s2_entry_is_leaf(f, c->entry, c->level) || !may) {
			return false;
		}
		if (!does || (c->entry & bits) || cas_u64(c->slot, c->entry, c->entry | bits)) {
			return true;
		}
		s2_cursor_reload(c);
	}
}

/* Walks by what hardware follows, and by nothing else. The permissions that may be remembered;
 * none: a fault. */
static u8 hardware_walk(struct s2 *s2, gpa_t at, u8 perm, hpa_t *to)
{
	u64 outer = s2_walk_begin(s2);
	struct s2_cursor c;
	u8 got = 0;

	s2_cursor_start(&c, s2, at);
	s2_cursor_descend(&c, 0);
	/* No TLB holds what does not translate, or what is not marked accessed. */
	if (s2_entry_is_leaf(c.format, c.entry, c.level) && (c.entry & c.format->accessed)) {
		*to = hpa_add(s2_entry_hpa(c.format, c.entry),
			      at.v & (s2_span(c.format, c.level) - 1));
		got = c.format->decode(c.entry, c.level > 0).perm & ~S2_WRITE;
		got |= (perm & S2_WRITE) && set_dirty(&c) ? S2_WRITE : 0;
	}
	s2_walk_end(s2, outer);
	return (got & perm) == perm ? got : 0;
}

/* The TLB's lock is held. NULL: the access faults. */
static struct remembered *translate(struct tlb *tlb, struct s2 *s2, gpa_t at, u8 perm)
{
	u64 page = at.v >> PAGE_SHIFT;
	struct remembered *r = find(tlb, s2, page);

	if (!(r->s2 && (r->stage2 || r->combined) && (r->perm & perm) == perm)) {
		hpa_t to = hpa_none();
		u8 got = at.v >> s2->ipa_bits ? 0 : hardware_walk(s2, at, perm, &to);

		if (got == 0) {
			return NULL;
		}
		if (!r->s2) {
			tlb->used[tlb->used_count++] = (u32)(r - tlb->slots);
		}
		*r = (struct remembered){s2, page, to.v >> PAGE_SHIFT, got, true, true};
	}
	return r;
}

typedef void (*touch_fn)(void *context, hpa_t at);

static enum fake_access access_with(struct s2 *s2, gpa_t at, u8 perm, touch_fn touch, void *context)
{
	struct tlb *tlb = &tlbs[this_cpu_id()];
	struct remembered *r;

	pthread_mutex_lock(&tlb->lock);
	r = translate(tlb, s2, at, perm);
	if (r) {
		touch(context, hpa((r->frame << PAGE_SHIFT) | (at.v & (PAGE_SIZE - 1))));
	}
	pthread_mutex_unlock(&tlb->lock);
	return r ? FAKE_OK : FAKE_FAULT;
}

static void tell(void *context, hpa_t at)
{
	*(hpa_t *)context = at;
}

static void load(void *context, hpa_t at)
{
	*(u64 *)context = load_relaxed((u64 *)hpa_ptr(at));
}

static void store(void *context, hpa_t at)
{
	store_relaxed((u64 *)hpa_ptr(at), *(u64 *)context);
}

enum fake_access fake_access(struct s2 *s2, gpa_t at, u8 perm, hpa_t *result)
{
	return access_with(s2, at, perm, tell, result);
}

enum fake_access fake_load(struct s2 *s2, gpa_t at, u64 *value)
{
	return access_with(s2, at, S2_READ, load, value);
}

enum fake_access fake_store(struct s2 *s2, gpa_t at, u64 value)
{
	return access_with(s2, at, S2_WRITE, store, &value);
}

bool fake_tlb_holds(const struct s2 *s2, gpa_t at)
{
	for (u32 i = 0; i < CPU_MAX; i++) {
		struct remembered *r;
		bool held;

		pthread_mutex_lock(&tlbs[i].lock);
		r = find(&tlbs[i], s2, at.v >> PAGE_SHIFT);
		held = r->s2 && (r->stage2 || r->combined);
		pthread_mutex_unlock(&tlbs[i].lock);
		if (held) {
			return true;
		}
	}
	return false;
}

typedef void (*forget_fn)(struct remembered *r, const void *what);

static void forget_on(u32 cpu, const struct s2 *s2, forget_fn fn, const void *what)
{
	struct tlb *tlb = &tlbs[cpu];

	pthread_mutex_lock(&tlb->lock);
	for (u32 i = 0; i < tlb->used_count; i++) {
		struct remembered *r = &tlb->slots[tlb->used[i]];

		if (!s2 || r->s2 == s2) {
			fn(r, what);
		}
	}
	pthread_mutex_unlock(&tlb->lock);
}

static void forget(const struct s2 *s2, forget_fn fn, const void *what)
{
	if (!arch_s2_broadcasts()) {
		forget_on(this_cpu_id(), s2, fn, what);
		return;
	}
	for (u32 i = 0; i < CPU_MAX; i++) {
		forget_on(i, s2, fn, what);
	}
}

struct range {
	u64 start, end;
};

static void forget_range(struct remembered *r, const void *what)
{
	const struct range *range = what;

	if (r->page >= range->start && r->page < range->end) {
		r->stage2 = false;
	}
}

static void forget_combined(struct remembered *r, const void *what)
{
	(void)what;
	r->combined = false;
}

static void forget_all(struct remembered *r, const void *what)
{
	(void)what;
	r->stage2 = r->combined = false;
}

void arch_s2_flush_range(const struct s2 *s2, gpa_t start, u64 size, unsigned level)
{
	struct range range = {start.v >> PAGE_SHIFT, (start.v + size) >> PAGE_SHIFT};

	forget(s2, forget_range, &range);
	if (fake_flush_hook.range) {
		fake_flush_hook.range(fake_flush_hook.context, s2, start, size, level);
	}
}

u64 fake_flush_cost = 4;

/* As a machine with invalidations of any length; what level it is told does not matter here. */
u64 arch_s2_flush_cost(unused const struct s2 *s2, unused u64 size, unused unsigned level)
{
	return fake_flush_cost;
}

void arch_s2_flush_tail(const struct s2 *s2)
{
	forget(s2, forget_combined, NULL);
	if (fake_flush_hook.tail) {
		fake_flush_hook.tail(fake_flush_hook.context, s2);
	}
}

void arch_s2_flush_space(const struct s2 *s2)
{
	forget(s2, forget_all, NULL);
	if (fake_flush_hook.space) {
		fake_flush_hook.space(fake_flush_hook.context, s2);
	}
}

void arch_s2_flush_local(const struct s2 *s2)
{
	forget_on(this_cpu_id(), s2, forget_all, NULL);
	if (fake_flush_hook.local) {
		fake_flush_hook.local(fake_flush_hook.context, s2);
	}
}

void arch_s2_flush_idents(void)
{
	forget(NULL, forget_all, NULL);
}

void fake_tlb_clear(void)
{
	for (u32 i = 0; i < CPU_MAX; i++) {
		pthread_mutex_lock(&tlbs[i].lock);
		for (u32 n = 0; n < tlbs[i].used_count; n++) {
			tlbs[i].slots[tlbs[i].used[n]].s2 = NULL;
		}
		tlbs[i].used_count = 0;
		pthread_mutex_unlock(&tlbs[i].lock);
	}
}

/*
 * The frame table: which frame is what, how many hold it, and the way in and out of the allocator.
 *
 * The owner of a block's references is the only one who may change its state, and does so by one
 * store of the whole word; the buddy is the owner of listed blocks, a CPU of the frames in its
 * cache. So the word needs no lock. Reference counts are shared and atomic; but whoever sees the
 * count at one, and holds that one, is alone: nobody can take a reference without holding one, so
 * the last put needs no read-modify-write. Its load acquires what the other holders released.
 *
 * Counts by type are kept per CPU and per call, not per frame, and summed by those who ask.
 */
#include "frame_internal.h"

#include "hyp/log.h"

#include <arch/cpu.h>

struct frame_table frame_table;
static struct frame_cpu frame_cpus[CPU_MAX];
struct frame_cpu *frame_cpu_at[CPU_MAX];

u64 frame_table_bytes(u64 bytes)
{
	return align_up((bytes >> PAGE_SHIFT) * sizeof(struct frame), PAGE_SIZE);
}

void frame_init(hpa_t base, u64 bytes, void *table)
{
	check(is_aligned(base.v, PAGE_SIZE) && is_aligned(bytes, PAGE_SIZE));
	check(bytes >> PAGE_SHIFT < FRAME_NUMBER_NONE);
	frame_table = (struct frame_table){
		.entries = table,
		.base_pfn = base.v >> PAGE_SHIFT,
		.count = bytes >> PAGE_SHIFT,
		.ram_start = base.v,
		.ram_bytes = bytes,
	};
	arch_zero(table, frame_table_bytes(bytes));
	for (u32 cpu = 0; cpu < CPU_MAX; cpu++) {
		frame_cpus[cpu] = (struct frame_cpu){0};
		frame_cpu_at[cpu] = &frame_cpus[cpu];
	}
	frame_buddy_init();
}

/* The largest aligned block that begins at `a` and fits before `end`. */
static unsigned largest_order(u64 a, u64 end)
{
	unsigned aligned = a == 0 ? 63 : (unsigned)__builtin_ctzll(a);
	unsigned fits = 63 - (unsigned)__builtin_clzll(end - a);
	unsigned shift = aligned < fits ? aligned : fits;

	return shift >= PAGE_SHIFT + ORDER_MAX ? ORDER_MAX : shift - PAGE_SHIFT;
}

void frame_give(hpa_t start, hpa_t end)
{
	check(is_aligned(start.v, PAGE_SIZE) && is_aligned(end.v, PAGE_SIZE) && start.v <= end.v);
	check(start.v == end.v ||
	      (frame_number(start) < frame_table.count && frame_number(end) <= frame_table.count));
	for (u64 a = start.v; a < end.v;) {
		unsigned order = largest_order(a, end.v);
		const struct frame *f = frame_of(hpa(a));

		if (f->type != FRAME_NONE) {
			panic("frame_give: 0x%llx was given before", (unsigned long long)a);
		}
		frame_buddy_give((u32)frame_number(hpa(a)), order);
		frame_table.given += BIT(order);
		a += order_bytes(order);
	}
}

/* `number` leads a free block of `order` that is in no list and no cache: makes it the caller's. */
static inline hpa_t frame_taken(struct frame_cpu *cpu, u32 number, unsigned order,
				enum frame_type type, u16 owner)
{
	hpa_t a = frame_number_hpa(number);
	struct frame *f = &frame_table.entries[number];

	count_add(&cpu->used[type], (s64)BIT(order));
	f->gfn = 0;
	store_relaxed(&f->state, frame_state(1, (u8)type, order, owner));
	return a;
}

/* A block, or a single frame that the cache does not have. */
static __attribute__((noinline)) hpa_t frame_alloc_slow(unsigned order, enum frame_type type,
							u16 owner)
{
	struct frame_cpu *cpu = frame_this_cpu();
	u32 number;

	check(order <= ORDER_MAX);
	if (order > 0) {
		number = frame_buddy_take(order);
	} else {
		number = frame_cache_refill(cpu) ? frame_cache_take(cpu) : FRAME_NUMBER_NONE;
	}
	if (number == FRAME_NUMBER_NONE) {
		return hpa_none();
	}
	return frame_taken(cpu, number, order, type, owner);
}

hpa_t frame_alloc(unsigned order, enum frame_type type, u16 owner)
{
	struct frame_cpu *cpu = frame_this_cpu();

	check(type - FRAME_HYP <= FRAME_SHARED - FRAME_HYP);
	if (unlikely(order > 0 || cpu->cached == 0)) {
		return frame_alloc_slow(order, type, owner);
	}
	return frame_taken(cpu, frame_cache_take(cpu), 0, type, owner);
}

void frame_get(hpa_t a)
{
	struct frame *f = frame_of(a);

	if (unlikely(f == NULL || load_relaxed(&f->refs) == 0)) {
		panic("frame_get: nobody holds 0x%llx", (unsigned long long)a.v);
	}
	__atomic_fetch_add(&f->refs, 1, __ATOMIC_RELAXED);
}

/* The sentence for a put of what no reference is held to. */
static noreturn_fn void frame_put_wrong(hpa_t a)
{
	unsigned long long at = a.v;
	const struct frame *f = frame_of(a);

	if (f == NULL) {
		panic("frame_put: 0x%llx is no frame of the table", at);
	}
	if (f->type == FRAME_NONE) {
		panic("frame_put: 0x%llx was never given to the allocator", at);
	}
	if (f->type == FRAME_FREE) {
		panic("frame_put: double free of 0x%llx", at);
	}
	if (frame_hpa(f).v != align_down(a.v, PAGE_SIZE)) {
		panic("frame_put: 0x%llx is not the head of its block (0x%llx is)", at,
		      (unsigned long long)frame_hpa(f).v);
	}
	panic("frame_put: 0x%llx has no reference left", at);
}

static __attribute__((noinline)) bool frame_free_slow(struct frame *f, u32 number, unsigned order)
{
	struct frame_cpu *cpu = frame_this_cpu();

	if (order == 0) {
		frame_cache_spill(cpu);
		frame_cache_give(cpu, f, number);
	} else {
		frame_buddy_give(number, order);
	}
	return true;
}

/* Nobody holds the block any more. Returns true, for frame_put. */
static inline bool frame_free(struct frame *f, u32 number, u64 state)
{
	struct frame_cpu *cpu = frame_this_cpu();
	unsigned order = state_order(state);

	count_add(&cpu->used[state_type(state)], -(s64)BIT(order));
	if (unlikely(order != 0 || cpu->cached == FRAME_CACHE_MAX)) {
		return frame_free_slow(f, number, order);
	}
	frame_cache_give(cpu, f, number);
	return true;
}

/* There were other holders when one looked; they may all have been faster. */
static __attribute__((noinline)) bool frame_put_shared(struct frame *f, u32 number, u64 state)
{
	if (field_get(state, STATE_REFS) == 0) {
		frame_put_wrong(frame_number_hpa(number));
	}
	u32 before = __atomic_fetch_sub(&f->refs, 1, __ATOMIC_ACQ_REL);

	if (before == 0) {
		frame_put_wrong(frame_number_hpa(number));
	}
	return before == 1 && frame_free(f, number, state);
}

bool frame_put(hpa_t a)
{
	u64 number = frame_number(a);

	if (unlikely(number >= frame_table.count)) {
		frame_put_wrong(a);
	}
	struct frame *f = &frame_table.entries[number];
	u64 state = load_acquire(&f->state);

	if (unlikely(field_get(state, STATE_REFS) != 1)) {
		return frame_put_shared(f, (u32)number, state);
	}
	return frame_free(f, (u32)number, state);
}

void frame_retype(hpa_t head, enum frame_type type, u16 owner)
{
	struct frame *f = frame_of(head);

	check(f != NULL && frame_hpa(f).v == head.v && f->refs == 1);
	check(f->type == FRAME_GUEST || f->type == FRAME_SHARED);
	check(type == FRAME_GUEST || type == FRAME_SHARED);
	struct frame_cpu *cpu = frame_this_cpu();

	count_add(&cpu->used[f->type], -(s64)BIT(f->order));
	count_add(&cpu->used[type], (s64)BIT(f->order));
	store_relaxed(&f->state, frame_state(1, (u8)type, f->order, owner));
}

/*
 * From the last part to the first, whose entry is the block's own: until it is written, the head
 * speaks for every part that is not yet there.
 */
void frame_split(hpa_t head, unsigned order)
{
	struct frame *f = frame_of(head);

	check(f != NULL && frame_hpa(f).v == head.v && f->refs == 1 && order <= f->order);
	u64 parts = BIT(f->order - order);
	u64 state = frame_state(1, f->type, order, f->owner);

	while (parts-- > 0) {
		struct frame *part = f + (parts << order);

		part->gfn = 0;
		store_release(&part->state, state);
	}
}

/* The head at the address's 2^order boundary, if its block reaches as far as the address. */
static inline struct frame *head_at(u64 number, unsigned order)
{
	u64 head = align_down(frame_table.base_pfn + number, BIT(order)) - frame_table.base_pfn;

	if (head >= frame_table.count) {
		return NULL; /* the boundary lies before the table */
	}
	struct frame *f = &frame_table.entries[head];
	u64 state = load_acquire(&f->state);

	if (state_type(state) == FRAME_NONE || number - head >= BIT(state_order(state))) {
		return NULL;
	}
	return f;
}

/* Neither single frame nor 2 MiB nor 1 GiB: any other order, or no block at all. */
static struct frame *frame_of_odd(u64 number)
{
	for (unsigned order = 1; order < ORDER_MAX; order++) {
		struct frame *f = head_at(number, order);

		if (f != NULL) {
			return f;
		}
	}
	return &frame_table.entries[number]; /* FRAME_NONE: a hole */
}

struct frame *frame_of(hpa_t a)
{
	static const u8 usual[] = {ORDER_4K, ORDER_2M, ORDER_1G};
	u64 number = frame_number(a);

	if (unlikely(number >= frame_table.count)) {
		return NULL;
	}
	for (unsigned i = 0; i < ARRAY_COUNT(usual); i++) {
		struct frame *f = head_at(number, usual[i]);

		if (likely(f != NULL)) {
			return f;
		}
	}
	return frame_of_odd(number);
}

hpa_t frame_hpa(const struct frame *f)
{
	return frame_number_hpa((u64)(f - frame_table.entries));
}

u64 frame_total(void)
{
	return frame_table.given;
}

u64 frame_count(enum frame_type type)
{
	s64 sum = 0;

	if (type == FRAME_NONE) {
		return frame_table.count - frame_table.given;
	}
	for (u32 cpu = 0; cpu < CPU_MAX; cpu++) {
		if (type != FRAME_FREE) {
			sum += load_relaxed(&frame_cpus[cpu].used[type]);
			continue;
		}
		for (unsigned other = FRAME_HYP; other < FRAME_TYPES; other++) {
			sum += load_relaxed(&frame_cpus[cpu].used[other]);
		}
	}
	/* While others are at work a sum can miss the taking of what it saw given back. */
	u64 used = sum > 0 ? (u64)sum : 0;

	return type == FRAME_FREE ? frame_table.given - used : used;
}

u64 frame_count_owned(enum frame_type type, u16 owner)
{
	u64 count = 0;

	for (u64 number = 0; number < frame_table.count;) {
		u64 state = load_acquire(&frame_table.entries[number].state);
		enum frame_type found = state_type(state);
		u16 of = (u16)field_get(state, STATE_OWNER);

		if (found == FRAME_FREE) {
			of = OWNER_NONE; /* in a cache or not: nobody's */
		}
		if (found == type && found != FRAME_NONE && of == owner) {
			count += BIT(state_order(state));
		}
		number += found == FRAME_NONE ? 1 : BIT(state_order(state));
	}
	return count;
}

void *hyp_alloc(u64 bytes)
{
	check(bytes > 0);
	u64 pages = align_up(bytes, PAGE_SIZE) >> PAGE_SHIFT;
	unsigned order = pages <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(pages - 1);

	if (bytes > order_bytes(ORDER_MAX)) {
		return NULL;
	}
	hpa_t a = frame_alloc(order, FRAME_HYP, OWNER_NONE);

	if (hpa_is_none(a)) {
		frame_drain_cache(); /* perhaps its frames are what keeps a block apart */
		a = frame_alloc(order, FRAME_HYP, OWNER_NONE);
	}
	if (hpa_is_none(a)) {
		return NULL;
	}
	arch_zero(hpa_ptr(a), order_bytes(order));
	return hpa_ptr(a);
}

void hyp_free(void *p)
{
	if (p != NULL) {
		frame_put(ptr_hpa(p));
	}
}

#include "lib_bench.h"

#define BLOCKS 16

void samples_add(struct samples *s, u64 value)
{
	s->min = !s->count || value < s->min ? value : s->min;
	s->max = value > s->max ? value : s->max;
	s->sum += value;
	s->count++;
}

u64 samples_mean(const struct samples *s)
{
	return (s->sum + s->count / 2) / s->count;
}

void bench_report(const char *name, const struct samples *s, u64 result)
{
	print("bench %s %lu", name, result);
	print("detail %s %lu %lu %lu", name, s->min, samples_mean(s), s->max);
}

void bench_measure(const char *name, u64 (*once)(void))
{
	struct samples s = {0};

	once();
	for (u32 i = 0; i < BENCH_REPEAT; i++) {
		samples_add(&s, once());
	}
	bench_report(name, &s, s.min);
}

static bool block_is_fresh(u64 block)
{
	return block >= (u64)image_end &&
	       block + BLOCK_SIZE <= machine.ram_base + machine.ram_size &&
	       (block + BLOCK_SIZE <= machine.tables ||
		block >= machine.tables + machine.tables_size);
}

u64 bench_fresh_block(u64 *cursor)
{
	u64 block = (*cursor + BLOCK_SIZE - 1) & ~(BLOCK_SIZE - 1);

	while (!block_is_fresh(block)) {
		if (block >= machine.ram_base + machine.ram_size) {
			check("fresh_memory", false, "this guest has too little");
			guest_end();
		}
		block += BLOCK_SIZE;
	}
	*cursor = block + BLOCK_SIZE;
	return block;
}

void bench_touch_4k(u64 *cursor, u64 (*touch_page)(u64 page))
{
	struct samples s = {0};
	u64 block = bench_fresh_block(cursor);

	for (u64 page = 0; page < BENCH_PAGES; page++) {
		samples_add(&s, touch_page(block + page * PAGE_SIZE));
	}
	bench_report("touch_4k_fresh", &s, samples_mean(&s));
}

void bench_touch_2m(u64 *cursor, u64 (*touch_block)(u64 block))
{
	struct samples s = {0};

	for (u32 i = 0; i < BLOCKS; i++) {
		samples_add(&s, (touch_block(bench_fresh_block(cursor)) + BENCH_PAGES / 2) /
					BENCH_PAGES);
	}
	bench_report("touch_2m_fresh_per_4k", &s, samples_mean(&s));
}

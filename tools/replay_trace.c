/* Traces: read from a file, or made by a generator. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay.h"

#define MADE_COUNT 400000u

void *get_memory(size_t count, size_t size)
{
	void *memory = calloc(count ? count : 1, size);

	if (!memory) {
		fprintf(stderr, "replay: no memory for %zu times %zu bytes\n", count, size);
		exit(2);
	}
	return memory;
}

/* ---- Numbering ------------------------------------------------------------------------------ */

struct use {
	u64 raw;
	u32 at;
};

static int by_page_then_time(const void *a, const void *b)
{
	const struct use *x = a, *y = b;

	if (x->raw != y->raw) {
		return x->raw < y->raw ? -1 : 1;
	}
	return x->at < y->at ? -1 : 1;
}

/* Numbers pages anew; `raw` has trace->count numbers of any size. */
static void trace_number(struct trace *trace, const u64 *raw)
{
	struct use *uses = get_memory(trace->count, sizeof(*uses));
	u32 *number = get_memory(trace->count, sizeof(*number));
	u32 first = 0;

	trace->page = get_memory(trace->count, sizeof(*trace->page));
	trace->pages = 0;
	for (u32 i = 0; i < trace->count; i++) {
		uses[i] = (struct use){raw[i], i};
	}
	qsort(uses, trace->count, sizeof(*uses), by_page_then_time);
	/* For now every access has the time of its page's first. */
	for (u32 i = 0; i < trace->count; i++) {
		first = i > 0 && uses[i].raw == uses[i - 1].raw ? first : uses[i].at;
		trace->page[uses[i].at] = first;
	}
	for (u32 i = 0; i < trace->count; i++) {
		if (trace->page[i] == i) {
			number[i] = trace->pages++;
		}
		trace->page[i] = number[trace->page[i]];
	}
	free(uses);
	free(number);
}

/* ---- Reading -------------------------------------------------------------------------------- */

static noreturn_fn void refuse_line(const char *path, u32 line, const char *why, const char *text)
{
	int length = (int)strcspn(text, "\r\n");

	fprintf(stderr, "replay: %s:%u: %s: \"%.*s\"\n", path, line, why, length < 40 ? length : 40,
		text);
	exit(1);
}

/* Lines that are empty or begin with '#' are skipped; anything else but a number is refused. */
static bool line_number(const char *path, u32 line, const char *text, u64 *value)
{
	const char *at = text + strspn(text, " \t\r\n");
	char *end;

	if (*at == 0 || *at == '#') {
		return false;
	}
	errno = 0;
	*value = strtoull(at, &end, 0);
	if (end == at || *at == '-' || end[strspn(end, " \t\r\n")] != 0) {
		refuse_line(path, line, "not one page number", text);
	}
	if (errno != 0) {
		refuse_line(path, line, "a page number of more than 64 bits", text);
	}
	return true;
}

static void append(struct trace *trace, u64 **raw, u64 value)
{
	if ((trace->count & (trace->count - 1)) == 0) { /* the room is a power of two */
		u64 room = trace->count ? 2ull * trace->count : 1;
		u64 *more = room < RECLAIM_NONE ? realloc(*raw, room * sizeof(**raw)) : NULL;

		if (!more) {
			fprintf(stderr, "replay: no room for a trace of %llu pages\n",
				(unsigned long long)room);
			exit(1);
		}
		*raw = more;
	}
	(*raw)[trace->count++] = value;
}

static FILE *open_trace(const char *path)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");

	if (!file) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		exit(1);
	}
	return file;
}

struct trace trace_read(const char *path)
{
	struct trace trace = {0};
	FILE *file = open_trace(path);
	u64 *raw = NULL, value;
	char *text = NULL;
	size_t size = 0;

	for (u32 line = 1; getline(&text, &size, file) >= 0; line++) {
		if (line_number(path, line, text, &value)) {
			append(&trace, &raw, value);
		}
	}
	if (ferror(file) || trace.count == 0) {
		fprintf(stderr, "replay: %s: %s\n", path,
			ferror(file) ? strerror(errno) : "no page number in it");
		exit(1);
	}
	fclose(file);
	trace_number(&trace, raw);
	free(text);
	free(raw);
	return trace;
}

/* ---- Making --------------------------------------------------------------------------------- */

static u64 random_state;

static u64 random_next(void)
{
	u64 z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static double random_unit(void)
{
	return (double)(random_next() >> 11) / (double)(1ull << 53);
}

/* Pages 0..n-1, page k about as often as 1/(k+1)^s: by the integral of that density, inverted. */
static u64 random_zipf(u32 n, double s)
{
	double u = random_unit(), top = pow((double)n + 1, 1 - s);

	return (u64)(pow(u * (top - 1) + 1, 1 / (1 - s)) - 1);
}

/* Few pages are most of the accesses. */
static u64 make_zipf(unused u32 i)
{
	return random_zipf(8192, 0.9);
}

/* ... beside a reader who never comes back: three accesses of ten. */
static u64 make_scan(u32 i)
{
	return random_unit() < 0.3 ? 1000000 + i : random_zipf(8192, 0.9);
}

/* ... beside a loop over 3,000 pages, a fifth of the accesses. */
static u64 make_loop(unused u32 i)
{
	static u32 at;

	return random_unit() < 0.2 ? 100000 + at++ % 3000 : random_zipf(5000, 0.9);
}

/* The working set is another one every 40,000 accesses; a fifth goes to what all share. */
static u64 make_phases(u32 i)
{
	u64 phase = i / 40000 % 4;

	return random_unit() < 0.2 ? random_zipf(2000, 0.8)
				   : (phase + 1) * 100000 + random_zipf(2500, 0.7);
}

/* A day: the four above by turns of 10,000 accesses, each with pages of its own. */
static u64 make_mixed(u32 i)
{
	switch (i / 10000 % 4) {
	case 0:
		return make_zipf(i);
	case 1:
		return (u64)1 << 32 | make_scan(i);
	case 2:
		return (u64)2 << 32 | make_loop(i);
	default:
		return (u64)3 << 32 | make_phases(i);
	}
}

const char *const trace_makers[] = {"zipf", "scan", "loop", "phases", "mixed", NULL};

bool trace_make(const char *name, u64 seed, struct trace *trace)
{
	static u64 (*const make[])(u32) = {make_zipf, make_scan, make_loop, make_phases,
					   make_mixed};
	u64 *raw;

	for (u32 m = 0; trace_makers[m]; m++) {
		if (strcmp(trace_makers[m], name) != 0) {
			continue;
		}
		random_state = seed;
		trace->count = MADE_COUNT;
		raw = get_memory(trace->count, sizeof(*raw));
		for (u32 i = 0; i < trace->count; i++) {
			raw[i] = make[m](i);
		}
		trace_number(trace, raw);
		free(raw);
		return true;
	}
	return false;
}

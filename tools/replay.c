/*
 * replay: how many accesses of a trace miss under each of Lamina's policies of choice (the
 * hypervisor's own files), under others from the literature, and under Belady's optimum.
 *
 *     replay [--size PAGES] [--json FILE] TRACE     one trace at one size, or at 5, 10, 25, 50 %
 *     replay [--json FILE]                          the sample generators, at those sizes
 *     replay --make NAME                            a sample trace, to stdout
 *
 * TRACE has one page number a line, decimal or 0x hexadecimal, in the order of access; "-" is
 * stdin. Lamina's policies are shown accessed bits alone, one a page whenever they ask, and a
 * page's first access, by its fault, is not counted among those.
 *
 * Exit status: 0, 1 the trace is no good, 2 not asked rightly.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay.h"

#define SEED 1
#define COLUMNS_MAX 16
#define ROWS_MAX 64

static const u32 percents[] = {5, 10, 25, 50};

static const struct {
	const char *name;
	misses_fn *misses;
} known[] = {{"opt", opt_misses},
	     {"lru", lru_misses},
	     {"arc", arc_misses},
	     {"s3fifo", s3fifo_misses},
	     {"sieve", sieve_misses}};
#define OPT 0
#define LRU 1

struct row {
	const char *trace;
	u32 frames, pages, accesses;
	u64 misses[COLUMNS_MAX];
};

static struct row rows[ROWS_MAX];
static u32 row_count;
static u32 column_count;

static const char *column_name(u32 column)
{
	return column < ARRAY_COUNT(known) ? known[column].name
					   : reclaim_policies[column - ARRAY_COUNT(known)]->name;
}

static double ratio(const struct row *row, u32 column, u32 to)
{
	return (double)row->misses[column] / (double)row->misses[to];
}

/* ---- Measuring ------------------------------------------------------------------------------ */

static void measure(const char *name, const struct trace *trace, u32 frames)
{
	struct row *row = &rows[row_count++];

	*row = (struct row){
		.trace = name, .frames = frames, .pages = trace->pages, .accesses = trace->count};
	for (u32 c = 0; c < column_count; c++) {
		row->misses[c] = c < ARRAY_COUNT(known)
					 ? known[c].misses(trace, frames)
					 : policy_misses(reclaim_policies[c - ARRAY_COUNT(known)],
							 trace, frames);
	}
}

static void measure_shares(const char *name, const struct trace *trace)
{
	for (u32 i = 0; i < ARRAY_COUNT(percents); i++) {
		u32 frames = (u32)((u64)trace->pages * percents[i] / 100);

		measure(name, trace, frames ? frames : 1);
	}
}

static void measure_samples(void)
{
	for (u32 i = 0; trace_makers[i]; i++) {
		struct trace trace;

		trace_make(trace_makers[i], SEED, &trace);
		measure_shares(trace_makers[i], &trace);
		free(trace.page);
	}
}

/* ---- Telling -------------------------------------------------------------------------------- */

static void print_row(const struct row *row)
{
	printf("%-12.12s %8u %9llu", row->trace, row->frames, (unsigned long long)row->misses[OPT]);
	for (u32 c = OPT + 1; c < column_count; c++) {
		printf(" %8.3f", ratio(row, c, OPT));
	}
	printf("\n");
}

static double geomean(u32 column)
{
	double sum = 0;

	for (u32 i = 0; i < row_count; i++) {
		sum += log(ratio(&rows[i], column, OPT));
	}
	return exp(sum / row_count);
}

static double worst_to_lru(u32 column)
{
	double worst = 0;

	for (u32 i = 0; i < row_count; i++) {
		worst = fmax(worst, ratio(&rows[i], column, LRU));
	}
	return worst;
}

static void print_sum(const char *name, double (*sum)(u32 column))
{
	printf("%-31s", name);
	for (u32 c = OPT + 1; c < column_count; c++) {
		printf(" %8.3f", sum(c));
	}
	printf("\n");
}

static void print_table(void)
{
	printf("%-12s %8s %9s", "trace", "frames", "opt");
	for (u32 c = OPT + 1; c < column_count; c++) {
		printf(" %8s", column_name(c));
	}
	printf("    misses to the optimum's\n");
	for (u32 i = 0; i < row_count; i++) {
		print_row(&rows[i]);
	}
	if (row_count > 1) {
		print_sum("geometric mean", geomean);
		print_sum("worst, to LRU's", worst_to_lru);
	}
}

static void write_text(FILE *file, const char *text)
{
	fputc('"', file);
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == '"' || *text == '\\') {
			fprintf(file, "\\u%04x", (unsigned char)*text);
		} else {
			fputc(*text, file);
		}
	}
	fputc('"', file);
}

static bool write_json(const char *path)
{
	FILE *file = fopen(path, "w");

	if (!file) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return false;
	}
	fprintf(file, "[");
	for (u32 i = 0; i < row_count; i++) {
		fprintf(file, "%s\n  {\"trace\": ", i ? "," : "");
		write_text(file, rows[i].trace);
		fprintf(file, ", \"accesses\": %u, \"pages\": %u, \"size\": %u, \"misses\": {",
			rows[i].accesses, rows[i].pages, rows[i].frames);
		for (u32 c = 0; c < column_count; c++) {
			fprintf(file, "%s\"%s\": %llu", c ? ", " : "", column_name(c),
				(unsigned long long)rows[i].misses[c]);
		}
		fprintf(file, "}}");
	}
	fprintf(file, "\n]\n");
	return fclose(file) == 0;
}

/* ---- Asked ---------------------------------------------------------------------------------- */

static int usage(void)
{
	fprintf(stderr, "usage: replay [--size PAGES] [--json FILE] [TRACE] | --make NAME\n");
	return 2;
}

static int make_sample(const char *name)
{
	struct trace trace;

	if (!trace_make(name, SEED, &trace)) {
		fprintf(stderr, "replay: no generator \"%s\"; there are:", name);
		for (u32 i = 0; trace_makers[i]; i++) {
			fprintf(stderr, " %s", trace_makers[i]);
		}
		fprintf(stderr, "\n");
		return 2;
	}
	for (u32 i = 0; i < trace.count; i++) {
		printf("%u\n", trace.page[i]);
	}
	return 0;
}

static bool read_size(const char *text, u32 *size)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	*size = (u32)value;
	return *text >= '0' && *text <= '9' && *end == 0 && value > 0 && value < RECLAIM_NONE;
}

static void measure_file(const char *path, u32 size)
{
	struct trace trace = trace_read(path);
	const char *name = strrchr(path, '/');

	name = name ? name + 1 : path;
	printf("%s: %u accesses of %u pages\n", name, trace.count, trace.pages);
	if (size) {
		measure(name, &trace, size);
	} else {
		measure_shares(name, &trace);
	}
	free(trace.page);
}

int main(int argc, char **argv)
{
	const char *json = NULL;
	u32 size = 0;
	int at = 1;

	for (; at + 1 < argc && argv[at][0] == '-' && argv[at][1]; at += 2) {
		if (strcmp(argv[at], "--make") == 0) {
			return make_sample(argv[at + 1]);
		} else if (strcmp(argv[at], "--json") == 0) {
			json = argv[at + 1];
		} else if (strcmp(argv[at], "--size") != 0) {
			return usage();
		} else if (!read_size(argv[at + 1], &size)) {
			fprintf(stderr, "replay: size \"%s\" is no number of pages\n",
				argv[at + 1]);
			return 2;
		}
	}
	if (argc - at > 1 || (size && argc == at)) {
		return usage();
	}
	for (column_count = ARRAY_COUNT(known); reclaim_policies[column_count - ARRAY_COUNT(known)];
	     column_count++) {
	}
	if (at < argc) {
		measure_file(argv[at], size);
	} else {
		measure_samples();
	}
	print_table();
	return json && !write_json(json) ? 2 : 0;
}

/*
 * A workload whose truth is known: touches pages by a distribution, and verifies every byte it
 * reads.
 *
 *     wsgen KIND [key=value]...
 *
 *     KIND      stairs  the working set grows by eighths of the memory, and shrinks again
 *               zipf    few pages are used most: rank r with a frequency of r^-alpha
 *               scan    a tenth is hot; every fourth access goes on through the rest
 *               loop    all pages, one after the other, again and again
 *               phases  four sets of a quarter each, one after the other
 *               mixed   zipf, with short scans in between
 *     size      MiB (64)                      ops      accesses after the first filling (100000)
 *     seed      (1)                           writes   percent of accesses that write (30)
 *     alpha     hundredths, zipf's (90)       window   accesses that the working set is counted
 * over (20000) report    accesses between two lines of progress (ops / 50) content   mix, zero,
 * same, compressible, random: what pages hold (mix) scatter   1: neighbours in the distribution are
 * strewn over the memory; 0: they are neighbours (1) corrupt   for tests: before this access a byte
 * is changed behind its back
 *
 * A page's bytes follow from its number, the seed, and how often it was written. The working set is
 * exact: the distinct pages among the last `window` accesses, and the tables that it takes to know
 * that. Exit status 1: a page was not as it was written.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE 4096
#define WORDS (PAGE / sizeof(uint64_t))
#define MIB_PAGES 256

/* Of a compressible page, so many words are noise. */
#define NOISE_WORDS 128

enum content { MIX, ZERO, SAME, COMPRESSIBLE, RANDOM };

static const char *kind;
static enum content content = MIX;
static uint64_t size_mib = 64, ops = 100000, seed = 1, writes = 30, alpha = 90, window = 20000;
static uint64_t report_every, corrupt_at, scatter = 1;

static uint64_t pages;
static uint64_t *memory;
static uint32_t *versions; /* how often each page was written */
static uint32_t *places;   /* place in the distribution -> page */
static uint64_t verified, reads;

/* ---- Numbers -------------------------------------------------------------------------------- */

/* Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (2014). */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static uint64_t random_state;

static uint64_t next_random(void)
{
	return mix(random_state += 0x9e3779b97f4a7c15ull);
}

static uint64_t below(uint64_t bound)
{
	return next_random() % bound;
}

/* ---- What a page holds ----------------------------------------------------------------------- */

static enum content content_of(uint64_t page)
{
	uint64_t share = mix(page ^ seed << 40) % 100;

	if (content != MIX) {
		return content;
	}
	return share < 10 ? ZERO : share < 15 ? SAME : share < 92 ? COMPRESSIBLE : RANDOM;
}

/* The first `noise` words are a sequence, and all others one word. */
static uint64_t shape(uint64_t page, uint64_t *word, uint64_t *step)
{
	enum content what = content_of(page);
	uint64_t base = mix(page << 32 ^ versions[page] ^ seed << 20);

	*step = 0;
	*word = what == ZERO ? 0 : (base & 0xffffffff) * 0x100000001ull;
	if (what == ZERO || what == SAME) {
		return 0;
	}
	*step = base | 1;
	return what == RANDOM ? WORDS : NOISE_WORDS;
}

/* A word of a sequence: no two neighbours have bytes in common that lz4 could use. */
static inline uint64_t noise_word(uint64_t base, uint64_t i)
{
	uint64_t x = base * (i + 1);

	return (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull;
}

static void write_page(uint64_t page)
{
	uint64_t *at = memory + page * WORDS, word, step, noise, i = 0;

	versions[page]++;
	noise = shape(page, &word, &step);
	for (; i < noise; i++) {
		at[i] = noise_word(step, i);
	}
	for (; i < WORDS; i++) {
		at[i] = word;
	}
}

static int say_bad(uint64_t page, uint64_t i, uint64_t want)
{
	printf("wsgen: BAD page %lu at byte %lu: read %016lx, want %016lx, written %u times\n",
	       (unsigned long)page, (unsigned long)(i * 8), (unsigned long)memory[page * WORDS + i],
	       (unsigned long)want, versions[page]);
	return 1;
}

/* 1: it is not as it was written. */
static int verify_page(uint64_t page)
{
	const uint64_t *at = memory + page * WORDS;
	uint64_t word, step, noise = shape(page, &word, &step), i = 0;

	for (; i < noise; i++) {
		if (at[i] != noise_word(step, i)) {
			return say_bad(page, i, noise_word(step, i));
		}
	}
	for (; i < WORDS; i++) {
		if (at[i] != word) {
			return say_bad(page, i, word);
		}
	}
	reads++;
	verified += PAGE;
	return 0;
}

/* ---- Which page is next ---------------------------------------------------------------------- */

static double *zipf_sums; /* of frequencies, up to each rank */
static bool draws_ranks;
static uint64_t scan_at;

static void prepare_zipf(void)
{
	double sum = 0;

	zipf_sums = malloc(pages * sizeof(*zipf_sums));
	for (uint64_t rank = 0; rank < pages; rank++) {
		sum += pow((double)(rank + 1), -(double)alpha / 100);
		zipf_sums[rank] = sum;
	}
}

static uint64_t zipf_rank(void)
{
	double at = (double)(next_random() >> 11) / 9007199254740992.0 * zipf_sums[pages - 1];
	uint64_t low = 0, high = pages - 1;

	draws_ranks = true;
	while (low < high) {
		uint64_t middle = (low + high) / 2;

		if (zipf_sums[middle] < at) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

static uint64_t next_stairs(uint64_t op)
{
	uint64_t step = op * 16 / ops; /* 0..15: up by eighths, down by eighths */
	uint64_t eighths = step < 8 ? step + 1 : 16 - step;

	return below(pages * eighths / 8);
}

static uint64_t next_zipf(uint64_t op)
{
	(void)op;
	return zipf_rank();
}

static uint64_t next_scan(uint64_t op)
{
	uint64_t hot = pages / 10;

	return op % 4 ? below(hot) : hot + scan_at++ % (pages - hot);
}

static uint64_t next_loop(uint64_t op)
{
	return op % pages;
}

static uint64_t next_phases(uint64_t op)
{
	uint64_t quarter = pages / 4;

	return op * 4 / ops * quarter + below(quarter);
}

static uint64_t next_mixed(uint64_t op)
{
	return op / 2048 % 4 == 3 ? scan_at++ % pages : zipf_rank();
}

typedef uint64_t (*next_fn)(uint64_t op);

static const struct {
	const char *name;
	next_fn next;
} kinds[] = {
	{"stairs", next_stairs}, {"zipf", next_zipf},	  {"scan", next_scan},
	{"loop", next_loop},	 {"phases", next_phases}, {"mixed", next_mixed},
};

static next_fn find_kind(void)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kind, kinds[i].name) == 0) {
			return kinds[i].next;
		}
	}
	return NULL;
}

/* ---- The working set --------------------------------------------------------------------------
 */

static uint32_t *recent; /* the last `window` accesses, in a ring */
static uint32_t *uses;	 /* of each page, among them */
static uint64_t working_set;

static void note_access(uint64_t op, uint64_t page)
{
	uint32_t *slot = &recent[op % window];

	if (op >= window && --uses[*slot] == 0) {
		working_set--;
	}
	*slot = (uint32_t)page;
	if (uses[page]++ == 0) {
		working_set++;
	}
}

/* ---- The run ----------------------------------------------------------------------------------
 */

/* On Arm by the counter, which on Lamina is the machine's own. */
#ifdef __aarch64__
#define CLOCK "machine"

static unsigned long now_ms(void)
{
	unsigned long ticks, hz;

	__asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\tmrs %1, cntfrq_el0" : "=r"(ticks), "=r"(hz));
	return ticks / (hz / 1000);
}

#else
#define CLOCK "guest"

static unsigned long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned long)now.tv_sec * 1000 + (unsigned long)now.tv_nsec / 1000000;
}

#endif

/* Pages of its own tables; those of the distribution are used where it draws from one. */
static uint64_t own_pages(void)
{
	uint64_t bytes = pages * (sizeof(*versions) + sizeof(*places) + sizeof(*uses)) +
			 window * sizeof(*recent);

	if (draws_ranks) {
		bytes += pages * sizeof(*zipf_sums);
	}
	return bytes / PAGE;
}

static void report(uint64_t op)
{
	printf("wsgen: progress %lu of %lu at %lu ms, wss %lu pages, verified %lu bytes\n",
	       (unsigned long)op, (unsigned long)ops, now_ms(),
	       (unsigned long)(working_set + own_pages()), (unsigned long)verified);
}

/* The places of the distribution, strewn over the memory. */
static void strew(void)
{
	for (uint64_t i = 0; i < pages; i++) {
		places[i] = (uint32_t)i;
	}
	for (uint64_t i = pages - 1; scatter && i > 0; i--) {
		uint64_t other = below(i + 1);
		uint32_t page = places[i];

		places[i] = places[other];
		places[other] = page;
	}
}

static int run(next_fn next)
{
	for (uint64_t op = 0; op < ops; op++) {
		uint64_t page = places[next(op)];

		if (corrupt_at && op == corrupt_at) {
			((uint8_t *)memory)[page * PAGE + 1234] ^= 1;
		}
		if (verify_page(page) != 0) {
			return 1;
		}
		if (below(100) < writes) {
			write_page(page);
		}
		note_access(op, page);
		if ((op + 1) % report_every == 0) {
			report(op + 1);
		}
	}
	return 0;
}

/* Every page once more: what was not used for long comes back as well. */
static int verify_all(void)
{
	for (uint64_t page = 0; page < pages; page++) {
		if (verify_page(page) != 0) {
			return 1;
		}
	}
	return 0;
}

static void *table(uint64_t count, size_t size)
{
	void *made = calloc(count, size);

	if (!made) {
		printf("wsgen: no memory for its own tables\n");
		exit(2);
	}
	return made;
}

static void prepare(void)
{
	pages = size_mib * MIB_PAGES;
	memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (memory == MAP_FAILED) {
		printf("wsgen: %lu MiB cannot be had\n", (unsigned long)size_mib);
		exit(2);
	}
	versions = table(pages, sizeof(*versions));
	places = table(pages, sizeof(*places));
	uses = table(pages, sizeof(*uses));
	recent = table(window, sizeof(*recent));
	random_state = seed;
	strew();
	prepare_zipf();
}

/* ---- The command line -------------------------------------------------------------------------
 */

static bool read_content(const char *value)
{
	static const char *const names[] = {"mix", "zero", "same", "compressible", "random"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value, names[i]) == 0) {
			content = (enum content)i;
			return true;
		}
	}
	return false;
}

static bool read_number(const char *value, uint64_t *number)
{
	char *end;

	*number = strtoull(value, &end, 10);
	return end != value && *end == 0;
}

static bool read_word(const char *word)
{
	static const struct {
		const char *name;
		uint64_t *number;
	} numbers[] = {
		{"size", &size_mib},	   {"ops", &ops},	  {"seed", &seed},
		{"writes", &writes},	   {"alpha", &alpha},	  {"window", &window},
		{"report", &report_every}, {"scatter", &scatter}, {"corrupt", &corrupt_at},
	};
	const char *value = strchr(word, '=');
	size_t length = value ? (size_t)(value - word) : 0;

	if (length == strlen("content") && strncmp(word, "content", length) == 0) {
		return read_content(value + 1);
	}
	for (size_t i = 0; value && i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (strlen(numbers[i].name) == length &&
		    strncmp(word, numbers[i].name, length) == 0) {
			return read_number(value + 1, numbers[i].number);
		}
	}
	return false;
}

static next_fn read_command_line(int count, char **words)
{
	next_fn next;

	kind = count > 1 ? words[1] : "";
	next = find_kind();
	if (!next) {
		printf("wsgen: no kind %s; there are stairs, zipf, scan, loop, phases, mixed\n",
		       kind);
		exit(2);
	}
	for (int i = 2; i < count; i++) {
		if (!read_word(words[i])) {
			printf("wsgen: %s is no word of mine\n", words[i]);
			exit(2);
		}
	}
	if (size_mib == 0 || size_mib > 1 << 20 || ops == 0 || window == 0 || writes > 100) {
		printf("wsgen: size, ops and window are 1 at least, writes 100 at most\n");
		exit(2);
	}
	if (report_every == 0) {
		report_every = ops / 50 + 1;
	}
	return next;
}

int main(int count, char **words)
{
	next_fn next;

	setvbuf(stdout, NULL, _IOLBF, 0);
	next = read_command_line(count, words);
	prepare();
	printf("wsgen: %s, %lu MiB, %lu accesses, %lu %% writes, seed %lu, window %lu, clock " CLOCK
	       "\n",
	       kind, (unsigned long)size_mib, (unsigned long)ops, (unsigned long)writes,
	       (unsigned long)seed, (unsigned long)window);
	for (uint64_t page = 0; page < pages; page++) {
		write_page(page);
	}
	printf("wsgen: filled at %lu ms\n", now_ms());
	if (run(next) != 0 || verify_all() != 0) {
		return 1;
	}
	printf("wsgen: done at %lu ms, verified %lu bytes in %lu reads, 0 bad\n", now_ms(),
	       (unsigned long)verified, (unsigned long)reads);
	return 0;
}

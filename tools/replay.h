/* What the parts of replay share. */
#ifndef TOOLS_REPLAY_H
#define TOOLS_REPLAY_H

#include "hyp/reclaim.h"

/* Pages are numbered from 0 in the order of their first use. */
struct trace {
	u32 *page;
	u32 count;
	u32 pages; /* how many different ones: the footprint */
};

/* Both end the program with a message when they cannot. */
void *get_memory(size_t count, size_t size);
struct trace trace_read(const char *path);

/* The sample generators: NULL behind the last name. False: no such generator. */
extern const char *const trace_makers[];
bool trace_make(const char *name, u64 seed, struct trace *trace);

/*
 * How many accesses miss in a cache of `frames` pages, at least 1, that is empty at first: Belady's
 * optimum, and policies from the literature, which see every access.
 */
typedef u64 misses_fn(const struct trace *trace, u32 frames);
misses_fn opt_misses, lru_misses, arc_misses, s3fifo_misses, sieve_misses;

/* ... and one of Lamina's, which sees what tables show it: one bit a page whenever it asks. */
u64 policy_misses(const struct reclaim_policy *policy, const struct trace *trace, u32 frames);

#endif

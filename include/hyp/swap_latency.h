/*
 * How long faults of a guest took to answer, by where the page came from. In ticks of the system
 * counter, from swap_fault() to the page being mapped: the processor's exit and entry are not in
 * it, nor is the making of room, after which the guest tries again: that has a time of its own.
 */
#ifndef HYP_SWAP_LATENCY_H
#define HYP_SWAP_LATENCY_H

#include "hyp/store.h"

enum swap_source {
	SWAP_FROM_FRESH,  /* zero, or an image's bytes: a frame for the first time */
	SWAP_FROM_STORES, /* and for each store the next one */
	SWAP_FROM_FLIGHT = SWAP_FROM_STORES + STORE_KINDS, /* rescued, before it was stored */
	SWAP_FROM_SHARED,				   /* written, and so its own again */
	SWAP_SOURCES
};

/* Bin n counts what took 2^n ticks and more, and less than 2^(n + 1); the first has 0, too, and the
 * last what took longer. */
#define SWAP_LATENCY_BINS 32
struct swap_latency {
	u64 ticks; /* of all of them; atomic, as the bins */
	u64 bins[SWAP_LATENCY_BINS];
};

const char *swap_source_name(enum swap_source source);

void swap_latency_note(struct swap_latency *latency, u64 ticks);

/* How many were noted. */
u64 swap_latency_count(const struct swap_latency *latency);

#endif

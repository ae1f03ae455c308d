/* Overcommit in numbers, as JSON: see hyp/swap_stats.c for what is in it. */
#ifndef HYP_SWAP_STATS_H
#define HYP_SWAP_STATS_H

struct config;
struct json;
struct vm;

/* What goes with a sample: nothing, if this is not called. */
void swap_stats_init(const struct config *config);

/* Prints a sample. Every VM has vm->swap. Not in a walk, with no lock or batch. */
void swap_stats_sample(void);

/* The VM's "swap" in an object that is open; nothing if it has none. As above. */
void swap_stats_put(struct json *json, const struct vm *vm);

/* The machine's part, likewise. */
void swap_stats_put_machine(struct json *json);

#endif

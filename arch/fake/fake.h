/*
 * A machine on the host, for tests: threads play CPUs, the TLB remembers everything until it is
 * told to forget, memory is an arena, allocation fails on demand, the UART is a buffer.
 */
#ifndef FAKE_H
#define FAKE_H

#include "hyp/cpu.h"
#include "hyp/s2.h"

/* ---- CPUs ---------------------------------------------------------------------------------- */

/* Makes `count` CPUs; the calling thread plays CPU 0. The UART has sent nothing yet. */
void fake_cpus(u32 count);
/* The calling thread plays this CPU from now on. */
void fake_cpu_become(u32 id);
/* Was this CPU kicked since the last call? */
bool fake_cpu_take_kick(u32 id);

/* ---- Memory -------------------------------------------------------------------------------- */

/* A new machine with `bytes` of RAM (a multiple of 4 KiB), all of it free. The old one's is gone.
 */
void fake_memory(u64 bytes);

/* Takes frames of 4 KiB for good until `left` are free; fake_memory() gives them back. */
void fake_memory_leave(u64 left);

/* ---- The TLB that remembers ------------------------------------------------------------------ */

/* What an access by this CPU came to. */
enum fake_access { FAKE_OK, FAKE_FAULT };

/*
 * An access as the MMU would do it: by a remembered translation if there is one, else by a walk,
 * which is then remembered. Two kinds are remembered, as hardware does: of stage 2 alone, and of
 * both stages combined; an invalidation by range forgets the first, the tail also the second.
 */
enum fake_access fake_access(struct s2 *s2, gpa_t at, u8 perm, hpa_t *result);

/* A guest's load or store of 8 bytes. Translation and access are one step, as an invalidation sees
 * it: hardware's answer to one waits for the accesses that used what it forgets. */
enum fake_access fake_load(struct s2 *s2, gpa_t at, u64 *value);
enum fake_access fake_store(struct s2 *s2, gpa_t at, u64 value);

/* Would any CPU still translate `at` of this space, without looking at the table? */
bool fake_tlb_holds(const struct s2 *s2, gpa_t at);
void fake_tlb_clear(void);

/*
 * Who else is told of each arch_s2_flush_*(), with what it was called with: a test's own model of a
 * TLB. A member may be NULL.
 */
struct fake_flush_hook {
	void *context;
	void (*range)(void *context, const struct s2 *s2, gpa_t start, u64 size, unsigned level);
	void (*tail)(void *context, const struct s2 *s2);
	void (*space)(void *context, const struct s2 *s2);
	void (*local)(void *context, const struct s2 *s2);
	/* A CPU is told to leave the guest. */
	void (*kick)(void *context, u32 cpu);
	/* With S2_NONCOHERENT: entries were written, so a test can look between two writes. */
	void (*written)(void *context);
};
extern struct fake_flush_hook fake_flush_hook;

/* What the invalidation of a range costs, of any length: see S2_FLUSH_WHOLE_COST. */
extern u64 fake_flush_cost;

/* What arch_s2_traits() says; may be set by a test before a space is made. */
extern u8 fake_traits;
/* Cache lines that arch_s2_clean() was asked to clean. */
#define FAKE_LINE 64
extern u64 fake_lines_cleaned;

/* ---- Devices ------------------------------------------------------------------------------- */

/* The test's own device: both must be there before a register is touched. */
struct fake_device_hook {
	void *context;
	u32 (*read)(void *context, u64 address);
	void (*write)(void *context, u64 address, u32 value);
	u32 enabled_irq; /* the last that arch_device_irq_enable() was told */
};
extern struct fake_device_hook fake_device_hook;

/* ---- Console ------------------------------------------------------------------------------- */

/* What was sent to the UART since the last call to fake_uart_clear(); ends in a zero byte. */
const char *fake_uart_output(void);
void fake_uart_clear(void);
/* Keys that arch_uart_getc() will deliver. */
void fake_uart_feed(const char *keys);

/* arch_random() has no generator behind it. */
extern bool fake_random_is_weak;

/* ---- The end ------------------------------------------------------------------------------- */

/* Called by arch_machine_end() instead of ending the test; must not return (throw, longjmp, exit).
 */
extern void (*fake_machine_end)(int status);

#endif

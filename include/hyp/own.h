/*
 * Lamina's own part of the machine: its image, its stacks, the address space it runs in.
 *
 * VA = PA. RAM is data: writable, never executable. The image is in it with its own permissions,
 * W^X throughout; devices are mapped where they are, and nothing else is: neither page 0 nor the
 * guard pages under the stacks. The tables are built once, out of sight, and never change
 * afterwards.
 */
#ifndef HYP_OWN_H
#define HYP_OWN_H

#include "arch/boot.h"
#include "hyp/stack.h"

/* Section borders, from the architecture's link.ld; each part of other permissions begins on a
 * page. */
extern u8 image_start[], text_end[], rodata_end[], data_start[], data_end[], stacks_start[],
	image_end[];

/* The machine cannot be booted on: says why, and ends the run with status 2. */
__attribute__((format(printf, 1, 2))) noreturn_fn void boot_refuse(const char *format, ...);

/* ---- Stacks: hyp/own_stack.c --------------------------------------------------------------- */

/* Where they end: they grow down from there. */
u64 own_stack_top(u32 cpu);
u64 own_emergency_top(u32 cpu);
/* Is [address, address + bytes) in one of this CPU's stacks? */
bool own_stack_has(u64 address, u64 bytes);
/* What to say of an address that faulted: "" unless it is in the hole under a stack. */
const char *own_stack_hole(u64 address);

/* ---- Address space: hyp/own_map.c ---------------------------------------------------------- */

enum own_kind {
	OWN_DATA,     /* writable */
	OWN_CONSTANT, /* neither writable nor executable */
	OWN_TEXT,     /* executable */
	OWN_DEVICE,   /* writable, not cached */
	OWN_EARLY,    /* all rights: for the time before there is anything to protect */
};

#define OWN_TABLE_ENTRIES 512
#define OWN_ROOT_LEVEL 3 /* counted from the leaf, as everywhere in Lamina */
#define OWN_LEVEL_BITS 9

/* A new root, empty. Whatever does not fit into the fixed pool of tables refuses the boot. */
u64 *own_map_new(void);
/* Maps [start, end), whole pages, with the largest leaves that fit. Nothing may be there. */
void own_map_range(u64 *root, u64 start, u64 end, enum own_kind kind);
/* The same of a device's registers, which need not be whole pages. */
void own_map_device(u64 *root, struct boot_range device);
/* All RAM below 2^address_bits, and the image, stacks and all, with the permissions they deserve.
 * The image is in one of the banks. */
void own_map_memory(u64 *root, const struct boot_info *info, unsigned address_bits);

/* Answered by the architecture. Level 0 is a page of 4 KiB. own_table_of: NULL, if `entry` is a
 * leaf.
 */
u64 arch_own_leaf(u64 address, unsigned level, enum own_kind kind);
u64 arch_own_table(const u64 *table);
u64 *arch_own_table_of(u64 entry, unsigned level);
/* The largest level that may have leaves: 1 or 2. */
unsigned arch_own_leaf_level_max(void);

/* ---- Exceptions: hyp/own_trap.c ------------------------------------------------------------- */

/*
 * This CPU has taken an exception from Lamina itself: always a bug, always the end of the run. The
 * first one returns, to be reported in full. One that comes while that report is written is said by
 * `print_nested`, a line of constant text, and ends the run; one more parks the CPU. So a broken
 * report cannot loop.
 */
void own_trap_begin(void (*print_nested)(void));

/* ---- Call chains: hyp/backtrace.c ---------------------------------------------------------- */

/* Prints the call chain that begins at frame pointer `fp`, innermost function `pc`. */
void backtrace_print(u64 pc, u64 fp);
/* "name+0x12" or "" for an address in the image. */
void backtrace_symbol(u64 address, char *text, size_t size);

#endif

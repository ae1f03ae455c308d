/*
 * What is wrong with EPT tables: what a CPU calls a misconfiguration (Intel SDM volume 3C,
 * 29.3.3.1), and what it would walk although Lamina never writes it.
 *
 * Pure, and made for the case that something is wrong already: nothing is asserted of what is read,
 * and no entry is followed that is not as it should be.
 */
#ifndef S2_EPT_CHECK_H
#define S2_EPT_CHECK_H

#include "hyp/s2.h"

/* Of the CPU: what entries may say depends on it. */
struct s2_ept_cpu {
	u8 address_bits;   /* of host-physical addresses (CPUID 80000008H): 52 at most */
	bool gib_pages;	   /* IA32_VMX_EPT_VPID_CAP, bit 17 */
	bool execute_only; /* and bit 0 */
};

#define S2_EPT_VERDICTS(X)                                                                         \
	X(ABSENT, "is not present")                                                                \
	X(TABLE, "leads to a table")                                                               \
	X(LEAF, "maps memory")                                                                     \
	X(UNUSED, "maps memory that was not used yet") /* s2_ept_software: and exits */            \
	/* Misconfigurations. */                                                                   \
	X(ONLY_WRITE, "allows writing without reading")                                            \
	X(ONLY_EXECUTE, "allows execution alone, which this CPU has not")                          \
	X(RESERVED, "has reserved bits set")                                                       \
	X(MEMORY_TYPE, "has a reserved memory type")                                               \
	/* None, but nothing that Lamina would write. */                                           \
	X(WITHHOLDS, "leads to a table with less than all rights")                                 \
	X(NOWHERE, "leads to what is no table")

enum s2_ept_verdict {
#define X(name, text) S2_EPT_##name,
	S2_EPT_VERDICTS(X)
#undef X
};

const char *s2_ept_check_text(enum s2_ept_verdict verdict);

/* Of an entry of `level` by itself, whatever its value: never NOWHERE. */
enum s2_ept_verdict s2_ept_check_entry(const struct s2_format *format, const struct s2_ept_cpu *cpu,
				       u64 entry, unsigned level);

struct s2_ept_step {
	hpa_t at; /* where the entry is */
	u64 entry;
	u8 level;
	/* TABLE in all steps but the last, whose verdict is why the walk ends. */
	enum s2_ept_verdict verdict;
};

struct s2_ept_walk {
	u32 count; /* of steps, from hardware's top down; 0: the address is outside of the space */
	struct s2_ept_step steps[S2_LEVELS_MAX];
	u8 perm; /* LEAF: what it allows, of enum s2_perm */
};

/* Hardware's walk for `gpa` through the tables as they are now, as far as they are good. Changes
 * nothing, and waits for nobody. */
struct s2_ept_walk s2_ept_check_walk(struct s2 *s2, const struct s2_ept_cpu *cpu, gpa_t gpa);

/* The step that is Lamina's mistake, whatever happens beside the walk; or NULL. */
const struct s2_ept_step *s2_ept_check_mistake(const struct s2_ept_walk *walk);

/*
 * Does the walk say why the CPU exited, and is nobody's mistake? `access`: what was tried, of enum
 * s2_perm; 0 for a misconfiguration. If it does not, another CPU may have changed an entry since.
 */
bool s2_ept_check_explains(const struct s2_ept_walk *walk, u8 access);

/*
 * One vCPU's exits for the same access, one after the other. Most are worth no walk, and one that
 * nothing explains was a race; but no vCPU loses so many in a row.
 */
struct s2_ept_patience {
	gpa_t gpa;
	u8 access;
	u32 repeats;
};

#define S2_EPT_SUSPICIOUS 64 /* repeats, and then as many unexplained ones */

/* An exit for this access: is it worth a walk? */
bool s2_ept_check_repeats(struct s2_ept_patience *patience, gpa_t gpa, u8 access);
/* The walk was made: is it time to give up? */
bool s2_ept_check_gives_up(struct s2_ept_patience *patience, bool explained);

#endif

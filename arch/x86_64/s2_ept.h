/*
 * EPT: the facts (Intel SDM volume 3C, "The Extended Page Table Mechanism", 29.3.2).
 *
 *   63    62..57 56..52    51..12  11 10   9     8        7     6      5..3   2    1     0
 *   quiet other  software  address -  user dirty accessed large no PAT memory exec write read
 *
 *   large: 1 in a leaf above level 0. A table has 0 in bits 7..3, and no other attributes than
 *   read, write, exec, user, accessed.
 *   user: with mode-based execute control; then exec is the supervisor's alone.
 *   quiet: "suppress #VE"; hardware reads it in leaves and in entries that are not present.
 *   other: 61, 60, 58, 57 are of features that are off here (sub-page writes, shadow stacks,
 *   paging-write, guest-paging verification), and ignored then; 62 and 59 always are.
 *
 * Without accessed and dirty flags (bit 21; CPUs before Haswell) bits 9 and 8 are ignored, and the
 * first use of a page has to exit. It does where the memory type is a reserved one: that is a
 * misconfiguration (29.3.3.1), of which nothing is cached (29.4.2). Write-back is 6, and without
 * bit 5 it is 2, which is reserved: so bit 5 is `accessed` there, and s2_mark_accessed() makes the
 * entry good. Rights stay where they are. The price: other types than write-back cannot be said.
 *
 * Formats are data: a CPU that cannot map by 1 GiB (IA32_VMX_EPT_VPID_CAP bit 17), or has no
 * execute-only pages (bit 0; S2_EPT_EXECUTE_ONLY are the permissions that need them), gets a copy
 * with less in leaf_levels or perms.
 */
#ifndef S2_EPT_H
#define S2_EPT_H

#include "hyp/s2.h"

#define S2_EPT_TYPE BITS(5, 3)
#define S2_EPT_EXECUTE_ONLY (BIT(S2_EXEC_KERNEL) | BIT(S2_EXEC_USER) | BIT(S2_EXEC))

extern const struct s2_format s2_ept;
extern const struct s2_format s2_ept_mbec; /* mode-based execute control is on */
extern const struct s2_format s2_ept5;	   /* hardware's walks have five levels */
extern const struct s2_format s2_ept5_mbec;
extern const struct s2_format s2_ept_software; /* the CPU has no accessed and dirty flags */

/*
 * The EPTP (25.6.11); with `flags` hardware sets accessed and dirty flags (bit 21 says that it
 * can). Without them, and in another format than s2_ept_software, no first use is ever told of:
 * harvest and collapse see what mapping put there.
 */
u64 s2_ept_pointer(const struct s2 *s2, bool flags);

/*
 * The list of EPTPs among which a guest switches by VMFUNC (25.6.14): one page, 4 KiB aligned.
 * Entry i is the pointer of spaces[i]; of NULL, and from `count` on, one that makes VMFUNC exit.
 */
#define S2_EPT_LIST 512
void s2_ept_list(u64 list[S2_EPT_LIST], const struct s2 *const *spaces, u32 count, bool flags);

#endif

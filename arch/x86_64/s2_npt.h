/*
 * NPT: the facts. AMD's nested tables are the host's long-mode tables (AMD64 APM volume 2, 15.25
 * and 5.3).
 *
 *   63 62..59 58..52    51..12  11..9 8 7     6     5        4   3   2    1     0
 *   NX key    software  address soft. G large dirty accessed PCD PWT user write present
 *
 *   large: 1 in a leaf above level 0. At level 0 the bit is PAT, and a large leaf has PAT in bit
 *   12, the lowest bit of the address; it is 0 always here, see s2_npt.c.
 *   user: 1 always; the guest's accesses are user accesses to these tables (15.25.5).
 *   key, G: have no meaning in nested tables.
 *
 * The table's depth is the host's (CR4.LA57 at VMRUN), whatever the space's size. nCR3 is the
 * root's address.
 */
#ifndef S2_NPT_H
#define S2_NPT_H

#include "hyp/s2.h"

extern const struct s2_format s2_npt;
extern const struct s2_format s2_npt5;

#endif

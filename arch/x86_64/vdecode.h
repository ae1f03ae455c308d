/*
 * Which instruction it was that met a device in memory. Hardware tells the address, but not what
 * the access was to do.
 *
 * Known are the moves between memory and a general register or an immediate: MOV (88, 89, 8A, 8B,
 * A0 to A3, C6 /0, C7 /0), MOVZX, MOVSX and MOVSXD, with any prefixes and any form of address.
 * Drivers' accessors are made of these. Pure: no guest, no state.
 *
 * Manual: Intel SDM volume 2, 2.1 and 2.2 (formats), chapter 4 (MOV, MOVSX/MOVSXD, MOVZX).
 */
#ifndef VDECODE_H
#define VDECODE_H

#include "hyp/types.h"

#define VDECODE_BYTES_MAX 15 /* hardware refuses longer ones (#GP) */

struct vdecode {
	u8 length;	    /* bytes of the instruction */
	bool write;	    /* to memory; else from memory into a register */
	u8 size;	    /* bytes of memory: 1, 2, 4, 8 */
	bool has_immediate; /* what is written is `immediate`, else `reg` */
	bool high_byte;	  /* AH, CH, DH, BH; `reg` is 0 to 3 then, the register whose part it is */
	bool sign_extend; /* on reads: what was read is extended by its sign, else by zeros */
	u8 reg;		  /* 0 to 15: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, ... */
	/*
	 * Bytes of the register: 1, 2, 4, 8, at least `size`. On reads, writing 4 clears the upper
	 * half of the 64 bits; 1 and 2 leave all other bytes as they are.
	 */
	u8 reg_size;
	u64 immediate; /* `size` bytes of it, extended by its sign where the instruction does so */
};

/*
 * Decodes the instruction that begins at `bytes`; `have` of them are there (more than
 * VDECODE_BYTES_MAX are not looked at), and `bits` is the size of the code segment: 16, 32 or 64.
 * False: not one of these, not one with memory, not one that hardware executes, or not all of it is
 * there; *d is undefined then.
 */
bool vdecode(const u8 *bytes, u32 have, unsigned bits, struct vdecode *d);

#endif

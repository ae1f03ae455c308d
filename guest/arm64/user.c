/*
 * What runs at EL0 can harm its own kernel at most: every system register read there in AArch64,
 * and in AArch32 the coprocessor accesses that a hypervisor may have trapped for itself. Each ends
 * in an exception at EL1 or in a value; none may end the guest.
 *
 * The user's code is one instruction and SVC, in a page that EL0 reaches at 2 GiB (an alias of the
 * first GiB of RAM, since AArch32 sees no more than 4).
 */
#include "lib.h"

#define USER_GIB 2
#define SPSR_MASKED 0x3c0
#define SPSR_EL1H 5
#define SPSR_AARCH32_USER 0x10
#define MRS_X0 0xd5300000u
#define SVC64 0xd4000001u
#define SVC32 0xef000000u
#define EC_SVC32 0x11

static u32 code[1024]
	__attribute__((aligned(4096))); /* two instructions, and room for their data */
static u64 user_esr;
static u32 user_vector_is_odd;

/* Goes to EL0 at `pc`; returns when user_returned() has seen its exception. */
void user_run(u64 pc, u64 spsr);
extern char user_return[];
__asm__(".text\n"
	".balign 4\n"
	".globl user_run\n"
	"user_run:\n"
	"	stp x19, x20, [sp, #-96]!\n"
	"	stp x21, x22, [sp, #16]\n"
	"	stp x23, x24, [sp, #32]\n"
	"	stp x25, x26, [sp, #48]\n"
	"	stp x27, x28, [sp, #64]\n"
	"	stp x29, x30, [sp, #80]\n"
	"	msr elr_el1, x0\n"
	"	msr spsr_el1, x1\n"
	"	add x0, x0, #2048\n" /* memory that user code may use: its own page */
	"	eret\n"
	".globl user_return\n"
	"user_return:\n"
	"	ldp x21, x22, [sp, #16]\n"
	"	ldp x23, x24, [sp, #32]\n"
	"	ldp x25, x26, [sp, #48]\n"
	"	ldp x27, x28, [sp, #64]\n"
	"	ldp x29, x30, [sp, #80]\n"
	"	ldp x19, x20, [sp], #96\n"
	"	ret\n");

static void user_returned(struct frame *frame)
{
	user_esr = read_sysreg(esr_el1);
	user_vector_is_odd += (frame->spsr & 0xf) != 0; /* not from EL0 */
	frame->elr = (u64)user_return;
	frame->spsr = SPSR_MASKED | SPSR_EL1H;
}

/* The exception class that one instruction at EL0 ends in; SVC means that it worked. */
static u64 user_try(u32 instruction, u32 svc, u64 spsr)
{
	u64 alias = ((u64)USER_GIB << 30) + ((u64)code - machine.ram_base);

	((volatile u32 *)code)[0] = instruction;
	((volatile u32 *)code)[1] = svc;
	__asm__ volatile(
		"dc cvau, %0\n\tdsb ish\n\tic ivau, %0\n\tic ialluis\n\tdsb ish\n\tisb" ::"r"(code)
		: "memory");
	user_run(alias, spsr);
	return ESR_EC(user_esr);
}

struct tally {
	u32 values, refused, other;
	u64 other_ec, other_instruction;
};

/* Undefined, trapped by EL1's own controls (the coprocessor classes, WFx, FP, SVE, SME), or an
 * abort. */
static bool is_refusal(u64 ec)
{
	return ec <= 0x0c || ec == 0x0e || ec == EC_SYSREG || ec == 0x19 || ec == 0x1d ||
	       ec == 0x20 || ec == 0x24 || ec == 0x38 || ec == 0x3c;
}

static void tally_add(struct tally *t, u32 instruction, u64 ec)
{
	if (ec == EC_SVC || ec == EC_SVC32) {
		t->values++;
	} else if (is_refusal(ec)) {
		t->refused++;
	} else {
		t->other++;
		t->other_ec = ec;
		t->other_instruction = instruction;
	}
}

static void report(const char *name, const struct tally *t)
{
	print("%s: %u worked, %u refused", name, t->values, t->refused);
	check(name, !t->other, "%u others, as %lx: EC %lx", t->other, t->other_instruction,
	      t->other_ec);
}

static void check_64(void)
{
	struct tally t = {0};

	for (u32 bits = 0; bits < 2 * 8 * 16 * 16 * 8; bits++) {
		u32 instruction = MRS_X0 | bits << 5;

		tally_add(&t, instruction, user_try(instruction, SVC64, SPSR_MASKED));
	}
	report("el0_reads", &t);
	check("el0_reads_something", t.values > 0, "nothing");
}

static const u32 words_64[] = {
	0xd4000002, /* hvc #0 */
	0xd4000003, /* smc #0 */
	0xd503207f, /* wfi */
	0xd503205f, /* wfe */
	0xd50b7420, /* dc zva, x0 */
	0xd5087620, /* dc ivac: EL1's */
	0xd508871f, /* tlbi vmalle1: EL1's */
	0x00000000, /* udf */
	0xd4200000, /* brk */
	0xd4400000, /* hlt */
	0xd69f03e0, /* eret */
};

/* ARM encodings, condition always. */
static const u32 words_32[] = {
	0xee100e10, /* mrc p14, 0, r0, c0, c0, 0: DBGDIDR */
	0xee101e10, /* mrc p14, 0, r1, c0, c0, 0 */
	0xee110e10, /* mrc p14, 0, r0, c1, c0, 0 */
	0xee100e11, /* mrc p14, 0, r0, c0, c1, 0: DBGDSCRint */
	0xee100e15, /* mrc p14, 0, r0, c0, c5, 0: DBGDTRRXint */
	0xee000e15, /* mcr p14, 0, r0, c0, c5, 0: DBGDTRTXint */
	0xeefe0e10, /* mrc p14, 7, r0, c14, c0, 0 */
	0xeef00e10, /* mrc p14, 7, r0, c0, c0, 0: JIDR */
	0xec510e00, /* mrrc p14, 0, r0, r1, c0: DBGDRAR... by its old form */
	0xec510e01, /* mrrc p14, 0, r0, r1, c1: DBGDRAR */
	0xec510e02, /* mrrc p14, 0, r0, r1, c2: DBGDSAR */
	0xed905e00, /* ldc p14, c5, [r0]: DBGDTRTXint */
	0xed805e00, /* stc p14, c5, [r0]: DBGDTRRXint */
	0xee300e10, /* mrc p14, 1, r0, c0, c0, 0: trace */
	0xee190f1d, /* mrc p15, 0, r0, c9, c13, 0: PMCCNTR */
	0xee190f1c, /* mrc p15, 0, r0, c9, c12, 0: PMCR */
	0xec510f09, /* mrrc p15, 0, r0, r1, c9: PMCCNTR */
	0xee1f0f10, /* mrc p15, 0, r0, c15, c0, 0: implementation-defined */
	0xee1b0f10, /* mrc p15, 0, r0, c11, c0, 0 */
	0xee1a0f10, /* mrc p15, 0, r0, c10, c0, 0 */
	0xee190f10, /* mrc p15, 0, r0, c9, c0, 0 */
	0xee100f10, /* mrc p15, 0, r0, c0, c0, 0: MIDR */
	0xee300f10, /* mrc p15, 1, r0, c0, c0, 0: CCSIDR */
	0xee110f10, /* mrc p15, 0, r0, c1, c0, 0: SCTLR */
	0xee070f5e, /* mcr p15, 0, r0, c7, c14, 2: DCCISW */
	0xee070fba, /* mcr p15, 0, r0, c7, c10, 5: DMB */
	0xee1d0f70, /* mrc p15, 0, r0, c13, c0, 3: TPIDRURO */
	0xec510f1e, /* mrrc p15, 1, r0, r1, c14: CNTVCT */
	0xec510f0e, /* mrrc p15, 0, r0, r1, c14: CNTPCT */
	0xee1e0f33, /* mrc p15, 0, r0, c14, c3, 1: CNTV_CTL */
	0xeef70a10, /* vmrs r0, mvfr0 */
	0xeef00a10, /* vmrs r0, fpsid */
	0xee080a10, /* vmov s16, r0 */
	0xe320f003, /* wfi */
	0xe320f002, /* wfe */
	0xe1200070, /* bkpt */
	0xe1400070, /* hvc */
	0xe1600070, /* smc */
	0xe7f000f0, /* udf */
	0xf1010200, /* setend be: the next instruction fetch is little-endian still */
	0xe1000090, /* swp r0, r0, [r0] */
};

static void check_words(const char *name, const u32 *words, u32 count, u32 svc, u64 spsr)
{
	struct tally t = {0};

	for (u32 i = 0; i < count; i++) {
		tally_add(&t, words[i], user_try(words[i], svc, spsr));
	}
	report(name, &t);
}

static void arm_timer_for_wfi(void)
{
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(INTID_VTIMER);
	write_sysreg(cntv_cval_el0, 0);
	write_sysreg(cntv_ctl_el0, 1);
}

void guest_main(void)
{
	mmu_map_user(USER_GIB, machine.ram_base);
	lower_handler = user_returned;
	arm_timer_for_wfi(); /* pending for good: a WFI that is let through must end */
	check_words("el0_instructions", words_64, ARRAY_SIZE(words_64), SVC64, SPSR_MASKED);
	check_64();
	if ((read_sysreg(id_aa64pfr0_el1) & 0xf) == 2) {
		check_words("aarch32_el0_instructions", words_32, ARRAY_SIZE(words_32), SVC32,
			    SPSR_MASKED | SPSR_AARCH32_USER);
	} else {
		print("no AArch32 at EL0");
	}
	check_equal("exceptions_came_from_el0", user_vector_is_odd, 0);
}

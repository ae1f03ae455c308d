/*
 * Every system register that an instruction can name is read, and those of what a hypervisor
 * withholds (performance monitors, debug, trace, implementation-defined, EL2's own) are written:
 * each gives a value or an undefined-instruction exception in the guest, and nothing else happens.
 * Then the instructions that trap: set/way maintenance, hints, breakpoints, calls.
 *
 * The MRS and MSR are made at run time: all 2 * 8 * 16 * 16 * 8 of them.
 */
#include "lib.h"

#define MRS_X0 0xd5300000u
#define MSR_X0 0xd5100000u
#define EC_SVE 0x19
#define EC_SME 0x1d
#define RET 0xd65f03c0u

static u32 code[2] __attribute__((aligned(64)));

struct tally {
	u32 values, undefined, other;
	u64 other_esr;
	u32 other_register;
};

static u32 encode(u32 op0, u32 op1, u32 crn, u32 crm, u32 op2)
{
	return (op0 & 1) << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5;
}

/* Runs one instruction with x0 = value; its x0 afterwards. */
static u64 run(u32 instruction, u64 value)
{
	register u64 x0 __asm__("x0") = value;

	((volatile u32 *)code)[0] = instruction;
	((volatile u32 *)code)[1] = RET;
	__asm__ volatile("dc cvau, %1\n\tdsb ish\n\tic ivau, %1\n\tdsb ish\n\tisb\n\tblr %1"
			 : "+r"(x0)
			 : "r"(code)
			 : "x30", "memory", "cc");
	return x0;
}

/* Undefined, or one of CPACR_EL1's own traps to EL1: SVE and SME registers where the CPU has them.
 */
static bool is_refusal(u64 ec)
{
	return ec == EC_UNKNOWN || ec == EC_SYSREG || ec == EC_SVE || ec == EC_SME;
}

static void try_one(struct tally *t, u32 instruction, u64 value)
{
	struct fault f;

	fault_expect();
	run(instruction, value);
	f = fault_end();
	if (!f.count) {
		t->values++;
	} else if (f.count == 1 && is_refusal(ESR_EC(f.esr))) {
		t->undefined++;
	} else {
		t->other++;
		t->other_esr = f.esr;
		t->other_register = instruction;
	}
}

static void report(const char *name, const struct tally *t)
{
	print("%s: %u values, %u undefined", name, t->values, t->undefined);
	check(name, !t->other, "%u others, as %x: esr %lx", t->other, t->other_register,
	      t->other_esr);
}

/* The identification space: what is not there reads as zero (Arm ARM D19.1). */
static void check_id_space(void)
{
	struct tally t = {0};

	for (u32 crm = 1; crm < 8; crm++) {
		for (u32 op2 = 0; op2 < 8; op2++) {
			try_one(&t, MRS_X0 | encode(3, 0, 0, crm, op2), 0);
		}
	}
	report("id_registers", &t);
	check_equal("id_registers_undefined", t.undefined, 0);
}

static void check_all_reads(void)
{
	struct tally t = {0};

	for (u32 bits = 0; bits < 2 * 8 * 16 * 16 * 8; bits++) {
		try_one(&t, MRS_X0 | bits << 5, 0);
	}
	report("all_reads", &t);
	check("some_are_undefined", t.undefined > 1000, "only %u", t.undefined);
}

static void write_range(struct tally *t, u32 op0, u32 op1, u32 crn)
{
	for (u32 crm = 0; crm < 16; crm++) {
		for (u32 op2 = 0; op2 < 8; op2++) {
			try_one(t, MSR_X0 | encode(op0, op1, crn, crm, op2), ~0ul);
			try_one(t, MSR_X0 | encode(op0, op1, crn, crm, op2), 0);
		}
	}
}

static void check_writes(void)
{
	struct tally debug = {0}, monitors = {0}, own = {0}, higher = {0};

	for (u32 crn = 0; crn < 16; crn++) {
		write_range(&debug, 2, 1, crn);
		for (u32 op1 = 4; op1 < 8; op1++) {
			write_range(&higher, 3, op1, crn);
		}
	}
	for (u32 op1 = 0; op1 < 4; op1++) {
		write_range(&monitors, 3, op1, 9);
		write_range(&own, 3, op1, 11);
		write_range(&own, 3, op1, 15);
	}
	report("writes_to_trace", &debug);
	report("writes_to_monitors", &monitors);
	report("writes_to_implementation_defined", &own);
	report("writes_to_higher_levels", &higher);
	check_equal("higher_levels_take_no_write", higher.values, 0);
}

/* Breakpoints and watchpoints, zero and ones; PSTATE.D is set, so none can strike. */
static void check_debug_writes(void)
{
	struct tally t = {0};

	for (u32 crm = 0; crm < 16; crm++) {
		for (u32 op2 = 4; op2 < 8; op2++) {
			try_one(&t, MSR_X0 | encode(2, 0, 0, crm, op2), ~0ul);
			try_one(&t, MSR_X0 | encode(2, 0, 0, crm, op2), 0);
		}
	}
	try_one(&t, MSR_X0 | encode(2, 0, 1, 0, 4), 0); /* OSLAR_EL1 */
	try_one(&t, MSR_X0 | encode(2, 0, 1, 3, 4), 0); /* OSDLR_EL1 */
	report("writes_to_debug", &t);
}

static void check_actlr(void)
{
	struct tally t = {0};

	try_one(&t, MSR_X0 | encode(3, 0, 1, 0, 1), 0);
	report("write_to_actlr", &t);
}

/* ---- Set/way ---- */

static u64 set_way_operand(u32 level, u32 set, u32 way, u32 ways, u32 line_shift)
{
	u32 way_shift = ways > 1 ? (u32)__builtin_clz(ways - 1) : 31;

	return (u64)way << way_shift | (u64)set << line_shift | level << 1;
}

static void clean_level(u32 level)
{
	u64 ccsidr;
	u32 sets, ways;

	write_sysreg(csselr_el1, level << 1);
	ccsidr = read_sysreg(ccsidr_el1);
	ways = (u32)(ccsidr >> 3 & 0x3ff) + 1;
	sets = (u32)(ccsidr >> 13 & 0x7fff) + 1;
	for (u32 set = 0; set < sets && set < 512; set++) {
		for (u32 way = 0; way < ways; way++) {
			u64 operand = set_way_operand(level, set, way, ways, (u32)(ccsidr & 7) + 4);

			__asm__ volatile("dc cisw, %0\n\tdc csw, %0" ::"r"(operand) : "memory");
		}
	}
}

/* As an old boot loader would: clean all by set and way, caches off, look. */
static void check_set_way(void)
{
	static volatile u64 words[512];
	u32 wrong = 0;

	for (u32 i = 0; i < 512; i++) {
		words[i] = i * 0x123456789ul;
	}
	for (u32 level = 0; level < 7; level++) {
		if (read_sysreg(clidr_el1) >> 3 * level & 6) {
			clean_level(level);
		}
	}
	mmu_off();
	for (u32 i = 0; i < 512; i++) {
		wrong += words[i] != i * 0x123456789ul;
	}
	mmu_on();
	check_equal("set_way_keeps_memory", wrong, 0);
}

/* ---- Instructions ---- */

static void expect_ec(const char *name, u32 ec)
{
	struct fault f = fault_end();

	check(name, f.count == 1 && ESR_EC(f.esr) == ec, "%u exceptions, esr %lx, want EC %x",
	      f.count, f.esr, ec);
}

static void check_instructions(void)
{
	fault_expect();
	__asm__ volatile(".inst 0x00000000"); /* UDF #0 */
	expect_ec("udf", EC_UNKNOWN);
	fault_expect();
	__asm__ volatile("brk #1");
	expect_ec("brk", 0x3c);
	fault_expect();
	__asm__ volatile("svc #1");
	expect_ec("svc", EC_SVC);
	fault_expect();
	__asm__ volatile("hlt #1");
	expect_ec("hlt", EC_UNKNOWN);
	fault_expect();
	__asm__ volatile("at s12e1r, %0" ::"r"(0ul));
	expect_ec("at_of_stage_2", EC_UNKNOWN);
	fault_expect();
	__asm__ volatile("tlbi vmalls12e1");
	expect_ec("tlbi_of_stage_2", EC_UNKNOWN);
	__asm__ volatile("sev\n\twfe\n\tsevl\n\twfe\n\tyield\n\tnop\n\tcsdb\n\tesb");
	check("hints", true, " ");
	__asm__ volatile(
		"tlbi vmalle1\n\ttlbi vmalle1is\n\ttlbi aside1is, xzr\n\t"
		"tlbi vaae1is, xzr\n\ttlbi vale1, xzr\n\tdsb sy\n\tic ialluis\n\tic iallu\n\t"
		"isb" ::
			: "memory");
	check("tlb_and_cache_maintenance", true, " ");
}

/* SVE, and what else the ID registers do not offer, is undefined rather than fatal. */
static void check_hidden(void)
{
	u64 pfr0 = read_sysreg(id_aa64pfr0_el1);
	struct fault f;

	write_sysreg(cpacr_el1, 0x3330000); /* let FP, SVE and SME through, were they there */
	fault_expect();
	__asm__ volatile(".inst 0x04bf5020" ::: "x0"); /* RDVL x0, #1 */
	f = fault_end();
	check("sve_is_as_the_id_register_says",
	      f.count == !(pfr0 >> 32 & 0xf) && (!f.count || ESR_EC(f.esr) == EC_UNKNOWN),
	      "ID says %lx, %u exceptions, esr %lx", pfr0 >> 32 & 0xf, f.count, f.esr);
	write_sysreg(cpacr_el1, 3ul << 20);
}

void guest_main(void)
{
	check_id_space();
	check_all_reads();
	check_writes();
	check_debug_writes();
	check_actlr();
	check_set_way();
	check_instructions();
	check_hidden();
}

/*
 * What belongs to a CPU stays with it: general, FP/SIMD and EL1 registers of CPUs that share a
 * physical one. Each CPU fills all of them with words of its own, computes for a while so that it
 * is preempted in the middle, and looks.
 *
 * Best with more CPUs than the machine has. Bootargs: ms=N (1000), how long.
 */
#include "lib.h"

#define SPIN 20000

struct fp_state {
	u64 q[64];
	u64 fpcr, fpsr;
} __attribute__((aligned(16)));

/* Loads all, spins, stores all: nothing of the compiler's comes between. */
void fp_load_spin_store(const struct fp_state *from, struct fp_state *to, u64 spin);
__asm__(".text\n"
	".balign 4\n"
	".globl fp_load_spin_store\n"
	"fp_load_spin_store:\n"
	"	.irp n, 0,2,4,6,8,10,12,14,16,18,20,22,24,26,28\n"
	"	ldr q\\n, [x0, #(16 * \\n)]\n"
	"	.endr\n"
	"	.irp n, 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,30,31\n"
	"	ldr q\\n, [x0, #(16 * \\n)]\n"
	"	.endr\n"
	"	add x0, x0, #512\n"
	"	ldp x3, x4, [x0]\n"
	"	msr fpcr, x3\n"
	"	msr fpsr, x4\n"
	"1:	subs x2, x2, #1\n"
	"	b.ne 1b\n"
	"	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"	str q\\n, [x1, #(16 * \\n)]\n"
	"	.endr\n"
	"	.irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"	str q\\n, [x1, #(16 * \\n)]\n"
	"	.endr\n"
	"	mrs x3, fpcr\n"
	"	mrs x4, fpsr\n"
	"	add x1, x1, #512\n"
	"	stp x3, x4, [x1]\n"
	"	ret\n");

/* Fills x3 to x28 with seed + n, spins, and returns how many are something else. */
u64 general_fill_spin_count(u64 seed, u64 spin);
__asm__(".text\n"
	".balign 4\n"
	".globl general_fill_spin_count\n"
	"general_fill_spin_count:\n"
	"	stp x19, x20, [sp, #-96]!\n"
	"	stp x21, x22, [sp, #16]\n"
	"	stp x23, x24, [sp, #32]\n"
	"	stp x25, x26, [sp, #48]\n"
	"	stp x27, x28, [sp, #64]\n"
	"	.irp n, 3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28\n"
	"	add x\\n, x0, #\\n\n"
	"	.endr\n"
	"1:	subs x1, x1, #1\n"
	"	b.ne 1b\n"
	"	mov x2, #0\n"
	"	.irp n, 3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28\n"
	"	add x1, x0, #\\n\n"
	"	cmp x\\n, x1\n"
	"	cinc x2, x2, ne\n"
	"	.endr\n"
	"	mov x0, x2\n"
	"	ldp x21, x22, [sp, #16]\n"
	"	ldp x23, x24, [sp, #32]\n"
	"	ldp x25, x26, [sp, #48]\n"
	"	ldp x27, x28, [sp, #64]\n"
	"	ldp x19, x20, [sp], #96\n"
	"	ret\n");

/* EL1 state that a kernel keeps, and any value will do for here. */
#define REGISTERS(X)                                                                               \
	X(tpidr_el0)                                                                               \
	X(tpidrro_el0)                                                                             \
	X(sp_el0)                                                                                  \
	X(elr_el1)                                                                                 \
	X(far_el1)                                                                                 \
	X(cntv_cval_el0)                                                                           \
	X(cntp_cval_el0)

#define FPCR_ROUND_UP (1ul << 22)
#define FPCR_FLUSH (1ul << 24)
#define FPSR_FLAGS 0x1ful

static struct tally {
	u64 rounds, fp_wrong, general_wrong, register_wrong;
	u64 pad[4];
} tallies[CPUS_MAX] __attribute__((aligned(64)));
static u64 until;

static u64 mix(u64 x)
{
	x = (x ^ x >> 31) * 0x9e3779b97f4a7c15ul;
	return x ^ x >> 29;
}

static void fp_round(struct tally *t, u64 seed)
{
	struct fp_state in, out;

	for (u32 i = 0; i < 64; i++) {
		in.q[i] = mix(seed + i);
	}
	in.fpcr = seed & 1 ? FPCR_ROUND_UP : FPCR_FLUSH;
	in.fpsr = seed & FPSR_FLAGS;
	fp_load_spin_store(&in, &out, SPIN);
	t->fp_wrong += memcmp(&in, &out, sizeof(in)) != 0;
}

static void registers_round(struct tally *t, u64 seed)
{
	/* Interrupts are masked and no fault is owed, so ELR and FAR are free to use. */
	u64 n = 0;

#define X(reg) write_sysreg(reg, mix(seed + n++));
	REGISTERS(X)
#undef X
	t->general_wrong += general_fill_spin_count(seed, SPIN) != 0;
	n = 0;
#define X(reg) t->register_wrong += read_sysreg(reg) != mix(seed + n++);
	REGISTERS(X)
#undef X
}

static void keep_state(u32 cpu)
{
	struct tally *t = &tallies[cpu];

	while (counter() < until) {
		u64 seed = mix((u64)cpu << 48 | t->rounds);

		fp_round(t, seed);
		registers_round(t, seed);
		t->rounds++;
	}
}

void guest_main(void)
{
	until = counter() + microseconds(1000 * bootarg("ms", 1000));
	cpu_run_all(keep_state);
	for (u32 cpu = 0; cpu < machine.cpu_count; cpu++) {
		const struct tally *t = &tallies[cpu];

		check("cpu_took_part", t->rounds > 10, "CPU %u: %lu rounds", cpu, t->rounds);
		check_equal("fp_registers_kept", t->fp_wrong, 0);
		check_equal("general_registers_kept", t->general_wrong, 0);
		check_equal("system_registers_kept", t->register_wrong, 0);
	}
}

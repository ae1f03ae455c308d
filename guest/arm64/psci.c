/*
 * Firmware calls: PSCI 1.1 (DEN0022), SMCCC 1.1 (DEN0028), TRNG (DEN0098), PV time (DEN0057).
 *
 * Right calls, wrong calls, boundary values, and words that mean nothing. Wants two CPUs or more.
 * At the end one CPU is sent to an address where nothing is: the others must not notice.
 *
 * QEMU itself answers words it does not know by an undefined-instruction exception, and has no
 * SMCCC discovery, TRNG or PV time: bare, those parts are left out.
 */
#include "lib.h"

#define CYCLES 100
#define SUSPEND_US 2000

#define TRNG_VERSION 0x84000050u
#define TRNG_FEATURES 0x84000051u
#define TRNG_GET_UUID 0x84000052u
#define TRNG_RND32 0x84000053u
#define TRNG_RND64 0xc4000053u
#define PV_TIME_FEATURES 0xc5000020u
#define PV_TIME_ST 0xc5000021u

/* ---- Which functions there are ---- */

static const struct {
	const char *name;
	u32 function;
} functions[] = {
	{"features_version", PSCI_VERSION},
	{"features_cpu_suspend64", PSCI_CPU_SUSPEND},
	{"features_cpu_suspend32", PSCI_CPU_SUSPEND32},
	{"features_cpu_off", PSCI_CPU_OFF},
	{"features_cpu_on64", PSCI_CPU_ON},
	{"features_cpu_on32", PSCI_CPU_ON32},
	{"features_affinity_info64", PSCI_AFFINITY_INFO},
	{"features_affinity_info32", PSCI_AFFINITY_INFO32},
	{"features_system_off", PSCI_SYSTEM_OFF},
	{"features_system_reset", PSCI_SYSTEM_RESET},
	{"features_features", PSCI_FEATURES},
};

static void check_features(void)
{
	for (u32 i = 0; i < ARRAY_SIZE(functions); i++) {
		int r = psci(PSCI_FEATURES, functions[i].function, 0, 0);

		check(functions[i].name, r >= 0, "%d", r);
	}
	check_equal("features_of_nonsense", (u32)psci(PSCI_FEATURES, 0x8400003f, 0, 0),
		    (u32)PSCI_NOT_SUPPORTED);
	check_equal("features_of_zero", (u32)psci(PSCI_FEATURES, 0, 0, 0), (u32)PSCI_NOT_SUPPORTED);
}

static const u32 nonsense[] = {
	0,	    1,		0x12345678, 0x7fffffff, 0x8400003f, 0xc400003f,
	0x84ffffff, 0xc4000000, 0xc4000002, 0x8600ff3f, 0x85001234, 0x87654321,
	0xb2000000, 0xbf00fe00, 0xffffffff, 0x80007ffe,
};

static void check_nonsense(void)
{
	for (u32 i = 0; i < ARRAY_SIZE(nonsense); i++) {
		struct smc_result r;
		struct fault f;

		fault_expect();
		r = hvc(nonsense[i], ~0ul, ~0ul, ~0ul);
		f = fault_end();
		if (f.count || (int)r.x0 != PSCI_NOT_SUPPORTED) {
			check("nonsense_is_not_supported", f.count && guest_is_bare(),
			      "%x gave %d, %u faults", nonsense[i], (int)r.x0, f.count);
		}
	}
	check("nonsense_was_survived", true, " ");
}

static void check_hvc_immediate(void)
{
	struct fault f;

	fault_expect();
	__asm__ volatile("mov w0, #0x84000000\n\thvc #0x1234" ::
				 : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9",
				   "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
				   "memory");
	f = fault_end();
	check("hvc_with_another_immediate_is_survived", f.count <= 1, "%u faults", f.count);
	fault_expect();
	__asm__ volatile("mov w0, #0x84000000\n\tsmc #0" ::
				 : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9",
				   "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
				   "memory");
	f = fault_end();
	check("smc_is_survived", f.count <= 1, "%u faults", f.count);
}

/* Calls keep what SMCCC 1.1 says they keep: x4 to x30 (x4..x17 of them only since 1.1). */
static void check_registers_kept(void)
{
	u64 changed;

	__asm__ volatile(".irp n, 4,5,6,7,8,9,10,11,12,13,14,15,16,17\n\t"
			 "mov x\\n, #(0x1000 + \\n)\n\t"
			 ".endr\n\t"
			 "mov w0, #0x84000000\n\t"
			 "hvc #0\n\t"
			 "mov %0, #0\n\t"
			 ".irp n, 4,5,6,7,8,9,10,11,12,13,14,15,16,17\n\t"
			 "mov x1, #(0x1000 + \\n)\n\t"
			 "cmp x\\n, x1\n\t"
			 "cinc %0, %0, ne\n\t"
			 ".endr"
			 : "=&r"(changed)
			 :
			 : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
			   "x12", "x13", "x14", "x15", "x16", "x17", "memory", "cc");
	check_equal("call_keeps_x4_to_x17", changed, 0);
}

/* ---- Power ---- */

/* Entered by CPU_ON with the MMU off: stores how it found itself at x0, then goes off. */
extern char probe_entry[];
__asm__(".text\n"
	".balign 4\n"
	".globl probe_entry\n"
	"probe_entry:\n"
	"	mrs x1, CurrentEL\n"
	"	mrs x2, sctlr_el1\n"
	"	stp x1, x2, [x0]\n"
	"	mrs x1, daif\n"
	"	mrs x2, spsel\n"
	"	stp x1, x2, [x0, #16]\n"
	"	mrs x1, mpidr_el1\n"
	"	stp x1, x0, [x0, #32]\n"
	"	dsb sy\n"
	"	mov w0, #0x0002\n"
	"	movk w0, #0x8400, lsl #16\n" /* CPU_OFF */
	"	hvc #0\n"
	"	b .\n");

struct probe {
	u64 current_el, sctlr, daif, spsel, mpidr, context;
};

static void check_power_on_state(void)
{
	static struct probe probe __attribute__((aligned(64)));
	volatile struct probe *p = &probe;
	int r;

	/* No line of it may be in the cache while a CPU without caches writes it. */
	__asm__ volatile("dc civac, %0\n\tdsb sy" ::"r"(&probe) : "memory");
	r = psci(PSCI_CPU_ON, machine.cpu_ids[1], (u64)probe_entry, (u64)&probe);
	check_equal("cpu_on", (u32)r, PSCI_SUCCESS);
	do {
		__asm__ volatile("dc civac, %0\n\tdsb sy" ::"r"(&probe) : "memory");
	} while (!p->context);
	cpu_wait_off(1);
	check_equal("cpu_on_enters_at_el1", p->current_el, 4);
	check_equal("cpu_on_enters_with_mmu_and_caches_off", p->sctlr & 0x1005, 0);
	check_equal("cpu_on_enters_masked", p->daif, 0x3c0);
	check_equal("cpu_on_enters_on_sp_elx", p->spsel, 1);
	check_equal("cpu_on_has_its_mpidr", p->mpidr & 0xff00fffffful, machine.cpu_ids[1]);
	check_equal("cpu_on_gives_context", p->context, (u64)&probe);
}

static void check_cpu_on_refusals(void)
{
	u64 me = machine.cpu_ids[0];
	u64 nobody = machine.cpu_ids[machine.cpu_count - 1] + 1;

	check_equal("cpu_on_self", (u32)psci(PSCI_CPU_ON, me, (u64)probe_entry, 0),
		    (u32)PSCI_ALREADY_ON);
	check_equal("cpu_on_nobody", (u32)psci(PSCI_CPU_ON, nobody, (u64)probe_entry, 0),
		    (u32)PSCI_INVALID_PARAMETERS);
	check_equal("cpu_on_garbage", (u32)psci(PSCI_CPU_ON, ~0ul, (u64)probe_entry, 0),
		    (u32)PSCI_INVALID_PARAMETERS);
	check_equal("cpu_on_other_affinity",
		    (u32)psci(PSCI_CPU_ON, me | 1ul << 32, (u64)probe_entry, 0),
		    (u32)PSCI_INVALID_PARAMETERS);
	check_equal("cpu_on32_self", (u32)psci(PSCI_CPU_ON32, me, (u64)probe_entry, 0),
		    (u32)PSCI_ALREADY_ON);
}

static void check_affinity_info(void)
{
	u64 nobody = machine.cpu_ids[machine.cpu_count - 1] + 1;

	check_equal("affinity_of_self", (u32)psci(PSCI_AFFINITY_INFO, machine.cpu_ids[0], 0, 0),
		    AFFINITY_ON);
	check_equal("affinity32_of_self", (u32)psci(PSCI_AFFINITY_INFO32, machine.cpu_ids[0], 0, 0),
		    AFFINITY_ON);
	check_equal("affinity_of_one_off", (u32)psci(PSCI_AFFINITY_INFO, machine.cpu_ids[1], 0, 0),
		    AFFINITY_OFF);
	check_equal("affinity_of_nobody", (u32)psci(PSCI_AFFINITY_INFO, nobody, 0, 0),
		    (u32)PSCI_INVALID_PARAMETERS);
	check_equal("affinity_of_garbage", (u32)psci(PSCI_AFFINITY_INFO, ~0ul, 0, 0),
		    (u32)PSCI_INVALID_PARAMETERS);
	if (!guest_is_bare()) { /* QEMU looks at no level */
		check_equal("affinity_at_level_99",
			    (u32)psci(PSCI_AFFINITY_INFO, machine.cpu_ids[0], 99, 0),
			    (u32)PSCI_INVALID_PARAMETERS);
	}
}

static volatile u32 running, released;

static void wait_for_release(u32 cpu)
{
	(void)cpu;
	running = 1;
	while (!released) {
		__asm__ volatile("yield" ::: "memory");
	}
}

/* From CPU_ON's success until its own CPU_OFF a CPU is not off, whether it has run yet or not. */
static void check_affinity_of_started(void)
{
	u32 seen_off = 0;

	cpu_start(1, wait_for_release);
	for (u32 i = 0; i < 1000; i++) {
		seen_off += psci(PSCI_AFFINITY_INFO, machine.cpu_ids[1], 0, 0) == AFFINITY_OFF;
	}
	check("cpu_is_not_off_after_cpu_on", !seen_off || guest_is_bare(), "%u of 1000 times",
	      seen_off);
	check("started_cpu_runs", wait_until(running, 2000), "it does not");
	check_equal("cpu_on_of_one_that_is_on",
		    (u32)psci(PSCI_CPU_ON, machine.cpu_ids[1], (u64)probe_entry, 0),
		    (u32)PSCI_ALREADY_ON);
	released = 1;
	cpu_wait_off(1);
}

static u32 cycles_run;

static void cycle(u32 cpu)
{
	(void)cpu;
	__atomic_fetch_add(&cycles_run, 1, __ATOMIC_RELAXED);
}

static void check_cycles(void)
{
	u32 refused = 0;

	for (u32 i = 0; i < CYCLES; i++) {
		refused += cpu_start(1, cycle) != PSCI_SUCCESS;
		cpu_wait_off(1);
	}
	check_equal("cpu_on_off_cycles_all_accepted", refused, 0);
	check_equal("cpu_on_off_cycles_all_run", __atomic_load_n(&cycles_run, __ATOMIC_ACQUIRE),
		    CYCLES);
}

/* ---- Suspend: the timer's interrupt, masked at the CPU, must end it ---- */

static void suspend(const char *name, u32 function, u32 state, bool must_work)
{
	u64 due = counter() + microseconds(SUSPEND_US), now;
	int r;

	write_sysreg(cntv_cval_el0, due);
	write_sysreg(cntv_ctl_el0, 1);
	r = psci(function, state, (u64)probe_entry, 0);
	now = counter();
	if (must_work) {
		check(name, r == PSCI_SUCCESS && now >= due, "%d, %ld ticks from the wake", r,
		      (s64)(now - due));
	} else {
		check(name, r == PSCI_SUCCESS || r == PSCI_INVALID_PARAMETERS || r == PSCI_DENIED,
		      "%d", r);
	}
	write_sysreg(cntv_ctl_el0, 0);
}

static void check_suspend(void)
{
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(INTID_VTIMER);
	suspend("suspend_wakes_by_timer", PSCI_CPU_SUSPEND, 0, true);
	suspend("suspend32_wakes_by_timer", PSCI_CPU_SUSPEND32, 0, true);
	suspend("suspend_reserved_state", PSCI_CPU_SUSPEND, 0xfffe0000, false);
	gic_disable(INTID_VTIMER);
}

/* ---- What is not PSCI ---- */

static void check_smccc(void)
{
	int version = psci(SMCCC_VERSION, 0, 0, 0);

	check("smccc_version", version >= 0x10001, "%x", version);
	check("smccc_is_a_psci_feature", psci(PSCI_FEATURES, SMCCC_VERSION, 0, 0) == 0, "%d",
	      psci(PSCI_FEATURES, SMCCC_VERSION, 0, 0));
	check("arch_features_of_itself", psci(SMCCC_ARCH_FEATURES, SMCCC_ARCH_FEATURES, 0, 0) >= 0,
	      "%d", psci(SMCCC_ARCH_FEATURES, SMCCC_ARCH_FEATURES, 0, 0));
	check_equal("arch_features_of_nonsense", (u32)psci(SMCCC_ARCH_FEATURES, 0x80003fff, 0, 0),
		    (u32)PSCI_NOT_SUPPORTED);
	check_equal("function_is_w0_alone",
		    (u32)hvc(0xabcd000000000000ul | PSCI_VERSION, 0, 0, 0).x0,
		    (u32)psci(PSCI_VERSION, 0, 0, 0));
}

/* Where there is no generator worth the name, the interface says so as a whole, and gives nothing.
 */
static void check_no_trng(void)
{
	struct smc_result r = hvc(TRNG_RND64, 64, 0, 0);

	print("no TRNG");
	check_equal("no_trng_features", (u32)psci(TRNG_FEATURES, TRNG_RND64, 0, 0),
		    (u32)PSCI_NOT_SUPPORTED);
	check_equal("no_trng_uuid", (u32)psci(TRNG_GET_UUID, 0, 0, 0), (u32)PSCI_NOT_SUPPORTED);
	check("no_trng_bits", (int)r.x0 < 0, "%d, %lx", (int)r.x0, r.x3);
}

static void check_trng_sizes(void)
{
	struct smc_result r;

	check_equal("trng_0_bits", (u32)psci(TRNG_RND64, 0, 0, 0), (u32)PSCI_INVALID_PARAMETERS);
	check_equal("trng_193_bits", (u32)psci(TRNG_RND64, 193, 0, 0),
		    (u32)PSCI_INVALID_PARAMETERS);
	check_equal("trng32_97_bits", (u32)psci(TRNG_RND32, 97, 0, 0),
		    (u32)PSCI_INVALID_PARAMETERS);
	r = hvc(TRNG_RND64, 65, 0, 0);
	check("trng_65_bits_and_no_more", r.x0 == 0 && r.x1 == 0 && r.x2 <= 1, "%ld %lx %lx",
	      (s64)r.x0, r.x1, r.x2);
	r = hvc(TRNG_RND32, 33, 0, 0);
	check("trng32_33_bits_and_no_more",
	      r.x0 == 0 && r.x1 == 0 && r.x2 <= 1 && r.x3 <= 0xffffffff, "%ld %lx %lx %lx",
	      (s64)r.x0, r.x1, r.x2, r.x3);
}

static void check_trng(void)
{
	struct smc_result a, b;
	int version = psci(TRNG_VERSION, 0, 0, 0);

	if (version == PSCI_NOT_SUPPORTED) {
		check_no_trng();
		return;
	}
	check("trng_version", version >= 0x10000, "%x", version);
	check("trng_features", psci(TRNG_FEATURES, TRNG_RND64, 0, 0) >= 0, "none");
	check("trng_uuid", (int)hvc(TRNG_GET_UUID, 0, 0, 0).x0 != PSCI_NOT_SUPPORTED, "none");
	check_trng_sizes();
	a = hvc(TRNG_RND64, 192, 0, 0);
	b = hvc(TRNG_RND64, 192, 0, 0);
	check_equal("trng_192_bits", (u32)a.x0, 0);
	check("trng_differs", a.x1 != b.x1 && a.x2 != b.x2 && a.x3 != b.x3, "it repeats");
}

static u64 pv_records[CPUS_MAX];

static void pv_record_get(u32 cpu)
{
	pv_records[cpu] = hvc(PV_TIME_ST, 0, 0, 0).x0;
}

static void check_pv_time(void)
{
	u64 record, stolen;

	check_equal("pv_time_features_of_itself",
		    (u32)psci(PV_TIME_FEATURES, PV_TIME_FEATURES, 0, 0), 0);
	check_equal("pv_time_features_of_st", (u32)psci(PV_TIME_FEATURES, PV_TIME_ST, 0, 0), 0);
	check_equal("pv_time_features_of_nonsense", (u32)psci(PV_TIME_FEATURES, 0xc500003f, 0, 0),
		    (u32)PSCI_NOT_SUPPORTED);
	cpu_run_all(pv_record_get);
	record = pv_records[0];
	if (!check("pv_time_record", record != ~0ul && record % 64 == 0, "%lx", record)) {
		return;
	}
	check_equal("pv_time_revision_and_attributes", read64(record), 0);
	stolen = read64(record + 8);
	wait_microseconds(1000);
	check("pv_time_is_monotonic", read64(record + 8) >= stolen, "it went back");
	check("pv_time_records_differ", pv_records[1] != record, "both CPUs have %lx", record);
}

static void check_migration(void)
{
	int r = psci(PSCI_MIGRATE_INFO_TYPE, 0, 0, 0);

	check("migrate_info_type", r == 2 || r == PSCI_NOT_SUPPORTED, "%d", r);
}

static void check_lost_cpu(void)
{
	int r = psci(PSCI_CPU_ON, machine.cpu_ids[1], HOLE_BASE, 0);

	check("cpu_on_into_a_hole", r == PSCI_SUCCESS || r == PSCI_INVALID_ADDRESS, "%d", r);
	wait_microseconds(1000);
	check("others_go_on", psci(PSCI_VERSION, 0, 0, 0) > 0, " ");
}

void guest_main(void)
{
	check_equal("psci_version", (u32)psci(PSCI_VERSION, 0, 0, 0), 0x10001);
	check("two_cpus", machine.cpu_count >= 2, "this guest is configured with one");
	check_features();
	check_nonsense();
	check_migration();
	check_power_on_state();
	check_cpu_on_refusals();
	check_affinity_info();
	check_affinity_of_started();
	check_cycles();
	check_suspend();
	if (!guest_is_bare()) {
		check_registers_kept();
		check_hvc_immediate();
		check_smccc();
		check_trng();
		check_pv_time();
	}
	check_lost_cpu();
}

/*
 * The scheduler. One lock, one list of runnable vCPUs in order of virtual run time, one list of
 * sleepers. There are few vCPUs and few CPUs: lists are short, and fairness is exact.
 *
 * - A vCPU that wakes takes an idle CPU. Else CPUs that ran alone until now are asked to choose
 * again, so that they set a slice timer and trap WFI; and the one whose vCPU has had most, if it
 * gives way.
 * - While nobody waits no slice timer runs; and while every vCPU can have a CPU to itself, WFI is
 * not trapped: the guest sleeps in hardware.
 * - A sleeper's deadline is watched by the hypervisor's timers of all CPUs, set when each chooses.
 */
#include "hyp/sched.h"

#include "hyp/account.h"
#include "hyp/log.h"
#include "hyp/time.h"

#include <arch/cpu.h>
#include <arch/vm.h>

#define SLICE_NS 10000000ull
/* A vCPU gives way only to one that has had this much less: switching is not free. */
#define YIELD_GRAIN_NS (SLICE_NS / 8)
#define WEIGHT_UNIT CONFIG_WEIGHT_DEFAULT

static struct {
	struct lock lock;
	struct vcpu *runnable; /* by vruntime, least first */
	struct vcpu *sleeping; /* BLOCKED with a deadline, by deadline */
	u32 on_count;	       /* vCPUs that are not OFF */
	u64 vruntime_floor; /* the most that a vCPU taken to run has had: sleepers catch up to it */
	/* Each CPU's own: to whom the vCPU that is loaded there gives its turn, or NULL. */
	struct vcpu *named[CPU_MAX];
} sched;

/* What is to be done from time to time, by CPU 0 or by whichever comes first. */
#define CHORES_MAX 8

static struct chore {
	u64 period_ticks;
	u64 next; /* ticks; atomic */
	void (*fn)(void);
	bool any_cpu;
	bool is_on; /* some CPU is at it */
} chores[CHORES_MAX];
static u32 chore_count;

/* ---- Lists; the lock is held ----------------------------------------------------------------- */

static void list_remove(struct vcpu **list, struct vcpu *vcpu)
{
	for (; *list; list = &(*list)->next) {
		if (*list == vcpu) {
			*list = vcpu->next;
			return;
		}
	}
}

static void insert_runnable(struct vcpu *vcpu)
{
	struct vcpu **at = &sched.runnable;

	while (*at && (*at)->vruntime <= vcpu->vruntime) {
		at = &(*at)->next;
	}
	vcpu->next = *at;
	*at = vcpu;
	vcpu->state = VCPU_RUNNABLE;
	vcpu->changed_at = arch_now();
}

static void insert_sleeping(struct vcpu *vcpu, u64 deadline)
{
	struct vcpu **at = &sched.sleeping;

	vcpu->wake_at = deadline;
	while (*at && (*at)->wake_at <= deadline) {
		at = &(*at)->next;
	}
	vcpu->next = *at;
	*at = vcpu;
}

/* Who slept long does not come back with a claim to all that time. */
static void make_runnable(struct vcpu *vcpu)
{
	u64 slice = SLICE_NS;

	if (sched.vruntime_floor > slice) {
		vcpu->vruntime = max_u64(vcpu->vruntime, sched.vruntime_floor - slice);
	}
	insert_runnable(vcpu);
}

static void wake_sleepers(u64 now)
{
	while (sched.sleeping && sched.sleeping->wake_at <= now) {
		struct vcpu *vcpu = sched.sleeping;

		sched.sleeping = vcpu->next;
		make_runnable(vcpu);
	}
}

static struct cpu *find_idle(void)
{
	for (u32 i = 0; i < cpu_count; i++) {
		if (load_relaxed(&cpus[i].idle)) {
			return &cpus[i];
		}
	}
	return NULL;
}

/* Virtual run time with what is not charged yet. */
static u64 vruntime_now(const struct vcpu *vcpu, u64 now)
{
	u64 ns = ticks_to_ns(now - load_relaxed(&vcpu->changed_at));

	return load_relaxed(&vcpu->vruntime) + ns * WEIGHT_UNIT / vcpu->vm->weight;
}

static void ask_to_choose(struct cpu *cpu)
{
	struct vcpu *current = load_relaxed(&cpu->current);

	if (current && !(load_relaxed(&current->requests) & VCPU_REQUEST_YIELD)) {
		atomic_or(&current->requests, VCPU_REQUEST_YIELD);
		cpu_kick(cpu);
	}
}

/* Somebody waits, and no CPU is idle. */
static void ask_busy_cpus(const struct vcpu *waiting)
{
	struct cpu *most = NULL;
	u64 now = arch_now(), most_had = waiting->vruntime + YIELD_GRAIN_NS;

	for (u32 i = 0; i < cpu_count; i++) {
		struct vcpu *current = load_relaxed(&cpus[i].current);

		if (!cpus[i].contended) {
			ask_to_choose(&cpus[i]);
		} else if (current && vruntime_now(current, now) > most_had) {
			most = &cpus[i];
			most_had = vruntime_now(current, now);
		}
	}
	if (most) {
		ask_to_choose(most);
	}
}

static void call_for_cpu(void)
{
	struct cpu *idle = find_idle();

	if (idle) {
		idle->idle = false; /* so that the next comer calls another */
		cpu_kick(idle);
	} else {
		ask_busy_cpus(sched.runnable);
	}
}

/* ---- From outside -------------------------------------------------------------------------- */

void sched_wake(struct vcpu *vcpu)
{
	lock_take(&sched.lock);
	if (vcpu->state == VCPU_BLOCKED) {
		list_remove(&sched.sleeping, vcpu);
		make_runnable(vcpu);
		call_for_cpu();
	}
	lock_drop(&sched.lock);
}

bool sched_start(struct vcpu *vcpu)
{
	bool was_off;

	lock_take(&sched.lock);
	was_off = vcpu->state == VCPU_OFF;
	if (was_off) {
		sched.on_count++;
		make_runnable(vcpu);
		call_for_cpu();
	}
	lock_drop(&sched.lock);
	return was_off;
}

bool sched_yield_to(struct vcpu *to)
{
	struct cpu *cpu = this_cpu();

	if (load_relaxed(&to->state) != VCPU_RUNNABLE) {
		return false;
	}
	sched.named[cpu->id] = to;
	atomic_or(&cpu->current->requests, VCPU_REQUEST_YIELD);
	return true;
}

void sched_tick(void)
{
	struct cpu *cpu = this_cpu();

	cpu->timer_deadline = ~0ull;
	if (cpu->current) {
		atomic_or(&cpu->current->requests, VCPU_REQUEST_YIELD);
	} else {
		store_relaxed(&cpu->idle, false);
	}
}

static void add_chore(u32 ms, void (*fn)(void), bool any_cpu)
{
	u64 period = ns_to_ticks(ms * 1000000ull);

	check(chore_count < CHORES_MAX);
	chores[chore_count++] = (struct chore){
		.period_ticks = period, .next = arch_now() + period, .fn = fn, .any_cpu = any_cpu};
}

void sched_every(u32 ms, void (*fn)(void))
{
	add_chore(ms, fn, false);
}

void sched_every_somewhere(u32 ms, void (*fn)(void))
{
	add_chore(ms, fn, true);
}

void sched_no_chores(void)
{
	chore_count = 0;
}

/* While it is on, nobody's timer waits for it; who has done it sets its own anew, and so there is
 * always one that does. */
static void do_chore(struct chore *chore)
{
	if (__atomic_exchange_n(&chore->is_on, true, __ATOMIC_ACQUIRE)) {
		return;
	}
	if (arch_now() >= load_relaxed(&chore->next)) {
		store_relaxed(&chore->next, ~0ull);
		chore->fn();
		store_relaxed(&chore->next, arch_now() + chore->period_ticks);
	}
	store_release(&chore->is_on, false);
}

static void keep_house(struct cpu *cpu)
{
	for (u32 i = 0; i < chore_count; i++) {
		struct chore *chore = &chores[i];

		if ((chore->any_cpu || cpu->id == 0) && arch_now() >= load_relaxed(&chore->next)) {
			do_chore(chore);
		}
	}
}

/* When this CPU has to look after them. */
static u64 next_chore(const struct cpu *cpu)
{
	u64 next = ~0ull;

	for (u32 i = 0; i < chore_count; i++) {
		if (chores[i].any_cpu || cpu->id == 0) {
			next = min_u64(next, load_relaxed(&chores[i].next));
		}
	}
	return next;
}

/* ---- Choosing ------------------------------------------------------------------------------ */

/* The timer goes to what comes first: a sleeper's deadline, the end of the slice if somebody waits,
 * chores. */
static void set_timer(struct cpu *cpu, u64 now)
{
	u64 deadline = sched.sleeping ? sched.sleeping->wake_at : ~0ull;

	cpu->contended = sched.runnable != NULL;
	if (cpu->contended) {
		deadline = min_u64(deadline, now + ns_to_ticks(SLICE_NS));
	}
	deadline = min_u64(deadline, next_chore(cpu));
	if (deadline != cpu->timer_deadline) {
		cpu->timer_deadline = deadline;
		arch_timer_set(deadline);
	}
}

static void start_running(struct cpu *cpu, struct vcpu *vcpu, u64 now)
{
	vcpu->stolen_ns += ticks_to_ns(now - vcpu->changed_at);
	vcpu->state = VCPU_RUNNING;
	vcpu->changed_at = now;
	store_release(&vcpu->cpu, cpu);
	sched.vruntime_floor = max_u64(sched.vruntime_floor, vcpu->vruntime);
}

static void charge(struct vcpu *vcpu, u64 now)
{
	u64 ns = ticks_to_ns(now - vcpu->changed_at);

	vcpu->run_ns += ns;
	vcpu->vruntime += ns * WEIGHT_UNIT / vcpu->vm->weight;
	vcpu->changed_at = now;
}

/* Did this CPU's vCPU give its turn to somebody, and may that have it? What it runs is charged to
 * it as ever, so turns that a guest's vCPUs give each other keep nobody waiting more than a slice.
 */
static bool named_goes_first(const struct cpu *cpu)
{
	const struct vcpu *named = sched.named[cpu->id];

	return named && named->state == VCPU_RUNNABLE &&
	       named->vruntime <= sched.runnable->vruntime + SLICE_NS;
}

static struct vcpu *take_first(struct cpu *cpu)
{
	struct vcpu *first = named_goes_first(cpu) ? sched.named[cpu->id] : sched.runnable;

	sched.named[cpu->id] = NULL;
	if (first) {
		list_remove(&sched.runnable, first);
	}
	return first;
}

/* The vCPU with the least virtual run time, or the one that was named; NULL: this CPU is idle. */
static struct vcpu *choose(struct cpu *cpu)
{
	u64 now = arch_now();
	struct vcpu *vcpu;

	lock_take(&sched.lock);
	cpu->idle = false;
	wake_sleepers(now);
	vcpu = take_first(cpu);
	if (vcpu) {
		start_running(cpu, vcpu, now);
		if (sched.runnable && find_idle()) {
			call_for_cpu();
		}
	}
	cpu->idle = !vcpu;
	set_timer(cpu, now);
	lock_drop(&sched.lock);
	return vcpu;
}

/* It was asked to choose again: does the vCPU that is loaded go on? */
static bool goes_on(struct cpu *cpu, struct vcpu *vcpu, enum vcpu_leave leave)
{
	u64 now = arch_now();
	bool stays;

	lock_take(&sched.lock);
	charge(vcpu, now);
	wake_sleepers(now);
	if (leave == LEAVE_RELAX && sched.runnable) {
		/* What it waits for may be done by whom it keeps waiting: it goes behind the first.
		 */
		vcpu->vruntime = max_u64(vcpu->vruntime, sched.runnable->vruntime);
		stays = false;
	} else {
		stays = !sched.runnable ||
			(!named_goes_first(cpu) &&
			 vcpu->vruntime < sched.runnable->vruntime + YIELD_GRAIN_NS);
	}
	if (stays) {
		sched.named[cpu->id] = NULL;
		if (sched.runnable && find_idle()) {
			call_for_cpu();
		}
		set_timer(cpu, now);
	}
	lock_drop(&sched.lock);
	return stays;
}

/* Did what it waits for, or was kept from running by, change while it was on its way here? */
static bool may_run(const struct vcpu *vcpu, enum vcpu_leave leave)
{
	u32 requests = load_relaxed(&vcpu->requests);

	if (leave == LEAVE_PAUSE) {
		return !(requests & VCPU_REQUEST_PAUSE) || (requests & VCPU_REQUEST_STOP);
	}
	return requests & ~VCPU_REQUEST_WAIT;
}

/* It is loaded nowhere any more: where does it go? */
static void settle(struct vcpu *vcpu, enum vcpu_leave leave, u64 deadline)
{
	struct vm *vm = vcpu->vm;
	bool last = false;

	lock_take(&sched.lock);
	charge(vcpu, arch_now());
	store_release(&vcpu->cpu, (struct cpu *)NULL);
	if (leave == LEAVE_YIELD || leave == LEAVE_RELAX) {
		insert_runnable(vcpu);
	} else if (leave == LEAVE_STOP) {
		store_release(&vcpu->state, VCPU_OFF);
		sched.on_count--;
		last = atomic_sub(&vm->vcpus_on, 1) == 0;
	} else {
		vcpu->state = VCPU_BLOCKED;
		fence_full(); /* pairs with vcpu_request */
		insert_sleeping(vcpu, leave == LEAVE_BLOCK ? deadline : ~0ull);
		if (may_run(vcpu, leave)) {
			list_remove(&sched.sleeping, vcpu);
			insert_runnable(vcpu);
		}
	}
	lock_drop(&sched.lock);
	if (last) {
		vm_all_off(vm);
	}
}

/* ---- The loop ------------------------------------------------------------------------------ */

/*
 * A vCPU that sleeps in an untrapped WFI counts as running: where others may want its CPU, that
 * would be charged to it, and it would wait behind them when it wakes.
 */
static bool wfi_is_trapped(const struct cpu *cpu)
{
	return cpu->contended || load_relaxed(&sched.on_count) > cpu_count;
}

static void run(struct cpu *cpu, struct vcpu *vcpu)
{
	enum vcpu_leave leave;
	u64 deadline;

	cpu->current = vcpu;
	arch_vcpu_load(vcpu);
	if (unlikely(account_before_guest_ticks == 0)) {
		account_before_guest_ticks = arch_now();
	}
	for (;;) {
		arch_vcpu_trap_idle(vcpu, wfi_is_trapped(cpu));
		leave = vcpu_run(vcpu);
		keep_house(cpu);
		if ((leave != LEAVE_YIELD && leave != LEAVE_RELAX) || !goes_on(cpu, vcpu, leave)) {
			break;
		}
	}
	deadline = leave == LEAVE_BLOCK ? arch_vcpu_deadline(vcpu) : ~0ull;
	arch_vcpu_put(vcpu, leave == LEAVE_YIELD || leave == LEAVE_RELAX);
	store_relaxed(&cpu->current, (struct vcpu *)NULL);
	settle(vcpu, leave, deadline);
}

/* cpu->idle was set under the lock, and is cleared by whoever calls this CPU, or by its timer. */
static void idle(struct cpu *cpu)
{
	while (load_relaxed(&cpu->idle)) {
		arch_cpu_idle();
		arch_irq_poll();
		keep_house(cpu);
	}
}

noreturn_fn void sched_loop(void)
{
	struct cpu *cpu = this_cpu();

	cpu->timer_deadline = ~0ull;
	for (;;) {
		struct vcpu *vcpu = choose(cpu);

		if (vcpu) {
			run(cpu, vcpu);
		} else {
			idle(cpu);
		}
	}
}

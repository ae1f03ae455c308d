/*
 * The virtual local APIC of one vCPU: xAPIC by its page, x2APIC by its MSRs, one set of registers.
 *
 * An interrupt comes in by vlapic_post(), from any CPU, which sets a bit in the request register
 * (IRR). All else runs on the vCPU's own CPU, or where the vCPU cannot run: before the guest is
 * entered, vlapic_pending() says which vector it would take, and vlapic_accept() moves that into
 * the in-service register (ISR), from where the guest's end of interrupt takes it.
 *
 * What the guest sends goes out by `ops`, as it does not know the other vCPUs. Time is the guest's
 * own TSC: the caller passes it wherever a timer may be read or set, and it is the timer's clock,
 * too, so a guest that asks CPUID for the bus frequency is to be told the TSC's.
 *
 * There: six LVT entries (timer, thermal, performance, LINT0, LINT1, error), all timer modes,
 * physical and both logical destination models. Not there: CMCI, suppression of EOI broadcasts,
 * focus checking, SMI; the APIC id cannot be changed. Bits of the LVT that say how LINT0, LINT1,
 * thermal and performance interrupts come are kept, but nothing is connected.
 *
 * Manual: Intel SDM volume 3A, chapter 10.
 */
#ifndef VLAPIC_H
#define VLAPIC_H

#include "hyp/types.h"

#include "vapic_message.h"

struct vlapic;

#define VLAPIC_VECTORS 256
#define VLAPIC_WORDS (VLAPIC_VECTORS / 64)
#define VLAPIC_LVTS 6

#define VLAPIC_MSR_BASE 0x1bu
#define VLAPIC_MSR_TSC_DEADLINE 0x6e0u
#define VLAPIC_MSR_FIRST 0x800u
#define VLAPIC_MSR_LAST 0x8ffu /* the whole range is the x2APIC's; most of it is reserved */

#define VLAPIC_BASE_ADDRESS BITS(51, 12) /* of IA32_APIC_BASE */
#define VLAPIC_PAGE_DEFAULT 0xfee00000ull
#define VLAPIC_PAGE_NONE (~0ull)
#define VLAPIC_NOTHING (-1)

/* Called on the vCPU's own CPU, inside of a register write; may post to any local APIC. */
struct vlapic_ops {
	/*
	 * The guest sends `message`: FIXED or LOWEST with a legal vector, NMI, INIT or STARTUP.
	 * What goes to `from` alone by shorthand does not come here.
	 */
	void (*send)(struct vlapic *from, const struct vapic_message *message);
	/* The guest ended a level-triggered interrupt. */
	void (*level_ended)(struct vlapic *from, u8 vector);
};

struct vlapic {
	/* Constant once initialised. */
	const struct vlapic_ops *ops;
	u32 id;
	bool boot_cpu;
	u64 base_reserved; /* bits of IA32_APIC_BASE that must be 0 */

	/* Written by any CPU, atomically; bit n: vector n. */
	u64 irr[VLAPIC_WORDS];
	u64 tmr[VLAPIC_WORDS]; /* level-triggered, of the request that came last */
	u32 errors;	       /* since the guest last wrote the error status register */

	/* Written by the vCPU's own CPU, and read by any. */
	u64 isr[VLAPIC_WORDS];
	u64 base; /* IA32_APIC_BASE */
	u32 tpr;
	u32 svr;
	u32 ldr, dfr; /* xAPIC only: an x2APIC's logical id is made of its id */
	u32 lvt[VLAPIC_LVTS];

	/* The vCPU's own CPU only. */
	u64 icr;
	u32 esr; /* as the guest reads it */

	/* Timer: its times are the guest's TSC. */
	u32 timer_initial; /* initial count register */
	u32 timer_divide;  /* divide configuration register */
	u64 timer_at;	   /* where timer_on */
	bool timer_on;
};

/*
 * As after power-up. `v` is zeroed memory; `id` is its APIC id, below 255 if the guest is to reach
 * it before it is an x2APIC; `physical_bits` (32..52) is the width of the guest's physical
 * addresses, as its CPUID says.
 */
void vlapic_init(struct vlapic *v, u32 id, bool boot_cpu, u32 physical_bits,
		 const struct vlapic_ops *ops);

/* As after power-up; `init_only`: as after INIT, which leaves IA32_APIC_BASE and so the mode. */
void vlapic_reset(struct vlapic *v, bool init_only);

/*
 * Guest-physical address of the page of registers, VLAPIC_PAGE_NONE where there is none (it is off,
 * or an x2APIC). The guest may have moved it.
 */
u64 vlapic_page(const struct vlapic *v);

/*
 * RDMSR and WRMSR of the MSRs above; false: general protection fault, and nothing changed. `now` is
 * the guest's TSC. After a write interrupts may be pending, and the timer's deadline another.
 */
bool vlapic_read_msr(struct vlapic *v, u32 msr, u64 now, u64 *value);
bool vlapic_write_msr(struct vlapic *v, u32 msr, u64 now, u64 value);

/*
 * An access of 32 bits to the page. `offset` is from its start, any value. What is not at a
 * multiple of 16 reads as 0 and writes nothing; so does a reserved register, which is an error the
 * guest is told of, maybe by an interrupt; where there is no page, reads are all ones.
 */
u32 vlapic_read(struct vlapic *v, u32 offset, u64 now);
void vlapic_write(struct vlapic *v, u32 offset, u64 now, u32 value);

/* ---- Interrupts come in: any CPU ------------------------------------------------------------ */

/*
 * `vector` is requested. True: it was not before, and the vCPU has to be told. An APIC that is off,
 * by its MSR or by its software enable bit, takes none; an illegal vector becomes an error, which
 * may have an interrupt of its own (true). Sequentially consistent: what the caller did before is
 * seen by who finds the vector pending.
 */
bool vlapic_post(struct vlapic *v, u8 vector, bool level);

/*
 * Does `target` take `message`? `source` is who sent it, NULL for the IO-APIC and devices. Says no
 * for a target that is off, and of vectors for one that software disabled. For VAPIC_LOWEST ask of
 * all, and take the one with the lowest vlapic_ppr().
 */
bool vlapic_matches(const struct vlapic *target, const struct vlapic *source,
		    const struct vapic_message *message);

/* Processor priority, 0..255: what it is doing, and what it does not want to be interrupted by. */
u8 vlapic_ppr(const struct vlapic *v);

/* ---- Delivery: the vCPU's own CPU ------------------------------------------------------------ */

/* The most urgent vector that the guest would take now, or VLAPIC_NOTHING. */
int vlapic_pending(const struct vlapic *v);
/* The guest takes `vector`, which vlapic_pending() returned last: IRR -> ISR. */
void vlapic_accept(struct vlapic *v, u8 vector);

struct vlapic_ended {
	int vector; /* VLAPIC_NOTHING: none was in service */
	bool level; /* the IO-APIC must be told */
};

/*
 * The most urgent interrupt in service ends. For an end that came on another way than by a register
 * write; ops->level_ended is not called.
 */
struct vlapic_ended vlapic_eoi(struct vlapic *v);

/*
 * May the guest end what it took without an exit, and the caller run vlapic_eoi() at the next one?
 * Yes if one interrupt is in service, edge-triggered, and nothing waits for its end. Who posts
 * afterwards makes the vCPU exit, and the caller asks again.
 */
bool vlapic_can_skip_eoi(const struct vlapic *v);

/* CR8, 0..15: bits 7:4 of the task priority. False: more than that, a protection fault. */
u64 vlapic_tpr(const struct vlapic *v);
bool vlapic_set_tpr(struct vlapic *v, u64 cr8);

/* ---- Timer: the vCPU's own CPU --------------------------------------------------------------- */

/* When vlapic_timer_expire() has something to do, in the guest's TSC; ~0: never. */
u64 vlapic_timer_deadline(const struct vlapic *v);
/*
 * If the deadline came: its vector is posted, unless masked; a periodic timer goes on, in step
 * however late this was called, and others stop. True: something new is pending.
 */
bool vlapic_timer_expire(struct vlapic *v, u64 now);

#endif

/*
 * What vlapic*.c share among themselves: the numbers of registers, and the few that more than one
 * file looks at.
 *
 * A register has one number: it is at 16 times that in an xAPIC's page, and behind 0x800 among an
 * x2APIC's MSRs (SDM volume 3A, tables 10-1 and 10-6).
 */
#ifndef VLAPIC_STATE_H
#define VLAPIC_STATE_H

#include "hyp/atomic.h"

#include "vlapic.h"

enum vlapic_register {
	VLAPIC_ID = 0x02,
	VLAPIC_VERSION = 0x03,
	VLAPIC_TPR = 0x08,
	VLAPIC_PPR = 0x0a,
	VLAPIC_EOI = 0x0b,
	VLAPIC_LDR = 0x0d,
	VLAPIC_DFR = 0x0e,
	VLAPIC_SVR = 0x0f,
	VLAPIC_ISR = 0x10, /* eight each */
	VLAPIC_TMR = 0x18,
	VLAPIC_IRR = 0x20,
	VLAPIC_ESR = 0x28,
	VLAPIC_ICR = 0x30,
	VLAPIC_ICR_HIGH = 0x31,
	VLAPIC_LVT = 0x32, /* six, in the order of enum vlapic_lvt */
	VLAPIC_TIMER_INITIAL = 0x38,
	VLAPIC_TIMER_CURRENT = 0x39,
	VLAPIC_TIMER_DIVIDE = 0x3e,
	VLAPIC_SELF_IPI = 0x3f,
	VLAPIC_REGISTERS = 0x40,
};

enum vlapic_lvt {
	VLAPIC_LVT_TIMER,
	VLAPIC_LVT_THERMAL,
	VLAPIC_LVT_PERFORMANCE,
	VLAPIC_LVT_LINT0,
	VLAPIC_LVT_LINT1,
	VLAPIC_LVT_ERROR,
};

#define LVT_VECTOR BITS(7, 0)
#define LVT_MASKED BIT(16)

#define SVR_ENABLE BIT(8)

#define BASE_BOOT_CPU BIT(8)
#define BASE_X2 BIT(10)
#define BASE_ENABLE BIT(11)

/* Error status, 10.5.3. */
#define ERROR_SEND_VECTOR BIT(5)
#define ERROR_RECEIVE_VECTOR BIT(6)
#define ERROR_REGISTER BIT(7)

/* The two enable bits of IA32_APIC_BASE; the fourth combination is none (10.12.5). */
enum vlapic_mode {
	VLAPIC_OFF = 0,
	VLAPIC_X = BASE_ENABLE,
	VLAPIC_X2 = BASE_ENABLE | BASE_X2,
};

static inline enum vlapic_mode vlapic_mode(const struct vlapic *v)
{
	return (enum vlapic_mode)(load_relaxed(&v->base) & (BASE_ENABLE | BASE_X2));
}

/* By its software enable bit (10.4.7.2), in an APIC that is not off. */
static inline bool vlapic_takes_vectors(const struct vlapic *v)
{
	return vlapic_mode(v) != VLAPIC_OFF && (load_relaxed(&v->svr) & SVR_ENABLE);
}

/* vlapic.c */
bool vlapic_write_base(struct vlapic *v, u64 base);

/* vlapic_delivery.c. As the guest's write of the register. */
void vlapic_write_eoi(struct vlapic *v);
/*
 * An error happened (any CPU): it is noted, and if it is the first since the guest last looked, the
 * error interrupt is posted. True: that is new.
 */
bool vlapic_error(struct vlapic *v, u32 error);

/* vlapic_ipi.c. The guest writes its command register, or SELF IPI, and so sends. */
void vlapic_write_icr(struct vlapic *v, u64 icr);
void vlapic_write_self_ipi(struct vlapic *v, u8 vector);
/* Logical destination register, as the guest reads it. */
u32 vlapic_logical_id(const struct vlapic *v);

/* vlapic_timer.c. What came due before `now` is posted before anything changes. */
void vlapic_timer_stop(struct vlapic *v);
u32 vlapic_timer_current(const struct vlapic *v, u64 now);
void vlapic_timer_write_lvt(struct vlapic *v, u64 now, u32 lvt);
void vlapic_timer_write_initial(struct vlapic *v, u64 now, u32 count);
void vlapic_timer_write_divide(struct vlapic *v, u64 now, u32 divide);
/* IA32_TSC_DEADLINE. */
u64 vlapic_timer_read_deadline(struct vlapic *v, u64 now);
void vlapic_timer_write_deadline(struct vlapic *v, u64 now, u64 deadline);

#endif

/* Questions about the machine and its CPUs that each architecture answers. */
#ifndef ARCH_CPU_H
#define ARCH_CPU_H

#include "hyp/cpu.h"
#include "hyp/status.h"

/* Starts cpus[id]; it calls cpu_main(cpu) on its own stack. INVALID when the firmware refuses. */
enum status arch_cpu_start(struct cpu *cpu);

/* Sends the kick to another CPU. */
void arch_cpu_send_kick(struct cpu *cpu);

/* Sleeps until an interrupt is pending, which stays pending (interrupts are masked). */
void arch_cpu_idle(void);

/*
 * Acknowledges and handles every pending physical interrupt: kicks (nothing to do), the
 * hypervisor's timer (sched_tick), the console (console_poll_input), a guest's timer (given to the
 * vCPU loaded here).
 */
void arch_irq_poll(void);

/* Asks another CPU to call cpu_park(), whatever it does now. For panic. */
void arch_cpu_send_stop(struct cpu *cpu);
/* Sleeps for good: no interrupt is taken any more. */
noreturn_fn void arch_cpu_halt(void);

/* Ends the machine; the launcher sees `status` as its exit status where the machine can tell it. */
noreturn_fn void arch_machine_end(int status);

/* The physical UART. putc waits for room; getc returns -1 when nothing came. */
void arch_uart_putc(u8 byte);
int arch_uart_getc(void);

/* This CPU's hypervisor timer: fires at `deadline` (ticks); ~0 turns it off. */
void arch_timer_set(u64 deadline);

/* Zeroes or copies whole 64-byte lines; aligned to 64. As few instructions as the CPU can do. */
void arch_zero(void *to, u64 size);
void arch_copy(void *to, const void *from, u64 size);

/*
 * A guest that runs with its caches off, or executes from there, sees these bytes after this call.
 * Costs nothing where the hardware makes stage-2 force cacheability.
 */
void arch_publish_memory(const void *start, u64 size);

/*
 * Around calls of library code that uses FP and SIMD registers, which Lamina does not, and which
 * may be a guest's: this CPU's are kept, and put back. Not one inside of another.
 */
void arch_fp_borrow(void);
void arch_fp_return(void);

/* Prints this CPU's registers and backtrace from here or from the last exception. For panic. */
void arch_print_state(void);

/* One line about CPU and features, for the first screen. */
void arch_describe(char *text, size_t size);

/* 64 bits nobody can guess where the CPU has a generator, else from the counter; says which. */
u64 arch_random(bool *strong);

#endif

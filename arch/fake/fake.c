/* The fake machine: CPUs, memory, time, console, end. */
#include "fake.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hyp/atomic.h"
#include "hyp/log.h"

#include <arch/boot.h>
#include <arch/cpu.h>

__thread struct cpu *fake_this_cpu = &cpus[0];
u64 fake_now;
bool fake_broadcasts = true;
struct fake_flush_hook fake_flush_hook;

/* ---- CPUs ---------------------------------------------------------------------------------- */

void fake_cpus(u32 count)
{
	memset(cpus, 0, sizeof(cpus));
	for (u32 i = 0; i < count; i++) {
		cpus[i].self = &cpus[i];
		cpus[i].id = i;
		cpus[i].hw_id = i;
		cpus[i].timer_deadline = ~0ull;
		cpus[i].online = true;
	}
	cpu_count = count;
	fake_cpu_become(0);
	fake_uart_clear();
}

__attribute__((constructor)) static void boot_cpu(void)
{
	fake_cpus(1);
}

void fake_cpu_become(u32 id)
{
	fake_this_cpu = &cpus[id];
}

bool fake_cpu_take_kick(u32 id)
{
	return atomic_swap(&cpus[id].arch.kicked, false);
}

enum status arch_cpu_start(unused struct cpu *cpu)
{
	return INVALID; /* threads are started by tests */
}

void arch_cpu_send_kick(struct cpu *cpu)
{
	store_once(&cpu->arch.kicked, true);
	if (fake_flush_hook.kick) {
		fake_flush_hook.kick(fake_flush_hook.context, cpu->id);
	}
}

void arch_cpu_idle(void)
{
	sched_yield();
}

void arch_irq_poll(void)
{
}

/* A thread cannot be stopped; who panics ends the test anyway. */
void arch_cpu_send_stop(struct cpu *cpu)
{
	store_release(&cpu->stopped, true);
}

void arch_cpu_halt(void)
{
	for (;;) {
		pause();
	}
}

/* The host's compiler keeps what is another's. */
void arch_fp_borrow(void)
{
	check(!cpus[this_cpu_id()].arch.fp_borrowed);
	cpus[this_cpu_id()].arch.fp_borrowed = true;
}

void arch_fp_return(void)
{
	check(cpus[this_cpu_id()].arch.fp_borrowed);
	cpus[this_cpu_id()].arch.fp_borrowed = false;
}

/* ---- Memory -------------------------------------------------------------------------------- */

static struct {
	void *mapping;
	u64 mapped;
	void *table;
} memory;

void fake_memory(u64 bytes)
{
	u64 table_bytes = frame_table_bytes(bytes);
	u64 base;

	if (memory.mapping) {
		munmap(memory.mapping, memory.mapped);
		free(memory.table);
	}
	/* A gibibyte more, so that the arena can begin at a boundary that 1 GiB blocks need. */
	memory.mapped = bytes + GIB(1);
	memory.mapping = mmap(NULL, memory.mapped, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory.mapping == MAP_FAILED) {
		perror("fake_memory");
		abort();
	}
	memory.table = aligned_alloc(64, align_up(table_bytes, 64));
	base = align_up((u64)(uintptr_t)memory.mapping, GIB(1));
	frame_init(hpa(base), bytes, memory.table);
	frame_give(hpa(base), hpa(base + bytes));
}

void fake_memory_leave(u64 left)
{
	while (frame_count(FRAME_FREE) > left) {
		frame_alloc(ORDER_4K, FRAME_HYP, OWNER_NONE);
	}
}

void arch_zero(void *to, u64 size)
{
	memset(to, 0, size);
}

void arch_copy(void *to, const void *from, u64 size)
{
	memcpy(to, from, size);
}

void arch_publish_memory(unused const void *start, unused u64 size)
{
}

/* ---- Time ---------------------------------------------------------------------------------- */

void arch_timer_set(unused u64 deadline)
{
}

/* ---- Console ------------------------------------------------------------------------------- */

static struct {
	pthread_mutex_t lock;
	char sent[1 << 20];
	size_t sent_count;
	char keys[4096];
	size_t key_count, key_next;
} uart = {.lock = PTHREAD_MUTEX_INITIALIZER};

void arch_uart_putc(u8 byte)
{
	pthread_mutex_lock(&uart.lock);
	if (uart.sent_count < sizeof(uart.sent) - 1) {
		uart.sent[uart.sent_count++] = (char)byte;
		uart.sent[uart.sent_count] = 0;
	}
	pthread_mutex_unlock(&uart.lock);
}

int arch_uart_getc(void)
{
	return uart.key_next < uart.key_count ? (u8)uart.keys[uart.key_next++] : -1;
}

const char *fake_uart_output(void)
{
	return uart.sent;
}

void fake_uart_clear(void)
{
	uart.sent_count = 0;
	uart.sent[0] = 0;
}

void fake_uart_feed(const char *keys)
{
	uart.key_next = 0;
	uart.key_count = strlen(keys);
	if (uart.key_count > sizeof(uart.keys)) {
		abort();
	}
	memcpy(uart.keys, keys, uart.key_count);
}

/* ---- The rest ------------------------------------------------------------------------------ */

void (*fake_machine_end)(int status);

void arch_machine_end(int status)
{
	if (fake_machine_end) {
		fake_machine_end(status);
	}
	fprintf(stderr, "%s\nmachine ended with status %d\n", uart.sent, status);
	abort();
}

void arch_print_state(void)
{
}

void arch_describe(char *text, size_t size)
{
	snprintf(text, size, "fake machine");
}

bool fake_random_is_weak;

u64 arch_random(bool *strong)
{
	static u64 state = 1;

	*strong = !fake_random_is_weak;
	return __atomic_add_fetch(&state, 0x9e3779b97f4a7c15ull, __ATOMIC_RELAXED);
}

const struct boot_info *arch_boot_info(void)
{
	static const struct boot_info info = {.command_line = "", .cpu_count = 1};

	return &info;
}

/*
 * NMIs: taken with interrupts off, never one inside of another, and all that come meanwhile are
 * one, which comes right behind the IRET (SDM volume 3A, 6.7.1).
 *
 * What happens writes its trail: "(" an NMI's handler begins, ")" it ends, "x" inside of it the
 * next one has been sent, "y" an exception has been taken inside of it, "." back in the main
 * program.
 */
#include "lib.h"

#define VECTOR_NMI 2
#define ICR_NMI 0x4400u
#define EXITS 50

void nmi_entry(void *frame);
void nmi(void);

/* No more than C may change; the stack is the interrupted one. */
__asm__(".global nmi_entry\n"
	"nmi_entry:\n\t"
	"push %rax\n\tpush %rcx\n\tpush %rdx\n\tpush %rsi\n\tpush %rdi\n\t"
	"push %r8\n\tpush %r9\n\tpush %r10\n\tpush %r11\n\t"
	"push %rbp\n\tmov %rsp, %rbp\n\tand $-16, %rsp\n\tcld\n\t"
	"call nmi\n\t"
	"mov %rbp, %rsp\n\tpop %rbp\n\t"
	"pop %r11\n\tpop %r10\n\tpop %r9\n\tpop %r8\n\t"
	"pop %rdi\n\tpop %rsi\n\tpop %rdx\n\tpop %rcx\n\tpop %rax\n\t"
	"iretq");

static char trail[32];
static u32 length;
static void (*inside)(void); /* what the next handler does, once */

static void note(char what)
{
	if (length < sizeof(trail) - 1) {
		trail[length++] = what;
	}
}

/* Every exit is an occasion to be given what waits. */
static void make_exits(void)
{
	for (int i = 0; i < EXITS; i++) {
		machine_exit();
	}
}

static void send_nmi(void)
{
	write_msr(MSR_X2APIC_ICR, machine.cpu_ids[0] << 32 | ICR_NMI);
}

void nmi(void)
{
	void (*work)(void) = inside;

	inside = NULL;
	note('(');
	if (work) {
		work();
	}
	note(')');
}

static void begin(void (*work)(void))
{
	memset(trail, 0, sizeof(trail));
	length = 0;
	inside = work;
}

static void end(const char *name, const char *want)
{
	make_exits();
	note('.');
	check(name, strcmp(trail, want) == 0, "%s, want %s", trail, want);
}

/* ---- Inside of a handler --------------------------------------------------------------------- */

static void send_two(void)
{
	send_nmi();
	make_exits();
	send_nmi();
	make_exits();
	note('x');
}

/* The exception's own IRET ends the blocking, as every one does. */
static void send_and_fault(void)
{
	send_nmi();
	make_exits();
	note('x');
	fault_expect();
	__asm__ volatile("ud2" ::: "memory");
	fault_end();
	note('y');
}

static void allow_interrupts(void)
{
	send_nmi();
	irq_enable();
	make_exits();
	irq_disable();
	note('x');
}

/* ---- Tests ----------------------------------------------------------------------------------- */

/* In the shadows of STI and of MOV SS, where it may wait for one instruction, and no longer. */
static void send_in_shadows(void)
{
	u64 icr_high = machine.cpu_ids[0];

	__asm__ volatile("sti\n\twrmsr\n\tcli" ::"c"(MSR_X2APIC_ICR), "a"(ICR_NMI), "d"(icr_high)
			 : "memory");
	note(';');
	__asm__ volatile("mov %%ss, %%esi\n\tmov %%esi, %%ss\n\twrmsr" ::"c"(MSR_X2APIC_ICR),
			 "a"(ICR_NMI), "d"(icr_high)
			 : "esi", "memory");
}

void guest_main(void)
{
	gate_set(VECTOR_NMI, nmi_entry);
	apic_on();

	begin(NULL);
	send_nmi();
	end("an_nmi_comes_with_interrupts_off", "().");
	begin(send_two);
	send_nmi();
	end("nmis_inside_are_one_behind_the_iret", "(x)().");
	begin(send_and_fault);
	send_nmi();
	end("the_iret_of_an_exception_lets_the_next_one_in", "(x()y).");
	begin(allow_interrupts);
	send_nmi();
	end("interrupts_that_are_on_do_not_let_it_in", "(x)().");
	begin(NULL);
	send_in_shadows();
	end("an_nmi_comes_behind_a_shadow", "();().");
}

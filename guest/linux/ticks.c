/*
 * What the boot benchmark runs as the guest's first program (rdinit=/bin/ticks): prints the counter
 * (Arm: the virtual one; x86: the TSC) as it is at user space's first instructions, then becomes
 * /init.
 *
 * There is no C library for the guest's architecture here, and none is needed for three system
 * calls.
 */
#ifdef __x86_64__

#define SYS_WRITE 1
#define SYS_EXIT 60
#define SYS_EXECVE 59

static long system_call(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return result;
}

static unsigned long counter_read(void)
{
	unsigned int low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (unsigned long)high << 32 | low;
}

#else

#define SYS_WRITE 64
#define SYS_EXIT 93
#define SYS_EXECVE 221

static long system_call(long number, long a, long b, long c)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
}

static unsigned long counter_read(void)
{
	unsigned long ticks;

	__asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks));
	return ticks;
}

#endif

static void print_ticks(unsigned long ticks)
{
	static const char head[] = "guest: ticks = ";
	char line[64];
	char digits[20];
	unsigned int length = 0;
	unsigned int count = 0;

	while (length < sizeof(head) - 1) {
		line[length] = head[length];
		length++;
	}
	do {
		digits[count++] = (char)('0' + ticks % 10);
		ticks /= 10;
	} while (ticks);
	while (count) {
		line[length++] = digits[--count];
	}
	line[length++] = '\n';
	system_call(SYS_WRITE, 1, (long)line, length);
}

void _start(void)
{
	static const char *const arguments[] = {"/init", 0};
	static const char *const environment[] = {0};

	print_ticks(counter_read());
	system_call(SYS_EXECVE, (long)arguments[0], (long)arguments, (long)environment);
	system_call(SYS_EXIT, 1, 0, 0);
}

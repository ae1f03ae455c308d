/* Arithmetic on memory, accesses that straddle pages, atomics, strings, code that changes. */
#include "oracle.h"

#define SPAN 0x8000ul
#define EDGE (ORACLE_RAM + 3 * PAGE_SIZE) /* a border of two pages */

static u64 hash(u64 from, u64 size)
{
	u64 h = 0xcbf29ce484222325ul;

	for (u64 i = 0; i < size; i += 8) {
		h = (h ^ read64(from + i)) * 0x9e3779b97f4a7c15ul;
		h ^= h >> 29;
	}
	return h;
}

static void fill(u64 from, u64 size, u64 seed)
{
	for (u64 i = 0; i < size; i += 8) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		write64(from + i, seed);
	}
}

/* ---- Arithmetic ---- */

static void multiply_and_divide(void)
{
	u64 low, high, quotient, rest;

	__asm__ volatile("mulq %3"
			 : "=a"(low), "=d"(high)
			 : "a"(0xfedcba9876543210ul), "r"(0x0123456789abcdeful));
	print("mul 0x%lx 0x%lx", high, low);
	__asm__ volatile("imulq %3" : "=a"(low), "=d"(high) : "a"(-7l), "r"(0x7000000000000001ul));
	print("imul 0x%lx 0x%lx", high, low);
	__asm__ volatile("divq %4"
			 : "=a"(quotient), "=d"(rest)
			 : "a"(5ul), "d"(17ul), "r"(1234567ul));
	print("div 0x%lx 0x%lx", quotient, rest);
	__asm__ volatile("idivq %4"
			 : "=a"(quotient), "=d"(rest)
			 : "a"(-1000003l), "d"(-1l), "r"(17l));
	print("idiv 0x%lx 0x%lx", quotient, rest);
}

/* Carry, parity, adjust, zero, sign and overflow, where an instruction defines all of them. */
#define FLAGS_OF(code, a, b)                                                                       \
	({                                                                                         \
		u64 a_ = (a), b_ = (b), flags_;                                                    \
		__asm__ volatile(code "\n\tpushfq\n\tpopq %1"                                      \
				 : "+r"(a_), "=r"(flags_)                                          \
				 : "r"(b_)                                                         \
				 : "cc");                                                          \
		print("%s 0x%lx flags 0x%lx",                                                      \
		      code[0] == 'a'   ? "add"                                                     \
		      : code[0] == 's' ? "sub"                                                     \
				       : "cmp",                                                    \
		      a_, flags_ & 0x8d5);                                                         \
	})

static void arithmetic_flags(void)
{
	static const u64 numbers[] = {0, 1, 0x7fffffffffffffff, 0x8000000000000000, ~0ul, 0xf};

	for (u32 i = 0; i < ARRAY_SIZE(numbers); i++) {
		for (u32 j = 0; j < ARRAY_SIZE(numbers); j++) {
			FLAGS_OF("addq %2, %0", numbers[i], numbers[j]);
			FLAGS_OF("subq %2, %0", numbers[i], numbers[j]);
		}
	}
}

static void shifts_and_scans(void)
{
	u64 v = 0x8000000000000001ul, index = 0;

	__asm__ volatile("rolq $5, %0\n\tsarq $3, %0\n\trorl $7, %k0" : "+r"(v)::"cc");
	print("shifts 0x%lx", v);
	__asm__ volatile("mov $65, %%cl\n\tshlq %%cl, %0" : "+r"(v)::"rcx", "cc");
	print("shift_count_is_masked 0x%lx", v);
	__asm__ volatile("bsfq %1, %0" : "=r"(index) : "r"(0x0000100000000000ul) : "cc");
	print("bsf %lu", index);
	__asm__ volatile("bsrq %1, %0" : "=r"(index) : "r"(0x0000100000000ffful) : "cc");
	print("bsr %lu", index);
	__asm__ volatile("bswapq %0" : "+r"(v));
	print("bswap 0x%lx", v);
	__asm__ volatile("movabs $0x1122334455667788, %%rax\n\tmov $-1, %%eax\n\tmov %%rax, %0"
			 : "=r"(v)::"rax");
	print("write_of_32_bits_clears_the_rest 0x%lx", v);
}

/* A bit's number reaches beyond the operand (SDM volume 2A, BTS). */
static void bits_in_memory(void)
{
	bool before;

	fill(EDGE - PAGE_SIZE, 2 * PAGE_SIZE, 77);
	__asm__ volatile("btsq %2, (%1)" : "=@ccc"(before) : "r"(EDGE), "r"(-13l) : "memory");
	print("bts_below %u 0x%lx", before, read64(EDGE - 8));
	__asm__ volatile("btcq %2, (%1)" : "=@ccc"(before) : "r"(EDGE - 64), "r"(1030l) : "memory");
	print("btc_above %u 0x%lx", before, read64(EDGE + 64));
}

/* ---- Across a border of pages ---- */

static void straddle(void)
{
	fill(EDGE - PAGE_SIZE, 2 * PAGE_SIZE, 1);
	for (u64 i = 1; i < 8; i++) {
		write64(EDGE - i, 0x1111111111111111ul * i);
		print("straddle8 %lu 0x%lx 0x%lx", i, read64(EDGE - i), hash(EDGE - 16, 32));
	}
	for (u64 i = 1; i < 4; i++) {
		write32(EDGE - i, (u32)(0x01020304 * i));
		print("straddle4 %lu 0x%x 0x%lx", i, read32(EDGE - i), hash(EDGE - 16, 32));
	}
	*(volatile u16 *)(EDGE - 1) = 0xabcd;
	print("straddle2 0x%lx", hash(EDGE - 16, 32));
}

static void straddle_atomics(void)
{
	u64 old = 5;
	bool done;

	write64(EDGE - 4, 0x00000001ffffffff);
	__asm__ volatile("lock xaddq %0, (%1)" : "+r"(old) : "r"(EDGE - 4) : "memory", "cc");
	print("straddle_xadd 0x%lx 0x%lx", old, read64(EDGE - 4));
	old = read64(EDGE - 4);
	__asm__ volatile("lock cmpxchgq %3, (%2)"
			 : "+a"(old), "=@ccz"(done)
			 : "r"(EDGE - 4), "r"(0x123456789abcdef0ul)
			 : "memory");
	print("straddle_cmpxchg %u 0x%lx", done, read64(EDGE - 4));
	old = 1;
	__asm__ volatile("lock cmpxchgq %3, (%2)"
			 : "+a"(old), "=@ccz"(done)
			 : "r"(EDGE - 4), "r"(2ul)
			 : "memory");
	print("straddle_cmpxchg_loses %u 0x%lx 0x%lx", done, old, read64(EDGE - 4));
	__asm__ volatile("xchgl %k0, (%1)" : "+r"(old) : "r"(EDGE - 2) : "memory");
	print("straddle_xchg 0x%lx 0x%lx", old, read64(EDGE - 4));
	__asm__ volatile("lock incw (%0)" ::"r"(EDGE - 1) : "memory", "cc");
	print("straddle_inc 0x%lx", read64(EDGE - 4));
}

/* The machines that only interpret have no CMPXCHG16B; so it is attempted. */
static void wide_compare(void)
{
	u64 low = 7, high = 0;
	bool done;

	write64(EDGE, 1);
	write64(EDGE + 8, 2);
	__asm__ volatile("cmpxchg8b (%3)"
			 : "+a"(low), "+d"(high), "=@ccz"(done)
			 : "r"(EDGE), "b"(5ul), "c"(6ul)
			 : "memory");
	print("cmpxchg8b %u 0x%lx 0x%lx 0x%lx", done, low, high, read64(EDGE));
	if (oracle_has("cx16", cpuid(1, 0).c >> 13 & 1)) {
		ATTEMPT("cx16.compare",
			"mov $1, %%eax\n\tmov $2, %%edx\n\tmov $3, %%ebx\n\tmov $4, %%ecx\n\t"
			"lock cmpxchg16b (%0)\n\tsetz 16(%0)",
			"r"(EDGE));
		ATTEMPT("cx16.misaligned", "cmpxchg16b 8(%0)", "r"(EDGE));
	}
}

/* ---- Strings ---- */

static void strings(void)
{
	u64 to = EDGE - 100, from = ORACLE_RAM + SPAN - 50, count = 777;

	fill(ORACLE_RAM, 2 * SPAN, 3);
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
	print("movs 0x%lx 0x%lx %lu 0x%lx", to, from, count, hash(ORACLE_RAM, SPAN));
	to = EDGE - 96, from = EDGE - 100, count = 200;
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
	print("movs_overlaps 0x%lx", hash(ORACLE_RAM, SPAN));
	to = EDGE + 96, from = EDGE + 100, count = 50;
	__asm__ volatile("std\n\trep movsl\n\tcld"
			 : "+D"(to), "+S"(from), "+c"(count)::"memory", "cc");
	print("movs_down 0x%lx 0x%lx 0x%lx", to, from, hash(ORACLE_RAM, SPAN));
	to = EDGE - 20, count = 6;
	__asm__ volatile("rep stosq"
			 : "+D"(to), "+c"(count)
			 : "a"(0x5a5aa5a512345678ul)
			 : "memory");
	print("stos 0x%lx 0x%lx", to, hash(ORACLE_RAM, SPAN));
	to = EDGE - 20, from = EDGE - 12, count = 100;
	__asm__ volatile("repe cmpsb" : "+D"(to), "+S"(from), "+c"(count)::"memory", "cc");
	print("cmps %lu 0x%lx", count, to);
	to = EDGE - 40, count = 100;
	__asm__ volatile("repne scasb" : "+D"(to), "+c"(count) : "a"(0xa5) : "memory", "cc");
	print("scas %lu 0x%lx", count, to);
}

/* ---- Code ---- */

/* The same CPU's next jump sees what it wrote (SDM volume 3A, 8.1.3). */
static void changing_code(void)
{
	u64 sum = 0;

	for (u32 i = 0; i < 1000; i++) {
		write64(ORACLE_RAM, code_word(i * 2654435761u, 0));
		sum = sum * 31 + ((u32(*)(void))ORACLE_RAM)();
	}
	print("changing_code 0x%lx", sum);
	for (u64 i = 1; i < 6; i++) {
		write64(EDGE - i, code_word(0x0badcafe + (u32)i, 0));
		print("straddling_code %lu 0x%x", i, ((u32(*)(void))(EDGE - i))());
	}
}

void oracle_memory(void)
{
	fill(ORACLE_RAM, SPAN, 42);
	print("pattern 0x%lx", hash(ORACLE_RAM, SPAN));
	multiply_and_divide();
	arithmetic_flags();
	shifts_and_scans();
	bits_in_memory();
	straddle();
	straddle_atomics();
	strings();
	changing_code();
	wide_compare();
}

/* The integers, sizes and small helpers that every file uses. */
#ifndef HYP_TYPES_H
#define HYP_TYPES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int64_t s64;

#ifndef __cplusplus
#define static_assert _Static_assert
#endif

#define KIB(n) ((u64)(n) << 10)
#define MIB(n) ((u64)(n) << 20)
#define GIB(n) ((u64)(n) << 30)
#define BIT(n) (1ull << (n))
/* Bits hi..lo, both included, as the manuals write them. */
#define BITS(hi, lo) ((~0ull >> (63 - (hi))) & (~0ull << (lo)))

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#ifndef __cplusplus /* GoogleTest's own headers spell attributes with this word */
#define unused __attribute__((unused))
#endif
/* Before a loop: so many rounds of it in one, where counting them is much of its cost. */
#define unroll_loop_text(text) _Pragma(#text)
#define unroll_loop(n) unroll_loop_text(GCC unroll n)
#define noreturn_fn __attribute__((noreturn))

/* `size` is a power of two, and a size: never a mask, never a shift. */
static inline u64 align_down(u64 v, u64 size)
{
	return v & ~(size - 1);
}

static inline u64 align_up(u64 v, u64 size)
{
	return align_down(v + size - 1, size);
}

static inline bool is_aligned(u64 v, u64 size)
{
	return (v & (size - 1)) == 0;
}

static inline u64 min_u64(u64 a, u64 b)
{
	return a < b ? a : b;
}

static inline u64 max_u64(u64 a, u64 b)
{
	return a > b ? a : b;
}

/* A field's value out of a register, named by the field's mask. */
static inline u64 field_get(u64 reg, u64 mask)
{
	return (reg & mask) >> __builtin_ctzll(mask);
}

static inline u64 field_set(u64 value, u64 mask)
{
	return (value << __builtin_ctzll(mask)) & mask;
}

#endif

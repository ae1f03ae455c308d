/*
 * What code that was compiled for thread sanitizer calls, in place of its runtime.
 *
 * Atomic accesses are steps, and plain reads of tables; all others are nothing: that none of them
 * races is thread sanitizer's own to show (tests/race). Orders are ignored, everything is
 * sequentially consistent. An addition of zero is the core's full fence (hyp/atomic.h), and no step
 * either: under sequential consistency it does nothing.
 */
#include "hooks.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace
{

template <class T> T load(const volatile T *at)
{
	bool counts = steps::before_access(const_cast<T *>(at));
	T value = __atomic_load_n(at, __ATOMIC_RELAXED);

	if (counts) {
		steps::after_access(const_cast<T *>(at), sizeof(T), value, false);
	}
	return value;
}

/* Returns the old value. */
template <class T, class F> T change(volatile T *at, F fn)
{
	bool counts = steps::before_access(const_cast<T *>(at));
	T old = *at, now = fn(old);

	*at = now;
	if (counts) {
		steps::after_access(const_cast<T *>(at), sizeof(T), now, true);
	}
	return old;
}

template <class T> int compare_exchange(volatile T *at, T *expected, T desired)
{
	bool counts = steps::before_access(const_cast<T *>(at));
	T old = *at;
	bool swapped = old == *expected;

	if (swapped) {
		*at = desired;
	} else {
		*expected = old;
	}
	if (counts) {
		steps::after_access(const_cast<T *>(at), sizeof(T), *at, swapped);
	}
	return swapped;
}

void read_plainly(void *at, unsigned words)
{
	for (steps::u64 *word = static_cast<steps::u64 *>(at); words > 0; words--, word++) {
		if (steps::plain_read(word)) {
			steps::after_access(word, sizeof(*word), *word, false);
		}
	}
}

} // namespace

extern "C" {

#define ATOMICS(bits, T)                                                                           \
	T __tsan_atomic##bits##_load(const volatile T *at, int)                                    \
	{                                                                                          \
		return load(at);                                                                   \
	}                                                                                          \
	void __tsan_atomic##bits##_store(volatile T *at, T v, int)                                 \
	{                                                                                          \
		change(at, [v](T) { return v; });                                                  \
	}                                                                                          \
	T __tsan_atomic##bits##_exchange(volatile T *at, T v, int)                                 \
	{                                                                                          \
		return change(at, [v](T) { return v; });                                           \
	}                                                                                          \
	T __tsan_atomic##bits##_fetch_add(volatile T *at, T v, int)                                \
	{                                                                                          \
		return v == 0 ? *at : change(at, [v](T old) { return T(old + v); });               \
	}                                                                                          \
	T __tsan_atomic##bits##_fetch_sub(volatile T *at, T v, int)                                \
	{                                                                                          \
		return change(at, [v](T old) { return T(old - v); });                              \
	}                                                                                          \
	T __tsan_atomic##bits##_fetch_or(volatile T *at, T v, int)                                 \
	{                                                                                          \
		return change(at, [v](T old) { return T(old | v); });                              \
	}                                                                                          \
	T __tsan_atomic##bits##_fetch_and(volatile T *at, T v, int)                                \
	{                                                                                          \
		return change(at, [v](T old) { return T(old & v); });                              \
	}                                                                                          \
	T __tsan_atomic##bits##_fetch_xor(volatile T *at, T v, int)                                \
	{                                                                                          \
		return change(at, [v](T old) { return T(old ^ v); });                              \
	}                                                                                          \
	int __tsan_atomic##bits##_compare_exchange_strong(volatile T *at, T *expected, T v, int,   \
							  int)                                     \
	{                                                                                          \
		return compare_exchange(at, expected, v);                                          \
	}                                                                                          \
	int __tsan_atomic##bits##_compare_exchange_weak(volatile T *at, T *expected, T v, int,     \
							int)                                       \
	{                                                                                          \
		return compare_exchange(at, expected, v);                                          \
	}

ATOMICS(8, steps::u8)
ATOMICS(16, std::uint16_t)
ATOMICS(32, steps::u32)
ATOMICS(64, steps::u64)

void __tsan_atomic_thread_fence(int)
{
}

#define PLAIN(name)                                                                                \
	void __tsan_##name(void *)                                                                 \
	{                                                                                          \
	}
#define PLAIN_SIZES(name)                                                                          \
	PLAIN(name##1) PLAIN(name##2) PLAIN(name##4) PLAIN(name##8) PLAIN(name##16)

PLAIN(read1)
PLAIN(read2)
PLAIN(read4)

void __tsan_read8(void *at)
{
	read_plainly(at, 1);
}

void __tsan_read16(void *at)
{
	read_plainly(at, 2);
}

PLAIN_SIZES(write)
PLAIN_SIZES(volatile_read)
PLAIN_SIZES(volatile_write)
PLAIN(unaligned_read2)
PLAIN(unaligned_read4)

void __tsan_unaligned_read8(void *at)
{
	read_plainly(at, 1);
}

void __tsan_unaligned_read16(void *at)
{
	read_plainly(at, 2);
}

PLAIN_SIZES(unaligned_write)
PLAIN(func_entry)

void __tsan_read_range(void *, unsigned long)
{
}

void __tsan_write_range(void *, unsigned long)
{
}

void __tsan_func_exit()
{
}

void __tsan_init()
{
}

/* cpu_relax() of the fake machine. */
int sched_yield()
{
	if (steps::is_running()) {
		steps::relax();
	}
	return 0;
}

/* The core found itself wrong. */
void panic(const char *format, ...)
{
	static char text[300];
	va_list args;

	va_start(args, format);
	std::vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (steps::is_running()) {
		steps::fail(text);
	}
	std::fprintf(stderr, "panic: %s\n", text);
	std::abort();
}

void log_at(int, const char *, ...)
{
}

} // extern "C"

/*
 * Atomic access, by the compiler's builtins: no architecture stands here.
 *
 * Orders are in the names. _relaxed orders nothing; _acquire and _release pair up; those without a
 * suffix are sequentially consistent.
 */
#ifndef HYP_ATOMIC_H
#define HYP_ATOMIC_H

#include "hyp/types.h"

#define load_relaxed(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define load_once(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define store_relaxed(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define store_once(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define atomic_add(p, v) __atomic_add_fetch(p, v, __ATOMIC_SEQ_CST)
#define atomic_sub(p, v) __atomic_sub_fetch(p, v, __ATOMIC_SEQ_CST)
#define atomic_or(p, v) __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST)
#define atomic_and(p, v) __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST)
#define atomic_swap(p, v) __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)

/* Thread sanitizer does not understand fences; a locked access of one word is as strong. */
#ifdef __SANITIZE_THREAD__
static inline void fence_full(void)
{
	static u32 word;

	__atomic_fetch_add(&word, 0, __ATOMIC_SEQ_CST);
}
#else
#define fence_full() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif

/* A counter that one CPU at a time adds to and others only read: no locked instruction is owed. */
#define count_add(p, v) store_relaxed(p, load_relaxed(p) + (v))

/* True when *p was `expected` and is now `desired`. */
static inline bool cas_u64(u64 *p, u64 expected, u64 desired)
{
	return __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_RELAXED);
}

static inline bool cas_u32(u32 *p, u32 expected, u32 desired)
{
	return __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_RELAXED);
}

#endif

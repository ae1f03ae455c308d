/*
 * Addresses that cannot be mixed up.
 *
 * gpa_t is a guest-physical address (Arm: IPA), hpa_t a host-physical one. Each is a struct of one
 * member, so that the compiler refuses to take one for the other. Lamina maps all RAM at its own
 * address (see arch/boot.h), so a host-physical address and a pointer to it convert for free.
 */
#ifndef HYP_ADDR_H
#define HYP_ADDR_H

#include "hyp/types.h"

typedef struct {
	u64 v;
} gpa_t;

typedef struct {
	u64 v;
} hpa_t;

#define PAGE_SHIFT 12
#define PAGE_SIZE KIB(4)
#define BLOCK_SIZE MIB(2) /* what one entry one level up maps, on every 4 KiB format */

/* No RAM of any machine we run on is at the last page of the address space. */
#define HPA_NONE_VALUE (~0ull)

static inline gpa_t gpa(u64 v)
{
	gpa_t a = {v};
	return a;
}

static inline hpa_t hpa(u64 v)
{
	hpa_t a = {v};
	return a;
}

static inline hpa_t hpa_none(void)
{
	return hpa(HPA_NONE_VALUE);
}

static inline bool hpa_is_none(hpa_t a)
{
	return a.v == HPA_NONE_VALUE;
}

static inline gpa_t gpa_add(gpa_t a, u64 bytes)
{
	return gpa(a.v + bytes);
}

static inline hpa_t hpa_add(hpa_t a, u64 bytes)
{
	return hpa(a.v + bytes);
}

static inline void *hpa_ptr(hpa_t a)
{
	return (void *)(uintptr_t)a.v;
}

static inline hpa_t ptr_hpa(const void *p)
{
	return hpa((u64)(uintptr_t)p);
}

#endif

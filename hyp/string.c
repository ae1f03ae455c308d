/*
 * The functions of <string.h> that compiled code and libfdt call. In Lamina's image they have their
 * own names; in the host's tests, where the C library has them, ours are hyp_memcpy and so on.
 *
 * Blocks move eight bytes at a time where both ends are aligned alike. Whole lines of guest memory
 * are for arch_zero and arch_copy, which do far better.
 */
#include "hyp/types.h"

#if __STDC_HOSTED__
#define memcpy hyp_memcpy
#define memmove hyp_memmove
#define memset hyp_memset
#define memcmp hyp_memcmp
#define memchr hyp_memchr
#define strlen hyp_strlen
#define strnlen hyp_strnlen
#define strcmp hyp_strcmp
#define strncmp hyp_strncmp
#define strchr hyp_strchr
#define strrchr hyp_strrchr
#endif

void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
void *memchr(const void *start, int byte, size_t size);
size_t strlen(const char *text);
size_t strnlen(const char *text, size_t max);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t max);
char *strchr(const char *text, int c);
char *strrchr(const char *text, int c);

/* The compiler knows these loops, and would make calls to memcpy and memset out of them. */
#define plain_loops __attribute__((optimize("no-tree-loop-distribute-patterns")))

#define WORD sizeof(u64)

typedef u64 __attribute__((may_alias)) word;

static bool aligned_alike(const void *a, const void *b)
{
	return (((uintptr_t)a ^ (uintptr_t)b) & (WORD - 1)) == 0;
}

plain_loops void *memcpy(void *to, const void *from, size_t size)
{
	u8 *t = to;
	const u8 *f = from;

	if (aligned_alike(t, f)) {
		for (; size > 0 && ((uintptr_t)t & (WORD - 1)) != 0; size--) {
			*t++ = *f++;
		}
		for (; size >= WORD; size -= WORD, t += WORD, f += WORD) {
			*(word *)t = *(const word *)f;
		}
	}
	for (; size > 0; size--) {
		*t++ = *f++;
	}
	return to;
}

plain_loops static void copy_down(u8 *t, const u8 *f, size_t size)
{
	t += size;
	f += size;
	if (aligned_alike(t, f)) {
		for (; size > 0 && ((uintptr_t)t & (WORD - 1)) != 0; size--) {
			*--t = *--f;
		}
		for (; size >= WORD; size -= WORD) {
			t -= WORD;
			f -= WORD;
			*(word *)t = *(const word *)f;
		}
	}
	for (; size > 0; size--) {
		*--t = *--f;
	}
}

void *memmove(void *to, const void *from, size_t size)
{
	if ((uintptr_t)to - (uintptr_t)from >= size) {
		return memcpy(to, from,
			      size); /* forwards is safe: `to` is below, or behind the end */
	}
	copy_down(to, from, size);
	return to;
}

plain_loops void *memset(void *to, int byte, size_t size)
{
	u64 pattern = 0x0101010101010101ull * (u8)byte;
	u8 *t = to;

	for (; size > 0 && ((uintptr_t)t & (WORD - 1)) != 0; size--) {
		*t++ = (u8)byte;
	}
	for (; size >= WORD; size -= WORD, t += WORD) {
		*(word *)t = pattern;
	}
	for (; size > 0; size--) {
		*t++ = (u8)byte;
	}
	return to;
}

plain_loops int memcmp(const void *a, const void *b, size_t size)
{
	const u8 *x = a;
	const u8 *y = b;

	for (; size > 0; size--, x++, y++) {
		if (*x != *y) {
			return *x - *y;
		}
	}
	return 0;
}

plain_loops void *memchr(const void *start, int byte, size_t size)
{
	const u8 *at = start;

	for (; size > 0; size--, at++) {
		if (*at == (u8)byte) {
			return (void *)at;
		}
	}
	return NULL;
}

plain_loops size_t strlen(const char *text)
{
	size_t length = 0;

	while (text[length] != '\0') {
		length++;
	}
	return length;
}

plain_loops size_t strnlen(const char *text, size_t max)
{
	size_t length = 0;

	while (length < max && text[length] != '\0') {
		length++;
	}
	return length;
}

plain_loops int strncmp(const char *a, const char *b, size_t max)
{
	for (; max > 0; max--, a++, b++) {
		if (*a != *b || *a == '\0') {
			return (u8)*a - (u8)*b;
		}
	}
	return 0;
}

int strcmp(const char *a, const char *b)
{
	return strncmp(a, b, SIZE_MAX);
}

plain_loops char *strchr(const char *text, int c)
{
	for (; *text != (char)c; text++) {
		if (*text == '\0') {
			return NULL;
		}
	}
	return (char *)text;
}

plain_loops char *strrchr(const char *text, int c)
{
	const char *found = NULL;

	do {
		if (*text == (char)c) {
			found = text;
		}
	} while (*text++ != '\0');
	return (char *)found;
}

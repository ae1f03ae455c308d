/*
 * Lines, checks, bootargs, and the guest's last step.
 *
 * A line is put together in memory and sent under one lock, so that lines of several CPUs stay
 * whole.
 */
#include "lib.h"

struct machine machine;

static struct spinlock print_lock;
static u32 passed_count, failed_count;

void *memset(void *to, int byte, size_t size)
{
	volatile u8 *p = to;

	while (size--) {
		*p++ = (u8)byte;
	}
	return to;
}

void *memcpy(void *to, const void *from, size_t size)
{
	volatile u8 *p = to;
	const u8 *q = from;

	while (size--) {
		*p++ = *q++;
	}
	return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
	const u8 *p = a, *q = b;

	for (; size; size--, p++, q++) {
		if (*p != *q) {
			return *p - *q;
		}
	}
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n]) {
		n++;
	}
	return n;
}

int strcmp(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return (u8)*a - (u8)*b;
}

/* ---- Formatting ---- */

struct line {
	char text[256];
	u32 length;
};

static void line_char(struct line *l, char c)
{
	if (l->length < sizeof(l->text) - 1) {
		l->text[l->length++] = c;
	}
}

static void line_string(struct line *l, const char *s, u32 width)
{
	u32 n = 0;

	for (; s[n]; n++) {
		line_char(l, s[n]);
	}
	for (; n < width; n++) {
		line_char(l, ' ');
	}
}

static void line_number(struct line *l, u64 value, u32 base, u32 width, char pad)
{
	char digits[24];
	u32 n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n < width && n < sizeof(digits)) {
		digits[n++] = pad;
	}
	while (n) {
		line_char(l, digits[--n]);
	}
}

static void line_signed(struct line *l, s64 value, u32 width, char pad)
{
	if (value < 0) {
		line_char(l, '-');
		value = -value;
	}
	line_number(l, (u64)value, 10, width, pad);
}

/* One conversion after its '%'; returns where the format goes on. */
static const char *line_convert(struct line *l, const char *f, va_list *args)
{
	char pad = *f == '0' ? '0' : ' ';
	u32 width = 0;
	bool wide = false;

	for (; *f >= '0' && *f <= '9'; f++) {
		width = width * 10 + (u32)(*f - '0');
	}
	for (; *f == 'l' || *f == 'z'; f++) {
		wide = true;
	}
	switch (*f) {
	case 's':
		line_string(l, va_arg(*args, const char *), width);
		break;
	case 'c':
		line_char(l, (char)va_arg(*args, int));
		break;
	case 'd':
		line_signed(l, wide ? va_arg(*args, s64) : va_arg(*args, int), width, pad);
		break;
	case 'u':
	case 'x':
		line_number(l, wide ? va_arg(*args, u64) : va_arg(*args, u32), *f == 'u' ? 10 : 16,
			    width, pad);
		break;
	case 'p':
		line_number(l, va_arg(*args, u64), 16, 16, '0');
		break;
	default:
		line_char(l, *f);
	}
	return f + 1;
}

static void line_format(struct line *l, const char *f, va_list *args)
{
	while (*f) {
		if (*f == '%') {
			f = line_convert(l, f + 1, args);
		} else {
			line_char(l, *f++);
		}
	}
}

static void line_send(struct line *l)
{
	line_char(l, '\n');
	spin_lock(&print_lock);
	for (u32 i = 0; i < l->length; i++) {
		machine_putc(l->text[i]);
	}
	spin_unlock(&print_lock);
}

void print(const char *format, ...)
{
	struct line l = {.length = 0};
	va_list args;

	va_start(args, format);
	line_format(&l, format, &args);
	va_end(args);
	line_send(&l);
}

/* ---- Checks ---- */

bool check(const char *name, bool good, const char *format, ...)
{
	struct line l = {.length = 0};
	va_list args;

	line_string(&l, good ? "ok " : "not ok ", 0);
	line_string(&l, name, 0);
	if (!good) {
		line_string(&l, ": ", 0);
		va_start(args, format);
		line_format(&l, format, &args);
		va_end(args);
	}
	__atomic_fetch_add(good ? &passed_count : &failed_count, 1, __ATOMIC_RELAXED);
	line_send(&l);
	return good;
}

bool check_equal(const char *name, u64 got, u64 want)
{
	return check(name, got == want, "got 0x%lx, want 0x%lx", got, want);
}

void guest_end(void)
{
	if (failed_count || !passed_count) {
		print("FAIL %u", failed_count);
	} else {
		print("PASS %u", passed_count);
	}
	machine_off();
	print("not ok machine_off: it returned");
	for (;;) {
		cpu_wait();
	}
}

/* ---- Bootargs ---- */

/* The text behind `name` where that is a whole word (up to space, '=' or the end), or NULL. */
static const char *bootarg_find(const char *name)
{
	const char *p = machine.bootargs;
	size_t n = strlen(name);

	while (*p) {
		if (memcmp(p, name, n) == 0 && (p[n] == ' ' || p[n] == '=' || !p[n])) {
			return p + n;
		}
		while (*p && *p != ' ') {
			p++;
		}
		while (*p == ' ') {
			p++;
		}
	}
	return NULL;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

u64 bootarg(const char *name, u64 otherwise)
{
	const char *p = bootarg_find(name);
	int base = 10;
	u64 value = 0;

	if (!p || *p++ != '=') {
		return otherwise;
	}
	if (p[0] == '0' && (p[1] | 0x20) == 'x') {
		base = 16;
		p += 2;
	}
	for (; digit(*p) < base; p++) {
		value = value * (u64)base + (u64)digit(*p);
	}
	return value;
}

bool bootarg_word(const char *name)
{
	return bootarg_find(name) != NULL;
}

bool guest_is_bare(void)
{
	return bootarg_word("bare");
}

/* ---- Memory ---- */

static bool page_meets(u64 page, u64 start, u64 end)
{
	return page + PAGE_SIZE > start && page < end;
}

bool page_is_ours(u64 page)
{
	return !page_meets(page, (u64)image_start, (u64)image_end) &&
	       !page_meets(page, machine.tables, machine.tables + machine.tables_size);
}

/*
 * printf for a buffer: what log.h promises, no floating point, no locale, no allocation.
 *
 * A conversion is parsed into a struct, its argument becomes digits or text, and one function pads.
 * The buffer may be too small at any point; the length goes on being counted, as ISO C has it.
 */
#include "hyp/log.h"
#include "hyp/types.h"

#define DIGITS_MAX 24 /* of a 64-bit number in any base we print: 20 */

struct out {
	char *buffer;
	size_t size;
	size_t length; /* of the whole text, whether it fits or not */
};

struct conversion {
	bool left; /* '-' */
	bool zero; /* '0' */
	bool plus; /* '+' */
	int width;
	int precision; /* -1: none */
	int bytes;     /* of an integer argument */
	char type;
};

static void put(struct out *out, char c)
{
	if (out->length + 1 < out->size) {
		out->buffer[out->length] = c;
	}
	out->length++;
}

static void put_many(struct out *out, char c, int count)
{
	while (count-- > 0) {
		put(out, c);
	}
}

/* `prefix` (sign, 0x), zeros, then `length` bytes of `text`, in a field of the conversion's width.
 */
static void put_field(struct out *out, const struct conversion *conv, const char *prefix, int zeros,
		      const char *text, int length)
{
	int prefix_length = 0;
	int padding;

	while (prefix[prefix_length] != '\0') {
		prefix_length++;
	}
	padding = conv->width - prefix_length - zeros - length;
	if (conv->zero && !conv->left && padding > 0) {
		zeros += padding;
		padding = 0;
	}
	if (!conv->left) {
		put_many(out, ' ', padding);
	}
	for (int i = 0; i < prefix_length; i++) {
		put(out, prefix[i]);
	}
	put_many(out, '0', zeros);
	for (int i = 0; i < length; i++) {
		put(out, text[i]);
	}
	if (conv->left) {
		put_many(out, ' ', padding);
	}
}

static void put_number(struct out *out, struct conversion conv, const char *prefix, u64 value,
		       unsigned base)
{
	const char *alphabet = conv.type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
	char digits[DIGITS_MAX];
	int length = 0;

	for (; value != 0; value /= base) {
		digits[DIGITS_MAX - ++length] = alphabet[value % base];
	}
	if (length == 0 && conv.precision != 0) {
		digits[DIGITS_MAX - ++length] = '0';
	}
	if (conv.precision >= 0) {
		conv.zero = false; /* ISO C: a precision overrides the flag */
	}
	put_field(out, &conv, prefix, conv.precision > length ? conv.precision - length : 0,
		  digits + DIGITS_MAX - length, length);
}

static void put_string(struct out *out, struct conversion conv, const char *text)
{
	int length = 0;

	if (text == NULL) {
		text = "(null)";
	}
	while ((conv.precision < 0 || length < conv.precision) && text[length] != '\0') {
		length++;
	}
	conv.zero = false;
	put_field(out, &conv, "", 0, text, length);
}

static s64 signed_argument(int bytes, va_list *args)
{
	s64 value = bytes == 8 ? va_arg(*args, long long) : va_arg(*args, int);

	return bytes == 1 ? (signed char)value : bytes == 2 ? (short)value : value;
}

static u64 unsigned_argument(int bytes, va_list *args)
{
	u64 value = bytes == 8 ? va_arg(*args, unsigned long long) : va_arg(*args, unsigned);

	return bytes == 1 ? (u8)value : bytes == 2 ? (u16)value : value;
}

static void put_signed(struct out *out, const struct conversion *conv, s64 value)
{
	const char *sign = value < 0 ? "-" : conv->plus ? "+" : "";

	put_number(out, *conv, sign, value < 0 ? 0 - (u64)value : (u64)value, 10);
}

static void put_conversion(struct out *out, const struct conversion *conv, va_list *args)
{
	char c;

	switch (conv->type) {
	case 'c':
		c = (char)va_arg(*args, int);
		put_field(out, &(struct conversion){.left = conv->left, .width = conv->width}, "",
			  0, &c, 1);
		break;
	case 's':
		put_string(out, *conv, va_arg(*args, const char *));
		break;
	case 'd':
	case 'i':
		put_signed(out, conv, signed_argument(conv->bytes, args));
		break;
	case 'u':
		put_number(out, *conv, "", unsigned_argument(conv->bytes, args), 10);
		break;
	case 'x':
	case 'X':
		put_number(out, *conv, "", unsigned_argument(conv->bytes, args), 16);
		break;
	case 'p':
		put_number(out, *conv, "0x", (u64)(uintptr_t)va_arg(*args, void *), 16);
		break;
	default: /* '%', and whatever is unknown shows itself */
		put(out, conv->type);
	}
}

static const char *parse_flags(const char *at, struct conversion *conv)
{
	for (;; at++) {
		switch (*at) {
		case '-':
			conv->left = true;
			break;
		case '0':
			conv->zero = true;
			break;
		case '+':
			conv->plus = true;
			break;
		default:
			return at;
		}
	}
}

static const char *parse_int(const char *at, int *value, va_list *args)
{
	if (*at == '*') {
		*value = va_arg(*args, int);
		return at + 1;
	}
	for (*value = 0; *at >= '0' && *at <= '9'; at++) {
		*value = *value * 10 + (*at - '0');
	}
	return at;
}

static const char *parse_length(const char *at, struct conversion *conv)
{
	conv->bytes = 4;
	switch (*at) {
	case 'h':
		conv->bytes = at[1] == 'h' ? 1 : 2;
		return at + (at[1] == 'h' ? 2 : 1);
	case 'l':
		conv->bytes = 8;
		return at + (at[1] == 'l' ? 2 : 1);
	case 'z':
		conv->bytes = 8;
		return at + 1;
	default:
		return at;
	}
}

/* `at` is behind the '%'. Returns where the text goes on. */
static const char *parse(const char *at, struct conversion *conv, va_list *args)
{
	*conv = (struct conversion){.precision = -1};
	at = parse_flags(at, conv);
	at = parse_int(at, &conv->width, args);
	if (conv->width < 0) {
		conv->left = true;
		conv->width = -conv->width;
	}
	if (*at == '.') {
		at = parse_int(at + 1, &conv->precision, args); /* negative: as if absent */
	}
	at = parse_length(at, conv);
	conv->type = *at;
	return *at == '\0' ? at : at + 1;
}

int text_vformat(char *buffer, size_t size, const char *format, va_list args)
{
	struct out out = {.buffer = buffer, .size = size};
	struct conversion conv;
	va_list copy; /* a va_list argument may be an array: its address can be taken only of a copy
		       */

	va_copy(copy, args);
	while (*format != '\0') {
		if (*format != '%') {
			put(&out, *format++);
			continue;
		}
		format = parse(format + 1, &conv, &copy);
		if (conv.type != '\0') {
			put_conversion(&out, &conv, &copy);
		}
	}
	va_end(copy);
	if (size > 0) {
		buffer[min_u64(out.length, size - 1)] = '\0';
	}
	return (int)out.length;
}

int text_format(char *buffer, size_t size, const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = text_vformat(buffer, size, format, args);
	va_end(args);
	return length;
}

/* Numbers as people read them, without floating point. Sizes as the configuration writes them. */
#include "hyp/units.h"

#include "hyp/config.h" /* config_size_text */
#include "hyp/log.h"

struct units_text units_size(u64 bytes)
{
	struct units_text t;

	config_size_text(bytes, t.text, sizeof(t.text));
	return t;
}

struct units_text units_count(u64 count)
{
	static const struct {
		u64 size;
		char letter;
	} units[] = {{1000000000, 'G'}, {1000000, 'M'}, {1000, 'k'}};
	struct units_text t;

	for (u32 i = 0; i < ARRAY_COUNT(units); i++) {
		u64 whole = count / units[i].size;

		if (whole >= 10) {
			text_format(t.text, sizeof(t.text), "%lu%c", whole, units[i].letter);
			return t;
		}
		if (whole > 0) {
			text_format(t.text, sizeof(t.text), "%lu.%lu%c", whole,
				    count % units[i].size / (units[i].size / 10), units[i].letter);
			return t;
		}
	}
	text_format(t.text, sizeof(t.text), "%lu", count);
	return t;
}

struct units_text units_grouped(u64 count)
{
	char digits[UNITS_TEXT_MAX];
	int length = text_format(digits, sizeof(digits), "%lu", count);
	struct units_text t;
	u32 used = 0;

	/* 2^64 - 1 has 20 digits; of 6 commas 3 would fit, so the largest numbers go without. */
	for (int i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0 && length <= 17) {
			t.text[used++] = ',';
		}
		t.text[used++] = digits[i];
	}
	t.text[used] = 0;
	return t;
}

struct units_text units_seconds(u64 ns)
{
	struct units_text t;

	text_format(t.text, sizeof(t.text), "%lu.%lu", ns / 1000000000, ns / 100000000 % 10);
	return t;
}

/* part * scale / whole without an overflow: percentages need no more than the upper bits. */
static u64 ratio(u64 part, u64 whole, u64 scale)
{
	while (part > ~0ull / scale) {
		part >>= 1;
		whole >>= 1;
	}
	return whole ? part * scale / whole : 0;
}

u32 units_percent(u64 part, u64 whole)
{
	return (u32)((ratio(part, whole, 1000) + 5) / 10);
}

u32 units_percent_hundredths(u64 part, u64 whole)
{
	return (u32)ratio(part, whole, 10000);
}

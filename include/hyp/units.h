/* Numbers as people read them. Each writes into the caller's text and returns it. */
#ifndef HYP_UNITS_H
#define HYP_UNITS_H

#include "hyp/types.h"

#define UNITS_TEXT_MAX 24

struct units_text {
	char text[UNITS_TEXT_MAX];
};

/* "512 bytes", "16 KiB", "27.3 MiB", "1 GiB": as in config_problem_text(). */
struct units_text units_size(u64 bytes);

/* "812", "31k", "2.4M", "7.1G" */
struct units_text units_count(u64 count);

/* "31,204"; from 18 digits on without commas */
struct units_text units_grouped(u64 count);

/* Seconds with one decimal: "6.1" */
struct units_text units_seconds(u64 ns);

/* Whole percent, rounded; 0 of 0 is 0. */
u32 units_percent(u64 part, u64 whole);
/* Hundredths of a percent, rounded down. */
u32 units_percent_hundredths(u64 part, u64 whole);

/* The unit that a letter means, as a person may write it; 0: none. */
static inline u64 unit_of_letter(char letter)
{
	switch (letter) {
	case 'K':
	case 'k':
		return KIB(1);
	case 'M':
	case 'm':
		return MIB(1);
	case 'G':
	case 'g':
		return GIB(1);
	}
	return 0;
}

#endif

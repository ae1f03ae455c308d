/* Looks a function up in the symbol table, by halving. */
#include "hyp/symbol.h"

const char *symbol_find(u32 offset, u32 *start)
{
	u32 low = 0, high = symbol_count;

	/* symbols[i].offset <= offset for all i < low; > offset for all i >= high. */
	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (symbols[middle].offset <= offset) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	if (low == 0) {
		return NULL;
	}
	*start = symbols[low - 1].offset;
	return symbol_names + symbols[low - 1].name;
}

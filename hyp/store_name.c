#include "hyp/store.h"

#include <string.h>

const char *store_name(enum store_kind kind)
{
	static const char *const names[] = {
#define X(name) #name,
		STORES(X)
#undef X
	};

	return names[kind];
}

enum store_kind store_find(const char *name)
{
	u32 kind = 0;

	while (kind < STORE_KINDS && strcmp(name, store_name((enum store_kind)kind)) != 0) {
		kind++;
	}
	return (enum store_kind)kind;
}

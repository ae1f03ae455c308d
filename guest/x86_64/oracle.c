/*
 * What the oracle is asked: its sections, in their order. Bootargs: with "some", only those
 * sections whose names are words there as well.
 */
#include "oracle.h"

static const struct section {
	const char *name;
	void (*run)(void);
} sections[] = {
	{"memory", oracle_memory},	 {"ports", oracle_ports}, {"faults", oracle_faults},
	{"registers", oracle_registers}, {"debug", oracle_debug}, {"paging", oracle_paging},
	{"flags", oracle_flags},	 {"user", oracle_user},	  {"segments", oracle_segments},
	{"dirty", oracle_dirty},
};

bool oracle_has(const char *name, bool there)
{
	if (!there) {
		print("without %s", name);
	}
	return there;
}

/* One instruction: where only an interpreter runs this, a loop takes seconds. */
static void clear_memory(void)
{
	u64 to = ORACLE_RAM, count = ORACLE_RAM_SIZE / 8;

	__asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(0) : "memory");
}

void guest_main(void)
{
	u32 count = 0;

	clear_memory();
	for (u32 i = 0; i < ARRAY_SIZE(sections); i++) {
		if (!bootarg_word("some") || bootarg_word(sections[i].name)) {
			print("section %s", sections[i].name);
			sections[i].run();
			count++;
		}
	}
	check("sections", count, "none was asked for");
}

#include "s2_npt.h"

#include "s2_x86.h"

#define PRESENT BIT(0)
#define WRITE BIT(1)
#define USER BIT(2)
#define MEMORY BITS(4, 3) /* PCD, PWT */
#define ACCESSED BIT(5)
#define DIRTY BIT(6)
#define GLOBAL BIT(8)
#define SOFTWARE_LOW BITS(11, 9)
#define SOFTWARE BITS(58, 52)
#define KEY BITS(62, 59)
#define NO_EXECUTE BIT(63)

static_assert(PRESENT + WRITE + USER + MEMORY + ACCESSED + DIRTY + LARGE + GLOBAL + SOFTWARE_LOW +
			      ADDRESS + SOFTWARE + KEY + NO_EXECUTE ==
		      ~0ull,
	      "the drawing has each bit once");
static_assert((COW | LOG | SOFTWARE) == SOFTWARE, "marks are software's");

/*
 * PCD and PWT choose from the host's PAT, which is left at its reset value (7.8.2): WB, WT, UC-,
 * UC, and the same again with the PAT bit set, so that bit is not needed. UC- yields to write
 * combining where the guest's own PAT asks for it, UC does not (15.25.8). Nothing can force
 * write-back.
 */
static const u8 memory_codes[S2_MEMORY_TYPES] = {
	[S2_NORMAL] = 0,
	[S2_WRITE_THROUGH] = 1,
	[S2_UNCACHED] = 2,
	[S2_DEVICE] = 3,
};

static u64 encode(struct s2_attr attr, unused bool large)
{
	return (attr.perm & S2_WRITE ? WRITE : 0) | (attr.perm & S2_EXEC ? 0 : NO_EXECUTE) |
	       field_set(memory_codes[attr.memory], MEMORY) | ACCESSED;
}

static struct s2_attr decode(u64 entry, unused bool large)
{
	return (struct s2_attr){
		.perm = S2_READ | (entry & WRITE ? S2_WRITE : 0) |
			(entry & NO_EXECUTE ? 0 : S2_EXEC),
		.memory = s2_memory_of_code(memory_codes, field_get(entry, MEMORY)),
	};
}

/* What is present is readable. */
#define FORMAT(symbol, text, depth)                                                                \
	const struct s2_format symbol = {                                                          \
		.name = text,                                                                      \
		S2_X86_FACTS(depth),                                                               \
		S2_X86_FLAGS,                                                                      \
		.perms = BIT(S2_READ) | BIT(S2_RW) | BIT(S2_RX) | BIT(S2_RWX),                     \
		.memories = BIT(S2_NORMAL) | BIT(S2_UNCACHED) | BIT(S2_DEVICE) |                   \
			    BIT(S2_WRITE_THROUGH),                                                 \
		.present = PRESENT,                                                                \
		.table = PRESENT | WRITE | USER,                                                   \
		.page = PRESENT | USER,                                                            \
		.large = PRESENT | USER | LARGE,                                                   \
		.perm_mask = WRITE | NO_EXECUTE,                                                   \
		.encode = encode,                                                                  \
		.decode = decode,                                                                  \
	}

FORMAT(s2_npt, "NPT", 4);
FORMAT(s2_npt5, "NPT 5 levels", 5);

#include "s2_ept.h"

#include "s2_x86.h"

#define READ BIT(0)
#define WRITE BIT(1)
#define EXEC BIT(2) /* the supervisor's alone, with mode-based execute control */
#define RWX (READ | WRITE | EXEC)
#define MEMORY S2_EPT_TYPE
#define IGNORE_PAT BIT(6)
#define ACCESSED BIT(8)
#define DIRTY BIT(9)
#define EXEC_USER BIT(10)
#define IGNORED BIT(11)
#define SOFTWARE BITS(56, 52)
#define OTHER BITS(62, 57)
#define QUIET BIT(63)

static_assert(RWX + MEMORY + IGNORE_PAT + LARGE + ACCESSED + DIRTY + EXEC_USER + IGNORED + ADDRESS +
			      SOFTWARE + OTHER + QUIET ==
		      ~0ull,
	      "the drawing has each bit once");

/* Where the CPU sets no flags; see s2_ept.h. */
#define USED BIT(5)
#define SOFTWARE_DIRTY BIT(54)
#define TABLE_MARK BIT(55)

static_assert((COW | LOG | SOFTWARE_DIRTY | TABLE_MARK | SOFTWARE) == SOFTWARE,
	      "marks are software's");
static_assert(S2_READ == READ && S2_WRITE == WRITE && S2_EXEC_KERNEL == EXEC,
	      "permissions are the entry's bits 2..0 as they are");

/* Memory type and ignore-PAT together: bits 6..3 (29.3.7.2). Types are UC 0, WC 1, WT 4, WP 5,
 * WB 6. Without ignore-PAT the guest's PAT can make it less cacheable, as with an MTRR. */
#define MEMORY_CODE (MEMORY | IGNORE_PAT)
#define MEMORY_WB 6

static const u8 memory_codes[S2_MEMORY_TYPES] = {
	[S2_NORMAL] = MEMORY_WB, [S2_UNCACHED] = 1,	      [S2_DEVICE] = 0,
	[S2_WRITE_THROUGH] = 4,	 [S2_FORCED] = 8 | MEMORY_WB,
};

/* Write-back has USED in its type. */
static u64 encode_software(struct s2_attr attr, unused bool large)
{
	return (attr.perm & RWX) | field_set(memory_codes[attr.memory], MEMORY_CODE) |
	       (attr.notify ? 0 : QUIET);
}

static u64 encode(struct s2_attr attr, bool large)
{
	return encode_software(attr, large) | ACCESSED;
}

static u64 encode_mbec(struct s2_attr attr, bool large)
{
	return encode(attr, large) | (attr.perm & S2_EXEC_USER ? EXEC_USER : 0);
}

static struct s2_attr decode_by(u64 entry, u64 exec_user)
{
	return (struct s2_attr){
		.perm = (entry & RWX) | (entry & exec_user ? S2_EXEC_USER : 0),
		.memory = s2_memory_of_code(memory_codes, field_get(entry, MEMORY_CODE)),
		.notify = !(entry & QUIET),
	};
}

static struct s2_attr decode(u64 entry, unused bool large)
{
	return decode_by(entry, EXEC);
}

static struct s2_attr decode_software(u64 entry, unused bool large)
{
	return decode_by(entry | USED, EXEC);
}

static struct s2_attr decode_mbec(u64 entry, unused bool large)
{
	return decode_by(entry, EXEC_USER);
}

/* What is writable is readable too, else it is a misconfiguration (29.3.3.1); what has no
 * permission at all is not present, so cannot be said. */
#define PERMS (BIT(S2_READ) | BIT(S2_RW) | BIT(S2_RX) | BIT(S2_RWX) | BIT(S2_EXEC))
#define PERMS_MBEC                                                                                 \
	(PERMS | BIT(S2_EXEC_KERNEL) | BIT(S2_EXEC_USER) | BIT(S2_READ | S2_EXEC_KERNEL) |         \
	 BIT(S2_READ | S2_EXEC_USER) | BIT(S2_RW | S2_EXEC_KERNEL) | BIT(S2_RW | S2_EXEC_USER))

/* What may be done, and what says so. */
#define PLAIN .perms = PERMS, .present = RWX, .table = RWX, .perm_mask = RWX
#define MBEC                                                                                       \
	.perms = PERMS_MBEC, .present = RWX | EXEC_USER, .table = RWX | EXEC_USER,                 \
	.perm_mask = RWX | EXEC_USER

/* Who says what was used, and what memory types that leaves. */
#define BY_HARDWARE S2_X86_FLAGS, .memories = BIT(S2_MEMORY_TYPES) - 1
#define BY_SOFTWARE                                                                                \
	.accessed = USED, .accessed_table_mark = TABLE_MARK, .dirty = SOFTWARE_DIRTY,              \
	.memories = BIT(S2_NORMAL) | BIT(S2_FORCED)

/* Entries that are not present are quiet: a guest gets no #VE for what we have yet to map. */
#define FORMAT(symbol, text, depth, rights, use, suffix)                                           \
	const struct s2_format symbol = {                                                          \
		.name = text,                                                                      \
		S2_X86_FACTS(depth),                                                               \
		rights,                                                                            \
		use,                                                                               \
		.page = 0,                                                                         \
		.large = LARGE,                                                                    \
		.empty = QUIET,                                                                    \
		.absent = QUIET,                                                                   \
		.encode = encode##suffix,                                                          \
		.decode = decode##suffix,                                                          \
	}

FORMAT(s2_ept, "EPT", 4, PLAIN, BY_HARDWARE, );
FORMAT(s2_ept_mbec, "EPT MBEC", 4, MBEC, BY_HARDWARE, _mbec);
FORMAT(s2_ept5, "EPT 5 levels", 5, PLAIN, BY_HARDWARE, );
FORMAT(s2_ept5_mbec, "EPT 5 levels MBEC", 5, MBEC, BY_HARDWARE, _mbec);
FORMAT(s2_ept_software, "EPT without flags", 4, PLAIN, BY_SOFTWARE, _software);

#define POINTER_MEMORY BITS(2, 0)
#define POINTER_LENGTH BITS(5, 3) /* of a walk, less 1: what we call the top level */
#define POINTER_FLAGS BIT(6)

u64 s2_ept_pointer(const struct s2 *s2, bool flags)
{
	return ptr_hpa(s2->top).v | field_set(MEMORY_WB, POINTER_MEMORY) |
	       field_set(s2->format->top_level, POINTER_LENGTH) | (flags ? POINTER_FLAGS : 0);
}

void s2_ept_list(u64 list[S2_EPT_LIST], const struct s2 *const *spaces, u32 count, bool flags)
{
	for (u32 i = 0; i < S2_EPT_LIST; i++) {
		/* 0 has a walk length of 1, which is none. */
		list[i] = i < count && spaces[i] ? s2_ept_pointer(spaces[i], flags) : 0;
	}
}

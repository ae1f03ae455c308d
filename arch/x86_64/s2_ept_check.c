#include "s2_ept_check.h"

#include "hyp/s2_cursor.h"

#include "s2_ept.h"
#include "s2_x86.h"

#define TABLE_RESERVED BITS(7, 3)
#define GIB_LEVEL 2

const char *s2_ept_check_text(enum s2_ept_verdict verdict)
{
	static const char *const texts[] = {
#define X(name, text) text,
		S2_EPT_VERDICTS(X)
#undef X
	};

	return verdict < ARRAY_COUNT(texts) ? texts[verdict] : "?";
}

/* Where the CPU knows no leaves, the bit is reserved like others of a table's entry. */
static bool is_leaf(const struct s2_ept_cpu *cpu, u64 entry, unsigned level)
{
	return level == 0 ||
	       ((entry & LARGE) && level <= GIB_LEVEL && (level < GIB_LEVEL || cpu->gib_pages));
}

/* Tables 29-1 to 29-7; what belongs to features that are off is ignored. */
static u64 reserved_bits(const struct s2_format *f, const struct s2_ept_cpu *cpu, bool leaf,
			 unsigned level)
{
	u64 beyond = ADDRESS & ~(BIT(cpu->address_bits) - 1);

	return beyond | (leaf ? ADDRESS & (s2_span(f, level) - 1) : TABLE_RESERVED);
}

static bool is_memory_type(u64 entry)
{
	const unsigned types = BIT(0) | BIT(1) | BIT(4) | BIT(5) | BIT(6);

	return types >> field_get(entry, S2_EPT_TYPE) & 1;
}

enum s2_ept_verdict s2_ept_check_entry(const struct s2_format *f, const struct s2_ept_cpu *cpu,
				       u64 entry, unsigned level)
{
	bool leaf = is_leaf(cpu, entry, level);

	if (!(entry & f->present)) {
		return S2_EPT_ABSENT;
	}
	if (!(entry & S2_READ) && (entry & S2_WRITE)) {
		return S2_EPT_ONLY_WRITE;
	}
	if (!(entry & S2_READ) && !cpu->execute_only) {
		return S2_EPT_ONLY_EXECUTE;
	}
	if (entry & reserved_bits(f, cpu, leaf, level)) {
		return S2_EPT_RESERVED;
	}
	if (!leaf) {
		return (entry & f->table) == f->table ? S2_EPT_TABLE : S2_EPT_WITHHOLDS;
	}
	if (is_memory_type(entry)) {
		return S2_EPT_LEAF;
	}
	return is_memory_type(entry | f->accessed) ? S2_EPT_UNUSED : S2_EPT_MEMORY_TYPE;
}

static bool is_table(hpa_t at)
{
	const struct frame *frame = frame_of(at);

	return frame && frame->type == FRAME_TABLE;
}

static struct s2_ept_step take_step(const struct s2_format *f, const struct s2_ept_cpu *cpu,
				    const u64 *slot, unsigned level)
{
	u64 entry = load_acquire(slot);
	struct s2_ept_step step = {
		.at = ptr_hpa(slot),
		.entry = entry,
		.level = (u8)level,
		.verdict = s2_ept_check_entry(f, cpu, entry, level),
	};

	if (step.verdict == S2_EPT_TABLE && !is_table(s2_entry_hpa(f, entry))) {
		step.verdict = S2_EPT_NOWHERE;
	}
	return step;
}

/* No cursor: those begin below the crown, and trust what they read. */
struct s2_ept_walk s2_ept_check_walk(struct s2 *s2, const struct s2_ept_cpu *cpu, gpa_t at)
{
	const struct s2_format *f = s2->format;
	struct s2_ept_walk walk = {0};
	u64 outer = s2_walk_begin(s2);
	const u64 *table = at.v >> s2->ipa_bits ? NULL : s2->top;

	for (unsigned level = f->top_level; table; level--) {
		const u64 *slot = table + s2_index(f, at.v, level, S2_LEVELS_MAX);
		struct s2_ept_step step = take_step(f, cpu, slot, level);

		walk.steps[walk.count++] = step;
		walk.perm = step.verdict == S2_EPT_LEAF ? f->decode(step.entry, level > 0).perm : 0;
		table = step.verdict == S2_EPT_TABLE ? s2_entry_table(f, step.entry) : NULL;
	}
	s2_walk_end(s2, outer);
	return walk;
}

const struct s2_ept_step *s2_ept_check_mistake(const struct s2_ept_walk *walk)
{
	const struct s2_ept_step *last = walk->count ? &walk->steps[walk->count - 1] : NULL;

	return last && last->verdict >= S2_EPT_ONLY_WRITE ? last : NULL;
}

bool s2_ept_check_explains(const struct s2_ept_walk *walk, u8 access)
{
	if (walk->count == 0) {
		return true;
	}
	switch (walk->steps[walk->count - 1].verdict) {
	case S2_EPT_ABSENT:
	case S2_EPT_UNUSED:
		return true;
	case S2_EPT_LEAF:
		return access & ~walk->perm;
	default:
		return false;
	}
}

bool s2_ept_check_repeats(struct s2_ept_patience *p, gpa_t at, u8 access)
{
	if (at.v != p->gpa.v || access != p->access) {
		*p = (struct s2_ept_patience){.gpa = at, .access = access};
	}
	return ++p->repeats > S2_EPT_SUSPICIOUS;
}

bool s2_ept_check_gives_up(struct s2_ept_patience *p, bool explained)
{
	p->repeats = explained ? 0 : p->repeats;
	return p->repeats > 2 * S2_EPT_SUSPICIOUS;
}

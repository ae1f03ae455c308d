/*
 * What EPT and NPT have in common: long-mode table geometry, walked as hardware does.
 *
 * Both are trees of 4 or 5 levels of 512 entries, with leaves of 4 KiB, 2 MiB and 1 GiB; rights are
 * the AND of all entries on the way; accessed flags are in every entry and the dirty flag is in the
 * leaf. What an entry's bits mean is each format's own (ept.h, npt.h), said in the few questions at
 * the end of Walker. Written from the manuals, and from nothing of the code that is judged.
 *
 * Levels are the manuals': 1 is the page table, 2 the page directory, 3 the page-directory-pointer
 * table, 4 PML4, 5 PML5.
 */
#ifndef TESTS_MODEL_X86_WALK_H
#define TESTS_MODEL_X86_WALK_H

#include "armv8_stage2.h" /* Memory, HostMemory, MemoryType */

namespace model
{
namespace x86
{

constexpr u64 bit(unsigned n)
{
	return u64(1) << n;
}

/* Bits high..low; nothing when high < low. */
constexpr u64 mask(unsigned high, unsigned low)
{
	return high < low ? 0 : (~u64(0) >> (63 - high)) & (~u64(0) << low);
}

/* At most two numbers, as %llx or %llu. */
std::string format(const char *text, u64 a = 0, u64 b = 0);

/* A root pointer and controls, decoded. `error` is empty when the CPU would enter with them. */
struct Config {
	std::string error;
	std::vector<std::string> complaints;
	int levels = 4;
	u64 root = 0;
	u64 tag = 0; /* translations are cached under it: the root's address (EPT), or ASID */
	u64 linear_tag = 0;	     /* and those of linear addresses also under this: VPID */
	bool flags = false;	     /* hardware sets accessed and dirty flags */
	u64 accessed = 0, dirty = 0; /* these bits */

	/* EPT */
	bool user_execute = false; /* mode-based execute control */
	bool exceptions = false;   /* convertible violations become #VE */
	bool unused_type = false;  /* see ept.h */
	/* NPT */
	bool no_execute = false; /* EFER.NXE */
	u64 pat = 0;		 /* memory types by index */

	/* log2 of the bytes that one entry at `level` spans. */
	unsigned shift(int level) const
	{
		return 12 + 9 * unsigned(level - 1);
	}
	unsigned gpa_bits() const
	{
		return shift(levels) + 9;
	}
};

/* Table...: of the guest's own paging structures, by the CPU. TableWrite sets their flags. */
enum class Access { Read, Write, ExecuteSupervisor, ExecuteUser, TableRead, TableWrite };

/*
 * EPT: absent and forbidden are violations, malformed is a misconfiguration. NPT: all are #NPF,
 * malformed with RSV set. NoMemory: nothing is where a table should be. NotAccessed: EPT, a
 * misconfiguration that is meant.
 */
enum class FaultKind { None, Absent, Forbidden, Malformed, NoMemory, NotAccessed };

struct Rights {
	bool read = true, write = true;
	bool execute_supervisor = true, execute_user = true;

	bool operator==(const Rights &o) const
	{
		return read == o.read && write == o.write &&
		       execute_supervisor == o.execute_supervisor && execute_user == o.execute_user;
	}
	Rights operator&(const Rights &o) const;
	/* Nothing is allowed here that `o` forbids. */
	bool within(const Rights &o) const
	{
		return (*this & o) == *this;
	}
	bool allow(Access access) const;
};

/* One entry that a walk read. */
struct Step {
	int level;
	u64 address; /* of the entry */
	u64 value;
	u64 next;      /* the table it points to, or 0 */
	Rights rights; /* of all entries from the root to here */
};

struct Walk {
	FaultKind fault = FaultKind::None;
	int level = 0; /* of the fault, or of the leaf */
	Way<Step> steps;
	u64 start = 0; /* guest-physical, of what the last entry spans */

	/* Of the leaf; good when no fault, or Forbidden. */
	u64 size = 0; /* 0: there is none */
	u64 pa_start = 0;
	u64 pa = 0; /* of the byte that was asked for */
	MemoryType memory = MemoryType::Device;
	bool ignore_pat = false; /* EPT: the guest's PAT has no say */
	bool accessed = false, dirty = false;
	bool all_accessed = false; /* every entry on the way has the flag */
	bool unused = false;	   /* the leaf is Unused: an access faults, and nothing is cached */

	Rights rights; /* of all entries on the way */

	/* Of a fault: the exit qualification (EPT violation), or EXITINFO1 (NPT). */
	u64 qualification = 0;
	bool exception = false; /* EPT: the guest gets #VE instead of an exit */

	std::vector<std::string> complaints;

	bool ok() const
	{
		return fault == FaultKind::None;
	}
	bool is_leaf() const
	{
		return size != 0;
	}
	std::string text() const;
};

using Visitor = std::function<void(const Walk &walk, bool table)>;

class Walker
{
      public:
	Walker(Memory &memory, bool accessed_despite_fault)
	    : memory_(memory), accessed_despite_fault_(accessed_despite_fault)
	{
	}
	virtual ~Walker() = default;

	/* What the CPU does for an access: faults, and updates of accessed and dirty flags. */
	Walk translate(const Config &config, u64 gpa, Access access);

	/* The leaf alone: no access, so no permissions, and nothing changes. */
	Walk look(const Config &config, u64 gpa);

	/* What one entry says, were it at `level` of the tables, for the addresses from `gpa` on:
	 * steps.back().next is the table that it points to. */
	Walk take(const Config &config, u64 gpa, int level, u64 entry);

	/*
	 * Every leaf that hardware can reach, in order of address, and every entry that points to a
	 * table before the leaves under it (`table`: steps.back() is it). Malformed entries, and
	 * absent ones that there is a complaint about, are given too: a test should have none.
	 */
	void for_each(const Config &config, const Visitor &fn);

	/* What is wrong with the tables although hardware walks them; "" is nothing. */
	std::string complaints(const Config &config);

      protected:
	enum class Entry { Absent, Table, Leaf, Unused, Malformed };

	/* Malformed: *why says why. Unused: a leaf, were it not malformed on purpose. */
	virtual Entry classify(const Config &config, int level, u64 entry,
			       std::string *why) const = 0;
	/* What one entry that is present allows. */
	virtual Rights rights(const Config &config, u64 entry) const = 0;
	/* Host-physical address in an entry, and in a leaf of `shift` address bits. */
	virtual u64 address(u64 entry, unsigned shift) const = 0;
	virtual void decode_memory(const Config &config, int level, u64 entry, Walk &w) const = 0;
	/* A complaint about an entry that is not present, or "". */
	virtual std::string hazard(const Config &config, int level, u64 entry) const;
	/* As what the formats treat an access: guest page walks may be writes. */
	virtual Access treated_as(const Config &config, Access access) const = 0;
	virtual void explain_fault(const Config &config, Access access, Walk &w) const = 0;

      private:
	enum class Next { Table, Leaf, Stop };

	Next take_entry(const Config &c, u64 address, u64 value, int level, Walk &w);
	void take_leaf(const Config &c, int level, Walk &w);
	bool update_flags(const Config &c, Access access, Walk &w);
	void visit(const Config &c, u64 table, u64 start, int level, const Walk &above,
		   const Visitor &fn);
	void visit_entry(const Config &c, u64 address, u64 start, int level, const Walk &above,
			 const Visitor &fn);

	Memory &memory_;
	/* A walk that faults sets accessed flags too: the manuals leave that to the CPU. */
	bool accessed_despite_fault_;
};

/* PAT encodings, which EPT uses too (SDM 12.12.2, 29.3.7.2). False: reserved. */
bool memory_type_of(unsigned encoding, MemoryType *type);

} // namespace x86
} // namespace model

#endif

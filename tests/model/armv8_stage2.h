/*
 * The hardware's view of ARMv8 stage-2 tables: an independent judge.
 *
 * Written from the Arm Architecture Reference Manual (DDI 0487, D8 "The AArch64 Virtual Memory
 * System Architecture") and from nothing of the code that it judges. Given VTCR_EL2, VTTBR_EL2 and
 * raw memory it translates an access as a PE would: start level and concatenated tables from T0SZ
 * and SL0 (SL2), descriptors, output sizes, permissions, access flag and dirty state with their
 * hardware updates. Granules of 4, 16 and 64 KiB, 52-bit addresses (FEAT_LPA, FEAT_LPA2).
 *
 * Faults come back as ESR_ELx.ISS.DFSC has them. What the manual allows but no careful program
 * writes (RES0 bits set, reserved encodings, half a contiguous group) translates as hardware would
 * and is written to `complaints`, for tests to insist on none.
 *
 * Levels are the manual's: 3 is the last, -1 the first there can be.
 */
#ifndef TESTS_MODEL_ARMV8_STAGE2_H
#define TESTS_MODEL_ARMV8_STAGE2_H

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace model
{

using u64 = std::uint64_t;

/* Physical memory, in the 64-bit words that a table walk reads. False: nothing is there. */
class Memory
{
      public:
	virtual ~Memory() = default;
	virtual bool read(u64 address, u64 *value) = 0;
	/* True when the word was `expected` and is `desired` now; *value is what was found. */
	virtual bool compare_and_swap(u64 address, u64 expected, u64 desired, u64 *value) = 0;
	/* All of [address, address + 8 * count) at once, where it lies in one piece; else nullptr.
	 */
	virtual const u64 *words(u64 address, u64 count)
	{
		(void)address, (void)count;
		return nullptr;
	}
};

/* Host memory at its own address: what a test of the core on the host walks. */
class HostMemory : public Memory
{
      public:
	/* Only [start, end) windows that were allowed are there; everything, when none was. */
	void allow(u64 start, u64 end);
	bool read(u64 address, u64 *value) override;
	bool compare_and_swap(u64 address, u64 expected, u64 desired, u64 *value) override;
	const u64 *words(u64 address, u64 count) override;

      private:
	bool is_there(u64 address, u64 count = 1) const;

	std::vector<std::pair<u64, u64>> windows_;
};

/* What the PE implements, in the words of its ID registers. */
struct Features {
	unsigned pa_bits = 48;	   /* ID_AA64MMFR0.PARange */
	unsigned hafdbs = 2;	   /* ID_AA64MMFR1: 0 none, 1 access flag, 2 and dirty state */
	bool xnx = true;	   /* FEAT_XNX: XN[1:0] tell EL0 from EL1 */
	bool lpa2 = false;	   /* FEAT_LPA2: VTCR_EL2.DS may be set */
	bool small_tables = false; /* FEAT_TTST */
	bool xs = false;	   /* FEAT_XS: bit 11 of a leaf is FnXS */
	bool bbm_nt = false;	   /* FEAT_BBM level 1 or 2: bit 16 of a block is nT */
	bool af_despite_permission_fault = false; /* the manual leaves the choice to the PE */
};

/* The registers that say where the tables are and how to read them. */
struct Registers {
	u64 vtcr = 0;
	u64 vttbr = 0;
	bool fwb = false; /* HCR_EL2.FWB */
};

/* VTCR_EL2 and VTTBR_EL2 decoded. `error` is empty when a walk may begin. */
struct Config {
	std::string error;
	unsigned granule_shift = 0; /* 12, 14, 16 */
	unsigned stride = 0;	    /* index bits of a level */
	unsigned ia_bits = 0;	    /* of intermediate physical addresses */
	unsigned oa_bits = 0;	    /* output addresses that are not address size faults */
	int start_level = 0;
	bool ds = false;
	bool ha = false, hd = false; /* hd implies ha */
	bool fwb = false;
	unsigned shareability = 0;	/* of everything, when ds */
	bool root_out_of_range = false; /* an address size fault at level 0 */
	u64 root = 0;
	u64 root_entries = 0; /* concatenated tables included */
	u64 vmid = 0;
	std::vector<std::string> complaints;

	/* log2 of the bytes that one entry at `level` spans. */
	unsigned shift(int level) const
	{
		return granule_shift + stride * unsigned(3 - level);
	}
};

enum class FaultKind { None, AddressSize, Translation, AccessFlag, Permission, ExternalAbort };

enum class MemoryType : std::uint8_t {
	Device,
	NonCacheable,
	WriteThrough,
	WriteBack,
	FromStage1,
	Reserved,
	WriteProtect /* x86 alone */
};

struct Rights {
	bool read = false, write = false;
	bool execute_el1 = false, execute_el0 = false;

	bool operator==(const Rights &o) const
	{
		return read == o.read && write == o.write && execute_el1 == o.execute_el1 &&
		       execute_el0 == o.execute_el0;
	}
	/* Nothing is allowed here that `o` forbids. */
	bool within(const Rights &o) const
	{
		return (!read || o.read) && (!write || o.write) &&
		       (!execute_el1 || o.execute_el1) && (!execute_el0 || o.execute_el0);
	}
};

enum class Access { Read, Write, ExecuteEl1, ExecuteEl0 };

/* What a walk read, from the root down: there are few, so they are kept in place. */
template <typename Step> class Way
{
      public:
	void push_back(const Step &step)
	{
		steps_[count_++] = step;
	}
	Step &back()
	{
		return steps_[count_ - 1];
	}
	const Step &back() const
	{
		return steps_[count_ - 1];
	}
	Step &operator[](size_t i)
	{
		return steps_[i];
	}
	const Step *begin() const
	{
		return steps_;
	}
	const Step *end() const
	{
		return steps_ + count_;
	}
	size_t size() const
	{
		return count_;
	}
	bool empty() const
	{
		return count_ == 0;
	}

      private:
	Step steps_[5];
	size_t count_ = 0;
};

/* One descriptor that a walk read. */
struct Step {
	int level;
	u64 address; /* of the descriptor */
	u64 value;
	u64 next; /* the table it points to, or 0 */
};

struct Walk {
	FaultKind fault = FaultKind::None;
	int level = 0; /* of the fault, or of the leaf */
	Way<Step> steps;

	/* Of the leaf; good when no fault, or an access flag or permission fault. */
	u64 ipa_start = 0, size = 0; /* what the leaf spans */
	u64 pa_start = 0;
	u64 pa = 0; /* of the byte that was asked for */
	u64 descriptor = 0, descriptor_address = 0;
	Rights rights; /* hardware dirty state counted in: writable-clean is writable */
	MemoryType memory = MemoryType::Device;
	unsigned shareability = 0; /* 0 non, 2 outer, 3 inner */
	bool accessed = false;
	bool writable_clean = false; /* DBM: a write sets S2AP[1] */
	bool contiguous = false;

	std::vector<std::string> complaints;

	bool ok() const
	{
		return fault == FaultKind::None;
	}
	/* ESR_ELx.DFSC; 0x3f (no such code) when there is no fault. */
	unsigned dfsc() const;
	std::string text() const;
};

/* What the tables of one space said when they were last gone through. */
class Seen
{
      public:
	/* Was this descriptor, with this value, among what could be reached then, for `ipa`? */
	bool has(u64 address, u64 descriptor, u64 ipa) const;

      private:
	friend class Walker;
	struct Table {
		u64 ipa = 0, pass = 0;
		unsigned shift = 0; /* an entry spans 2^shift bytes */
		std::vector<u64> words;
		std::vector<std::pair<u64, Walk>>
			children; /* by index: the way to the table there */
	};

	u64 pass_ = 0;
	std::map<u64, Table> tables_; /* by address */
};

class Walker
{
      public:
	Walker(Features features, Memory &memory) : features_(features), memory_(memory)
	{
	}

	Config decode(const Registers &registers) const;

	/* What the PE does for an access: faults, and updates of access flag and dirty state. */
	Walk translate(const Registers &registers, u64 ipa, Access access);

	/* The leaf alone: no access, so neither access flag nor permissions, and nothing changes.
	 */
	Walk look(const Registers &registers, u64 ipa);

	/* What one descriptor says, were it at `level` of the tables, for the addresses from `ipa`
	 * on: steps.back().next is the table that it points to. */
	Walk take(const Registers &registers, u64 ipa, int level, u64 descriptor);

	/*
	 * Every leaf that hardware can reach, in order of address, and every table descriptor
	 * before the leaves under it (`table`: steps.back() is it). Faulting entries other than
	 * translation faults are given too: a test should have none.
	 */
	void for_each(const Registers &registers,
		      const std::function<void(const Walk &walk, bool table)> &fn);

	/* The same, but only what is new since the call before with this `seen`. */
	void for_each_new(const Registers &registers, Seen &seen,
			  const std::function<void(const Walk &walk, bool table)> &fn);

	/* What is wrong with the tables although hardware walks them; "" is nothing. */
	std::string complaints(const Registers &registers);

	const Features &features() const
	{
		return features_;
	}

      private:
	enum class Next { Table, Leaf, Stop };

	const Config &config(const Registers &registers);
	bool start_level(u64 vtcr, unsigned granule_shift, int *level) const;
	Next read_entry(const Config &c, u64 table, u64 index, int level, u64 ipa_start, Walk &w);
	Next take_entry(const Config &c, u64 address, u64 descriptor, int level, u64 ipa_start,
			Walk &w);
	Next enter_table(const Config &c, int level, Walk &w);
	void decode_leaf(const Config &c, int level, u64 ipa_start, Walk &w);
	void check_leaf_bits(const Config &c, int level, Walk &w) const;
	void check_contiguous(const Config &c, u64 table, u64 index, int level, Walk &w);
	void visit(const Config &c, u64 table, u64 entries, u64 ipa, int level, const Walk &above,
		   const std::function<void(const Walk &, bool)> &fn, Seen *seen);
	Seen::Table *recall(Seen &seen, u64 table, u64 entries, u64 ipa, unsigned shift);

	Features features_;
	Memory &memory_;
	/* What was decoded last, as most calls ask for the same. */
	Registers last_;
	Config last_config_;
	bool decoded_ = false;
};

} // namespace model

#endif

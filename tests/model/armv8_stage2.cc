/* See armv8_stage2.h. Sections are those of DDI 0487, issue J. */
#include "armv8_stage2.h"

#include <cstdio>
#include <cstring>
#include <iterator>

namespace model
{
namespace
{

constexpr u64 bit(unsigned n)
{
	return u64(1) << n;
}

/* Bits hi..lo of `v`, moved down. */
constexpr u64 bits(u64 v, unsigned hi, unsigned lo)
{
	return (v >> lo) & (~u64(0) >> (63 - (hi - lo)));
}

constexpr u64 mask(unsigned hi, unsigned lo)
{
	return (~u64(0) >> (63 - hi)) & (~u64(0) << lo);
}

/* Stage-2 descriptors (D8.3.1, D8.3.2). */
constexpr u64 VALID = bit(0);
constexpr u64 TABLE_OR_PAGE = bit(1);
constexpr u64 S2AP_READ = bit(6);
constexpr u64 S2AP_WRITE = bit(7);
constexpr u64 AF = bit(10);
constexpr u64 FNXS = bit(11);
constexpr u64 NT = bit(16);
constexpr u64 DBM = bit(51);
constexpr u64 CONTIGUOUS = bit(52);
constexpr u64 XNX = bit(53);

std::string format(const char *text, u64 a = 0, u64 b = 0)
{
	char line[200];

	std::snprintf(line, sizeof(line), text, (unsigned long long)a, (unsigned long long)b);
	return line;
}

/* VTCR_EL2.PS and ID_AA64MMFR0.PARange (D19.2). 0 is reserved. */
unsigned ps_bits(u64 ps)
{
	static const unsigned sizes[8] = {32, 36, 40, 42, 44, 48, 52, 0};

	return sizes[ps];
}

/* MemAttr[3:0] with HCR_EL2.FWB == 0 (D8.6.5): outer in [3:2], inner in [1:0]. */
MemoryType memory_type_plain(unsigned attr)
{
	static const MemoryType by_bits[4] = {MemoryType::Reserved, MemoryType::NonCacheable,
					      MemoryType::WriteThrough, MemoryType::WriteBack};
	MemoryType outer = by_bits[attr >> 2], inner = by_bits[attr & 3];

	if (attr >> 2 == 0) {
		return MemoryType::Device;
	}
	if (inner == MemoryType::Reserved) {
		return MemoryType::Reserved;
	}
	return outer < inner ? outer : inner; /* the less cacheable of both */
}

/* MemAttr[3:0] with HCR_EL2.FWB == 1 (D8.6.6). */
MemoryType memory_type_forced(unsigned attr)
{
	if (attr & 8) {
		return MemoryType::Reserved;
	}
	switch (attr) {
	case 4:
		return MemoryType::Reserved;
	case 5:
		return MemoryType::NonCacheable;
	case 6:
		return MemoryType::WriteBack;
	case 7:
		return MemoryType::FromStage1;
	default:
		return MemoryType::Device;
	}
}

/* Entries of a contiguous group (D8.6.1), 1 where the hint has no meaning. */
unsigned contiguous_entries(unsigned granule_shift, int level)
{
	switch (granule_shift) {
	case 12:
		return level >= 1 ? 16 : 1;
	case 14:
		return level == 3 ? 128 : level == 2 ? 32 : 1;
	default:
		return level >= 2 ? 32 : 1;
	}
}

u64 output_address(const Config &c, u64 descriptor, unsigned low)
{
	unsigned high = c.granule_shift != 16 && c.ds ? 49 : 47;
	u64 address = descriptor & mask(high, low);

	if (c.ds) {
		address |= bits(descriptor, 9, 8) << 50;
	} else if (c.granule_shift == 16) {
		address |= bits(descriptor, 15, 12) << 48;
	}
	return address;
}

bool out_of_range(const Config &c, u64 address)
{
	return c.oa_bits < 64 && (address >> c.oa_bits) != 0;
}

} // namespace

void HostMemory::allow(u64 start, u64 end)
{
	windows_.emplace_back(start, end);
}

bool HostMemory::is_there(u64 address, u64 count) const
{
	for (auto [start, end] : windows_) {
		if (address >= start && address + 8 * count <= end) {
			return true;
		}
	}
	return windows_.empty();
}

bool HostMemory::read(u64 address, u64 *value)
{
	if (!is_there(address)) {
		return false;
	}
	*value = __atomic_load_n(reinterpret_cast<u64 *>(address), __ATOMIC_ACQUIRE);
	return true;
}

bool HostMemory::compare_and_swap(u64 address, u64 expected, u64 desired, u64 *value)
{
	*value = expected;
	return is_there(address) &&
	       __atomic_compare_exchange_n(reinterpret_cast<u64 *>(address), value, desired, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

const u64 *HostMemory::words(u64 address, u64 count)
{
	return is_there(address, count) ? reinterpret_cast<const u64 *>(address) : nullptr;
}

bool Seen::has(u64 address, u64 descriptor, u64 ipa) const
{
	auto after = tables_.upper_bound(address);

	if (after == tables_.begin()) {
		return false;
	}
	const auto &[start, table] = *std::prev(after);
	u64 index = (address - start) / 8;

	return table.pass == pass_ && index < table.words.size() &&
	       table.words[index] == descriptor && table.ipa + (index << table.shift) == ipa;
}

unsigned Walk::dfsc() const
{
	static const unsigned base[] = {0x3f, 0x00, 0x04, 0x08, 0x0c, 0x14};
	unsigned code = base[unsigned(fault)];

	if (fault == FaultKind::None) {
		return code;
	}
	if (level >= 0) {
		return code | unsigned(level);
	}
	/* Level -1 has codes of its own; access flag and permission faults cannot be there. */
	return fault == FaultKind::AddressSize	 ? 0x29
	       : fault == FaultKind::Translation ? 0x2b
						 : 0x13;
}

std::string Walk::text() const
{
	static const char *const names[] = {"ok",
					    "address size fault",
					    "translation fault",
					    "access flag fault",
					    "permission fault",
					    "external abort"};
	std::string line = names[unsigned(fault)] + format(" at level %lld", u64(level));

	if (size != 0) {
		line += format(": pa 0x%llx, descriptor 0x%llx ", pa, descriptor);
		line += rights.read ? 'r' : '-';
		line += rights.write ? 'w' : '-';
		line += rights.execute_el1 ? 'x' : '-';
		line += rights.execute_el0 ? 'u' : '-';
	}
	for (const std::string &complaint : complaints) {
		line += "; " + complaint;
	}
	return line;
}

/* SL2:SL0 to a level, refused as AArch64.S2InvalidSL does. */
bool Walker::start_level(u64 vtcr, unsigned granule_shift, int *level) const
{
	unsigned sl0 = unsigned(bits(vtcr, 7, 6));
	bool ds = bits(vtcr, 32, 32) != 0;
	bool sl2 = ds && granule_shift == 12 && bits(vtcr, 33, 33) != 0;

	if (granule_shift == 12) {
		static const int levels[4] = {2, 1, 0, 3};

		*level = sl2 ? -1 : levels[sl0];
		return sl2 ? sl0 == 0
			   : (sl0 != 2 || features_.pa_bits >= 44) &&
				       (sl0 != 3 || features_.small_tables);
	}
	*level = 3 - int(sl0);
	if (granule_shift == 14) {
		return (sl0 != 3 || ds) && (sl0 != 2 || features_.pa_bits >= 42);
	}
	return sl0 != 3 && (sl0 != 2 || features_.pa_bits >= 44);
}

Config Walker::decode(const Registers &registers) const
{
	static const unsigned granules[4] = {12, 16, 14, 0};
	const u64 vtcr = registers.vtcr;
	Config c;

	c.granule_shift = granules[bits(vtcr, 15, 14)];
	c.vmid = bits(registers.vttbr, 63, 48);
	c.fwb = registers.fwb;
	c.shareability = unsigned(bits(vtcr, 13, 12));
	if (c.granule_shift == 0) {
		c.error = "VTCR_EL2.TG0 is reserved";
		return c;
	}
	c.stride = c.granule_shift - 3;
	c.ds = bits(vtcr, 32, 32) && features_.lpa2 && c.granule_shift != 16;
	if (bits(vtcr, 32, 32) && !c.ds) {
		c.complaints.push_back("VTCR_EL2.DS is RES0 here");
	}
	if (!bits(vtcr, 31, 31)) {
		c.complaints.push_back("VTCR_EL2 bit 31 is RES1");
	}
	c.ha = bits(vtcr, 21, 21) && features_.hafdbs >= 1;
	c.hd = c.ha && bits(vtcr, 22, 22) && features_.hafdbs >= 2;
	if ((bits(vtcr, 21, 21) && !c.ha) || (bits(vtcr, 22, 22) && !c.hd)) {
		c.complaints.push_back("VTCR_EL2.HA or HD without the feature, or HD without HA");
	}

	/* Output size: PS, at most what there is; above 48 bits only where descriptors can say it.
	 */
	bool wide = c.ds || (c.granule_shift == 16 && features_.pa_bits == 52);

	c.oa_bits = ps_bits(bits(vtcr, 18, 16));
	if (c.oa_bits == 0 || c.oa_bits > features_.pa_bits) {
		c.complaints.push_back("VTCR_EL2.PS is larger than PARange, or reserved");
		c.oa_bits = features_.pa_bits;
	}
	if (c.oa_bits > 48 && !wide) {
		c.oa_bits = 48;
	}

	/* Input size (AArch64.S2MinTxSZ, AArch64.MaxTxSZ). */
	unsigned t0sz = unsigned(bits(vtcr, 5, 0));
	unsigned max_bits = features_.pa_bits > 48 && !wide ? 48 : features_.pa_bits;
	unsigned max_t0sz = features_.small_tables ? (c.granule_shift == 16 ? 47 : 48) : 39;

	c.ia_bits = 64 - t0sz;
	if (c.ia_bits > max_bits || t0sz > max_t0sz) {
		c.error = format("VTCR_EL2.T0SZ %llu is out of range", t0sz);
		return c;
	}
	if (!start_level(vtcr, c.granule_shift, &c.start_level)) {
		c.error = "VTCR_EL2.SL0 (SL2) is reserved here";
		return c;
	}
	/* AArch64.S2InconsistentSL: 2 entries to 16 concatenated tables at the start level. */
	unsigned least = c.shift(c.start_level) + 1;

	if (c.ia_bits < least || c.ia_bits > least + c.stride - 1 + 4) {
		c.error = format("VTCR_EL2.T0SZ %llu does not go with the start level", t0sz);
		return c;
	}
	c.root_entries = bit(c.ia_bits - c.shift(c.start_level));

	u64 baddr = registers.vttbr & mask(47, 1);
	u64 root_bytes = c.root_entries * 8;

	if (c.oa_bits > 48) {
		baddr = (baddr & ~mask(5, 2)) | bits(registers.vttbr, 5, 2) << 48;
		root_bytes = root_bytes < 64 ? 64 : root_bytes;
	}
	if (baddr & (root_bytes - 1)) {
		c.complaints.push_back(format("VTTBR_EL2.BADDR 0x%llx is not aligned to 0x%llx",
					      baddr, root_bytes));
	}
	c.root = baddr & ~(root_bytes - 1);
	c.root_out_of_range = out_of_range(c, c.root);
	return c;
}

/* A table descriptor was read: where does it lead (D8.3.1)? */
Walker::Next Walker::enter_table(const Config &c, int level, Walk &w)
{
	u64 descriptor = w.steps.back().value;
	u64 next = output_address(c, descriptor, c.granule_shift);

	if (out_of_range(c, next)) {
		w.fault = FaultKind::AddressSize;
		w.level = level;
		return Next::Stop;
	}
	if (descriptor & (mask(63, 59) | bit(50) | (c.ds ? 0 : mask(49, 48)))) {
		w.complaints.push_back(
			format("table descriptor 0x%llx has RES0 bits set", descriptor));
	}
	w.steps.back().next = next;
	return Next::Table;
}

void Walker::check_leaf_bits(const Config &c, int level, Walk &w) const
{
	u64 d = w.descriptor;
	u64 res0 = bit(50) | (c.ds ? 0 : mask(49, 48)) | (features_.xs ? 0 : FNXS) |
		   (features_.xnx ? 0 : XNX);

	if (level < 3) { /* below the block's size there is no address */
		u64 below = mask(c.shift(level) - 1, c.granule_shift == 16 ? 16 : 12);

		res0 |= features_.bbm_nt ? below & ~NT : below;
	} else if (c.granule_shift == 14) {
		res0 |= mask(13, 12);
	}
	if (c.granule_shift == 16 && features_.pa_bits < 52) {
		res0 |= mask(15, 12);
	}
	if (d & res0) {
		w.complaints.push_back(format("leaf 0x%llx has RES0 bits 0x%llx set", d, d & res0));
	}
	if (w.shareability == 1) {
		w.complaints.push_back(format("leaf 0x%llx has the reserved shareability", d));
	}
	if (w.memory == MemoryType::Reserved) {
		w.complaints.push_back(format("leaf 0x%llx has a reserved MemAttr", d));
	}
}

/* All of a contiguous group must say the same of neighbouring addresses (D8.6.1). */
void Walker::check_contiguous(const Config &c, u64 table, u64 index, int level, Walk &w)
{
	unsigned count = contiguous_entries(c.granule_shift, level);
	u64 free_bits = AF | (w.descriptor & DBM ? S2AP_WRITE : 0); /* hardware's to change */
	u64 first = index & ~u64(count - 1);
	u64 first_pa = w.pa_start - (index - first) * bit(c.shift(level));

	if (w.contiguous && (first_pa & (count * bit(c.shift(level)) - 1))) {
		w.complaints.push_back(
			format("contiguous group at IPA 0x%llx is misaligned", w.ipa_start));
	}
	for (u64 i = 0; w.contiguous && i < count; i++) {
		u64 other = 0;
		u64 expect = w.descriptor + (i - (index - first)) * bit(c.shift(level));

		if (!memory_.read(table + (first + i) * 8, &other) ||
		    ((other ^ expect) & ~free_bits) != 0) {
			w.complaints.push_back(
				format("contiguous group at IPA 0x%llx is broken", w.ipa_start));
			return;
		}
	}
}

void Walker::decode_leaf(const Config &c, int level, u64 ipa_start, Walk &w)
{
	u64 d = w.steps.back().value;
	unsigned attr = unsigned(bits(d, 5, 2));
	unsigned xn = unsigned(bits(d, 54, 53));

	if (!features_.xnx) {
		xn &= 2;
	}
	w.level = level;
	w.descriptor = d;
	w.descriptor_address = w.steps.back().address;
	w.ipa_start = ipa_start;
	w.size = bit(c.shift(level));
	w.pa_start = output_address(c, d, c.shift(level));
	w.accessed = d & AF;
	w.contiguous = d & CONTIGUOUS;
	w.writable_clean = c.hd && (d & DBM) && !(d & S2AP_WRITE);
	w.rights.read = d & S2AP_READ;
	w.rights.write = (d & S2AP_WRITE) || w.writable_clean;
	w.rights.execute_el1 = xn == 0 || xn == 3; /* D8.4.4, FEAT_XNX */
	w.rights.execute_el0 = xn == 0 || xn == 1;
	w.memory = c.fwb ? memory_type_forced(attr) : memory_type_plain(attr);
	w.shareability = c.ds ? c.shareability : unsigned(bits(d, 9, 8));
	check_leaf_bits(c, level, w);
	if (out_of_range(c, w.pa_start)) {
		w.fault = FaultKind::AddressSize;
	}
}

/* One entry: read, classify (D8.3, AArch64.DecodeDescriptorType). */
Walker::Next Walker::read_entry(const Config &c, u64 table, u64 index, int level, u64 ipa_start,
				Walk &w)
{
	u64 address = table + index * 8;
	u64 d = 0;

	w.level = level;
	if (!memory_.read(address, &d)) {
		w.fault = FaultKind::ExternalAbort;
		return Next::Stop;
	}
	Next next = take_entry(c, address, d, level, ipa_start, w);

	if (next == Next::Leaf) {
		check_contiguous(c, table, index, level, w);
	}
	return next;
}

Walker::Next Walker::take_entry(const Config &c, u64 address, u64 d, int level, u64 ipa_start,
				Walk &w)
{
	w.level = level;
	w.steps.push_back({level, address, d, 0});
	if (!(d & VALID)) {
		w.fault = FaultKind::Translation;
		return Next::Stop;
	}
	if (level < 3 && (d & TABLE_OR_PAGE)) {
		return enter_table(c, level, w);
	}
	bool block = level == 2 || (level == 1 && c.granule_shift == 12) ||
		     (level == 1 && c.granule_shift == 14 && c.ds) ||
		     (level == 1 && c.granule_shift == 16 && features_.pa_bits == 52) ||
		     (level == 0 && c.granule_shift == 12 && c.ds);

	if (level < 3 ? !block : !(d & TABLE_OR_PAGE)) {
		w.fault = FaultKind::Translation; /* a reserved encoding is invalid */
		w.complaints.push_back(
			format("0x%llx at level %llu is a reserved encoding", d, u64(level)));
		return Next::Stop;
	}
	decode_leaf(c, level, ipa_start, w);
	return w.ok() ? Next::Leaf : Next::Stop;
}

const Config &Walker::config(const Registers &registers)
{
	if (!decoded_ || registers.vtcr != last_.vtcr || registers.vttbr != last_.vttbr ||
	    registers.fwb != last_.fwb) {
		last_ = registers;
		last_config_ = decode(registers);
		decoded_ = true;
	}
	return last_config_;
}

Walk Walker::take(const Registers &registers, u64 ipa, int level, u64 descriptor)
{
	Walk w;

	take_entry(config(registers), 0, descriptor, level, ipa, w);
	w.pa = w.pa_start;
	return w;
}

Walk Walker::look(const Registers &registers, u64 ipa)
{
	const Config &c = config(registers);
	Walk w;

	w.complaints = c.complaints;
	if (!c.error.empty() || (ipa >> c.ia_bits) != 0) {
		w.fault = FaultKind::Translation;
		if (!c.error.empty()) {
			w.complaints.push_back(c.error);
		}
		return w;
	}
	if (c.root_out_of_range) {
		w.fault = FaultKind::AddressSize;
		return w;
	}
	u64 table = c.root;

	for (int level = c.start_level;; level++) {
		u64 index = ipa >> c.shift(level);

		if (level > c.start_level) {
			index &= bit(c.stride) - 1;
		}
		Next next =
			read_entry(c, table, index, level, ipa & ~mask(c.shift(level) - 1, 0), w);

		if (next != Next::Table) {
			w.pa = w.pa_start | (w.size != 0 ? ipa & (w.size - 1) : 0);
			return w;
		}
		table = w.steps.back().next;
	}
}

Walk Walker::translate(const Registers &registers, u64 ipa, Access access)
{
	const Config &c = config(registers);

	for (;;) {
		Walk w = look(registers, ipa);

		if (!w.ok()) {
			return w;
		}
		if (!w.accessed && !c.ha) {
			w.fault = FaultKind::AccessFlag;
			return w;
		}
		bool allowed = access == Access::Read	      ? w.rights.read
			       : access == Access::Write      ? w.rights.write
			       : access == Access::ExecuteEl1 ? w.rights.execute_el1
							      : w.rights.execute_el0;
		u64 updated = w.descriptor;
		u64 found;

		if (!allowed) {
			w.fault = FaultKind::Permission;
		}
		if (c.ha && (allowed || features_.af_despite_permission_fault)) {
			updated |= AF;
		}
		if (allowed && access == Access::Write && w.writable_clean) {
			updated |= S2AP_WRITE;
		}
		if (updated == w.descriptor ||
		    memory_.compare_and_swap(w.descriptor_address, w.descriptor, updated, &found)) {
			w.descriptor = updated;
			w.accessed = updated & AF;
			return w;
		}
		/* The word changed under the update: the PE walks again. */
	}
}

/* What `table` said last time: nothing, when it is new, was out of reach meanwhile, or has moved.
 */
Seen::Table *Walker::recall(Seen &seen, u64 table, u64 entries, u64 ipa, unsigned shift)
{
	Seen::Table &t = seen.tables_[table];

	if (t.words.size() != entries || t.ipa != ipa || t.shift != shift ||
	    t.pass + 1 < seen.pass_) {
		t.words.assign(entries, 0);
	}
	t.ipa = ipa;
	t.shift = shift;
	t.pass = seen.pass_;
	return &t;
}

void Walker::visit(const Config &c, u64 table, u64 entries, u64 ipa, int level, const Walk &above,
		   const std::function<void(const Walk &, bool)> &fn, Seen *seen)
{
	Seen::Table *t = seen ? recall(*seen, table, entries, ipa, c.shift(level)) : nullptr;
	u64 *before = t ? t->words.data() : nullptr;
	const u64 *now = memory_.words(table, entries);

	if (t && now && std::memcmp(now, before, entries * 8) == 0) {
		/* It says the same as before: what is new can be in tables below alone. */
		for (const auto &[index, way] : t->children) {
			visit(c, way.steps.back().next, bit(c.stride),
			      ipa + (index << c.shift(level)), level + 1, way, fn, seen);
		}
		return;
	}
	if (t) {
		t->children.clear();
	}
	for (u64 index = 0; index < entries; index++) {
		u64 at = ipa + (index << c.shift(level)), d;
		bool is_read = true;

		if (now) {
			d = now[index];
		} else {
			is_read = memory_.read(table + index * 8, &d);
		}
		bool is_new = !before || !is_read || before[index] != d;

		if (before && is_read) {
			before[index] = d;
		}
		/* Most entries: invalid, about which there is nothing to say, or known leaves. */
		if (is_read &&
		    (!(d & VALID) || (!is_new && (level == 3 || !(d & TABLE_OR_PAGE))))) {
			continue;
		}
		Walk w = above;

		w.ipa_start = at;
		Next next = read_entry(c, table, index, level, at, w);

		w.pa = w.pa_start;
		if (next == Next::Table) {
			if (is_new) {
				fn(w, true);
			}
			w.complaints.clear();
			if (t) {
				t->children.emplace_back(index, w);
			}
			visit(c, w.steps.back().next, bit(c.stride), at, level + 1, w, fn, seen);
		} else if (w.fault != FaultKind::Translation || !w.complaints.empty()) {
			fn(w, false);
		}
	}
}

void Walker::for_each(const Registers &registers,
		      const std::function<void(const Walk &walk, bool table)> &fn)
{
	Config c = decode(registers);

	if (c.error.empty() && !c.root_out_of_range) {
		visit(c, c.root, c.root_entries, 0, c.start_level, Walk(), fn, nullptr);
	}
}

void Walker::for_each_new(const Registers &registers, Seen &seen,
			  const std::function<void(const Walk &walk, bool table)> &fn)
{
	Config c = decode(registers);

	seen.pass_++;
	if (c.error.empty() && !c.root_out_of_range) {
		visit(c, c.root, c.root_entries, 0, c.start_level, Walk(), fn, &seen);
	}
}

std::string Walker::complaints(const Registers &registers)
{
	Config c = decode(registers);
	std::string all = c.error;

	if (c.root_out_of_range) {
		all += "VTTBR_EL2.BADDR is beyond the output size\n";
	}
	for (const std::string &complaint : c.complaints) {
		all += complaint + "\n";
	}
	for_each(registers, [&](const Walk &w, bool) {
		if (!w.complaints.empty() || !w.ok()) {
			all += format("IPA 0x%llx: ", w.ipa_start) + w.text() + "\n";
		}
	});
	return all;
}

} // namespace model

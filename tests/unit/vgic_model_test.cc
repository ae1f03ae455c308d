/*
 * The virtual GIC against a reference that has no list registers: each interrupt is a few booleans,
 * as IHI 0069 chapter 4 describes a GIC, and what a CPU must be given is found by looking at all of
 * them. After every random step both must agree about what each vCPU is signalled, and what is
 * pending and active.
 */
#include "vgic_fake.h"

#include <random>

namespace
{

using namespace vgic_fake;

constexpr u32 kVcpus = 2;
constexpr u32 kIdle = 0x100;

struct Interrupt {
	u32 intid = 0;
	bool enabled = false, edge = false, level = false, latch = false, active = false;
	bool group1 = true;
	u32 priority = 0xa0;
	u32 target = 0; /* kVcpus: nobody */

	bool pending() const
	{
		return latch || (level && !edge);
	}
};

/* What a vCPU has acknowledged and not ended, innermost last. */
struct Running {
	Interrupt *interrupt;
	u32 priority;
};

class Reference
{
      public:
	std::vector<Interrupt> interrupts;
	std::vector<Running> running[kVcpus];
	bool group_on[2] = {true, true};
	bool cpu_group_on[kVcpus][2] = {{true, true}, {true, true}};
	u32 mask[kVcpus] = {0xf0, 0xf0};

	bool deliverable(const Interrupt &i, u32 n) const
	{
		return i.target == n && i.enabled && i.pending() && !i.active &&
		       group_on[i.group1] && cpu_group_on[n][i.group1] && i.priority < mask[n];
	}

	u32 running_priority(u32 n) const
	{
		return running[n].empty() ? kIdle : running[n].back().priority;
	}

	/* The priority of what is signalled, or kIdle. */
	u32 signalled(u32 n, bool with_running = true) const
	{
		u32 best = kIdle;

		for (const Interrupt &i : interrupts) {
			if (deliverable(i, n) &&
			    (!with_running || i.priority < running_priority(n))) {
				best = std::min(best, i.priority);
			}
		}
		return best;
	}
};

class Duel
{
      public:
	Duel(u64 seed, u32 lr_count) : random(seed), m(kVcpus, lr_count)
	{
		m.start();
		for (u32 intid : {1u, 5u, 20u, kTimer}) {
			for (u32 n = 0; n < kVcpus; n++) {
				add(intid, n);
			}
		}
		for (u32 intid : {33u, 34u, 35u, 40u, 63u, 64u, 65u, 100u, 254u, 255u}) {
			add(intid, 0);
		}
		for (Interrupt &i : reference.interrupts) {
			i.edge = i.intid < 16;
			set_priority(i, 8 * (random() % 20));
			enable(i, true);
		}
	}

	/* One random step, then a comparison. Returns false where the two disagree. */
	bool step()
	{
		act();
		settle();
		for (u32 n = 0; n < kVcpus && !::testing::Test::HasFailure(); n++) {
			compare(n);
		}
		return !::testing::Test::HasFailure();
	}

	/* Lines go low, everything is allowed, guests take what there is: nothing may be left. */
	void drain()
	{
		for (u32 n = 0; n < kVcpus; n++) {
			load(n);
			open(n);
		}
		m.dist_write(0, 0, 3);
		reference.group_on[0] = reference.group_on[1] = true;
		for (Interrupt &i : reference.interrupts) {
			lower(i);
			enable(i, true);
			set_target(i, i.target % kVcpus);
		}
		for (int left = 1000; left > 0 && !all_quiet(); left--) {
			for (u32 n = 0; n < kVcpus; n++) {
				settle();
				take(n);
				settle();
				if (!reference.running[n].empty()) {
					end(n);
				}
			}
		}
		EXPECT_TRUE(all_quiet());
		settle();
		for (u32 n = 0; n < kVcpus; n++) {
			compare(n);
			EXPECT_EQ(m.acknowledge(n), kSpurious);
		}
	}

	u64 delivered = 0;

      private:
	std::mt19937_64 random;
	Machine m;
	Reference reference;
	bool expired[kVcpus] = {}; /* its timer, while it was not loaded */

	bool is_private(const Interrupt &i) const
	{
		return i.intid < 32;
	}
	bool is_timer(const Interrupt &i) const
	{
		return i.intid == kTimer;
	}
	bool is_loaded(u32 n)
	{
		return m.vcpu(n)->arch.gic.loaded;
	}

	void add(u32 intid, u32 target)
	{
		Interrupt i;

		i.intid = intid;
		i.target = target;
		reference.interrupts.push_back(i);
	}

	Interrupt &any()
	{
		return reference.interrupts[random() % reference.interrupts.size()];
	}

	/* Some vCPU that is loaded, to write registers; there is always one. */
	u32 some_loaded()
	{
		u32 n = random() % kVcpus;

		return is_loaded(n) ? n : 1 - n;
	}

	void write_bit(const Interrupt &i, u64 offset)
	{
		u32 by = some_loaded(), bit = 1u << i.intid % 32;

		if (is_private(i)) {
			m.redist_write(by, i.target, 0x10000 + offset, bit);
		} else {
			m.dist_write(by, offset + i.intid / 32 * 4, bit);
		}
	}

	u32 read_bit(u32 by, const Interrupt &i, u64 offset)
	{
		u32 word = is_private(i) ? m.redist_read(by, i.target, 0x10000 + offset)
					 : m.dist_read(by, offset + i.intid / 32 * 4);

		return word >> i.intid % 32 & 1;
	}

	void enable(Interrupt &i, bool on)
	{
		i.enabled = on;
		write_bit(i, on ? 0x100 : 0x180);
	}

	void set_priority(Interrupt &i, u8 priority)
	{
		u32 by = some_loaded();

		if (i.active) {
			return; /* what that does is up to the implementation */
		}
		i.priority = priority;
		if (is_private(i)) {
			m.redist_write(by, i.target, 0x10400 + i.intid, priority, 1);
		} else {
			m.dist_write(by, 0x400 + i.intid, priority, 1);
		}
	}

	void set_group(Interrupt &i, bool group1)
	{
		u32 by = some_loaded(), bit = 1u << i.intid % 32, old;

		if (i.active) {
			return;
		}
		i.group1 = group1;
		if (is_private(i)) {
			old = m.redist_read(by, i.target, 0x10080);
			m.redist_write(by, i.target, 0x10080, group1 ? old | bit : old & ~bit);
		} else {
			old = m.dist_read(by, 0x80 + i.intid / 32 * 4);
			m.dist_write(by, 0x80 + i.intid / 32 * 4, group1 ? old | bit : old & ~bit);
		}
	}

	void set_edge(Interrupt &i, bool edge)
	{
		u64 offset = 0xc00 + i.intid / 16 * 4;
		u32 bit = 2u << 2 * (i.intid % 16), old;

		if (is_private(i) || i.enabled) {
			return; /* only while disabled, as the manual says */
		}
		settle();
		i.edge = edge;
		old = m.dist_read(some_loaded(), offset);
		m.dist_write(some_loaded(), offset, edge ? old | bit : old & ~bit);
	}

	void set_target(Interrupt &i, u32 target)
	{
		if (!is_private(i)) {
			i.target = target;
			m.dist_write(some_loaded(), 0x6000 + 8 * i.intid, target, 8);
		}
	}

	void set_line(Interrupt &i, bool level)
	{
		if (is_timer(i)) {
			if (!is_loaded(i.target)) {
				/* Only its guest could lower it; it expires when it is loaded. */
				if (level) {
					expired[i.target] = true;
					m.set_timer(i.target, true);
				}
				return;
			}
			i.level = level;
			m.set_timer(i.target, level);
			vgic_sync(m.vcpu(i.target)); /* any exit with a request does */
		} else if (is_private(i)) {
			set_pending(i, true);
		} else {
			i.latch = i.latch || (i.edge && level && !i.level);
			i.level = level;
			m.become(some_loaded());
			vgic_set_spi(m.gic(), i.intid, level);
		}
	}

	void lower(Interrupt &i)
	{
		if (!is_private(i) || is_timer(i)) {
			set_line(i, false);
		}
	}

	void set_pending(Interrupt &i, bool on)
	{
		if (!is_timer(i)) {
			i.latch = on;
			write_bit(i, on ? 0x200 : 0x280);
		}
	}

	/* Software makes and ends active states only where no guest is about to end it. */
	void set_active(Interrupt &i, bool on)
	{
		if (is_timer(i) || is_running(i)) {
			return;
		}
		i.active = on;
		write_bit(i, on ? 0x300 : 0x380);
	}

	bool is_running(const Interrupt &i) const
	{
		for (u32 n = 0; n < kVcpus; n++) {
			for (const Running &r : reference.running[n]) {
				if (r.interrupt == &i) {
					return true;
				}
			}
		}
		return false;
	}

	void send_sgi()
	{
		u32 from = some_loaded(), intid = random() % 2 ? 1 : 5, targets = random() % 8;
		bool others = random() % 4 == 0;

		m.become(from);
		vgic_send_sgi(m.vcpu(from), (u64)intid << 24 | (u64)others << 40 | targets);
		for (Interrupt &i : reference.interrupts) {
			if (i.intid == intid &&
			    (others ? i.target != from : targets >> i.target & 1)) {
				i.latch = true;
			}
		}
	}

	/* Guest n takes what it is signalled; it must be one of the most urgent. */
	void take(u32 n)
	{
		u32 priority = reference.signalled(n), intid = m.cpu(n).acknowledge();

		if (intid == kSpurious) {
			EXPECT_EQ(priority, kIdle) << "vCPU " << n << " lost an interrupt";
			return;
		}
		delivered++;
		for (Interrupt &i : reference.interrupts) {
			if (i.intid == intid && reference.deliverable(i, n) &&
			    i.priority == priority) {
				i.latch = false;
				i.active = true;
				reference.running[n].push_back({&i, i.priority});
				return;
			}
		}
		ADD_FAILURE() << "vCPU " << n << " was given " << intid << ", priority " << priority
			      << " was due";
	}

	void end(u32 n)
	{
		Running r = reference.running[n].back();

		reference.running[n].pop_back();
		r.interrupt->active = false;
		m.cpu(n).end(r.interrupt->intid);
	}

	void put(u32 n)
	{
		if (is_loaded(0) && is_loaded(1)) {
			m.put(n);
			for (u32 lr = 0; lr < m.cpu(n).lr_count; lr++) {
				EXPECT_EQ(m.cpu(n).lr[lr] & kState, 0u) << "left for the next";
			}
			m.cpu(n).vmcr = m.cpu(n).ap[0][0] = m.cpu(n).ap[1][0] = 0;
		}
	}

	void load(u32 n)
	{
		if (is_loaded(n)) {
			return;
		}
		m.load(n);
		for (Interrupt &i : reference.interrupts) {
			i.level = i.level || (is_timer(i) && i.target == n && expired[n]);
		}
		expired[n] = false;
	}

	void open(u32 n)
	{
		reference.mask[n] = 0xf8;
		reference.cpu_group_on[n][0] = reference.cpu_group_on[n][1] = true;
		m.cpu(n).vmcr = 0xf8000003;
	}

	/* The guest's own CPU interface: mask and groups. */
	void set_interface(u32 n)
	{
		if (!is_loaded(n)) {
			return;
		}
		reference.mask[n] = random() % 6 ? 0xf0 : 0x40;
		reference.cpu_group_on[n][0] = random() % 8;
		reference.cpu_group_on[n][1] = random() % 8;
		m.cpu(n).vmcr = (u64)reference.mask[n] << 24 | reference.cpu_group_on[n][0] |
				reference.cpu_group_on[n][1] << 1;
	}

	void set_distributor()
	{
		u32 value = random() % 4 ? 3 : random() % 4;

		reference.group_on[0] = value & 1;
		reference.group_on[1] = value & 2;
		m.dist_write(some_loaded(), 0, value);
	}

	void act()
	{
		u32 n = random() % kVcpus;

		switch (random() % 24) {
		case 0 ... 4:
			if (is_loaded(n)) {
				take(n);
			}
			break;
		case 5 ... 8:
			if (is_loaded(n) && !reference.running[n].empty()) {
				end(n);
			}
			break;
		case 9 ... 12:
			set_line(any(), random() % 2);
			break;
		case 13:
			send_sgi();
			break;
		case 14:
			enable(any(), random() % 4);
			break;
		case 15:
			set_pending(any(), random() % 2);
			break;
		case 16:
			set_priority(any(), 8 * (random() % 20));
			break;
		case 17:
			set_target(any(), random() % (4 * kVcpus + 1) / 4);
			break;
		case 18:
			put(n);
			break;
		case 19:
			load(0);
			load(1);
			break;
		case 20:
			random() % 4 ? set_interface(n) : set_distributor();
			break;
		case 21:
			set_group(any(), random() % 4);
			break;
		case 22:
			set_edge(any(), random() % 2);
			break;
		case 23:
			set_active(any(), random() % 4 == 0);
			break;
		}
	}

	/* Everybody who was told enters; who was not told must not have had to. */
	void settle()
	{
		m.enter_all();
		m.enter_all();
	}

	void compare(u32 n)
	{
		int lr = is_loaded(n) ? m.cpu(n).highest_pending() : -1;
		u32 given = lr < 0 ? kIdle : m.cpu(n).lr[lr] >> 48 & 0xff;

		if (is_loaded(n)) {
			ASSERT_EQ(given, reference.signalled(n))
				<< "vCPU " << n << ", LR " << lr << " has "
				<< (lr < 0 ? 0 : (u32)m.cpu(n).lr[lr]);
			compare_registers(n);
		}
		m.become(n);
		ASSERT_EQ(vgic_has_pending(m.vcpu(n)), reference.signalled(n, false) != kIdle)
			<< "vCPU " << n;
	}

	/* A read asks other CPUs to look; what they find is in the next read. */
	void compare_registers(u32 by)
	{
		const Interrupt &i = any();

		read_bit(by, i, 0x200);
		settle();
		/* Only its own CPU can look at a timer's line. */
		if (!is_timer(i) || i.target == by) {
			ASSERT_EQ(read_bit(by, i, 0x200), i.pending()) << "INTID " << i.intid;
		}
		ASSERT_EQ(read_bit(by, i, 0x380), i.active) << "INTID " << i.intid;
		ASSERT_EQ(read_bit(by, i, 0x180), i.enabled);
	}

	bool all_quiet() const
	{
		for (const Interrupt &i : reference.interrupts) {
			/* Made active by a register write: stays until a register write. */
			if (is_running(i) || (i.pending() && !i.active)) {
				return false;
			}
		}
		return true;
	}
};

TEST(VgicModel, agrees_with_a_gic_that_has_no_list_registers)
{
	u64 delivered = 0;

	for (u64 seed = 1; seed <= 120; seed++) {
		SCOPED_TRACE(::testing::Message() << "seed " << seed);
		Duel duel(seed, seed % 3 == 0 ? 1 : seed % 3 == 1 ? 4 : 16);

		for (int step = 0; step < 2000; step++) {
			if (!duel.step()) {
				FAIL() << "at step " << step;
			}
		}
		duel.drain();
		if (HasFailure()) {
			return;
		}
		delivered += duel.delivered;
	}
	EXPECT_GT(delivered, 10000u);
}

} // namespace

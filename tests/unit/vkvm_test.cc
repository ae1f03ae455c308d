// KVM's paravirtual interface: the records in guest memory, and hypercalls.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

extern "C" {
#include "../../arch/fake/fake.h"
#include "../../arch/x86_64/vkvm_call.h"
#include "../../arch/x86_64/vkvm_eoi.h"
#include "../../arch/x86_64/vkvm_steal.h"
#include "../../arch/x86_64/vlapic.h"
#include "hyp/vcpu.h"
#include "hyp/vm.h"
#include <asm/kvm_para.h>
}

namespace
{

constexpr u64 kRam = GIB(1); // where the fake architecture puts it
constexpr u64 kRamSize = MIB(16);
constexpr u64 kRecord = kRam + MIB(4) + 0x40;
constexpr u64 kOn = 1;
constexpr u32 kVcpus = 4;

class Vkvm : public testing::Test
{
      protected:
	void SetUp() override
	{
		struct config_vm config = {};
		char why[128] = "";

		fake_cpus(1);
		fake_memory(MIB(64));
		vm_count = 0;
		std::strcpy(config.name, "test");
		config.cpus = kVcpus;
		config.memory = kRamSize;
		config.weight = CONFIG_WEIGHT_DEFAULT;
		config.small_pages = true;
		ASSERT_EQ(vm_build(&config, why, sizeof(why)), OK) << why;
		vm = vms[0];
	}

	void TearDown() override
	{
		s2_destroy(&vm->s2);
		vm_count = 0;
	}

	template <typename T> T get(u64 at)
	{
		T value;

		EXPECT_EQ(vm_memory_read(vm, gpa(at), &value, sizeof(value)), OK);
		return value;
	}

	template <typename T> void put(u64 at, T value)
	{
		EXPECT_EQ(vm_memory_write(vm, gpa(at), &value, sizeof(value)), OK);
	}

	void unmap(u64 at)
	{
		struct s2_batch batch;

		s2_batch_open(&batch, &vm->s2);
		ASSERT_EQ(s2_unmap(&vm->s2, gpa(at & ~u64{PAGE_SIZE - 1}), PAGE_SIZE, &batch), OK);
		s2_batch_close(&batch);
	}

	struct vm *vm = nullptr;
};

/* ---- Stolen time ----------------------------------------------------------------------------- */

class VkvmSteal : public Vkvm
{
      protected:
	struct kvm_steal_time record()
	{
		return get<struct kvm_steal_time>(kRecord);
	}

	void set_preempted(u8 value)
	{
		put(kRecord + offsetof(struct kvm_steal_time, preempted), value);
	}

	struct vkvm_steal steal = {};
};

TEST_F(VkvmSteal, reserved_bits_and_what_is_no_ram_are_refused)
{
	for (u64 bit = 1; bit <= 5; bit++) {
		EXPECT_FALSE(vkvm_steal_set(vm, &steal, kRecord | kOn | BIT(bit), 1)) << bit;
		EXPECT_FALSE(vkvm_steal_set(vm, &steal, kRecord | BIT(bit), 1)) << bit;
	}
	for (u64 at : {u64{0}, kRam - 64, kRam + kRamSize, ~u64{63}}) {
		EXPECT_FALSE(vkvm_steal_set(vm, &steal, at | kOn, 1)) << std::hex << at;
	}
	EXPECT_EQ(steal.msr, 0u);
	EXPECT_TRUE(vkvm_steal_set(vm, &steal, (kRam + kRamSize - 64) | kOn, 1)) << "the last";
	EXPECT_TRUE(vkvm_steal_set(vm, &steal, 64, 1)) << "it is off, wherever it is";
	EXPECT_EQ(steal.msr, 64u);
}

TEST_F(VkvmSteal, without_memory_it_is_refused_and_the_old_place_stays)
{
	ASSERT_TRUE(vkvm_steal_set(vm, &steal, kRecord | kOn, 1));
	fake_memory_leave(0);
	EXPECT_FALSE(vkvm_steal_set(vm, &steal, (kRam + MIB(8)) | kOn, 1));
	EXPECT_EQ(steal.msr, kRecord | kOn);
}

TEST_F(VkvmSteal, record_tells_what_was_stolen_under_an_even_version_that_grows)
{
	set_preempted(KVM_VCPU_PREEMPTED);
	put(kRecord + offsetof(struct kvm_steal_time, flags), 0x12345678u);
	ASSERT_TRUE(vkvm_steal_set(vm, &steal, kRecord | kOn, 1000));
	EXPECT_EQ(record().steal, 1000u);
	EXPECT_EQ(record().preempted, 0);
	EXPECT_EQ(record().version, 2u);
	vkvm_steal_take_up(vm, &steal, 0x123456789abcull);
	EXPECT_EQ(record().steal, 0x123456789abcull);
	EXPECT_EQ(record().version, 4u);
	EXPECT_EQ(record().flags, 0x12345678u) << "not Lamina's";
}

TEST_F(VkvmSteal, version_that_the_guest_spoiled_becomes_even_again)
{
	ASSERT_TRUE(vkvm_steal_set(vm, &steal, kRecord | kOn, 0));
	for (u32 spoiled : {7u, 0xfffffffeu, 0xffffffffu}) {
		put(kRecord + offsetof(struct kvm_steal_time, version), spoiled);
		vkvm_steal_take_up(vm, &steal, 1);
		EXPECT_EQ(record().version % 2, 0u) << spoiled;
		EXPECT_NE(record().version, spoiled);
	}
}

TEST_F(VkvmSteal, preempted_is_told_until_it_has_a_cpu_again)
{
	ASSERT_TRUE(vkvm_steal_set(vm, &steal, kRecord | kOn, 0));
	vkvm_steal_tell_preempted(vm, &steal);
	EXPECT_EQ(record().preempted, KVM_VCPU_PREEMPTED);
	EXPECT_FALSE(vkvm_steal_take_up(vm, &steal, 0)) << "nobody asked";
	EXPECT_EQ(record().preempted, 0);
	EXPECT_EQ(vm->counters.pv_flushes, 0u);
}

TEST_F(VkvmSteal, who_finds_it_preempted_may_ask_for_a_flush)
{
	ASSERT_TRUE(vkvm_steal_set(vm, &steal, kRecord | kOn, 0));
	vkvm_steal_tell_preempted(vm, &steal);
	set_preempted(KVM_VCPU_PREEMPTED | KVM_VCPU_FLUSH_TLB);
	EXPECT_TRUE(vkvm_steal_take_up(vm, &steal, 0));
	EXPECT_EQ(record().preempted, 0);
	EXPECT_FALSE(vkvm_steal_take_up(vm, &steal, 0)) << "once";
	EXPECT_EQ(vm->counters.pv_flushes, 1u);
}

TEST_F(VkvmSteal, nothing_is_written_where_it_is_off)
{
	ASSERT_TRUE(vkvm_steal_set(vm, &steal, kRecord | kOn, 5));
	ASSERT_TRUE(vkvm_steal_set(vm, &steal, kRecord, 6));
	set_preempted(KVM_VCPU_FLUSH_TLB);
	vkvm_steal_tell_preempted(vm, &steal);
	EXPECT_FALSE(vkvm_steal_take_up(vm, &steal, 7));
	EXPECT_EQ(record().steal, 5u);
	EXPECT_EQ(record().preempted, KVM_VCPU_FLUSH_TLB);
}

TEST_F(VkvmSteal, record_that_is_not_there_is_faulted_in_for_entry_and_not_to_tell)
{
	ASSERT_TRUE(vkvm_steal_set(vm, &steal, kRecord | kOn, 5));
	unmap(kRecord);
	u64 faults = vm->counters.pgfault;
	vkvm_steal_tell_preempted(vm, &steal);
	EXPECT_EQ(vm->counters.pgfault, faults);
	EXPECT_FALSE(vkvm_steal_take_up(vm, &steal, 6));
	EXPECT_EQ(vm->counters.pgfault, faults + 1);
	EXPECT_EQ(record().steal, 6u);
}

TEST_F(VkvmSteal, no_vcpu_is_entered_that_nobody_could_ask)
{
	ASSERT_TRUE(vkvm_steal_set(vm, &steal, kRecord | kOn, 5));
	unmap(kRecord);
	fake_memory_leave(0);
	vkvm_steal_take_up(vm, &steal, 6);
	EXPECT_EQ(vm->state, VM_CRASHED);
	EXPECT_NE(std::strstr(vm->last_words, "stolen time"), nullptr) << vm->last_words;
}

/* ---- The end of an interrupt ----------------------------------------------------------------- */

constexpr u64 kWord = kRam + MIB(6) + 4;
std::vector<u8> levels_ended;

void note_level_ended(struct vlapic *, u8 vector)
{
	levels_ended.push_back(vector);
}

void send_nothing(struct vlapic *, const struct vapic_message *)
{
}

const struct vlapic_ops lapic_ops = {send_nothing, note_level_ended};

class VkvmEoi : public Vkvm
{
      protected:
	void SetUp() override
	{
		Vkvm::SetUp();
		levels_ended.clear();
		vlapic_init(&lapic, 0, true, 40, &lapic_ops);
		vlapic_write(&lapic, 0xf0, 0, 0x1ff);
	}

	void serve(u8 vector, bool level = false)
	{
		ASSERT_TRUE(vlapic_post(&lapic, vector, level));
		ASSERT_EQ(vlapic_pending(&lapic), vector);
		vlapic_accept(&lapic, vector);
	}

	bool in_service(u8 vector)
	{
		return lapic.isr[vector / 64] >> vector % 64 & 1;
	}

	void offer()
	{
		vkvm_eoi_offer(vm, &eoi, &lapic);
	}

	void take_back()
	{
		vkvm_eoi_take_back(vm, &eoi, &lapic);
	}

	bool set(u64 value)
	{
		return vkvm_eoi_set(vm, &eoi, &lapic, value);
	}

	// As a guest does at the end of its handler. True: the register is not needed.
	bool guest_ends()
	{
		u32 word = get<u32>(kWord);

		put(kWord, word & ~1u);
		return word & 1;
	}

	struct vlapic lapic = {};
	struct vkvm_eoi eoi = {};
};

TEST_F(VkvmEoi, a_reserved_bit_and_what_is_no_ram_are_refused)
{
	EXPECT_FALSE(set(kWord | 2 | kOn));
	EXPECT_FALSE(set(kWord | 2));
	for (u64 at : {u64{0}, kRam - 4, kRam + kRamSize, ~u64{3}}) {
		EXPECT_FALSE(set(at | kOn)) << std::hex << at;
	}
	EXPECT_EQ(eoi.msr, 0u);
	EXPECT_TRUE(set((kRam + kRamSize - 4) | kOn));
	EXPECT_EQ(eoi.msr, (kRam + kRamSize - 4) | kOn);
	fake_memory_leave(0);
	EXPECT_FALSE(set(kWord | kOn)) << "no memory";
	EXPECT_EQ(eoi.msr, (kRam + kRamSize - 4) | kOn);
}

TEST_F(VkvmEoi, what_the_word_held_before_offers_nothing)
{
	put(kWord, ~0u);
	ASSERT_TRUE(set(kWord | kOn));
	EXPECT_EQ(get<u32>(kWord), 0u);
}

TEST_F(VkvmEoi, the_guest_ends_by_the_bit_what_was_offered)
{
	ASSERT_TRUE(set(kWord | kOn));
	serve(0x55);
	offer();
	EXPECT_TRUE(guest_ends());
	take_back();
	EXPECT_FALSE(in_service(0x55));
	EXPECT_EQ(vm->counters.eois_skipped, 1u);
	take_back();
	EXPECT_EQ(vm->counters.eois_skipped, 1u) << "once";
	serve(0x55);
	EXPECT_TRUE(in_service(0x55)) << "the next of the same";
}

TEST_F(VkvmEoi, what_was_taken_back_in_time_ends_by_the_register)
{
	ASSERT_TRUE(set(kWord | kOn));
	serve(0x55);
	offer();
	take_back();
	EXPECT_TRUE(in_service(0x55));
	EXPECT_FALSE(guest_ends());
	EXPECT_EQ(vm->counters.eois_skipped, 0u);
	offer();
	EXPECT_TRUE(guest_ends()) << "it may be offered again";
	take_back();
	EXPECT_FALSE(in_service(0x55));
}

TEST_F(VkvmEoi, an_offer_is_not_renewed_behind_the_guests_back)
{
	ASSERT_TRUE(set(kWord | kOn));
	serve(0x55);
	offer();
	ASSERT_TRUE(guest_ends());
	offer(); // between two exits: nobody looked at the APIC
	EXPECT_EQ(get<u32>(kWord), 0u);
	take_back();
	EXPECT_FALSE(in_service(0x55));
}

TEST_F(VkvmEoi, nothing_is_offered_that_needs_an_exit_or_was_not_asked_for)
{
	serve(0x55);
	offer();
	EXPECT_EQ(get<u32>(kWord), 0u) << "the guest did not ask";
	ASSERT_TRUE(set(kWord | kOn));
	vlapic_eoi(&lapic);
	offer();
	EXPECT_EQ(get<u32>(kWord), 0u) << "nothing in service";
	serve(0x55, true);
	offer();
	EXPECT_EQ(get<u32>(kWord), 0u) << "a level";
	vlapic_eoi(&lapic);
	serve(0x55);
	vlapic_post(&lapic, 0x44, false);
	offer();
	EXPECT_EQ(get<u32>(kWord), 0u) << "another waits";
}

TEST_F(VkvmEoi, a_level_that_came_since_is_told_of_its_end)
{
	ASSERT_TRUE(set(kWord | kOn));
	serve(0x55);
	offer();
	vlapic_post(&lapic, 0x55, true);
	ASSERT_TRUE(guest_ends());
	take_back();
	EXPECT_EQ(levels_ended, std::vector<u8>{0x55});
	EXPECT_EQ(vlapic_pending(&lapic), 0x55);
}

TEST_F(VkvmEoi, turning_it_off_or_elsewhere_takes_back_first)
{
	for (u64 to : {u64{0}, (kWord + 64) | kOn}) {
		ASSERT_TRUE(set(kWord | kOn));
		serve(0x55);
		offer();
		ASSERT_TRUE(set(to));
		EXPECT_EQ(get<u32>(kWord), 0u);
		EXPECT_TRUE(in_service(0x55));
		vlapic_eoi(&lapic);

		ASSERT_TRUE(set(kWord | kOn));
		serve(0x56);
		offer();
		ASSERT_TRUE(guest_ends());
		ASSERT_TRUE(set(to));
		EXPECT_FALSE(in_service(0x56)) << "it had ended before";
	}
}

TEST_F(VkvmEoi, where_memory_is_not_there_nothing_is_offered)
{
	ASSERT_TRUE(set(kWord | kOn));
	serve(0x55);
	unmap(kWord);
	offer();
	EXPECT_FALSE(eoi.offered);
	take_back();
	EXPECT_TRUE(in_service(0x55));
}

TEST_F(VkvmEoi, where_the_bit_cannot_be_had_back_the_guest_ends)
{
	ASSERT_TRUE(set(kWord | kOn));
	serve(0x55);
	offer();
	unmap(kWord);
	fake_memory_leave(0);
	take_back();
	EXPECT_EQ(vm->state, VM_CRASHED);
}

/* ---- Calls ----------------------------------------------------------------------------------- */

constexpr u64 kPoll = 1, kKick = 5, kIpi = 10, kYield = 11;
constexpr u64 kNotThere = (u64)-1000, kNotPermitted = (u64)-1, kInvalid = (u64)-22;

std::vector<u32> kicked, yielded;
std::vector<std::pair<u32, struct vapic_message>> sent;
bool takes;

void note_kick(struct vcpu *target)
{
	kicked.push_back(target->id);
}

bool note_send(struct vcpu *target, const struct vapic_message *message)
{
	sent.push_back({target->id, *message});
	return takes;
}

bool note_yield(struct vcpu *target)
{
	yielded.push_back(target->id);
	return takes;
}

const struct vkvm_call_ops call_ops = {note_kick, note_yield, note_send};

class VkvmCall : public Vkvm
{
      protected:
	void SetUp() override
	{
		Vkvm::SetUp();
		kicked.clear();
		yielded.clear();
		sent.clear();
		takes = true;
	}

	u64 call(u64 number, u64 a0 = 0, u64 a1 = 0, u64 a2 = 0, u64 a3 = 0, bool wide = true,
		 bool kernel = true)
	{
		struct vkvm_call c = {number, {a0, a1, a2, a3}, kernel, wide};

		return vkvm_call(vm->vcpus[0], &c, &call_ops);
	}

	std::vector<u32> targets()
	{
		std::vector<u32> ids;

		for (const auto &one : sent) {
			EXPECT_EQ(one.second.destination, one.first);
			ids.push_back(one.first);
		}
		sent.clear();
		return ids;
	}
};

TEST_F(VkvmCall, numbers_that_nobody_has_are_answered_so)
{
	EXPECT_EQ(call(kPoll), 0u);
	for (u64 number : {u64{0}, u64{2}, u64{9}, u64{12}, u64{0x100000005}, ~u64{0}}) {
		EXPECT_EQ(call(number, 1, 1), kNotThere) << number;
	}
	EXPECT_TRUE(kicked.empty());
}

TEST_F(VkvmCall, only_the_kernel_may_call)
{
	for (u64 number : {kPoll, kKick, kIpi, kYield, u64{77}}) {
		EXPECT_EQ(call(number, 1, 1, 0, 0x55, true, false), kNotPermitted) << number;
	}
	EXPECT_TRUE(kicked.empty() && yielded.empty() && sent.empty());
}

TEST_F(VkvmCall, narrow_code_has_32_bits_of_everything)
{
	EXPECT_EQ(call(0xabcd00000000 | kKick, 0, 0xabcd00000002, 0, 0, false), 0u);
	EXPECT_EQ(kicked, std::vector<u32>{2});
	EXPECT_EQ(call(77, 0, 0, 0, 0, false), (u32)-1000);
	EXPECT_EQ(call(kKick, 0, 0xabcd00000002), 0u) << "wide: no such CPU";
	EXPECT_EQ(kicked.size(), 1u);
}

TEST_F(VkvmCall, a_kick_is_for_the_cpu_that_is_named)
{
	for (u64 id : {3u, 0u, 1u}) {
		EXPECT_EQ(call(kKick, 99, id), 0u);
	}
	EXPECT_EQ(call(kKick, 0, kVcpus), 0u);
	EXPECT_EQ(call(kKick, 0, ~0ull), 0u);
	EXPECT_EQ(kicked, (std::vector<u32>{3, 0, 1}));
	EXPECT_EQ(vm->counters.pv_kicks, 3u);
}

TEST_F(VkvmCall, a_turn_is_for_the_cpu_that_is_named_and_counts_if_it_waited)
{
	EXPECT_EQ(call(kYield, kVcpus), 0u);
	EXPECT_EQ(call(kYield, ~0ull), 0u);
	EXPECT_TRUE(yielded.empty());
	EXPECT_EQ(call(kYield, 2, 1), 0u);
	EXPECT_EQ(vm->counters.pv_yields, 1u);
	takes = false;
	EXPECT_EQ(call(kYield, 3, 1), 0u);
	EXPECT_EQ(vm->counters.pv_yields, 1u);
	EXPECT_EQ(yielded, (std::vector<u32>{2, 3}));
}

TEST_F(VkvmCall, ipis_go_to_the_set_that_begins_at_the_first)
{
	EXPECT_EQ(call(kIpi, 0xb, 0, 0, 0x55), 3u);
	EXPECT_EQ(sent[0].second.vector, 0x55);
	EXPECT_EQ(sent[0].second.mode, VAPIC_FIXED);
	EXPECT_EQ(sent[0].second.shorthand, VAPIC_TO_DESTINATION);
	EXPECT_FALSE(sent[0].second.level || sent[0].second.logical);
	EXPECT_EQ(targets(), (std::vector<u32>{0, 1, 3}));
	EXPECT_EQ(call(kIpi, 0x3, 0, 2, 0x55), 2u);
	EXPECT_EQ(targets(), (std::vector<u32>{2, 3}));
	EXPECT_EQ(call(kIpi, ~0ull, ~0ull, 3, 0x55), 1u) << "others are no CPUs";
	EXPECT_EQ(targets(), std::vector<u32>{3});
	EXPECT_EQ(call(kIpi, ~0ull, ~0ull, 4, 0x55), 0u);
	EXPECT_EQ(call(kIpi, ~0ull, ~0ull, ~0ull, 0x55), 0u) << "ids do not wrap around";
	EXPECT_EQ(call(kIpi, 0, 0, 0, 0x55), 0u);
	EXPECT_EQ(targets(), std::vector<u32>{});
}

TEST_F(VkvmCall, ipis_of_narrow_code_have_32_cpus_a_word)
{
	EXPECT_EQ(call(kIpi, ~0ull << 32 | 1, 0, 0, 0x55, false), 1u);
	EXPECT_EQ(targets(), std::vector<u32>{0});
}

TEST_F(VkvmCall, ipis_that_are_not_taken_do_not_count)
{
	takes = false;
	EXPECT_EQ(call(kIpi, 0xf, 0, 0, 0x55), 0u);
	EXPECT_EQ(sent.size(), 4u);
}

TEST_F(VkvmCall, ipis_are_vectors_or_nmis_to_physical_ids)
{
	EXPECT_EQ(call(kIpi, 2, 0, 0, 0x400), 1u);
	EXPECT_EQ(sent[0].second.mode, VAPIC_NMI);
	sent.clear();
	for (u64 icr : {u64{0x855}, u64{0x40055}, u64{0x80055}, u64{0xc0055}, u64{0x155},
			u64{0x255}, u64{0x355}, u64{0x500}, u64{0x608}, u64{0x755}, u64{0x0f}}) {
		EXPECT_EQ(call(kIpi, 2, 0, 0, icr), kInvalid) << std::hex << icr;
	}
	EXPECT_TRUE(sent.empty());
	EXPECT_EQ(call(kIpi, 2, 0, 0, 0x4010), 1u) << "assert is what Linux may set";
}

} // namespace

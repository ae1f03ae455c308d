/*
 * Cache maintenance by set and way, survived.
 *
 * A guest that cleans its caches by set and way wants all its dirty lines in memory, because it is
 * about to turn its caches off or on. On real hardware that reaches one CPU's caches only, with the
 * data of other guests in it, so it traps. Instead:
 *
 *   the first such operation cleans and invalidates all mapped RAM by address, and arms TVM;
 *   more of them cost a trap and nothing else: a loop over all sets and ways is cleaned once;
 *   while TVM is armed, turning the caches on or off cleans all mapped RAM once more, since the
 * guest may have written between its loop and the switch; with the caches on, the next trapped
 * write disarms TVM, so a guest that runs pays nothing.
 *
 * All RAM may be many gigabytes. Each exit cleans a piece and has the guest execute the same
 * instruction again, so interrupts and the scheduler get their turn in between; arch.clean_cursor
 * says how far it came.
 */
#include "vcache.h"

#include "hyp/vcpu.h"

#include "el1.h"
#include "emulate.h"
#include "sysreg.h"

#define BYTES_PER_EXIT MIB(8)

/* What of [at, end) is mapped by the leaf at `at`, or not mapped; returns where to go on. */
static gpa_t clean_leaf(struct s2 *s2, gpa_t at, gpa_t end)
{
	struct s2_leaf leaf = s2_query(s2, at);
	u64 span = BIT(s2->format->page_shift + s2->format->index_bits * leaf.level);
	u64 next = min_u64(align_down(at.v, span) + span, end.v);

	if (leaf.kind == S2_LEAF) {
		el1_clean_invalidate(hpa_ptr(leaf.hpa), next - at.v);
	}
	return gpa(next);
}

/* True when all is done. */
static bool clean_some(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	u64 done = vcpu->arch.clean_cursor;
	struct vm_ram_range piece = vm_ram_piece(&vm->ram, done);
	u64 stop = done + min_u64(piece.size, BYTES_PER_EXIT);
	gpa_t end = gpa_add(piece.base, stop - done);

	for (gpa_t at = piece.base; at.v < end.v;) {
		at = clean_leaf(&vm->s2, at, end);
	}
	vcpu->arch.clean_cursor = stop < vm->ram.size ? stop : 0;
	return stop == vm->ram.size;
}

static bool are_caches_on(u64 sctlr)
{
	return (sctlr & (SCTLR_M | SCTLR_C)) == (SCTLR_M | SCTLR_C);
}

void vcache_set_way(struct vcpu *vcpu)
{
	if (!el1_traps_controls(vcpu)) {
		if (!clean_some(vcpu)) {
			return;
		}
		el1_trap_controls(vcpu, true);
	}
	emulate_skip(vcpu);
}

bool vcache_sctlr_write(struct vcpu *vcpu, u64 sctlr)
{
	if (are_caches_on(sctlr) == are_caches_on(el1_read(EL1_SCTLR))) {
		return true;
	}
	return clean_some(vcpu);
}

void vcache_controls_written(struct vcpu *vcpu)
{
	if (are_caches_on(el1_read(EL1_SCTLR))) {
		el1_trap_controls(vcpu, false);
	}
}

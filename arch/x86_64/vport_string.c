/*
 * The exit comes before the CPU has looked at the operand in memory (SDM volume 3C, 26.1.1): what
 * its segment, its alignment and its page tables say is judged here. What has been done before an
 * exception stays done, as of the instruction itself.
 */
#include "vport_string.h"

#include "arch/s2.h"
#include "arch/vm.h"

#include "arch_enter.h"
#include "vcpu_vmx.h"
#include "vinject.h"
#include "vport.h"
#include "vstring.h"

#include <string.h>

/* The VMCS's information about the instruction (28.2.5). */
#define INFO_ADDRESS_SIZE BITS(9, 7) /* 16, 32, 64 bits */
#define INFO_SEGMENT BITS(17, 15)    /* of OUTS; of INS it is ES */

#define SEGMENT_STEP 2 /* from one field's number to the next segment's */
enum { SEGMENT_ES, SEGMENT_CS, SEGMENT_SS, SEGMENT_DS, SEGMENT_FS, SEGMENT_GS };

#define LEVEL_USER 3

/* ---- The instruction ------------------------------------------------------------------------- */

static struct vstring_segment read_segment(unsigned n, bool long_mode)
{
	bool has_base = !long_mode || n >= SEGMENT_FS;

	return (struct vstring_segment){
		.base = has_base ? vmcs_read(VMCS_GUEST_ES_BASE + SEGMENT_STEP * n) : 0,
		.limit = (u32)vmcs_read(VMCS_GUEST_ES_LIMIT + SEGMENT_STEP * n),
		.rights = (u32)vmcs_read(VMCS_GUEST_ES_RIGHTS + SEGMENT_STEP * n),
		.is_stack = n == SEGMENT_SS && !long_mode,
	};
}

static struct vstring read_instruction(const struct vcpu *vcpu, u64 q)
{
	u64 info = vmcs_read(VMCS_INSTRUCTION_INFO);
	bool in = q & PORT_IN, long_mode = vcpu_code_bits() == 64;
	unsigned segment = in ? SEGMENT_ES : (unsigned)field_get(info, INFO_SEGMENT);

	return (struct vstring){
		.size = (u8)(field_get(q, PORT_SIZE) + 1),
		.index_size = (u8)(2 << field_get(info, INFO_ADDRESS_SIZE)),
		.in = in,
		.rep = q & PORT_REP,
		.down = vmcs_read(VMCS_GUEST_RFLAGS) & RFLAGS_DF,
		.long_mode = long_mode,
		.index = vcpu->arch.gpr[in ? GPR_RDI : GPR_RSI],
		.count = vcpu->arch.gpr[GPR_RCX],
		.segment = read_segment(segment, long_mode),
	};
}

static void write_registers(struct vcpu *vcpu, const struct vstring *s)
{
	vcpu->arch.gpr[s->in ? GPR_RDI : GPR_RSI] = s->index;
	vcpu->arch.gpr[GPR_RCX] = s->count;
}

/* ---- Its operand in memory --------------------------------------------------------------------
 */

/* A step's bytes, in one page or in two. */
struct pieces {
	u32 count;
	gpa_t at[2];
	u32 size[2];
};

static bool is_user(void)
{
	return field_get(vmcs_read(VMCS_GUEST_SS_RIGHTS), RIGHTS_LEVEL) == LEVEL_USER;
}

static bool is_misaligned(const struct vstring *s, const struct vstring_step *step)
{
	return !is_aligned(step->at, s->size) && is_user() &&
	       (vmcs_read(VMCS_GUEST_CR0) & CR0_AM) && (vmcs_read(VMCS_GUEST_RFLAGS) & RFLAGS_AC);
}

static struct vwalk_use use_of(const struct vstring *s, const struct vwalk_paging *p)
{
	return (struct vwalk_use){
		.write = s->in,
		.user = is_user(),
		.keeps_out = (p->cr4 & CR4_SMAP) && !(vmcs_read(VMCS_GUEST_RFLAGS) & RFLAGS_AC),
	};
}

static void crash_without_memory(struct vcpu *vcpu)
{
	vm_crash(vcpu->vm, "no free memory for what INS or OUTS uses");
}

/* False: the guest has an exception, or its instruction is to come again. */
static bool add_piece(struct vcpu *vcpu, const struct vstring *s, u64 linear, u32 size,
		      struct pieces *pieces)
{
	struct vwalk_paging p = vcpu_paging();
	gpa_t *where = &pieces->at[pieces->count];
	u32 error = 0;

	switch (vwalk_access(vcpu->vm, &p, linear, use_of(s, &p), where, &error)) {
	case VWALK_OK:
		break;
	case VWALK_FAULT:
		write_cr(2, linear); /* the guest's own, while it is loaded */
		vinject_exception(vcpu, EXCEPTION_PF, error);
		return false;
	case VWALK_AGAIN:
		return false;
	case VWALK_NOMEM:
		crash_without_memory(vcpu);
		return false;
	}
	if (!vm_memory_contains(vcpu->vm, *where, size)) {
		arch_vcpu_inject_abort(vcpu);
		return false;
	}
	pieces->size[pieces->count++] = size;
	return true;
}

static bool find_pieces(struct vcpu *vcpu, const struct vstring *s, const struct vstring_step *step,
			struct pieces *pieces)
{
	u32 first = vstring_first_bytes(s, step), rest = vstring_bytes(s, step) - first;

	return add_piece(vcpu, s, step->at, first, pieces) &&
	       (rest == 0 || add_piece(vcpu, s, step->next, rest, pieces));
}

static bool copy(struct vcpu *vcpu, const struct pieces *pieces, u8 *bytes, bool to_guest)
{
	enum status status = OK;

	for (u32 i = 0; i < pieces->count && status == OK; i++) {
		status = to_guest ? vm_memory_write(vcpu->vm, pieces->at[i], bytes, pieces->size[i])
				  : vm_memory_read(vcpu->vm, pieces->at[i], bytes, pieces->size[i]);
		bytes += pieces->size[i];
	}
	if (status != OK) {
		crash_without_memory(vcpu);
	}
	return status == OK;
}

/* ---- A step ---------------------------------------------------------------------------------- */

/* Where in the step's bytes the i-th element lies. */
static u8 *element(const struct vstring *s, const struct vstring_step *step, u8 *bytes, u32 i)
{
	return bytes + (s->down ? step->elements - 1 - i : i) * s->size;
}

static bool move_in(struct vcpu *vcpu, const struct vstring *s, const struct vstring_step *step,
		    const struct pieces *pieces, u32 port)
{
	u8 bytes[VSTRING_STEP_MAX * VSTRING_SIZE_MAX];

	for (u32 i = 0; i < step->elements; i++) {
		u64 value = vport_read(vcpu, port, s->size);

		memcpy(element(s, step, bytes, i), &value, s->size);
	}
	return copy(vcpu, pieces, bytes, true);
}

static bool move_out(struct vcpu *vcpu, const struct vstring *s, const struct vstring_step *step,
		     const struct pieces *pieces, u32 port)
{
	u8 bytes[VSTRING_STEP_MAX * VSTRING_SIZE_MAX];

	if (!copy(vcpu, pieces, bytes, false)) {
		return false;
	}
	for (u32 i = 0; i < step->elements; i++) {
		u64 value = 0;

		memcpy(&value, element(s, step, bytes, i), s->size);
		vport_write(vcpu, port, s->size, value);
	}
	return true;
}

/* False: nothing was moved, and the guest knows why. */
static bool move(struct vcpu *vcpu, const struct vstring *s, const struct vstring_step *step,
		 u32 port)
{
	struct pieces pieces = {0};

	if (step->fault) {
		vinject_exception(vcpu, step->fault, 0);
		return false;
	}
	if (is_misaligned(s, step)) {
		vinject_exception(vcpu, EXCEPTION_AC, 0);
		return false;
	}
	return find_pieces(vcpu, s, step, &pieces) &&
	       (s->in ? move_in(vcpu, s, step, &pieces, port)
		      : move_out(vcpu, s, step, &pieces, port));
}

void vport_string(struct vcpu *vcpu, u64 q)
{
	struct vstring s = read_instruction(vcpu, q);
	struct vstring_step step;

	if (vstring_left(&s) == 0) {
		arch_vcpu_skip(vcpu);
		return;
	}
	step = vstring_next(&s);
	if (!move(vcpu, &s, &step, (u32)field_get(q, PORT_NUMBER))) {
		return;
	}
	vstring_advance(&s, step.elements);
	write_registers(vcpu, &s);
	if (!s.rep || vstring_left(&s) == 0) {
		arch_vcpu_skip(vcpu);
	} else {
		arch_vcpu_executed();
	}
}

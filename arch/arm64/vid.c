/*
 * What the ID registers say to a guest: the table of vid.h, and the few fields that no mask can
 * make.
 *
 * Reading one is a trap that happens hundreds of times in a boot, so all values are made once.
 */
#include "vid.h"

#include "sysreg.h"

static void limit_field(u64 *reg, u64 field, u64 most)
{
	u64 value = min_u64(field_get(*reg, field), most);

	*reg = (*reg & ~field) | field_set(value, field);
}

/* The largest PARange that promises no address beyond 2^ipa_bits; 32 bits where none fits. */
static u64 parange_of(unsigned ipa_bits)
{
	u64 value = 0;

	while (value < PARANGE_MAX && parange_bits(value + 1) <= ipa_bits) {
		value++;
	}
	return value;
}

static void hide_aarch32(u64 guest[VID_COUNT])
{
	for (unsigned i = VID_INDEX(1, 0); i < VID_INDEX(4, 0); i++) {
		guest[i] = 0;
	}
}

void vid_present(const u64 host[VID_COUNT], unsigned ipa_bits, u64 guest[VID_COUNT])
{
	for (unsigned i = 0; i < VID_COUNT; i++) {
		guest[i] = 0;
	}
#define X(crm, op2, pass, fixed)                                                                   \
	guest[VID_INDEX(crm, op2)] = (host[VID_INDEX(crm, op2)] & (pass)) | (fixed);
	VID_REGISTERS(X)
#undef X
	if (field_get(host[VID_AA64PFR0], PFR0_EL0) < 2) {
		hide_aarch32(guest);
	}
	limit_field(&guest[VID_AA64PFR0], PFR0_CSV2, 1);  /* 2 and up: SCXTNUM_ELx, not switched */
	limit_field(&guest[VID_AA64MMFR0], MMFR0_ECV, 1); /* 2: an offset for EL2 */
	limit_field(&guest[VID_AA64MMFR0], MMFR0_PARANGE, parange_of(ipa_bits));
}

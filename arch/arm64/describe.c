/* arch_describe: the CPU's name, and those of its features that Lamina makes use of. */
#include "arch/cpu.h"
#include "hyp/log.h"

#include "ich.h"
#include "sysreg.h"

static const char *cpu_name(u64 midr)
{
	static const struct {
		u16 implementer, part;
		const char *name;
	} known[] = {
		{0x41, 0xd03, "cortex-a53"},  {0x41, 0xd05, "cortex-a55"},
		{0x41, 0xd07, "cortex-a57"},  {0x41, 0xd08, "cortex-a72"},
		{0x41, 0xd0b, "cortex-a76"},  {0x41, 0xd0c, "neoverse-n1"},
		{0x41, 0xd40, "neoverse-v1"}, {0x41, 0xd49, "neoverse-n2"},
		{0x00, 0x051, "QEMU max"},
	};

	for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
		if (known[i].implementer == field_get(midr, MIDR_IMPLEMENTER) &&
		    known[i].part == field_get(midr, MIDR_PARTNUM)) {
			return known[i].name;
		}
	}
	return "unknown CPU";
}

static const char *access_flag_text(u64 mmfr1)
{
	switch (field_get(mmfr1, ID_AA64MMFR1_HAFDBS)) {
	case 0:
		return "access flag by fault";
	case 1:
		return "hardware access flag";
	default:
		return "hardware access flag and dirty state";
	}
}

void arch_describe(char *text, size_t size)
{
	enum { TLB_RANGE = 2, VMID_16 = 2 };
	u64 midr = read_sysreg(midr_el1);
	u64 isar0 = read_sysreg(id_aa64isar0_el1);
	u64 mmfr0 = read_sysreg(id_aa64mmfr0_el1);
	u64 mmfr1 = read_sysreg(id_aa64mmfr1_el1);
	u64 mmfr2 = read_sysreg(SYS_ID_AA64MMFR2_EL1);

	text_format(text, size,
		    "%s r%lup%lu (MIDR 0x%08lx) at EL%lu, %u-bit addresses, %s%s%s, %s VMIDs, "
		    "BBM level %lu, %u list registers",
		    cpu_name(midr), field_get(midr, MIDR_VARIANT), field_get(midr, MIDR_REVISION),
		    midr, read_sysreg(CurrentEL) >> 2,
		    parange_bits(field_get(mmfr0, ID_AA64MMFR0_PARANGE)), access_flag_text(mmfr1),
		    field_get(isar0, ID_AA64ISAR0_TLB) >= TLB_RANGE ? ", TLBI by range" : "",
		    field_get(mmfr2, ID_AA64MMFR2_FWB) != 0 ? ", forced write-back" : "",
		    field_get(mmfr1, ID_AA64MMFR1_VMIDBITS) >= VMID_16 ? "16-bit" : "8-bit",
		    field_get(mmfr2, ID_AA64MMFR2_BBM), ich_lr_count());
}

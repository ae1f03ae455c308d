/*
 * VMX capabilities (SDM volume 3D, appendix A) and VMX operation (volume 3C, 24.7).
 *
 * A control word has bits that must be 1 and bits that may be. Lamina says which it needs, and
 * which it would like; what it needs and the CPU has not refuses the boot by name.
 */
#include "vmx.h"

#include "hyp/frame.h"
#include "hyp/log.h"

#include "machine.h"
#include "vmcs.h"

#define MSR_VMX_BASIC 0x480
#define MSR_VMX_PIN 0x481
#define MSR_VMX_CPU 0x482
#define MSR_VMX_EXIT 0x483
#define MSR_VMX_ENTRY 0x484
#define MSR_VMX_MISC 0x485
#define MSR_VMX_CR0_FIXED0 0x486
#define MSR_VMX_CR4_FIXED0 0x488
#define MSR_VMX_CPU2 0x48b
#define MSR_VMX_EPT_VPID 0x48c
#define MSR_VMX_FUNCTIONS 0x491
#define MSR_VMX_TRUE_PIN 0x48d /* then CPU, EXIT, ENTRY */

#define BASIC_REVISION BITS(30, 0)
#define BASIC_STRING_INFORMATION BIT(54)
#define BASIC_TRUE_CONTROLS BIT(55)
#define MISC_TIMER_SHIFT BITS(4, 0)

#define EPT_EXECUTE_ONLY BIT(0)
#define EPT_FOUR_LEVELS BIT(6)
#define EPT_WRITE_BACK BIT(14)
#define EPT_2M BIT(16)
#define EPT_1G BIT(17)
#define EPT_INVEPT BIT(20)
#define EPT_FLAGS BIT(21)
#define EPT_INVEPT_SINGLE BIT(25)
#define EPT_INVEPT_ALL BIT(26)
#define EPT_INVVPID BIT(32)
#define EPT_INVVPID_SINGLE BIT(41)
#define EPT_INVVPID_ALL BIT(42)

#define CPUID_FEATURES 1
#define CPUID_VMX BIT(5) /* ecx */

#define FEATURE_LOCKED BIT(0)
#define FEATURE_VMX BIT(2)

struct vmx vmx;

static u64 ept_vpid;

/* ---- Capabilities ---------------------------------------------------------------------------- */

struct control {
	u32 bit;
	const char *name;
};

/* Each of them, or there is no boot. */
static u32 need(u64 capability, const struct control *wanted, u32 count)
{
	u32 must = (u32)capability, may = (u32)(capability >> 32), value = must;

	for (u32 i = 0; i < count; i++) {
		if (!(may & wanted[i].bit)) {
			boot_refuse("this CPU's VMX has no %s", wanted[i].name);
		}
		value |= wanted[i].bit;
	}
	return value;
}

static void need_ept(u64 bit, const char *name)
{
	if (!(ept_vpid & bit)) {
		boot_refuse("this CPU's EPT has no %s", name);
	}
}

static u32 control_msr(u32 plain, u64 basic)
{
	return basic & BASIC_TRUE_CONTROLS ? plain - MSR_VMX_PIN + MSR_VMX_TRUE_PIN : plain;
}

static void read_first_controls(u64 basic)
{
	static const struct control pin[] = {
		{PIN_EXTERNAL_INTERRUPT, "exits for interrupts"},
		{PIN_NMI, "exits for NMIs"},
		{PIN_VIRTUAL_NMI, "virtual NMIs"},
		{PIN_PREEMPTION_TIMER, "preemption timer"},
	};
	static const struct control cpu[] = {
		{CPU_MWAIT, "exits for MWAIT"},
		{CPU_MONITOR, "exits for MONITOR"},
		{CPU_CR8_LOAD, "exits for CR8"},
		{CPU_CR8_STORE, "exits for CR8"},
		{CPU_IO, "exits for ports"},
		{CPU_MSR_BITMAP, "MSR bitmaps"},
		{CPU_SECONDARY, "EPT (secondary controls)"},
	};
	static const struct control at_times[] = {
		{CPU_INTERRUPT_WINDOW, "exits for interrupt windows"},
		{CPU_NMI_WINDOW, "exits for NMI windows"},
	};

	vmx.pin = need(read_msr(control_msr(MSR_VMX_PIN, basic)), pin, ARRAY_COUNT(pin));
	vmx.cpu = need(read_msr(control_msr(MSR_VMX_CPU, basic)), cpu, ARRAY_COUNT(cpu));
	need(read_msr(control_msr(MSR_VMX_CPU, basic)), at_times, ARRAY_COUNT(at_times));
	/* What used to be always on: page tables are the guest's own affair. */
	vmx.cpu &= ~(u32)(BIT(15) | BIT(16)) | (u32)read_msr(control_msr(MSR_VMX_CPU, basic));
}

static void read_switch_controls(u64 basic)
{
	static const struct control exit[] = {
		{EXIT_SAVE_DEBUG, "debug registers in exits"},
		{EXIT_HOST_64, "64-bit host"},
		{EXIT_ACKNOWLEDGE, "acknowledge on exit"},
		{EXIT_SAVE_PAT, "PAT in exits"},
		{EXIT_LOAD_PAT, "PAT in exits"},
		{EXIT_SAVE_EFER, "EFER in exits"},
		{EXIT_LOAD_EFER, "EFER in exits"},
	};
	static const struct control entry[] = {
		{ENTRY_LOAD_DEBUG, "debug registers in entries"},
		{ENTRY_LOAD_PAT, "PAT in entries"},
		{ENTRY_LOAD_EFER, "EFER in entries"},
	};

	vmx.exit = need(read_msr(control_msr(MSR_VMX_EXIT, basic)), exit, ARRAY_COUNT(exit));
	vmx.entry = need(read_msr(control_msr(MSR_VMX_ENTRY, basic)), entry, ARRAY_COUNT(entry));
}

static void read_second_controls(void)
{
	static const struct control needed[] = {
		{CPU2_EPT, "EPT"},
		{CPU2_UNRESTRICTED, "unrestricted guest"},
		{CPU2_WBINVD, "exits for WBINVD"},
	};
	u64 capability = read_msr(MSR_VMX_CPU2);
	u32 may = (u32)(capability >> 32);

	vmx.cpu2 = need(capability, needed, ARRAY_COUNT(needed));
	vmx.cpu2 |= may & (CPU2_VPID | CPU2_RDTSCP | CPU2_INVPCID | CPU2_XSAVES);
	vmx.vpid = may & CPU2_VPID;
	vmx.xsaves = may & CPU2_XSAVES;
	vmx.log = may & CPU2_LOG;
	vmx.views = (may & CPU2_FUNCTIONS) && (read_msr(MSR_VMX_FUNCTIONS) & FUNCTION_SWITCH_EPTP);
}

static void read_ept(void)
{
	ept_vpid = read_msr(MSR_VMX_EPT_VPID);
	need_ept(EPT_FOUR_LEVELS, "walks of four levels");
	need_ept(EPT_WRITE_BACK, "write-back tables");
	need_ept(EPT_2M, "pages of 2 MiB");
	need_ept(EPT_INVEPT, "INVEPT");
	need_ept(EPT_INVEPT_SINGLE, "INVEPT of one space");
	need_ept(EPT_INVEPT_ALL, "INVEPT of all");
	vmx.ept_gib_pages = ept_vpid & EPT_1G;
	vmx.ept_execute_only = ept_vpid & EPT_EXECUTE_ONLY;
	vmx.ept_flags = ept_vpid & EPT_FLAGS;
	/* Without an invalidation of linear translations a VPID would be of no use. */
	if ((ept_vpid & (EPT_INVVPID | EPT_INVVPID_SINGLE | EPT_INVVPID_ALL)) !=
	    (EPT_INVVPID | EPT_INVVPID_SINGLE | EPT_INVVPID_ALL)) {
		vmx.vpid = false;
		vmx.cpu2 &= ~(u32)CPU2_VPID;
	}
}

void vmx_init(void)
{
	u64 basic;

	if (!(cpuid(CPUID_FEATURES, 0).c & CPUID_VMX)) {
		boot_refuse("this CPU has no VMX (Bochs has it, as corei7_skylake_x; QEMU with "
			    "nested KVM)");
	}
	basic = read_msr(MSR_VMX_BASIC);
	if (!(basic & BASIC_STRING_INFORMATION)) {
		boot_refuse("this CPU's VMX has no information about INS and OUTS");
	}
	vmx.revision = (u32)field_get(basic, BASIC_REVISION);
	read_first_controls(basic);
	read_switch_controls(basic);
	read_second_controls();
	read_ept();
	vmx.cr0_fixed1 = read_msr(MSR_VMX_CR0_FIXED0);
	vmx.cr4_fixed1 = read_msr(MSR_VMX_CR4_FIXED0);
	vmx.timer_shift = (u32)field_get(read_msr(MSR_VMX_MISC), MISC_TIMER_SHIFT);
}

static void log_feature(const char *name, bool there, const char *without)
{
	log_info("vmx: %s: %s", name, there ? "used" : without);
}

void vmx_log_features(void)
{
	log_info("vmx: EPT, unrestricted guest, MSR bitmaps, preemption timer, virtual NMIs: "
		 "required, used");
	log_feature("EPT accessed and dirty flags", vmx.ept_flags, "missing, first uses exit");
	log_feature("EPT 1 GiB pages", vmx.ept_gib_pages, "missing, 2 MiB at most");
	log_feature("page-modification logging", vmx.log, "missing, tables are walked");
	log_feature("views by VMFUNC", vmx.views, "missing");
	log_feature("VPID", vmx.vpid, "missing, entries and exits flush");
	log_feature("INVPCID for guests", vmx.cpu2 & CPU2_INVPCID, "missing");
	log_feature("RDTSCP for guests", vmx.cpu2 & CPU2_RDTSCP, "missing");
	log_feature("XSAVES for guests", vmx.cpu2 & CPU2_XSAVES, "missing");
}

/* ---- VMX operation --------------------------------------------------------------------------- */

static void allow_vmx(void)
{
	u64 control = read_msr(MSR_FEATURE_CONTROL);

	if (!(control & FEATURE_LOCKED)) {
		write_msr(MSR_FEATURE_CONTROL, control | FEATURE_LOCKED | FEATURE_VMX);
	} else if (!(control & FEATURE_VMX)) {
		boot_refuse("the firmware has locked VMX off (IA32_FEATURE_CONTROL 0x%lx)",
			    control);
	}
}

static void vmxon(u64 region)
{
	bool failed;

	__asm__ volatile("vmxon %1" : "=@ccna"(failed) : "m"(region) : "memory");
	if (failed) {
		boot_refuse("VMXON fails on CPU %u", this_cpu_id());
	}
}

/* Pages of the CPUs, from the image: the frame allocator is not up when CPU 0 comes here. */
static u8 regions[CPU_MAX][PAGE_SIZE] __attribute__((aligned(4096)));

void vmx_init_cpu(void)
{
	u8 *region = regions[this_cpu_id()];

	*(u32 *)region = vmx.revision;
	allow_vmx();
	write_cr(0, read_cr(0) | vmx.cr0_fixed1);
	write_cr(4, read_cr(4) | vmx.cr4_fixed1);
	vmxon((u64)region);
	vmx_invept_all();
	if (vmx.vpid) {
		vmx_invvpid_all();
	}
}

/* ---- Invalidation (29.4.3) ------------------------------------------------------------------- */

enum { INVEPT_SINGLE = 1, INVEPT_ALL = 2, INVVPID_SINGLE = 1, INVVPID_ALL = 2 };

struct descriptor {
	u64 first, second;
};

static void invept(u64 type, u64 pointer)
{
	struct descriptor d = {pointer, 0};
	bool failed;

	__asm__ volatile("invept %1, %2" : "=@ccna"(failed) : "m"(d), "r"(type) : "memory");
	check(!failed);
}

static void invvpid(u64 type, u64 vpid)
{
	struct descriptor d = {vpid, 0};
	bool failed;

	__asm__ volatile("invvpid %1, %2" : "=@ccna"(failed) : "m"(d), "r"(type) : "memory");
	check(!failed);
}

void vmx_invept_all(void)
{
	invept(INVEPT_ALL, 0);
}

void vmx_invept(u64 pointer)
{
	invept(INVEPT_SINGLE, pointer);
}

void vmx_invvpid(u16 vpid)
{
	invvpid(INVVPID_SINGLE, vpid);
}

void vmx_invvpid_all(void)
{
	invvpid(INVVPID_ALL, 0);
}

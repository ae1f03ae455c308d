/*
 * Runs one of Lamina's multiboot guests on /dev/kvm: another hypervisor, which says what should
 * come out.
 *
 *     oracle GUEST.bin MEMORY_MIB [ARGUMENTS]
 *
 * Memory is laid out by Lamina's own code (pc_image.h, pc_boot.h), and the registers are those that
 * its VMCS begins with, so that what differs is how the guest was run. It is served what oracle.c
 * of guest/x86_64 needs and no more: a COM1 that sends, the port of the end, and the two marks of
 * its dirty log; any other port reads as ones. What the guest sends goes to stdout, and after the
 * second mark a line "log ADDRESS" for each page that KVM_GET_DIRTY_LOG has seen written since the
 * first.
 *
 * Exit status: 0 the guest ended itself with 0; 1 it did not, and why is on stderr; 2 not asked
 * rightly; 3 there is no KVM here that makes a vCPU: the sentence on stderr says what is missing.
 *
 * Manual: Linux, Documentation/virt/kvm/api.rst.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hyp/config.h"

#include "pc_boot.h"
#include "pc_image.h"
#include "pc_multiboot.h"

#define COM1_DATA PC_COM1_PORT
#define COM1_LSR (PC_COM1_PORT + 5)
#define LSR_ROOM 0x60 /* both of the transmitter's registers are empty */
#define PORT_END 0xf4
#define PORT_MARK 0x5e0
#define MARK_BEGIN 1
#define MARK_END 2

#define MEMORY_MIB_MAX 1024
#define CPUID_ENTRIES_MAX 256
#define SLOT 0
#define CR0_PE BIT(0)
#define CR0_ET BIT(4)
#define RFLAGS_RESERVED BIT(1)
#define VECTOR_UD 6

#define STATUS_GUEST 1
#define STATUS_REQUEST 2
#define STATUS_NO_KVM 3

struct machine {
	int kvm, vm, cpu;
	struct kvm_run *run;
	u8 *memory;
	u64 size;
	u64 *log; /* a bit a page, since the last look */
	bool ended;
	u32 status; /* the guest's own */
};

__attribute__((noreturn, format(printf, 2, 3))) static void die(int status, const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "oracle: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(status);
}

/* ---- The guest's memory, before it runs -------------------------------------------------------
 */

static const u8 *map_file(const char *path, u64 *size)
{
	int file = open(path, O_RDONLY);
	struct stat stat;
	void *bytes;

	if (file < 0 || fstat(file, &stat) != 0) {
		die(STATUS_REQUEST, "%s: %s", path, strerror(errno));
	}
	bytes = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	if (bytes == MAP_FAILED) {
		die(STATUS_REQUEST, "%s: %s", path, strerror(errno));
	}
	close(file);
	*size = (u64)stat.st_size;
	return bytes;
}

static void load(struct machine *m, const char *path, const char *arguments,
		 struct pc_layout *layout)
{
	struct config_module kernel = {.name = path};
	struct pc_boot boot = {.layout = layout, .kernel = &kernel, .command_line = arguments};
	char why[CONFIG_LINE_MAX];

	kernel.bytes = map_file(path, &kernel.size);
	if (pc_image_layout(&kernel, NULL, m->size, layout, why, sizeof(why)) != OK) {
		die(STATUS_REQUEST, "%s: %s", path, why);
	}
	if (layout->kind != PC_MULTIBOOT) {
		die(STATUS_REQUEST, "%s: not a multiboot kernel", path);
	}
	for (u32 i = 0; i < layout->segment_count; i++) {
		const struct pc_segment *s = &layout->segments[i];

		memcpy(m->memory + s->start, kernel.bytes + s->file_offset, s->file_size);
	}
	if (pc_boot_write(&boot, m->memory + PC_BOOT_AREA, PC_BOOT_AREA_SIZE) != OK) {
		die(STATUS_REQUEST, "the arguments are too long");
	}
}

/* ---- A machine of KVM's -----------------------------------------------------------------------
 */

static int need(int result, const char *what)
{
	if (result < 0) {
		die(STATUS_NO_KVM, "%s: %s", what, strerror(errno));
	}
	return result;
}

static void make_memory(struct machine *m)
{
	struct kvm_userspace_memory_region region = {
		.slot = SLOT, .flags = KVM_MEM_LOG_DIRTY_PAGES, .memory_size = m->size};

	m->memory = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	m->log = calloc(m->size / PAGE_SIZE / 64, sizeof(u64));
	if (m->memory == MAP_FAILED || m->log == NULL) {
		die(STATUS_REQUEST, "no %llu bytes of memory", (unsigned long long)m->size);
	}
	region.userspace_addr = (u64)(uintptr_t)m->memory;
	need(ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

/* All that this KVM can show: the guest compares nothing that depends on it. */
static void set_cpuid(struct machine *m)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));

	if (cpuid == NULL) {
		die(STATUS_REQUEST, "no memory");
	}
	cpuid->nent = CPUID_ENTRIES_MAX;
	need(ioctl(m->kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
	need(ioctl(m->cpu, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
	free(cpuid);
}

static void make_machine(struct machine *m)
{
	int size;

	m->kvm = need(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	if (need(ioctl(m->kvm, KVM_GET_API_VERSION, 0), "KVM_GET_API_VERSION") != KVM_API_VERSION) {
		die(STATUS_NO_KVM, "KVM's interface is not of version %d", KVM_API_VERSION);
	}
	m->vm = need(ioctl(m->kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	make_memory(m);
	m->cpu = need(ioctl(m->vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	size = need(ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	m->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, m->cpu, 0);
	if (m->run == MAP_FAILED) {
		die(STATUS_NO_KVM, "the vCPU's page: %s", strerror(errno));
	}
	set_cpuid(m);
}

/* As vmcs_init.c has it: flat, of 32 bits, and nothing else. */
static void set_registers(struct machine *m, const struct pc_layout *layout)
{
	struct kvm_segment data = {.limit = ~0u,
				   .selector = PC_BOOT_DATA,
				   .type = 3,
				   .present = 1,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	struct kvm_segment code = data;
	struct kvm_regs regs = {.rax = MULTIBOOT_LOADER_MAGIC,
				.rbx = layout->boot_info.v,
				.rip = layout->entry.v,
				.rflags = RFLAGS_RESERVED};
	struct kvm_sregs sregs;

	need(ioctl(m->cpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	code.selector = PC_BOOT_CODE32;
	code.type = 11;
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 = CR0_PE | CR0_ET;
	sregs.cr3 = sregs.cr4 = sregs.efer = 0;
	need(ioctl(m->cpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	need(ioctl(m->cpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

/* ---- What the guest is served -----------------------------------------------------------------
 */

static void read_log(struct machine *m)
{
	struct kvm_dirty_log log = {.slot = SLOT, .dirty_bitmap = m->log};

	need(ioctl(m->vm, KVM_GET_DIRTY_LOG, &log), "KVM_GET_DIRTY_LOG");
}

static void mark(struct machine *m, u8 value)
{
	read_log(m);
	for (u64 page = 0; value == MARK_END && page < m->size / PAGE_SIZE; page++) {
		if (m->log[page / 64] >> page % 64 & 1) {
			printf("log 0x%llx\n", (unsigned long long)page * PAGE_SIZE);
		}
	}
}

static void write_port(struct machine *m, u16 port, const u8 *data, u8 size)
{
	switch (port) {
	case COM1_DATA:
		putchar(data[0]);
		break;
	case PORT_END:
		m->ended = true;
		memcpy(&m->status, data, size);
		break;
	case PORT_MARK:
		mark(m, data[0]);
		break;
	}
}

static void serve_port(struct machine *m)
{
	u8 *data = (u8 *)m->run + m->run->io.data_offset, size = m->run->io.size;

	for (u32 i = 0; i < m->run->io.count; i++, data += size) {
		if (m->run->io.direction == KVM_EXIT_IO_OUT) {
			write_port(m, m->run->io.port, data, size);
			continue;
		}
		memset(data, 0xff, size);
		if (m->run->io.port == COM1_LSR) {
			data[0] = LSR_ROOM;
		}
	}
}

static u64 instruction_pointer(struct machine *m)
{
	struct kvm_regs regs = {0};

	ioctl(m->cpu, KVM_GET_REGS, &regs);
	return regs.rip;
}

/*
 * KVM interprets what the processor cannot run, and not all of it: then it says so. The next line
 * of the guest's is about this instruction, and says nothing.
 */
static void refuse_instruction(struct machine *m)
{
	struct kvm_vcpu_events events = {0};

	printf("cannot\n");
	need(ioctl(m->cpu, KVM_GET_VCPU_EVENTS, &events), "KVM_GET_VCPU_EVENTS");
	events.exception.injected = 1;
	events.exception.nr = VECTOR_UD;
	events.exception.has_error_code = 0;
	need(ioctl(m->cpu, KVM_SET_VCPU_EVENTS, &events), "KVM_SET_VCPU_EVENTS");
}

static void run(struct machine *m)
{
	while (!m->ended) {
		if (ioctl(m->cpu, KVM_RUN, 0) < 0 && errno != EINTR) {
			die(STATUS_GUEST, "KVM_RUN: %s at 0x%llx", strerror(errno),
			    (unsigned long long)instruction_pointer(m));
		}
		if (m->run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
		    m->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
			refuse_instruction(m);
			continue;
		}
		if (m->run->exit_reason != KVM_EXIT_IO) {
			die(STATUS_GUEST,
			    "KVM stopped the guest at 0x%llx for reason %u, suberror %u",
			    (unsigned long long)instruction_pointer(m), m->run->exit_reason,
			    m->run->exit_reason == KVM_EXIT_INTERNAL_ERROR
				    ? m->run->internal.suberror
				    : 0);
		}
		serve_port(m);
	}
}

int main(int count, char **words)
{
	struct machine m = {.ended = false};
	struct pc_layout layout;
	int mib = count >= 3 ? atoi(words[2]) : 0;

	if (count < 3 || count > 4 || mib < 2 || mib > MEMORY_MIB_MAX || mib % 2) {
		die(STATUS_REQUEST, "usage: oracle GUEST.bin MEMORY_MIB [ARGUMENTS]");
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	m.size = MIB((u64)mib);
	make_machine(&m);
	load(&m, words[1], count == 4 ? words[3] : "", &layout);
	set_registers(&m, &layout);
	run(&m);
	fflush(stdout);
	free(m.log);
	if (m.status != 0) {
		die(STATUS_GUEST, "the guest ended itself with status %u", m.status);
	}
	return 0;
}

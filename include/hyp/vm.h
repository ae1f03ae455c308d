/*
 * A virtual machine: its memory, its vCPUs, its devices, its counters.
 *
 * vm_build() makes one of a checked configuration; when it ends, vm_all_off() takes it apart again
 * and gives every frame back. Guest RAM is not populated at build: the first touch of a page faults
 * it in (vm_memory.c), with the bytes of the kernel, ramdisk or device tree where one lies there.
 */
#ifndef HYP_VM_H
#define HYP_VM_H

#include "hyp/config.h"
#include "hyp/cpu.h"
#include "hyp/exit.h"
#include "hyp/lock.h"
#include "hyp/s2.h"
#include "hyp/status.h"
#include "hyp/vm_ram.h"

#include <arch_vm.h>

#define VM_MAX 16
#define VM_VCPUS_MAX CONFIG_CPUS_MAX
#define VM_IMAGES_MAX 10
#define VM_MMIO_MAX 8
#define VM_VIEWS_MAX 4
#define VM_VIRTIO_MAX 8 /* as many slots as every machine has */

struct block_ram;
struct console_device;
struct swap;
struct vcpu;
struct virtio_device;
struct vm;
struct vm_dirty;

enum vm_state {
	VM_BUILDING,
	VM_RUNNING,
	VM_PAUSED,    /* by the operator: no vCPU is entered */
	VM_OFF,	      /* it powered itself off */
	VM_CRASHED,   /* Lamina ended it; vm->last_words says why */
	VM_DESTROYED, /* by the operator */
	VM_RESETTING, /* its vCPUs stop, then it starts anew */
};

/* Exact counts of events since the VM was built. Linux's words where Linux has one. */
#define VM_COUNTERS(X)                                                                             \
	X(pgfault)  /* s2 faults answered with a page */                                           \
	X(pages_4k) /* those pages, by size */                                                     \
	X(pages_2m)                                                                                \
	X(memory_peak) /* most bytes ever mapped */                                                \
	X(access_flag_faults)                                                                      \
	X(permission_faults) /* a right that was withheld was given back */                        \
	X(console_bytes)                                                                           \
	X(irqs_injected)                                                                           \
	X(eois_skipped) /* interrupts that the guest ended without an exit */                      \
	X(pv_flushes)	/* translations forgotten as another vCPU asked while this one waited */   \
	X(pv_kicks)	/* idle vCPUs woken by another one's call */                               \
	X(pv_yields)	/* turns that a vCPU gave to another one */                                \
	X(balloon_inflate) /* pages of 4 KiB that its balloon took, and gave back */               \
	X(balloon_deflate)                                                                         \
	X(free_page_reports) /* notifications that memory of its is free */                        \
	X(free_page_reported_bytes)                                                                \
	X(stolen_ns) /* runnable, but not running, summed over vCPUs */                            \
	X(run_ns)

struct vm_counters {
#define X(name) u64 name;
	VM_COUNTERS(X)
#undef X
};

/* Bytes that a part of guest RAM starts with; pages are filled from it when they fault in. */
struct vm_image {
	gpa_t gpa;
	u64 size;
	const u8 *bytes;
};

/* A device's registers in guest-physical space. Handlers run on the vCPU's own CPU. */
struct mmio_ops {
	u64 (*read)(void *device, struct vcpu *vcpu, u64 offset, unsigned size);
	void (*write)(void *device, struct vcpu *vcpu, u64 offset, unsigned size, u64 value);
};

struct mmio_region {
	gpa_t base;
	u64 size;
	const struct mmio_ops *ops;
	void *device;
	const char *name;
};

struct vm {
	/* Constant once built. */
	u16 number; /* from 1: "d1" to people; its frames' owner */
	char name[CONFIG_NAME_MAX];
	struct vm_ram ram;
	u32 vcpu_count;
	u32 weight;
	bool small_pages; /* 4 KiB only */
	struct vcpu *vcpus[VM_VCPUS_MAX];
	struct vm_image images[VM_IMAGES_MAX];
	u32 image_count;
	u64 images_end; /* no image lies at or behind this guest-physical address */
	struct mmio_region mmio[VM_MMIO_MAX];
	u32 mmio_count;
	struct virtio_device *virtio[VM_VIRTIO_MAX]; /* by slot; NULL: none (hyp/dev_virtio.h) */
	struct block *disk;			     /* behind one of them; NULL: none */
	struct console_device *console; /* takes the operator's keys; NULL: nobody does */
	struct exercise *exercise;	/* NULL: its table is left alone */
	bool probes;			/* it may ask: hyp/probe.h */

	struct s2 s2;		  /* locks itself */
	u64 held_start, held_end; /* faults leave this range alone: vm_memory_hold() */
	u32 changing;		  /* faults that give back a right, or copy a page; atomic */
	struct swap *swap;	  /* NULL: it is not overcommitted (hyp/swap.h) */
	struct vm_dirty *dirty;	  /* NULL: nobody has asked yet (hyp/vm_dirty.h) */

	struct lock view_lock; /* guards who adds one */
	struct s2 *views[VM_VIEWS_MAX];
	u32 view_count; /* atomic: what is below it stays until no vCPU is on */

	struct lock lock;     /* vm: guards the two below */
	enum vm_state state;  /* read without the lock */
	char last_words[160]; /* why it crashed; there before the state says so */

	/* Written with atomic_add, read by anyone. */
	u32 vcpus_on; /* vCPUs that are not off */
	struct vm_counters counters;
	u64 virtio_wake_at; /* ticks, when a virtio device wants a vCPU of it */
	u64 last_output_ns; /* for "silent for 5 s" */
	u64 start_ns;
	u64 end_ns;

	struct arch_vm arch;
};

/* All VMs that were built, in the order of the configuration; destroyed ones stay listed. */
extern struct vm *vms[VM_MAX];
extern u32 vm_count;

/*
 * Builds what `config` says; vCPU 0 is ready to run, nothing runs yet. On failure everything is
 * given back and `why` (size bytes) says what was wrong in one sentence.
 */
enum status vm_build(const struct config_vm *config, char *why, size_t size);
/* vCPU 0 runs: once, or again after a reset. A VM destroyed meanwhile is taken apart. */
void vm_start(struct vm *vm);

/* vm_off: the guest asked. vm_crash: it did what cannot be survived; printf-like reason. */
void vm_off(struct vm *vm);
__attribute__((format(printf, 2, 3))) void vm_crash(struct vm *vm, const char *format, ...);
void vm_destroy(struct vm *vm);
void vm_pause(struct vm *vm);
void vm_unpause(struct vm *vm);

/* The guest asked for a reset: same images, same vCPUs, RAM as new. */
void vm_reset(struct vm *vm);

/* The scheduler put down the VM's last vCPU that was on: if the VM ended, every frame goes back; if
 * it is to start anew, it does. The last VM that ends ends the run. */
void vm_all_off(struct vm *vm);

/* Has it ended, one way or another? */
bool vm_has_ended(const struct vm *vm);

const char *vm_state_name(enum vm_state s);

/* For arch_vm_init: these bytes are what RAM begins with at `at`. No more than VM_IMAGES_MAX; of no
 * size is none. They stay where they are while the VM is. */
void vm_add_image(struct vm *vm, gpa_t at, const void *bytes, u64 size);

/* Adds a device; regions do not overlap each other or RAM. FULL when there are VM_MMIO_MAX. */
enum status vm_mmio_add(struct vm *vm, struct mmio_region region);
const struct mmio_region *vm_mmio_find(const struct vm *vm, gpa_t a);

/*
 * The s2 fault of a RAM address: gets a frame, fills it, maps it, 2 MiB where it can; or gives back
 * a right that was withheld. OK and AGAIN mean: run the same instruction again. NOMEM.
 */
enum status vm_memory_fault(struct vm *vm, const struct exit *exit);

/*
 * The caller is about to unmap [at, at + size), and to map frames with the same bytes there again
 * before it releases the range: until then no fault changes what is mapped there, and whoever finds
 * nothing there waits. One range of a VM at a time; not in a walk, nor with the space's lock.
 */
void vm_memory_hold(struct vm *vm, gpa_t at, u64 size);
void vm_memory_release(struct vm *vm);

/* True when [a, a + size) is guest RAM, in one piece. */
static inline bool vm_memory_contains(const struct vm *vm, gpa_t a, u64 size)
{
	return vm_ram_contains(&vm->ram, a, size);
}

/*
 * Copies between guest RAM and Lamina, faulting pages in as the guest would. INVALID outside RAM,
 * NOMEM when a page could not be had; then nothing is promised about the bytes.
 */
enum status vm_memory_read(struct vm *vm, gpa_t from, void *to, u64 size);
enum status vm_memory_write(struct vm *vm, gpa_t to, const void *from, u64 size);

/*
 * As the guest's own locked instruction: what lies at `at`, `size` bytes (4 or 8, and aligned to
 * that), becomes `desired` if it is `expected`. AGAIN: it was something else. INVALID and NOMEM as
 * above, and INVALID where it is not aligned.
 */
enum status vm_memory_swap(struct vm *vm, gpa_t at, unsigned size, u64 expected, u64 desired);

/* Bytes of host memory that back this VM's RAM now. */
u64 vm_memory_current(const struct vm *vm);

#endif

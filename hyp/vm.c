/*
 * Virtual machines: built from a checked configuration, taken apart when they end.
 *
 * A VM ends when all its vCPUs are off: whoever decides that it ends (the guest, the operator,
 * Lamina) sets the state and asks every vCPU to stop; the CPU that puts down the last one gives all
 * frames back. So nobody frees what another CPU still runs on.
 */
#include "hyp/vm.h"

#include "hyp/console.h"
#include "hyp/exercise.h"
#include "hyp/log.h"
#include "hyp/run.h"
#include "hyp/sched.h"
#include "hyp/swap.h"
#include "hyp/time.h"
#include "hyp/vcpu.h"
#include "hyp/vm_dirty.h"
#include "hyp/vm_view.h"

#include <arch/cpu.h>
#include <arch/s2.h>
#include <arch/vm.h>

#include <string.h>

struct vm *vms[VM_MAX];
u32 vm_count;

const char *vm_state_name(enum vm_state s)
{
	static const char *const names[] = {
		[VM_BUILDING] = "building",   [VM_RUNNING] = "running",
		[VM_PAUSED] = "paused",	      [VM_OFF] = "off",
		[VM_CRASHED] = "crashed",     [VM_DESTROYED] = "destroyed",
		[VM_RESETTING] = "resetting",
	};

	return (unsigned)s < ARRAY_COUNT(names) ? names[s] : "?";
}

bool vm_has_ended(const struct vm *vm)
{
	enum vm_state state = load_acquire(&vm->state);

	return state == VM_OFF || state == VM_CRASHED || state == VM_DESTROYED;
}

/* ---- Build --------------------------------------------------------------------------------- */

static void free_vm(struct vm *vm)
{
	for (u32 i = 0; i < vm->vcpu_count; i++) {
		if (vm->vcpus[i]) {
			hyp_free(vm->vcpus[i]);
		}
	}
	if (vm->exercise) {
		hyp_free(vm->exercise);
	}
	hyp_free(vm);
}

static bool add_vcpus(struct vm *vm, u32 count)
{
	vm->vcpu_count = count;
	for (u32 i = 0; i < count; i++) {
		struct vcpu *vcpu = hyp_alloc(sizeof(*vcpu));

		if (!vcpu) {
			return false;
		}
		vcpu->vm = vm;
		vcpu->id = i;
		vcpu->wake_at = ~0ull;
		vm->vcpus[i] = vcpu;
		arch_vcpu_init(vcpu);
	}
	return true;
}

static struct vm *alloc_vm(const struct config_vm *config)
{
	struct vm *vm = hyp_alloc(sizeof(*vm));

	if (!vm) {
		return NULL;
	}
	vm->number = vm_count + 1;
	vm->virtio_wake_at = TIME_NEVER;
	memcpy(vm->name, config->name, sizeof(vm->name));
	vm->weight = config->weight;
	vm->small_pages = config->small_pages;
	vm->probes = config->probe;
	if (!add_vcpus(vm, config->cpus) ||
	    ((config->exercise || config->probe) && !exercise_begin(vm, config->exercise))) {
		free_vm(vm);
		return NULL;
	}
	return vm;
}

void vm_add_image(struct vm *vm, gpa_t at, const void *bytes, u64 size)
{
	if (size == 0) {
		return;
	}
	check(vm->image_count < VM_IMAGES_MAX);
	vm->images[vm->image_count++] = (struct vm_image){.gpa = at, .size = size, .bytes = bytes};
}

static void note_images_end(struct vm *vm)
{
	for (u32 i = 0; i < vm->image_count; i++) {
		vm->images_end = max_u64(vm->images_end, vm->images[i].gpa.v + vm->images[i].size);
	}
}

enum status vm_build(const struct config_vm *config, char *why, size_t size)
{
	struct vm *vm;
	enum status status;

	if (vm_count == VM_MAX) {
		text_format(why, size, "there are %d guests already", VM_MAX);
		return FULL;
	}
	vm = alloc_vm(config);
	if (!vm) {
		text_format(why, size, "no memory for its control structures");
		return NOMEM;
	}
	status = s2_init(&vm->s2, arch_s2_format(), arch_s2_ipa_bits(), vm->number);
	if (status != OK) {
		text_format(why, size, "no stage-2 table: %s", status_name(status));
		free_vm(vm);
		return status;
	}
	status = arch_vm_init(vm, config, why, size);
	if (status == OK && vm_ram_end(&vm->ram).v > BIT(vm->s2.ipa_bits)) {
		text_format(why, size, "its memory would end behind the %u bits of its addresses",
			    vm->s2.ipa_bits);
		status = FULL;
	}
	if (status == OK && (status = swap_begin(vm, config)) != OK) {
		text_format(why, size, "no memory for the records of its pages");
	}
	if (status != OK) {
		arch_vm_fini(vm);
		s2_destroy(&vm->s2);
		free_vm(vm);
		return status;
	}
	note_images_end(vm);
	vms[vm_count] = vm;
	store_release(&vm_count, vm_count + 1);
	return OK;
}

/* ---- End ----------------------------------------------------------------------------------- */

static void stop_vcpus(struct vm *vm)
{
	for (u32 i = 0; i < vm->vcpu_count; i++) {
		atomic_and(&vm->vcpus[i]->requests, ~VCPU_REQUEST_PAUSE);
		vcpu_request(vm->vcpus[i], VCPU_REQUEST_STOP);
	}
}

/* The first to end it decides how it ended, and with which last words (NULL: none). */
static bool decide_end(struct vm *vm, enum vm_state state, const char *words)
{
	bool first;

	lock_take(&vm->lock);
	first = !vm_has_ended(vm);
	if (first) {
		if (words) {
			memcpy(vm->last_words, words, sizeof(vm->last_words));
		}
		vm->end_ns = ticks_to_ns(arch_now());
		store_release(&vm->state, state);
	}
	lock_drop(&vm->lock);
	return first;
}

static void end(struct vm *vm, enum vm_state state)
{
	if (decide_end(vm, state, NULL)) {
		stop_vcpus(vm);
	}
}

void vm_off(struct vm *vm)
{
	end(vm, VM_OFF);
}

void vm_crash(struct vm *vm, const char *format, ...)
{
	char words[sizeof(vm->last_words)] = "";
	va_list args;

	va_start(args, format);
	text_vformat(words, sizeof(words), format, args);
	va_end(args);
	if (decide_end(vm, VM_CRASHED, words)) {
		log_error("d%u (%s) crashed: %s", vm->number, vm->name, words);
		stop_vcpus(vm);
	}
}

void vm_destroy(struct vm *vm)
{
	end(vm, VM_DESTROYED);
}

void vm_reset(struct vm *vm)
{
	bool resets;

	lock_take(&vm->lock);
	resets = vm->state == VM_RUNNING || vm->state == VM_PAUSED;
	if (resets) {
		store_release(&vm->state, VM_RESETTING);
	}
	lock_drop(&vm->lock);
	if (resets) {
		stop_vcpus(vm);
	}
}

static void reap(struct vm *vm)
{
	console_guest_ended(vm); /* from here on no key and no dump goes to what is freed below */
	arch_vm_fini(vm);
	exercise_end(vm);
	vm_view_drop_all(vm);
	vm_dirty_end(vm);
	swap_end(vm);
	s2_destroy(&vm->s2);
	log_info("d%u (%s) %s", vm->number, vm->name, vm_state_name(vm->state));
	run_guest_ended();
}

/* The operator may destroy it at any time, while it is built or resets too. */
void vm_start(struct vm *vm)
{
	lock_take(&vm->lock);
	vm->last_output_ns = ticks_to_ns(arch_now());
	if (vm->start_ns == 0) {
		vm->start_ns = vm->last_output_ns; /* a reset does not begin its time anew */
	}
	if (!vm_has_ended(vm)) {
		store_release(&vm->state, VM_RUNNING);
	}
	lock_drop(&vm->lock);
	if (vcpu_on(vm->vcpus[0], arch_vm_entry(vm), arch_vm_entry_argument(vm)) != OK) {
		reap(vm); /* it has ended, and no vCPU is on that would be put down last */
	}
}

/* RAM as new: everything that was touched goes back, images come again as they are touched. */
static void start_anew(struct vm *vm)
{
	struct vm_ram_range piece;
	struct s2_batch batch;

	vm_view_drop_all(vm);
	swap_forget(vm);
	s2_batch_open(&batch, &vm->s2);
	for (u64 done = 0; done < vm->ram.size; done += piece.size) {
		piece = vm_ram_piece(&vm->ram, done);
		check(s2_unmap(&vm->s2, piece.base, piece.size, &batch) == OK);
	}
	s2_batch_close(&batch);
	arch_vm_reset(vm);
	log_info("d%u (%s) resets", vm->number, vm->name);
	vm_start(vm);
}

void vm_all_off(struct vm *vm)
{
	if (vm->state == VM_RESETTING) {
		start_anew(vm);
		return;
	}
	if (!vm_has_ended(vm)) {
		/* Every vCPU turned itself off, and none is left that could turn one on. */
		decide_end(vm, VM_OFF, NULL);
	}
	reap(vm);
}

/* ---- Pause --------------------------------------------------------------------------------- */

/* The requests go out under the lock, so that they do not come behind a reset's or an end's. */
void vm_pause(struct vm *vm)
{
	lock_take(&vm->lock);
	if (vm->state == VM_RUNNING) {
		store_release(&vm->state, VM_PAUSED);
		for (u32 i = 0; i < vm->vcpu_count; i++) {
			vcpu_request(vm->vcpus[i], VCPU_REQUEST_PAUSE);
		}
	}
	lock_drop(&vm->lock);
}

void vm_unpause(struct vm *vm)
{
	lock_take(&vm->lock);
	if (vm->state == VM_PAUSED) {
		store_release(&vm->state, VM_RUNNING);
		for (u32 i = 0; i < vm->vcpu_count; i++) {
			atomic_and(&vm->vcpus[i]->requests, ~VCPU_REQUEST_PAUSE);
			vcpu_request(vm->vcpus[i], VCPU_REQUEST_YIELD);
		}
	}
	lock_drop(&vm->lock);
}

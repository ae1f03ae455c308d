#include "hyp/probe.h"

#include "hyp/exercise.h"
#include "hyp/s2_view.h"
#include "hyp/vm_dirty.h"
#include "hyp/vm_view.h"

#define WORD_PAGES 64

static u64 dirty_start(struct vm *vm, unused const u64 args[3])
{
	return (u64)vm_dirty_start(vm);
}

static u64 dirty_stop(struct vm *vm, unused const u64 args[3])
{
	vm_dirty_stop(vm);
	return 0;
}

/* Of the 64 pages that begin at an address, those that lie in RAM. */
static u64 bytes_at(const struct vm *vm, gpa_t at)
{
	u64 size = WORD_PAGES * PAGE_SIZE;

	while (size > 0 && !vm_memory_contains(vm, at, size)) {
		size -= PAGE_SIZE;
	}
	return size;
}

static u64 dirty_get(struct vm *vm, const u64 args[3])
{
	gpa_t at = gpa(args[0]);
	u64 size = bytes_at(vm, at), word = 0;

	if (args[1]) {
		vm_dirty_take(vm, at, size, &word);
	} else {
		vm_dirty_get(vm, at, size, &word);
	}
	return word;
}

static u64 dirty_clear(struct vm *vm, const u64 args[3])
{
	struct s2_batch batch;
	enum status status;

	s2_batch_open(&batch, &vm->s2);
	status = s2_dirty_clear(&vm->s2, gpa(args[0]), bytes_at(vm, gpa(args[0])), &args[1], 0,
				&batch);
	s2_batch_close(&batch);
	return (u64)status;
}

static u64 dirty_logs(struct vm *vm, unused const u64 args[3])
{
	return vm_dirty_has_log(vm);
}

static u64 exercise(struct vm *vm, const u64 args[3])
{
	bool valid = args[0] < EXERCISE_KINDS && args[2] > 0 &&
		     is_aligned(args[1] | args[2], PAGE_SIZE) &&
		     vm_memory_contains(vm, gpa(args[1]), args[2]);

	return valid ? exercise_do(vm, (enum exercise_kind)args[0], gpa(args[1]), args[2], 0) : 0;
}

static u64 kicks(struct vm *vm, unused const u64 args[3])
{
	return load_relaxed(&vm->s2.stats.kicks);
}

static u64 kicks_saved(struct vm *vm, unused const u64 args[3])
{
	return load_relaxed(&vm->s2.stats.kicks_avoided);
}

static u64 rounds(struct vm *vm, unused const u64 args[3])
{
	return load_relaxed(&vm->s2.stats.batches);
}

static u64 view_add(struct vm *vm, const u64 args[3])
{
	u32 number;

	return args[0] <= S2_RWX && vm_view_add(vm, (u8)args[0], &number) == OK ? number : 0;
}

static u64 view_protect(struct vm *vm, const u64 args[3])
{
	struct s2 *view = args[0] <= VM_VIEWS_MAX ? vm_view(vm, (u32)args[0]) : NULL;
	struct s2_batch batch;
	enum status status;

	if (!view || args[2] > S2_RWX) {
		return INVALID;
	}
	s2_batch_open(&batch, view);
	status = s2_view_protect(view, gpa(args[1]), PAGE_SIZE, (u8)args[2], &batch);
	s2_batch_close(&batch);
	return (u64)status;
}

static u64 (*const calls[PROBE_COUNT])(struct vm *vm, const u64 args[3]) = {
	[PROBE_DIRTY_START] = dirty_start,
	[PROBE_DIRTY_STOP] = dirty_stop,
	[PROBE_DIRTY_GET] = dirty_get,
	[PROBE_DIRTY_CLEAR] = dirty_clear,
	[PROBE_DIRTY_LOGS] = dirty_logs,
	[PROBE_EXERCISE] = exercise,
	[PROBE_KICKS] = kicks,
	[PROBE_KICKS_SAVED] = kicks_saved,
	[PROBE_ROUNDS] = rounds,
	[PROBE_VIEW_ADD] = view_add,
	[PROBE_VIEW_PROTECT] = view_protect,
};

bool probe_call(struct vcpu *vcpu, u64 n, const u64 args[3], u64 *answer)
{
	if (!vcpu->vm->probes || n >= PROBE_COUNT) {
		return false;
	}
	*answer = calls[n](vcpu->vm, args);
	return true;
}

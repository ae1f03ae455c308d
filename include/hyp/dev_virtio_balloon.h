/*
 * A guest's balloon: virtio-balloon (virtio 1.2, 5.5). The guest gives memory back that it was
 * asked for (inflate), that it does not use (free page reporting), and says how it is doing
 * (statistics).
 */
#ifndef HYP_DEV_VIRTIO_BALLOON_H
#define HYP_DEV_VIRTIO_BALLOON_H

#include "hyp/dev_virtio.h"

/* What the guest said last, in bytes or events, by Linux's names (5.5.6.3); ~0: not said yet. */
#define VIRTIO_BALLOON_STATS(X)                                                                    \
	X(swap_in)                                                                                 \
	X(swap_out)                                                                                \
	X(major_faults)                                                                            \
	X(minor_faults)                                                                            \
	X(free_memory)                                                                             \
	X(total_memory)                                                                            \
	X(available_memory)                                                                        \
	X(disk_caches)                                                                             \
	X(hugetlb_allocations)                                                                     \
	X(hugetlb_failures)

struct virtio_balloon_stats {
#define X(name) u64 name;
	VIRTIO_BALLOON_STATS(X)
#undef X
};

/* How often it is asked. */
#define VIRTIO_BALLOON_STATS_MS 5000

/* The balloon as a device of `vm`, in the slot that the caller puts it into; NULL without memory.
 */
struct virtio_device *virtio_balloon_create(struct vm *vm, u32 irq);

/*
 * The guest's balloon, which is there until the guest is taken apart: for the operator's commands,
 * or a vCPU of the guest. INVALID: it has none. The target is in pages of 4 KiB, how many the
 * balloon should hold; the guest follows when, and as far as, it can.
 */
enum status virtio_balloon_set_target(struct vm *vm, u32 pages);
enum status virtio_balloon_get(struct vm *vm, u32 *target_pages, u32 *actual_pages,
			       struct virtio_balloon_stats *stats);

#endif

/* The device tree that tells a guest what machine it has. Pure: libfdt and nothing else. */
#ifndef GUEST_FDT_H
#define GUEST_FDT_H

#include "hyp/status.h"
#include "hyp/types.h"

#define GUEST_FDT_SEED_BYTES 32

/* What differs from guest to guest. */
struct guest_fdt {
	u32 vcpu_count; /* affinities 0..vcpu_count-1 */
	u64 ram_size;	/* from GUEST_RAM_BASE */
	u64 gicr_size;	/* all redistributors */
	const char *bootargs;
	u64 ramdisk, ramdisk_size; /* size 0: none */
	u32 virtio_count;	   /* slots with a device, from the first on */
	u64 kaslr_seed;		   /* 0: none */
	bool has_rng_seed;
	u8 rng_seed[GUEST_FDT_SEED_BYTES];
};

/*
 * Writes the tree into [blob, blob + size); *used is how much of it is the tree. FULL when it does
 * not fit; then the blob's content is undefined.
 */
enum status guest_fdt_write(const struct guest_fdt *guest, void *blob, size_t size, size_t *used);

#endif

/*
 * What a guest's files are, and where they lie in its RAM.
 *
 *     RAM base 0x40000000                                                       base + memory
 *     |[gap: text_offset][kernel, as much as its header claims][ramdisk][device tree]      |
 *     |[0x80000]         [flat binary]      ... gap ...        [ramdisk][device tree]|     |
 *                                                                       min(memory, 128 MiB)
 *
 * An arm64 Image says how much memory it occupies, so everything else follows it closely: the fewer
 * blocks a boot touches, the fewer are filled. A flat binary does not say where its zeroed data and
 * its stack end, so the rest keeps as far away as the first 128 MiB allow. The configuration may
 * choose the kernel's and the ramdisk's addresses itself.
 *
 * Pure: no state, no assembly; runs on the host too.
 * Manual: Linux, Documentation/arm64/booting.rst.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include "arch/image.h"

enum image_kind { IMAGE_LINUX /* has the arm64 Image header */, IMAGE_FLAT /* any other code */ };

/* What the file says about itself. */
struct image_header {
	enum image_kind kind;
	u64 text_offset;   /* from a 2 MiB boundary */
	u64 extent;	   /* bytes of memory it occupies from its start, zeroed data included */
	bool extent_known; /* else extent is the file's size, and it may use more */
};

/* Guest-physical places, all inside RAM, none overlaps another. */
struct image_layout {
	enum image_kind kind;
	gpa_t entry; /* of vCPU 0, MMU off, x0 = device_tree */
	gpa_t kernel;
	u64 kernel_extent; /* >= the file's size */
	gpa_t ramdisk;
	u64 ramdisk_size; /* 0: none */
	gpa_t device_tree;
	u64 device_tree_size; /* room for it: IMAGE_DEVICE_TREE_SIZE */
};

/* Room for the guest's device tree; what is not used is plain RAM. */
#define IMAGE_DEVICE_TREE_SIZE KIB(64)
/* Where QEMU puts a raw binary, from the start of RAM: on a 64 KiB boundary. */
#define IMAGE_FLAT_OFFSET 0x80000ull

/* Tells an Image from a flat binary. INVALID and a sentence for what cannot be booted as it is. */
enum status image_inspect(const struct config_module *kernel, struct image_header *header,
			  char *why, size_t size);

/*
 * Places kernel, ramdisk (NULL or of size 0: none) and device tree in `memory` bytes of RAM. Errors
 * as arch_image_check(), which is this less the answer; then *layout is not written.
 */
enum status image_layout(const struct config_module *kernel, const struct config_module *ramdisk,
			 u64 memory, struct image_layout *layout, char *why, size_t size);

#endif

/*
 * What an x86 guest's files are, and where they lie in its RAM (pc_map.h).
 *
 *     1 MiB       its own address                                              end of low RAM
 *     |           [bzImage, as much as it claims to need][ramdisk]                   |
 *     |[multiboot kernel, each part where it is linked  ][ramdisk]                   |
 *
 * The ramdisk follows the kernel on the next page: there it begins in a 2 MiB block that the
 * kernel touches anyway, so it never touches more blocks than at the top of RAM, where boot loaders
 * like to put it. Where there is no room for it, it goes right below the kernel. The configuration
 * may choose the ramdisk's address, and a bzImage's. All of it lies in low RAM: that is what
 * multiboot can name, and what the page tables of the 64-bit entry map.
 *
 * Pure: no state, no assembly; runs on the host too.
 * Manuals: Linux, Documentation/arch/x86/boot.rst; the Multiboot Specification 0.6.96; the ELF
 * specification 1.2.
 */
#ifndef PC_IMAGE_H
#define PC_IMAGE_H

#include "hyp/config.h"

#include "pc_map.h"

enum pc_kind {
	PC_LINUX,     /* a bzImage, entered in 64-bit mode (boot.rst, "64-bit Boot Protocol") */
	PC_MULTIBOOT, /* a multiboot-1 kernel, entered in 32-bit mode without paging */
};

/* A kernel of more parts is refused. */
#define PC_SEGMENTS_MAX 5

/* A part of the kernel; behind file_size it begins as zeroes. */
struct pc_segment {
	u64 start, size; /* guest-physical; size > 0 */
	u64 file_offset;
	u64 file_size; /* <= size; 0: no byte comes from the file */
};

/* What the file says about itself. */
struct pc_file {
	enum pc_kind kind;
	struct pc_segment segments[PC_SEGMENTS_MAX]; /* at least one; none overlaps another */
	u32 segment_count;
	u64 entry;	      /* guest-physical, inside a segment */
	u64 alignment;	      /* it may be moved up by multiples of this; 0: it may not be moved */
	u64 ramdisk_limit;    /* no byte of the ramdisk is at or behind this address */
	u32 command_line_max; /* characters, without the zero byte */
};

/* Guest-physical places, all inside RAM, none overlaps another. */
struct pc_layout {
	enum pc_kind kind;
	struct pc_ram ram;
	gpa_t entry;
	struct pc_segment segments[PC_SEGMENTS_MAX];
	u32 segment_count;
	u32 command_line_max; /* characters, without the zero byte */
	gpa_t kernel;	      /* its lowest byte; a bzImage's is at entry - 0x200 */
	u64 kernel_extent;    /* from there to behind its highest byte */
	gpa_t ramdisk;
	u64 ramdisk_size;   /* 0: none */
	gpa_t boot_info;    /* one page: boot_params, or multiboot's information */
	gpa_t command_line; /* one page */
	gpa_t gdt;	    /* selectors and tables: pc_boot.h */
	gpa_t page_tables;  /* PC_PAGE_TABLES_COUNT pages, the first is for CR3 */
	gpa_t acpi;	    /* the RSDP and all it leads to */
	u64 acpi_size;	    /* room for it */
	gpa_t reset_code;   /* PC_RESET_CODE_SIZE bytes, reserved too: pc_boot.h */
};

/*
 * Recognises the file. INVALID and a sentence, what it is and what to do, for what cannot be booted
 * as it is: then *file is not to be used.
 */
enum status pc_image_inspect(const struct config_module *kernel, struct pc_file *file, char *why,
			     size_t size);

/*
 * Places kernel and ramdisk (NULL or of size 0: none) in `memory` bytes of RAM, a multiple of 2
 * MiB. Errors and sentences as arch_image_check() has them; then *layout is not written.
 */
enum status pc_image_layout(const struct config_module *kernel, const struct config_module *ramdisk,
			    u64 memory, struct pc_layout *layout, char *why, size_t size);

#endif

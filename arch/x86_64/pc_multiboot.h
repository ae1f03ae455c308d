/*
 * Multiboot 1, as files and information have it (Multiboot Specification 0.6.96, 3.1 and 3.3): what
 * kernels say to their loader, and it to them. All addresses are guest-physical.
 */
#ifndef PC_MULTIBOOT_H
#define PC_MULTIBOOT_H

#include "hyp/types.h"

/* In the first so many bytes of the file, at a multiple of 4. */
#define MULTIBOOT_SEARCH KIB(8)
#define MULTIBOOT_MAGIC 0x1badb002u
/* What the kernel finds in EAX. */
#define MULTIBOOT_LOADER_MAGIC 0x2badb002u

/* Who does not understand one of these must not load the kernel. */
#define MULTIBOOT_REQUIRED BITS(15, 0)
#define MULTIBOOT_ALIGN_MODULES BIT(0)
#define MULTIBOOT_WANT_MEMORY BIT(1)
#define MULTIBOOT_WANT_VIDEO BIT(2)
#define MULTIBOOT_HAS_ADDRESSES BIT(16)

struct multiboot_header {
	u32 magic, flags, checksum; /* their sum is 0 */
	/* With MULTIBOOT_HAS_ADDRESSES: instead of what the file's format says. */
	u32 header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

#define MULTIBOOT_INFO_MEMORY BIT(0)
#define MULTIBOOT_INFO_COMMAND_LINE BIT(2)
#define MULTIBOOT_INFO_MODULES BIT(3)
#define MULTIBOOT_INFO_RANGES BIT(6)
#define MULTIBOOT_INFO_LOADER BIT(9)

struct multiboot_info {
	u32 flags;
	u32 mem_lower, mem_upper; /* KiB from 0, and from 1 MiB */
	u32 boot_device;
	u32 cmdline;
	u32 mods_count, mods_addr;
	u32 symbols[4];
	u32 mmap_length, mmap_addr; /* bytes */
	u32 drives_length, drives_addr;
	u32 config_table;
	u32 boot_loader_name;
	u32 others[13]; /* APM, VBE, framebuffer */
};
static_assert(offsetof(struct multiboot_info, mmap_length) == 44, "as the specification draws it");
static_assert(offsetof(struct multiboot_info, boot_loader_name) == 64, "likewise");

struct multiboot_module {
	u32 mod_start, mod_end; /* [start, end) */
	u32 string;
	u32 zero;
};

/* `size` counts what follows it. */
struct __attribute__((packed)) multiboot_range {
	u32 size;
	u64 addr, len;
	u32 type;
};
static_assert(sizeof(struct multiboot_range) == 24, "no holes");

#endif

/*
 * A bzImage: a setup part of 512-byte sectors, whose header says all, and the kernel proper.
 *
 *     0x1f1 setup_sects, syssize  0x1fe 0xaa55  0x200 jmp  0x202 "HdrS" version ...   512 *
 * (setup_sects + 1) |boot sector and setup code |kernel: 16 * syssize|...
 *
 * The kernel is entered 0x200 behind its first byte, in 64-bit mode. It unpacks itself to where it
 * was loaded, but never below its preferred address, and uses init_size bytes from there before it
 * looks at the memory map. Signatures may follow in the file; they are loaded with it.
 */
#include "pc_image_internal.h"

#include <asm/bootparam.h>
#include <string.h>

#include "hyp/image_mark.h"
#include "hyp/log.h"

#define SETUP_HEADER_AT offsetof(struct boot_params, hdr)
#define SECTOR 512
/* Zero means this, in kernels that nobody has seen for long. */
#define SETUP_SECTORS_DEFAULT 4
#define BOOT_FLAG 0xaa55
#define MAGIC_AT 0x202
#define JUMP_LENGTH_AT 0x201
/* Since Linux 3.8; the first that tells of a 64-bit entry. */
#define PROTOCOL_MIN 0x020c
#define ENTRY_64 0x200
#define PARAGRAPH 16

static_assert(SETUP_HEADER_AT == 0x1f1, "the setup header is where the file has it");

bool pc_is_linux(const struct config_module *kernel)
{
	return image_has(kernel, MAGIC_AT, "HdrS", 4);
}

static enum status refuse(const char *what, char *why, size_t size)
{
	text_format(why, size, "%s", what);
	return INVALID;
}

/* The header's end is where the jump over it goes to (boot.rst, "The Real-Mode Kernel Header"). */
static bool has_whole_header(const struct config_module *kernel)
{
	u64 end = MAGIC_AT + kernel->bytes[JUMP_LENGTH_AT];

	return kernel->size >= SETUP_HEADER_AT + sizeof(struct setup_header) &&
	       end >= SETUP_HEADER_AT + offsetof(struct setup_header, handover_offset);
}

/* Is it of a kind that has a 64-bit entry? */
static enum status check_kind(const struct setup_header *header, char *why, size_t size)
{
	if (header->boot_flag != BOOT_FLAG) {
		return refuse("a bzImage without its boot flag 0xaa55: damaged?", why, size);
	}
	if (header->version < PROTOCOL_MIN) {
		text_format(why, size,
			    "a bzImage of boot protocol %u.%02u; give one of 2.12 or newer (Linux "
			    "3.8)",
			    header->version >> 8, header->version & 0xff);
		return INVALID;
	}
	if (!(header->loadflags & LOADED_HIGH)) {
		return refuse("a zImage, which loads below 1 MiB; give a bzImage", why, size);
	}
	if (!(header->xloadflags & XLF_KERNEL_64)) {
		return refuse("a bzImage without a 64-bit entry; give one for x86-64", why, size);
	}
	return OK;
}

/* Do the header's numbers make sense together? */
static enum status check_place(const struct setup_header *header, char *why, size_t size)
{
	u64 alignment = header->kernel_alignment;

	if (alignment < PAGE_SIZE || (alignment & (alignment - 1)) != 0) {
		text_format(why, size, "a bzImage whose kernel_alignment is 0x%llx: damaged?",
			    (unsigned long long)alignment);
		return INVALID;
	}
	if (header->pref_address < PC_EXTENDED_BASE || header->pref_address >= PC_LOW_RAM_MAX) {
		text_format(why, size,
			    "a bzImage that wants to lie at 0x%llx; want an address from 1 MiB to "
			    "3 GiB",
			    (unsigned long long)header->pref_address);
		return INVALID;
	}
	return OK;
}

/* Is the file as long as the header says? */
static enum status check_length(const struct config_module *kernel,
				const struct setup_header *header, u64 setup, char *why,
				size_t size)
{
	u64 length = setup + (u64)header->syssize * PARAGRAPH;

	if (kernel->size < length) {
		text_format(why, size,
			    "a bzImage cut short: it has %llu bytes of %llu; copy it again",
			    (unsigned long long)kernel->size, (unsigned long long)length);
		return INVALID;
	}
	if (header->syssize * (u64)PARAGRAPH <= ENTRY_64) {
		return refuse("a bzImage without a kernel in it: damaged?", why, size);
	}
	return OK;
}

static u64 setup_size(const struct setup_header *header)
{
	u64 sectors = header->setup_sects != 0 ? header->setup_sects : SETUP_SECTORS_DEFAULT;

	return (sectors + 1) * SECTOR;
}

static void fill(const struct config_module *kernel, const struct setup_header *header,
		 struct pc_file *file)
{
	u64 setup = setup_size(header), length = kernel->size - setup;
	u64 start = header->pref_address;

	if (header->relocatable_kernel) {
		file->alignment = header->kernel_alignment;
		start = align_up(start, file->alignment);
	}
	file->kind = PC_LINUX;
	file->segment_count = 1;
	file->segments[0] = (struct pc_segment){
		.start = start,
		.size = max_u64(header->init_size, length),
		.file_offset = setup,
		.file_size = length,
	};
	file->entry = start + ENTRY_64;
	file->ramdisk_limit = (u64)header->initrd_addr_max + 1;
	file->command_line_max = header->cmdline_size;
}

enum status pc_linux_inspect(const struct config_module *kernel, struct pc_file *file, char *why,
			     size_t size)
{
	struct setup_header header;
	enum status status;

	if (!has_whole_header(kernel)) {
		return refuse("a bzImage whose header is cut short; copy it again", why, size);
	}
	memcpy(&header, kernel->bytes + SETUP_HEADER_AT, sizeof(header));
	status = check_kind(&header, why, size);
	if (status == OK) {
		status = check_place(&header, why, size);
	}
	if (status == OK) {
		status = check_length(kernel, &header, setup_size(&header), why, size);
	}
	if (status == OK) {
		fill(kernel, &header, file);
	}
	return status;
}

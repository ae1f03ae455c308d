/*
 * Recognises what a guest boots from, and places it. Picture and rules: image.h.
 *
 * The files come from the user: every number in them is checked before it is used, by comparing
 * with what is left rather than by adding, so that nothing wraps. A file of which we know that it
 * would not run is refused with what to do about it; one without any known mark is a flat binary.
 */
#include "arch_vm.h"
#include "image.h"

#include "hyp/image_mark.h"
#include "hyp/log.h"

/*
 * The arm64 Image header, little-endian (booting.rst, "Call the kernel image"):
 *
 *     0x00 code  0x08 text_offset  0x10 image_size  0x18 flags  0x38 magic "ARM\x64"
 */
#define HEADER_SIZE 0x40
#define HEADER_TEXT_OFFSET 0x08
#define HEADER_IMAGE_SIZE 0x10
#define HEADER_FLAGS 0x18
#define HEADER_MAGIC 0x38
#define HEADER_FLAG_BIG_ENDIAN BIT(0)

/* Before Linux 3.17 image_size was 0, and then text_offset means this whatever it says. */
#define OLD_TEXT_OFFSET 0x80000ull

/* An EFI zboot: "MZ", "zimg" at 4, then offset and size of the payload and its compression's name.
 */
#define ZBOOT_MAGIC 0x04
#define ZBOOT_OFFSET 0x08
#define ZBOOT_SIZE 0x0c
#define ZBOOT_COMPRESSION 0x18

/* What follows a kernel of unknown extent stays below this offset if it can, as QEMU places it. */
#define TAIL_CEILING MIB(128)
/* Ramdisk and device tree begin on pages of the largest kind, so that no two things share one. */
#define PLACE_ALIGN KIB(64)

/* What is asked for instead of a file that would not run. */
static const struct image_wish wish = {
	.kernel = "an arm64 Image",
	.program = "an arm64 Image or a flat binary",
	.file = "Image",
	.for_elf = "make it flat: objcopy -O binary FILE Image",
};

/* The file's own header says where its payload lies, so the advice can be exact. */
static void explain_zboot(const struct config_module *file, char *why, size_t size)
{
	u32 offset = read_le32(file->bytes + ZBOOT_OFFSET);
	u32 length = read_le32(file->bytes + ZBOOT_SIZE);
	const char *program = "the program for its compression";

	if (image_has(file, ZBOOT_COMPRESSION, "gzip", 5)) {
		program = "gunzip";
	} else if (image_has(file, ZBOOT_COMPRESSION, "zstd", 5)) {
		program = "zstd -d";
	}
	text_format(why, size,
		    "an EFI zboot file; unpack it: tail -c +%llu FILE | head -c %u | %s > Image",
		    (unsigned long long)offset + 1, offset < file->size ? length : 0, program);
}

static enum status inspect_linux(const struct config_module *kernel, struct image_header *header,
				 char *why, size_t size)
{
	u64 text_offset = read_le64(kernel->bytes + HEADER_TEXT_OFFSET);
	u64 image_size = read_le64(kernel->bytes + HEADER_IMAGE_SIZE);
	u64 flags = read_le64(kernel->bytes + HEADER_FLAGS);

	if (flags & HEADER_FLAG_BIG_ENDIAN) {
		text_format(why, size, "a big-endian arm64 Image; guests here are little-endian");
		return INVALID;
	}
	header->kind = IMAGE_LINUX;
	header->extent_known = image_size != 0;
	header->text_offset = header->extent_known ? text_offset : OLD_TEXT_OFFSET;
	header->extent = max_u64(image_size, kernel->size);
	if (!is_aligned(header->text_offset, PAGE_SIZE) || header->text_offset >= BLOCK_SIZE) {
		text_format(
			why, size,
			"an arm64 Image whose text_offset 0x%llx is no page within 2 MiB: damaged?",
			(unsigned long long)text_offset);
		return INVALID;
	}
	return OK;
}

enum status image_inspect(const struct config_module *kernel, struct image_header *header,
			  char *why, size_t size)
{
	if (image_has(kernel, HEADER_MAGIC, "ARM\x64", 4)) {
		return inspect_linux(kernel, header, why, size);
	}
	if (kernel->size >= HEADER_SIZE && image_has(kernel, ZBOOT_MAGIC, "zimg", 4)) {
		explain_zboot(kernel, why, size);
		return INVALID;
	}
	if (image_explain(kernel, &wish, why, size)) {
		return INVALID;
	}
	*header = (struct image_header){
		.kind = IMAGE_FLAT, .text_offset = IMAGE_FLAT_OFFSET, .extent = kernel->size};
	return OK;
}

/* ---- Places: offsets from the start of RAM, each range inside [0, memory) -------------------- */

struct span {
	u64 start, end;
};

/* Everything that has to be placed. */
struct placing {
	u64 memory;
	struct image_header header;
	u64 ramdisk_size;
	struct span kernel, ramdisk, device_tree;
};

/* False when `length` bytes at `start` would leave RAM. */
static bool span_at(u64 start, u64 length, u64 memory, struct span *span)
{
	if (start > memory || length > memory - start) {
		return false;
	}
	*span = (struct span){.start = start, .end = start + length};
	return true;
}

static bool spans_overlap(struct span a, struct span b)
{
	return a.start < b.end && b.start < a.end;
}

/* The least memory, in the unit of the configuration, in which all would have room in a row. */
static u64 memory_needed(const struct placing *p, u64 kernel_start)
{
	u64 need = align_up(kernel_start + p->header.extent, PLACE_ALIGN);

	need = align_up(need + p->ramdisk_size, PLACE_ALIGN) + IMAGE_DEVICE_TREE_SIZE;
	return align_up(need, CONFIG_MEMORY_UNIT);
}

static enum status refuse_memory(const struct placing *p, u64 kernel_start, char *why, size_t size)
{
	char kernel[16], ramdisk[16], need[16];

	config_size_text(p->header.extent, kernel, sizeof(kernel));
	config_size_text(p->ramdisk_size, ramdisk, sizeof(ramdisk));
	if (p->header.extent > CONFIG_MEMORY_MAX || p->ramdisk_size > CONFIG_MEMORY_MAX) {
		text_format(why, size, "kernel (%s) and ramdisk (%s) fit into no guest", kernel,
			    ramdisk);
		return FULL;
	}
	config_size_text(memory_needed(p, kernel_start), need, sizeof(need));
	if (p->ramdisk_size == 0) {
		text_format(why, size, "kernel (%s) and device tree do not fit; need at least %s",
			    kernel, need);
	} else {
		text_format(
			why, size,
			"kernel (%s), ramdisk (%s) and device tree do not fit; need at least %s",
			kernel, ramdisk, need);
	}
	return FULL;
}

/* The kernel at the configuration's address: only where its own header allows. */
static enum status place_kernel_at(struct placing *p, u64 address, char *why, size_t size)
{
	u64 align = p->header.kind == IMAGE_LINUX ? BLOCK_SIZE : PAGE_SIZE;
	u64 offset_in_block = p->header.kind == IMAGE_LINUX ? p->header.text_offset : 0;

	if (address < GUEST_RAM_BASE ||
	    !is_aligned(address - GUEST_RAM_BASE - offset_in_block, align)) {
		text_format(why, size, "want 0x%llx + n * 0x%llx, at the start of RAM or above",
			    (unsigned long long)(GUEST_RAM_BASE + offset_in_block),
			    (unsigned long long)align);
		return DENIED;
	}
	if (!span_at(address - GUEST_RAM_BASE, p->header.extent, p->memory, &p->kernel)) {
		text_format(why, size,
			    "a kernel of 0x%llx bytes there leaves RAM, which ends at 0x%llx",
			    (unsigned long long)p->header.extent,
			    (unsigned long long)(GUEST_RAM_BASE + p->memory));
		return DENIED;
	}
	return OK;
}

static enum status place_kernel(struct placing *p, u64 address, char *why, size_t size)
{
	if (address != 0) {
		return place_kernel_at(p, address, why, size);
	}
	if (!span_at(p->header.text_offset, p->header.extent, p->memory, &p->kernel)) {
		return refuse_memory(p, p->header.text_offset, why, size);
	}
	return OK;
}

/* The ramdisk at the configuration's address: on a page, in RAM, clear of the kernel. */
static enum status place_ramdisk_at(struct placing *p, u64 address, char *why, size_t size)
{
	u64 start = address - GUEST_RAM_BASE;

	if (!is_aligned(address, PAGE_SIZE)) {
		text_format(why, size, "not at a 4 KiB boundary");
		return EXISTS;
	}
	if (address < GUEST_RAM_BASE || !span_at(start, p->ramdisk_size, p->memory, &p->ramdisk)) {
		text_format(why, size, "0x%llx bytes there are not inside RAM, 0x%llx to 0x%llx",
			    (unsigned long long)p->ramdisk_size, (unsigned long long)GUEST_RAM_BASE,
			    (unsigned long long)(GUEST_RAM_BASE + p->memory));
		return EXISTS;
	}
	if (spans_overlap(p->ramdisk, p->kernel)) {
		text_format(why, size, "ramdisk 0x%llx to 0x%llx overlaps kernel 0x%llx to 0x%llx",
			    (unsigned long long)address,
			    (unsigned long long)(GUEST_RAM_BASE + p->ramdisk.end),
			    (unsigned long long)(GUEST_RAM_BASE + p->kernel.start),
			    (unsigned long long)(GUEST_RAM_BASE + p->kernel.end));
		return EXISTS;
	}
	return OK;
}

/*
 * Where the first `length` bytes after the kernel go: right behind it if its header tells where it
 * ends, else as high as the ceiling allows.
 */
static u64 tail_start(const struct placing *p, u64 length)
{
	u64 lowest = align_up(p->kernel.end, PLACE_ALIGN);
	u64 ceiling = min_u64(p->memory, TAIL_CEILING);

	if (p->header.extent_known || length > ceiling) {
		return lowest;
	}
	return max_u64(lowest, align_down(ceiling - length, PLACE_ALIGN));
}

/* With the ramdisk where the configuration wants it, the device tree goes beside it. */
static bool place_device_tree(struct placing *p)
{
	u64 start = tail_start(p, IMAGE_DEVICE_TREE_SIZE);

	if (span_at(start, IMAGE_DEVICE_TREE_SIZE, p->memory, &p->device_tree) &&
	    !spans_overlap(p->device_tree, p->ramdisk)) {
		return true;
	}
	start = align_up(max_u64(p->ramdisk.end, p->kernel.end), PLACE_ALIGN);
	return span_at(start, IMAGE_DEVICE_TREE_SIZE, p->memory, &p->device_tree);
}

/* Ramdisk and device tree in a row. */
static bool place_tail(struct placing *p)
{
	u64 room = align_up(p->ramdisk_size, PLACE_ALIGN);
	u64 start;

	if (p->ramdisk_size > p->memory) {
		return false;
	}
	start = tail_start(p, room + IMAGE_DEVICE_TREE_SIZE);
	return span_at(start, p->ramdisk_size, p->memory, &p->ramdisk) &&
	       span_at(start + room, IMAGE_DEVICE_TREE_SIZE, p->memory, &p->device_tree);
}

static enum status place_rest(struct placing *p, u64 ramdisk_address, char *why, size_t size)
{
	if (ramdisk_address == 0 || p->ramdisk_size == 0) {
		return place_tail(p) ? OK : refuse_memory(p, p->kernel.start, why, size);
	}

	enum status status = place_ramdisk_at(p, ramdisk_address, why, size);

	if (status == OK && !place_device_tree(p)) {
		text_format(why, size,
			    "leaves no room for the device tree beside it and the kernel");
		return EXISTS;
	}
	return status;
}

static void layout_fill(const struct placing *p, struct image_layout *layout)
{
	*layout = (struct image_layout){
		.kind = p->header.kind,
		.entry = gpa(GUEST_RAM_BASE + p->kernel.start),
		.kernel = gpa(GUEST_RAM_BASE + p->kernel.start),
		.kernel_extent = p->header.extent,
		.ramdisk = gpa(GUEST_RAM_BASE + p->ramdisk.start),
		.ramdisk_size = p->ramdisk_size,
		.device_tree = gpa(GUEST_RAM_BASE + p->device_tree.start),
		.device_tree_size = IMAGE_DEVICE_TREE_SIZE,
	};
}

enum status image_layout(const struct config_module *kernel, const struct config_module *ramdisk,
			 u64 memory, struct image_layout *layout, char *why, size_t size)
{
	struct placing p = {.memory = memory, .ramdisk_size = ramdisk == NULL ? 0 : ramdisk->size};
	enum status status = image_inspect(kernel, &p.header, why, size);

	if (status == OK) {
		status = place_kernel(&p, kernel->address, why, size);
	}
	if (status == OK) {
		status = place_rest(&p, ramdisk == NULL ? 0 : ramdisk->address, why, size);
	}
	if (status == OK) {
		layout_fill(&p, layout);
	}
	return status;
}

enum status arch_image_check(const struct config_module *kernel,
			     const struct config_module *ramdisk, u64 memory, char *why,
			     size_t size)
{
	struct image_layout layout;

	return image_layout(kernel, ramdisk, memory, &layout, why, size);
}

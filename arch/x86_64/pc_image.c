/*
 * Recognises what an x86 guest boots from, and places it. Picture and rules: pc_image.h.
 *
 * The files come from the user: every number in them is checked before it is used, by comparing
 * with what is left rather than by adding, so that nothing wraps.
 */
#include "pc_image_internal.h"

#include "hyp/image_mark.h"
#include "hyp/log.h"

static const struct image_wish wish = {
	.kernel = "a bzImage for x86-64",
	.program = "a bzImage or a multiboot-1 kernel",
	.file = "bzImage",
	.for_elf =
		"it needs a multiboot-1 header in its first 8 KiB; of a vmlinux give the bzImage",
};

enum status pc_image_inspect(const struct config_module *kernel, struct pc_file *file, char *why,
			     size_t size)
{
	*file = (struct pc_file){0};
	if (pc_is_linux(kernel)) {
		return pc_linux_inspect(kernel, file, why, size);
	}
	if (pc_is_multiboot(kernel)) {
		return pc_multiboot_inspect(kernel, file, why, size);
	}
	if (!image_explain(kernel, &wish, why, size)) {
		text_format(why, size, "neither a bzImage nor a multiboot-1 kernel; give %s",
			    wish.program);
	}
	return INVALID;
}

/* ---- Places ---------------------------------------------------------------------------------- */

/* Everything that has to be placed. */
struct placing {
	struct pc_ram ram;
	struct pc_file file;
	u64 ramdisk_size;
	struct pc_span kernel; /* from its lowest byte to behind its highest */
	struct pc_span ramdisk;
};

static struct pc_span kernel_span(const struct pc_file *file)
{
	struct pc_span span = pc_segment_span(&file->segments[0]);

	for (u32 i = 1; i < file->segment_count; i++) {
		struct pc_span next = pc_segment_span(&file->segments[i]);

		span.start = min_u64(span.start, next.start);
		span.end = max_u64(span.end, next.end);
	}
	return span;
}

/* Right behind the kernel, though not below 1 MiB, if that is below `end`. */
static bool ramdisk_above(struct placing *p, u64 end)
{
	u64 start = max_u64(align_up(p->kernel.end, PAGE_SIZE), PC_EXTENDED_BASE);

	if (start > end || p->ramdisk_size > end - start) {
		return false;
	}
	p->ramdisk = (struct pc_span){start, start + p->ramdisk_size};
	return true;
}

/* Right below the kernel, if that is not below 1 MiB. */
static bool ramdisk_below(struct placing *p)
{
	u64 end = min_u64(p->kernel.start, p->file.ramdisk_limit);

	if (end < PC_EXTENDED_BASE || p->ramdisk_size > end - PC_EXTENDED_BASE) {
		return false;
	}
	end = align_down(end - p->ramdisk_size, PAGE_SIZE);
	p->ramdisk = (struct pc_span){end, end + p->ramdisk_size};
	return true;
}

static bool place_ramdisk(struct placing *p, u64 low_ram)
{
	if (p->ramdisk_size == 0) {
		return true;
	}
	return ramdisk_above(p, min_u64(low_ram, p->file.ramdisk_limit)) || ramdisk_below(p);
}

/*
 * The least memory, in the unit of the configuration, in which all have room with the kernel where
 * it is; false when there is none.
 */
static bool memory_needed(const struct placing *p, u64 *need)
{
	struct placing other = *p;

	*need = p->kernel.end;
	if (p->ramdisk_size != 0 && !ramdisk_below(&other)) {
		if (!place_ramdisk(&other, PC_LOW_RAM_MAX)) {
			return false;
		}
		*need = max_u64(*need, other.ramdisk.end);
	}
	*need = align_up(*need, CONFIG_MEMORY_UNIT);
	return *need <= PC_LOW_RAM_MAX;
}

static enum status refuse_memory(const struct placing *p, char *why, size_t size)
{
	char kernel[16], ramdisk[16], need[16];
	u64 bytes;

	config_size_text(p->kernel.end - p->kernel.start, kernel, sizeof(kernel));
	config_size_text(p->ramdisk_size, ramdisk, sizeof(ramdisk));
	if (!memory_needed(p, &bytes)) {
		text_format(why, size, "kernel (%s) and ramdisk (%s) fit into no guest", kernel,
			    ramdisk);
		return FULL;
	}
	config_size_text(bytes, need, sizeof(need));
	if (p->ramdisk_size == 0) {
		text_format(why, size, "kernel (%s, for 0x%llx) does not fit; need at least %s",
			    kernel, (unsigned long long)p->kernel.start, need);
	} else {
		text_format(why, size,
			    "kernel (%s, for 0x%llx) and ramdisk (%s) do not fit; need at least %s",
			    kernel, (unsigned long long)p->kernel.start, ramdisk, need);
	}
	return FULL;
}

/* ---- The configuration's addresses -------------------------------------------------------------
 */

static enum status refuse_move(const struct placing *p, char *why, size_t size)
{
	const struct pc_file *file = &p->file;

	if (file->alignment == 0) {
		text_format(why, size, "the kernel cannot be moved; want 0x%llx, or leave it out",
			    (unsigned long long)p->kernel.start);
	} else {
		text_format(why, size, "want 0x%llx + n * 0x%llx",
			    (unsigned long long)p->kernel.start,
			    (unsigned long long)file->alignment);
	}
	return DENIED;
}

/*
 * Only upwards: a bzImage below its preferred address moves itself there, whatever lies there
 * (boot.rst, init_size).
 */
static enum status move_kernel(struct placing *p, u64 address, char *why, size_t size)
{
	struct pc_file *file = &p->file;
	u64 distance = address - p->kernel.start;

	if (address < p->kernel.start || (file->alignment == 0 && distance != 0) ||
	    (distance != 0 && !is_aligned(distance, file->alignment))) {
		return refuse_move(p, why, size);
	}
	if (address > p->ram.low || p->kernel.end - p->kernel.start > p->ram.low - address) {
		text_format(why, size,
			    "a kernel of 0x%llx bytes there leaves low RAM, which ends at 0x%llx",
			    (unsigned long long)(p->kernel.end - p->kernel.start),
			    (unsigned long long)p->ram.low);
		return DENIED;
	}
	for (u32 i = 0; i < file->segment_count; i++) {
		file->segments[i].start += distance;
	}
	file->entry += distance;
	p->kernel = kernel_span(file);
	return OK;
}

static enum status place_kernel(struct placing *p, u64 address, char *why, size_t size)
{
	p->kernel = kernel_span(&p->file);
	if (address != 0) {
		return move_kernel(p, address, why, size);
	}
	return p->kernel.end <= p->ram.low ? OK : refuse_memory(p, why, size);
}

static enum status refuse_overlap(const struct placing *p, const struct pc_segment *segment,
				  char *why, size_t size)
{
	text_format(why, size, "ramdisk 0x%llx to 0x%llx overlaps kernel 0x%llx to 0x%llx",
		    (unsigned long long)p->ramdisk.start, (unsigned long long)p->ramdisk.end,
		    (unsigned long long)segment->start,
		    (unsigned long long)(segment->start + segment->size));
	return EXISTS;
}

/* Inside RAM that is usable, and where the kernel looks for it. */
static enum status check_ramdisk_room(const struct placing *p, u64 address, char *why, size_t size)
{
	u64 end = min_u64(p->ram.low, p->file.ramdisk_limit);

	if (address > end || p->ramdisk_size > end - address ||
	    !pc_span_is_free((struct pc_span){address, address + p->ramdisk_size}, end)) {
		text_format(why, size,
			    "0x%llx bytes there are not inside RAM for a ramdisk, 0x%llx to 0x%llx",
			    (unsigned long long)p->ramdisk_size,
			    (unsigned long long)PC_EXTENDED_BASE, (unsigned long long)end);
		return EXISTS;
	}
	return OK;
}

static enum status place_ramdisk_at(struct placing *p, u64 address, char *why, size_t size)
{
	enum status status;

	if (!is_aligned(address, PAGE_SIZE)) {
		text_format(why, size, "not at a 4 KiB boundary");
		return EXISTS;
	}
	status = check_ramdisk_room(p, address, why, size);
	if (status != OK) {
		return status;
	}
	p->ramdisk = (struct pc_span){address, address + p->ramdisk_size};
	for (u32 i = 0; i < p->file.segment_count; i++) {
		if (pc_spans_overlap(p->ramdisk, pc_segment_span(&p->file.segments[i]))) {
			return refuse_overlap(p, &p->file.segments[i], why, size);
		}
	}
	return OK;
}

/* ---- The answer ------------------------------------------------------------------------------ */

static void layout_fill(const struct placing *p, struct pc_layout *layout)
{
	*layout = (struct pc_layout){
		.kind = p->file.kind,
		.ram = p->ram,
		.entry = gpa(p->file.entry),
		.segment_count = p->file.segment_count,
		.command_line_max = p->file.command_line_max,
		.kernel = gpa(p->kernel.start),
		.kernel_extent = p->kernel.end - p->kernel.start,
		.ramdisk = gpa(p->ramdisk.start),
		.ramdisk_size = p->ramdisk_size,
		.boot_info = gpa(PC_BOOT_INFO),
		.command_line = gpa(PC_COMMAND_LINE),
		.gdt = gpa(PC_GDT),
		.page_tables = gpa(PC_PAGE_TABLES),
		.acpi = gpa(PC_ACPI),
		.acpi_size = PC_ACPI_END - PC_ACPI,
		.reset_code = gpa(PC_RESET_VECTOR),
	};
	for (u32 i = 0; i < p->file.segment_count; i++) {
		layout->segments[i] = p->file.segments[i];
	}
}

enum status pc_image_layout(const struct config_module *kernel, const struct config_module *ramdisk,
			    u64 memory, struct pc_layout *layout, char *why, size_t size)
{
	struct placing p = {.ram = pc_ram_split(memory),
			    .ramdisk_size = ramdisk == NULL ? 0 : ramdisk->size};
	enum status status = pc_image_inspect(kernel, &p.file, why, size);

	if (status == OK) {
		status = place_kernel(&p, kernel->address, why, size);
	}
	if (status == OK && p.ramdisk_size != 0 && ramdisk->address != 0) {
		status = place_ramdisk_at(&p, ramdisk->address, why, size);
	} else if (status == OK && !place_ramdisk(&p, p.ram.low)) {
		status = refuse_memory(&p, why, size);
	}
	if (status == OK) {
		layout_fill(&p, layout);
	}
	return status;
}

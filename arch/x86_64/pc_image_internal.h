/* The kinds of kernels, one file each: pc_image_linux.c, pc_image_multiboot.c. */
#ifndef PC_IMAGE_INTERNAL_H
#define PC_IMAGE_INTERNAL_H

#include "pc_image.h"

/* Does the file bear this kind's mark? Then pc_*_inspect says all else about it. */
bool pc_is_linux(const struct config_module *kernel);
bool pc_is_multiboot(const struct config_module *kernel);

/* For a file with the mark; results as pc_image_inspect(). *file is zero before. */
enum status pc_linux_inspect(const struct config_module *kernel, struct pc_file *file, char *why,
			     size_t size);
enum status pc_multiboot_inspect(const struct config_module *kernel, struct pc_file *file,
				 char *why, size_t size);

/* A range of guest-physical addresses, not empty unless start == end. */
struct pc_span {
	u64 start, end;
};

static inline struct pc_span pc_segment_span(const struct pc_segment *segment)
{
	return (struct pc_span){segment->start, segment->start + segment->size};
}

static inline bool pc_spans_overlap(struct pc_span a, struct pc_span b)
{
	return a.start < b.end && b.start < a.end;
}

/* Is all of it RAM that a guest is told to be usable, and clear of page 0 and the boot area? */
static inline bool pc_span_is_free(struct pc_span span, u64 low_ram)
{
	return (span.start >= PC_BOOT_AREA_END && span.end <= PC_CONVENTIONAL_END) ||
	       (span.start >= PC_EXTENDED_BASE && span.end <= low_ram);
}

#endif

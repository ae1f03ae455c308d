/* The question of arch/image.h, answered for PCs. */
#include "arch/image.h"

#include "pc_image.h"

enum status arch_image_check(const struct config_module *kernel,
			     const struct config_module *ramdisk, u64 memory, char *why,
			     size_t size)
{
	struct pc_layout layout;

	return pc_image_layout(kernel, ramdisk, memory, &layout, why, size);
}

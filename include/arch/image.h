/*
 * The question each architecture answers about the files a guest boots from. Pure: the same code
 * runs in the hypervisor and on the host, for `make check`.
 */
#ifndef ARCH_IMAGE_H
#define ARCH_IMAGE_H

#include "hyp/config.h"

/*
 * Can this architecture boot `kernel` with `ramdisk` (NULL or of size 0: none) in `memory` bytes,
 * each at the place its `address` asks for? If not, `why` is a sentence: what was seen, what is
 * needed. The status says which of the guest's properties it is about:
 *
 *     INVALID  kernel: nothing this architecture can boot
 *     FULL     memory: too little for all of them
 *     DENIED   lamina,kernel-address: it cannot lie there
 *     EXISTS   lamina,ramdisk-address: it cannot lie there, or something else does
 */
enum status arch_image_check(const struct config_module *kernel,
			     const struct config_module *ramdisk, u64 memory, char *why,
			     size_t size);

#endif

/*
 * Touches all of its RAM, of which there is more than the machine has: Lamina must end this guest,
 * say why, give its memory back, and leave the others alone. A run that ends with this guest's own
 * last line has failed.
 *
 * It waits first (bootarg ms=N, 2000), so that guests beside it have what they need by then.
 */
#include "lib.h"

void guest_main(void)
{
	wait_microseconds(1000 * bootarg("ms", 2000));
	print("touching %lu MiB", machine.ram_size >> 20);
	for (u64 a = ((u64)image_end | (BLOCK_SIZE - 1)) + 1;
	     a < machine.ram_base + machine.ram_size; a += PAGE_SIZE) {
		write8(a, 1);
	}
	check("ended_before_memory_did", false, "all %lu MiB could be touched",
	      machine.ram_size >> 20);
}

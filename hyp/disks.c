#include "hyp/disks.h"

#include "hyp/atomic.h"
#include "hyp/disk_virtio.h"
#include "hyp/log.h"
#include "hyp/units.h"

#include <arch/boot.h>
#include <arch/device.h>

#include <string.h>

static struct {
	struct block *block;
	u32 irq;
} disks[DISKS_MAX];
static u32 disk_count;

static void add(struct block *disk, u32 irq)
{
	if (disk_count == DISKS_MAX) {
		log_warn("disk \"%s\": one too many, %u are taken", disk->name, DISKS_MAX);
		disk_virtio_close(disk);
		return;
	}
	disks[disk_count].block = disk;
	disks[disk_count].irq = irq;
	store_release(&disk_count, disk_count + 1);
	log_info("disk \"%s\": %s%s", disk->name,
		 units_size(disk->sectors * BLOCK_SECTOR_SIZE).text,
		 disk->read_only ? ", read-only" : "");
}

void disks_open(const struct boot_info *info)
{
	for (u32 i = 0; i < info->virtio_count; i++) {
		struct block *disk;

		if (disk_virtio_open(info->virtio[i].registers, &disk) == OK) {
			add(disk, info->virtio[i].irq);
		}
	}
}

void disks_listen(const struct block *disk)
{
	for (u32 i = 0; i < disk_count; i++) {
		if (disks[i].block == disk) {
			disk_virtio_listen(disks[i].block);
			arch_device_irq_enable(disks[i].irq);
		}
	}
}

bool disks_interrupt(u32 irq)
{
	u32 count = load_acquire(&disk_count), i = 0;

	while (i < count && disks[i].irq != irq) {
		i++;
	}
	if (i < count) {
		disk_virtio_interrupt(disks[i].block);
	}
	return i < count;
}

struct block *disks_find(const char *name)
{
	for (u32 i = 0; i < disk_count; i++) {
		if (strcmp(disks[i].block->name, name) == 0) {
			return disks[i].block;
		}
	}
	return NULL;
}

void disks_close(void)
{
	while (disk_count > 0) {
		disk_virtio_close(disks[--disk_count].block);
	}
}

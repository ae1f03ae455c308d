/*
 * What a multiboot loader says (Multiboot Specification 0.6.96, 3.3): memory, modules, a command
 * line.
 *
 * Its words lie wherever it liked, mostly below 1 MiB, which Lamina leaves alone and does not map:
 * they are copied. RAM below 1 MiB is nobody's: firmware's tables are there, and the page where
 * CPUs begin.
 */
#include <string.h>

#include "hyp/log.h"

#include "machine.h"

#define LOADER_MAGIC 0x2badb002
#define HAS_COMMAND_LINE BIT(2)
#define HAS_MODULES BIT(3)
#define HAS_MAP BIT(6)
#define TYPE_RAM 1
#define COMMAND_LINE_MAX 256

struct information {
	u32 flags;
	u32 mem_lower, mem_upper, boot_device;
	u32 command_line;
	u32 module_count, modules;
	u32 symbols[4];
	u32 map_length, map;
};

struct module {
	u32 start, end, text, reserved;
};

struct __attribute__((packed)) map_entry {
	u32 size; /* of the rest */
	u64 base, length;
	u32 type;
};

static char names[BOOT_MODULES_MAX][CONFIG_PATH_MAX];
static char command_line[COMMAND_LINE_MAX];

static const void *at(u32 address)
{
	return (const void *)(uintptr_t)address;
}

static void copy_text(char *to, size_t size, const char *from, const char *what)
{
	size_t length = strlen(from);

	if (length >= size) {
		boot_refuse("%s is longer than %u bytes", what, (u32)size - 1);
	}
	memcpy(to, from, length + 1);
}

static void read_map(const struct information *info)
{
	u32 offset = 0;

	if (!(info->flags & HAS_MAP)) {
		boot_refuse("the loader gave no memory map");
	}
	while (offset + sizeof(struct map_entry) <= info->map_length) {
		const struct map_entry *entry = at(info->map + offset);
		u64 end = entry->base + entry->length;

		if (entry->type == TYPE_RAM && end > MIB(1)) {
			boot_add_bank(&machine.info,
				      (struct boot_range){max_u64(entry->base, MIB(1)), end});
		}
		offset += entry->size + (u32)sizeof(entry->size);
	}
}

/* GRUB passes the words behind the file's name, QEMU the file's name, too: ours is the last word.
 */
static const char *last_word(const char *text)
{
	const char *space = strrchr(text, ' ');

	return space != NULL ? space + 1 : text;
}

static void read_modules(const struct information *info)
{
	const struct module *modules = at(info->modules);

	for (u32 i = 0; (info->flags & HAS_MODULES) && i < info->module_count; i++) {
		const struct module *m = &modules[i];

		if (i == BOOT_MODULES_MAX || m->start >= m->end) {
			boot_refuse("module %u is empty, or one more than %d", i, BOOT_MODULES_MAX);
		}
		copy_text(names[i], sizeof(names[i]), m->text ? last_word(at(m->text)) : "",
			  "a module's name");
		boot_add_module(&machine.info, (struct config_module){
						       .name = names[i],
						       .bytes = at(m->start),
						       .size = m->end - m->start,
					       });
	}
}

void multiboot_read(u32 magic, const void *information)
{
	const struct information *info = information;

	if (magic != LOADER_MAGIC) {
		boot_refuse("not started by a multiboot loader: eax = 0x%x, not 0x%x", magic,
			    LOADER_MAGIC);
	}
	read_map(info);
	read_modules(info);
	if (info->flags & HAS_COMMAND_LINE) {
		copy_text(command_line, sizeof(command_line), at(info->command_line),
			  "the command line");
	}
	machine.info.command_line = command_line;
}

/*
 * check: says what is wrong with a configuration, or what it will do. The parser, the placement and
 * every sentence are the hypervisor's own (hyp/config*.c, arch/ARCH/image.c); only files are found
 * here.
 *
 *     check [--search DIR]... [--list-modules] FILE.dtb NAME.dts
 *
 * FILE.dtb is read; NAME.dts is what people call it. Files that guests name are looked up in the
 * folder of NAME.dts, then in each DIR.
 *
 * Prints to stdout one line a problem and their number, or else the plan: one line a guest, and the
 * sum. With --list-modules, stdout has a line "memory<tab>BYTES" of all good guests, then one line
 * "NAME<tab>PATH" for each file that one of them needs, and problems go to stderr, so that one bad
 * guest does not stop the others.
 *
 * Exit status: 0 no problem, 1 some problem, 2 not asked rightly.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hyp/config.h"
#include "hyp/store.h"

#define FOLDERS_MAX 16
#define FILES_MAX (CONFIG_VMS_MAX * 3) /* a kernel, a ramdisk and a disk a guest */
#define PATH_TEXT 4096

struct check {
	/* What was asked. */
	bool list_modules;
	const char *blob;
	const char *name;
	const char *folders[FOLDERS_MAX];
	u32 folder_count;

	/* What was found. */
	FILE *problems;
	u32 problem_count;
	struct config config;
	struct config_module modules[FILES_MAX];
	char paths[FILES_MAX][PATH_TEXT];
	u32 module_count;
};

/* ---- Problems -------------------------------------------------------------------------------- */

static void print_problem(void *context, const struct config_problem *problem)
{
	struct check *check = context;
	char text[PATH_TEXT];

	config_problem_text(problem, text, sizeof(text));
	fprintf(check->problems, "%s: %s\n", check->name, text);
	check->problem_count++;
}

static void print_file_problem(struct check *check, const char *node, const char *property,
			       const char *file, const char *reason)
{
	char path[CONFIG_NAME_MAX + 16];
	char value[CONFIG_PATH_MAX + 2];
	struct config_problem problem = {path, property, value, reason, ""};

	snprintf(path, sizeof(path), "/chosen/%s", node);
	snprintf(value, sizeof(value), "\"%s\"", file);
	print_problem(check, &problem);
}

/* ---- Files ----------------------------------------------------------------------------------- */

static bool is_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* Where `name` is, into `path`. */
static bool find_file(const struct check *check, const char *name, char *path)
{
	if (name[0] == '/') {
		snprintf(path, PATH_TEXT, "%s", name);
		return is_file(path);
	}
	for (u32 i = 0; i < check->folder_count; i++) {
		int length = snprintf(path, PATH_TEXT, "%s/%s", check->folders[i], name);

		if (length < PATH_TEXT && is_file(path)) {
			return true;
		}
	}
	return false;
}

/* Maps a file for good, on a page. NULL and errno when it cannot be read; empty ones have size 0.
 */
static const u8 *map_file(const char *path, u64 *size)
{
	static const u64 nothing;
	int fd = open(path, O_RDONLY);
	void *bytes = MAP_FAILED;
	struct stat st;

	if (fd < 0) {
		return NULL;
	}
	if (fstat(fd, &st) == 0) {
		*size = (u64)st.st_size;
		bytes = *size == 0 ? (void *)&nothing
				   : mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
	}
	close(fd);
	return bytes == MAP_FAILED ? NULL : bytes;
}

static bool is_loaded(const struct check *check, const char *name)
{
	for (u32 i = 0; i < check->module_count; i++) {
		if (strcmp(check->modules[i].name, name) == 0) {
			return true;
		}
	}
	return false;
}

static void not_found(struct check *check, const char *node, const char *property, const char *name)
{
	char reason[PATH_TEXT] = "file not found";
	size_t length = strlen(reason);

	for (u32 i = 0; name[0] != '/' && i < check->folder_count && length < sizeof(reason); i++) {
		length += (size_t)snprintf(reason + length, sizeof(reason) - length, "%s%s",
					   i == 0 ? " (looked in " : ", ", check->folders[i]);
	}
	if (name[0] != '/' && length < sizeof(reason)) {
		snprintf(reason + length, sizeof(reason) - length, ")");
	}
	print_file_problem(check, node, property, name, reason);
}

/* One file that a guest names becomes a module, once. */
static bool load(struct check *check, const char *node, const char *property, const char *name)
{
	struct config_module *module = &check->modules[check->module_count];
	char *path = check->paths[check->module_count];

	if (name[0] == '\0' || is_loaded(check, name)) {
		return true;
	}
	if (!find_file(check, name, path)) {
		not_found(check, node, property, name);
		return false;
	}
	module->name = name;
	module->bytes = map_file(path, &module->size);
	if (module->bytes == NULL) {
		print_file_problem(check, node, property, name, strerror(errno));
		return false;
	}
	check->module_count++;
	return true;
}

static void load_all(struct check *check)
{
	for (u32 i = 0; i < check->config.vm_count; i++) {
		struct config_vm *vm = &check->config.vms[i];

		if (vm->valid) {
			bool has_kernel = load(check, vm->node, "kernel", vm->kernel);
			bool has_ramdisk = load(check, vm->node, "ramdisk", vm->ramdisk);
			bool has_disk = load(check, vm->node, "lamina,disk", vm->disk);

			vm->valid = has_kernel && has_ramdisk && has_disk;
		}
	}
}

/* ---- What is printed when all is well -------------------------------------------------------- */

static void print_module(const char *what, const struct config_module *module)
{
	char size[16];

	config_size_text(module->size, size, sizeof(size));
	printf(", %s %s (%s)", what, module->name, size);
}

/* What may be used and is there; with its limit, if it has one. */
static void print_stores(const struct config *config)
{
	const u64 limits[STORE_KINDS] = {
		[STORE_zswap] = config->zswap_max, [STORE_disk] = config->swap_disk};

	for (u32 kind = 0; kind < STORE_KINDS; kind++) {
		char size[16];

		if (!(config->stores & BIT(kind)) || (kind == STORE_disk && limits[kind] == 0)) {
			continue;
		}
		printf(" %s", store_name((enum store_kind)kind));
		if (limits[kind] > 0) {
			config_size_text(limits[kind], size, sizeof(size));
			printf(" (%s)", size);
		}
	}
}

/* The sum of guests' memory to what they may use, and how that is done. */
static void print_overcommit(const struct config *config, u64 memory)
{
	u64 hundredths = memory * 100 / config->guest_memory;
	char size[16];

	config_size_text(config->guest_memory, size, sizeof(size));
	printf(" / %s = %llu.%02llu, by %s into", size, (unsigned long long)hundredths / 100,
	       (unsigned long long)hundredths % 100, config->reclaim->name);
	print_stores(config);
	printf("%s", config->ksm ? ", equal pages shared" : "");
}

static void print_plan(const struct check *check)
{
	const struct config *config = &check->config;
	u64 memory = 0;
	u32 cpus = 0;
	char size[16];

	for (u32 i = 0; i < config->vm_count; i++) {
		const struct config_vm *vm = &config->vms[i];

		config_size_text(vm->memory, size, sizeof(size));
		printf("d%u %s: %u vCPU%s, %s", i + 1, vm->name, vm->cpus, vm->cpus == 1 ? "" : "s",
		       size);
		print_module("kernel", &vm->kernel_module);
		if (vm->ramdisk[0] != '\0') {
			print_module("ramdisk", &vm->ramdisk_module);
		}
		if (vm->disk[0] != '\0') {
			print_module(vm->disk_read_only ? "read-only disk" : "disk",
				     &vm->disk_module);
		}
		if (vm->balloon) {
			printf(", balloon");
		}
		printf(", bootargs \"%s\"\n", vm->bootargs);
		memory += vm->memory;
		cpus += vm->cpus;
	}
	config_size_text(memory, size, sizeof(size));
	printf("%s: %u guest%s, %u vCPU%s, %s of memory", check->name, config->vm_count,
	       config->vm_count == 1 ? "" : "s", cpus, cpus == 1 ? "" : "s", size);
	if (config->guest_memory != 0) {
		print_overcommit(config, memory);
	}
	printf("\n");
}

/* What guests can use at once: with overcommit less than what they think that they have. */
static u64 needed_memory(const struct config *config)
{
	u64 memory = 0;

	for (u32 i = 0; i < config->vm_count; i++) {
		memory += config->vms[i].valid ? config->vms[i].memory : 0;
	}
	return config->guest_memory ? min_u64(memory, config->guest_memory) : memory;
}

/* Those of bad guests, too: Lamina then finds the same fault, and says it in the same words. */
static void print_modules(const struct check *check)
{
	printf("memory\t%llu\n", (unsigned long long)needed_memory(&check->config));
	for (u32 i = 0; i < check->module_count; i++) {
		printf("%s\t%s\n", check->modules[i].name, check->paths[i]);
	}
}

/* ---- What was asked -------------------------------------------------------------------------- */

static int usage(const char *complaint, const char *what)
{
	fprintf(stderr, "check: %s%s\n", complaint, what);
	fprintf(stderr, "usage: check [--search DIR]... [--list-modules] FILE.dtb NAME.dts\n");
	return 2;
}

/* The folder that `path` is in; a string that lives as long as the program. */
static const char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL) {
		return ".";
	}
	return slash == path ? "/" : strndup(path, (size_t)(slash - path));
}

static bool add_folder(struct check *check, const char *folder)
{
	if (folder == NULL || check->folder_count == FOLDERS_MAX) {
		return false;
	}
	check->folders[check->folder_count++] = folder;
	return true;
}

/* 0, or the exit status. */
static int read_arguments(struct check *check, int count, char **arguments)
{
	int i = 1;

	check->folder_count = 1; /* the first is the configuration's own */
	for (; i < count && arguments[i][0] == '-'; i++) {
		const char *next = i + 1 < count ? arguments[i + 1] : NULL;

		if (strcmp(arguments[i], "--list-modules") == 0) {
			check->list_modules = true;
		} else if (strcmp(arguments[i], "--search") == 0) {
			if (!add_folder(check, next)) {
				return usage("--search wants a folder, and takes at most 15", "");
			}
			i++;
		} else {
			return usage("unknown option ", arguments[i]);
		}
	}
	if (count - i != 2) {
		return usage("want a blob and its source's name", "");
	}
	check->blob = arguments[i];
	check->name = arguments[i + 1];
	check->folders[0] = folder_of(check->name);
	return 0;
}

/* ---- In order -------------------------------------------------------------------------------- */

static bool read_config(struct check *check)
{
	u64 size = 0;
	const u8 *blob = map_file(check->blob, &size);

	if (blob == NULL) {
		struct config_problem problem = {"", "", "", strerror(errno), ""};

		print_problem(check, &problem);
		return false;
	}
	return config_parse(blob, size, &check->config, print_problem, check) == OK;
}

int main(int count, char **arguments)
{
	static struct check check;
	int status = read_arguments(&check, count, arguments);

	if (status != 0) {
		return status;
	}
	check.problems = check.list_modules ? stderr : stdout;
	if (read_config(&check)) {
		load_all(&check);
		config_attach(&check.config, check.modules, check.module_count, print_problem,
			      &check);
	}
	if (check.list_modules) {
		print_modules(&check);
	} else if (check.problem_count == 0) {
		print_plan(&check);
	}
	if (check.problem_count > 0) {
		fprintf(check.problems, "%u error%s\n", check.problem_count,
			check.problem_count == 1 ? "" : "s");
	}
	return check.problem_count > 0 ? 1 : 0;
}

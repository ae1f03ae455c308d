/*
 * Any bytes as a configuration, and what follows its blob as a kernel and a ramdisk.
 *
 * Each input is read twice. First in an allocation of exactly its size, where the address sanitizer
 * sees every read of ours outside it. libfdt comes as a library without such checks, so then the
 * input lies, filled up to 8 bytes, right in front of a page that nobody may touch.
 *
 * Problems are turned into lines, and what comes back as valid is held to what config.h promises.
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Iarch/fake
 * tests/fuzz/config_fuzz.c hyp/config*.c hyp/TEXT.c arch/arm64/image.c -lfdt
 */
#include <libfdt.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "arch/image.h"
#include "hyp/config.h"

static void demand(bool condition)
{
	if (!condition) {
		abort();
	}
}

/* A line is a line, whatever the blob said, and stays in its box, however small. */
static void check_problem(void *context, const struct config_problem *problem)
{
	u32 *count = context;
	size_t size = 1 + *count * 37 % CONFIG_LINE_MAX;
	char *text = malloc(size);

	config_problem_text(problem, text, size);
	demand(strlen(text) < size);
	for (size_t i = 0; text[i] != '\0'; i++) {
		demand((u8)text[i] >= ' ' && text[i] != 0x7f);
	}
	free(text);
	(*count)++;
	demand(problem->reason[0] != '\0');
}

static void check_vm(const struct config_vm *vm)
{
	demand(vm->name[0] != '\0' && vm->node[0] != '\0' && vm->kernel[0] != '\0');
	demand(vm->cpus >= 1 && vm->cpus <= CONFIG_CPUS_MAX);
	demand(vm->weight >= 1 && vm->weight <= CONFIG_WEIGHT_MAX);
	demand(vm->memory >= CONFIG_MEMORY_UNIT && vm->memory <= CONFIG_MEMORY_MAX);
	demand(is_aligned(vm->memory, CONFIG_MEMORY_UNIT));
}

static void check_config(const struct config *config, enum status status)
{
	demand(config->vm_count <= CONFIG_VMS_MAX);
	demand((status == OK) == (config->vm_count > 0));
	for (u32 i = 0; i < config->vm_count; i++) {
		if (config->vms[i].valid) {
			check_vm(&config->vms[i]);
		}
	}
}

/* Every name there is gets the same bytes; each third is missing. */
static u32 make_modules(const struct config *config, const u8 *bytes, u64 size,
			struct config_module *modules)
{
	u32 count = 0;

	for (u32 i = 0; i < config->vm_count; i++) {
		if (i % 3 != 2) {
			modules[count++] =
				(struct config_module){config->vms[i].kernel, bytes, size, 0};
		}
		modules[count++] = (struct config_module){config->vms[i].ramdisk, bytes, size, 0};
	}
	return count;
}

static void attach(struct config *config, const u8 *data, size_t size, u32 *problems)
{
	static struct config_module modules[CONFIG_VMS_MAX * 2];
	size_t blob_size = size >= sizeof(struct fdt_header) ? fdt_totalsize(data) : size;
	size_t rest = blob_size < size ? size - blob_size : 0;
	u8 *bytes = malloc(rest); /* exactly, so that reads behind it are seen */

	if (rest > 0) {
		memcpy(bytes, data + blob_size, rest);
	}
	u32 count = make_modules(config, bytes, rest, modules);

	config_attach(config, modules, count, check_problem, problems);
	free(bytes);
}

static void parse(const u8 *blob, size_t size)
{
	static struct config config;
	u32 problems = 0;
	enum status status = config_parse(blob, size, &config, check_problem, &problems);

	check_config(&config, status);
	demand(status == OK || problems > 0);
	if (status == OK) {
		attach(&config, blob, size, &problems);
		check_config(&config, status);
	}
	demand(problems <= 2 * CONFIG_PROBLEMS_MAX);
}

/* The end of memory that is followed by a page without access. */
static u8 *fence(size_t room)
{
	static u8 *end;
	static size_t room_there;

	if (room > room_there) {
		size_t length = align_up(room, MIB(1));
		u8 *start = mmap(NULL, length + PAGE_SIZE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		demand(start != MAP_FAILED);
		end = start + length;
		room_there = length;
		demand(mprotect(end, PAGE_SIZE, PROT_NONE) == 0);
	}
	return end;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	size_t padded = align_up(size, 8);
	u8 *exact = malloc(size);
	u8 *fenced = fence(padded + 8) - padded;

	if (size > 0) {
		memcpy(exact, data, size);
		memset(fenced, 0, padded);
		memcpy(fenced, data, size);
	}
	parse(exact, size);
	parse(fenced, padded);
	free(exact);
	return 0;
}

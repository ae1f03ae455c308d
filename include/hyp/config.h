/*
 * The configuration: a device tree blob that says which guests there are, turned into checked
 * structs. Format: docs/CONFIG.md. The same code is `make check` on the host, so it prints nothing
 * and allocates nothing: problems go to the caller, one by one, as whole sentences.
 *
 * Whatever bytes the blob has, nothing outside [blob, blob + size) is read.
 */
#ifndef HYP_CONFIG_H
#define HYP_CONFIG_H

#include "hyp/addr.h"
#include "hyp/reclaim.h"
#include "hyp/status.h"

#define CONFIG_NAME_MAX 32 /* with the zero byte, as the next two */
#define CONFIG_PATH_MAX 256
#define CONFIG_DISK_MAX 21 /* what a virtio disk may call itself */
#define CONFIG_BOOTARGS_MAX 1024
#define CONFIG_VMS_MAX 16
#define CONFIG_CPUS_MAX 8
#define CONFIG_WEIGHT_DEFAULT 256
#define CONFIG_WEIGHT_MAX 65535
#define CONFIG_EXERCISE_MAX 65535
#define CONFIG_SWAP_DISK "swap"
#define CONFIG_STATS_MS_MIN 10
#define CONFIG_STATS_MS_MAX 3600000
#define CONFIG_MEMORY_UNIT BLOCK_SIZE
#define CONFIG_MEMORY_MAX                                                                          \
	GIB(255) /* what QEMU's virt machine takes below its second device window */
#define CONFIG_BLOB_MAX MIB(1)
#define CONFIG_PROBLEMS_MAX 64 /* the last one reported says that there are more */
#define CONFIG_LINE_MAX 512    /* room for config_problem_text() */

/* A file that came with the configuration (a kernel, a ramdisk); name as the configuration has it.
 */
struct config_module {
	const char *name;
	const u8 *bytes; /* NULL on the host when only the name is checked */
	u64 size;
	u64 address; /* guest-physical, where the configuration wants it; 0: the architecture
			chooses */
};

struct config_vm {
	char node[CONFIG_NAME_MAX]; /* "/chosen/domU1" less the path: "domU1" */
	char name[CONFIG_NAME_MAX]; /* lamina,name, else the node's name; unique among valid ones */
	bool valid; /* false: it had an error, was reported, and is not to be built */
	u32 cpus;
	u64 memory; /* bytes, a multiple of 2 MiB */
	u32 weight;
	u64 memory_min, memory_high, memory_max; /* bytes; 0: none; see hyp/swap.h */
	bool small_pages;			 /* lamina,page-size = "4K": never a larger leaf */
	u32 exercise; /* lamina,exercise: a seed; 0 = its table is left alone */
	bool probe;   /* lamina,probe: it may ask about its table, and have it changed */
	bool disk_read_only, balloon;
	bool mailbox; /* lamina,mailbox: its CPUs start by ACPI's mailbox */
	char kernel[CONFIG_PATH_MAX];
	char ramdisk[CONFIG_PATH_MAX], disk[CONFIG_PATH_MAX]; /* "" = none */
	char bootargs[CONFIG_BOOTARGS_MAX];
	char machine_disk[CONFIG_DISK_MAX];  /* "" = none; else a part of it, in bytes: */
	u64 disk_start, disk_size;	     /* 0: all that is left */
	u64 kernel_address, ramdisk_address; /* 0 = where the architecture likes */
	struct config_module kernel_module, ramdisk_module, disk_module; /* by config_attach */
};

struct config {
	u32 vm_count;
	u32 log_level; /* enum log_level */

	/* Overcommit: hyp/swap.h. */
	u64 guest_memory; /* bytes that all guests together may have; 0: as much as there is */
	const struct reclaim_policy *reclaim;
	u32 stores;    /* a bit for each enum store_kind that may be used */
	u64 zswap_max; /* bytes of the pool */
	u64 swap_disk; /* bytes of the machine's disk CONFIG_SWAP_DISK for pages; 0: none */
	u32 stats_ms;  /* between two samples of the counters; 0: none */
	bool ksm;      /* equal pages are looked for from the start: hyp/ksm.h */
	bool heatmap;  /* a sample goes with where pages were used, */
	bool trace;    /* and with which */

	struct config_vm vms[CONFIG_VMS_MAX];
};

/* One problem. All texts are the callback's only until it returns; none is NULL. */
struct config_problem {
	const char *node; /* its path, or "" */
	const char *property;
	const char *value; /* as a person wrote it, or "" */
	const char *reason;
	const char *hint; /* "did you mean ...?", "write ...", or "" */
};
typedef void (*config_report_fn)(void *context, const struct config_problem *problem);

/*
 * Reads the blob, which lies at an 8-byte boundary. Guests with problems come back with valid ==
 * false, the others are good. INVALID when the blob as a whole is none (place, magic, size,
 * structure) or names no guest: then config->vm_count is 0. Every problem was reported once.
 */
enum status config_parse(const void *blob, u64 size, struct config *config, config_report_fn report,
			 void *context);

/*
 * Finds each valid guest's kernel, ramdisk and disk among the modules, checks that the images are
 * what the architecture can boot and fit into the guest's memory; reports and marks invalid those
 * that do not. The modules' own `address` is not looked at: the guest's is put into its copies.
 */
void config_attach(struct config *config, const struct config_module *modules, u32 count,
		   config_report_fn report, void *context);

/*
 * Writes "NODE: PROPERTY = VALUE: REASON (HINT)" as one line without a newline, leaving out what is
 * empty; bytes that are not printable become '?'. What the host tool and the hypervisor print,
 * behind the file's name.
 */
void config_problem_text(const struct config_problem *problem, char *text, size_t size);

/* "512 MiB", "26.7 MiB", "64 KiB", "17 bytes". */
void config_size_text(u64 bytes, char *text, size_t size);

#endif

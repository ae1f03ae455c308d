/*
 * Overcommit: a guest's pages lose their frames while others need them more, and get them back.
 *
 *     fault -> charge -> a frame, with the bytes that belong there -> mapped, and new to the policy
 *     short of frames -> whose? (swap_pressure.h) -> which? (reclaim.h) -> unmapped, all in one
 *         batch -> its close -> bytes into a store (store.h), frames free
 *
 * Every page of a guest's RAM has a record that says where its bytes are. Whoever changes that
 * takes the record first, by compare-and-swap, so of any number of CPUs one does it, and faults
 * take no lock (I8):
 *
 *     UNTOUCHED  zero, or the image that lies there      -> BUSY
 *     RESIDENT   in a frame that is mapped               -> FLIGHT, BUSY (with the lock alone)
 *     FLIGHT     unmapped, and not stored yet            -> BUSY: stored; or a fault wants it back
 *     STORED     in a slot                               -> BUSY
 *     SHARED     in a frame with other holders (ksm.h)   -> BUSY: the guest writes
 *     BUSY       somebody has it: look again             -> any
 *     LEAVING, LEAVING_STORED   given up by the guest, of which CPUs do not all know yet
 *
 * In the table a page that is FLIGHT or STORED is an S2_STORED entry; the record tells more.
 *
 * Charges are counted in pages of 4 KiB: a guest has its RESIDENT and FLIGHT pages, the machine the
 * pool's frames and the shared ones, too. A fault that would exceed what the guest, or all guests,
 * may have makes room first.
 */
#ifndef HYP_SWAP_H
#define HYP_SWAP_H

#include "hyp/config.h"
#include "hyp/reclaim.h"
#include "hyp/store.h"
#include "hyp/swap_age.h"
#include "hyp/swap_latency.h"
#include "hyp/vm.h"

/* Exact counts since the VM was built, in pages; Linux's words where Linux has one. */
#define SWAP_COUNTERS(X)                                                                           \
	X(pgscan)	      /* judged: was it accessed? */                                       \
	X(pgsteal)	      /* stored, and their frames given up */                              \
	X(pgrescued)	      /* in flight, and wanted back before they were stored */             \
	X(pgputback)	      /* in flight, and mapped again, as no store took them */             \
	X(pgdiscard)	      /* stored, and given up by the guest */                              \
	X(swpout_clean)	      /* stored, as the disk's slot had the very bytes: not written */     \
	X(cow_ksm)	      /* shared, and the guest's own again, as it wrote */                 \
	X(workingset_refault) /* brought back from a store */                                      \
	X(swap_ra)	      /* of those, read from the disk beside one that was wanted */        \
	X(swap_ra_hit)	      /* and accessed before the next was read from there */               \
	X(thp_split_page)     /* blocks of 2 MiB that were split, to tell pages apart */           \
	X(thp_collapse_page)  /* and that became blocks again */                                   \
	X(direct_reclaim)     /* faults that had to make room themselves */                        \
	X(swap_runs)	      /* runs of the pipeline that took something */

struct swap_counters {
#define X(name) u64 name;
	SWAP_COUNTERS(X)
#undef X
};

/*
 * How long vCPUs waited for memory, as pressure stall information in Linux has it: `some` while one
 * at least did, `full` while all that are on did. Ticks of the system counter.
 */
struct swap_stall {
	u32 waiting;		    /* vCPUs; atomic, as all of it */
	u64 some_since, full_since; /* while it is so */
	u64 some, full;		    /* sums of what is over */
};

/* A page's record. */
struct swap_page {
	u64 word;     /* a state and what it says; atomic */
	u32 checksum; /* of the bytes: STORED, SHARED; RESIDENT: as they were once */
	u32 newcomer; /* 1 + the page that became resident before, or 0; see swap->newcomers */
};

/* How many pages of a guest are where, as of one moment. */
struct swap_census {
	u64 untouched, resident, shared, stored[STORE_KINDS], total;
};

/* And what has come and gone since the VM was built. */
struct swap_totals {
	u64 out[STORE_KINDS], in[STORE_KINDS];
	struct swap_counters counters;
	struct swap_latency latency[SWAP_SOURCES];
};

/* Pages that the last read from the disk brought beside the one that was wanted. A guess for the
 * next one, so CPUs may write it at once. */
struct swap_read_ahead {
	u64 first;
	u32 count;
	u32 window; /* pages that the next read may have */
};

struct swap {
	/* Constant. */
	struct vm *vm;
	u64 page_count;
	u64 min, high, max; /* pages; max and high may be changed by the operator */

	struct swap_page *pages;

	/* Who takes pages away, or gives them up, has it; faults do not. */
	struct lock lock;
	bool has_ended;	       /* the tables are gone, and the counters stay */
	struct reclaim choice; /* among pages that are mapped one by one */
	struct reclaim blocks; /* among blocks of 2 MiB that are mapped as one */
	u32 refold_next;       /* the block to look at next */
	u8 *is_whole; /* by block: is it one of those? Written by its fault, and by reclaim */
	struct swap_age age;
	u32 *victims; /* of the run that is on */
	u32 victim_count;
	struct swap_writes *writes; /* NULL: there is no disk */
	u32 *kept; /* likewise; by page: 1 + its slot on the disk while it is mapped, too, or 0 */

	/* Atomic. */
	u32 newcomers;		 /* 1 + the page that became resident last; 0: none */
	u64 charged;		 /* pages */
	u32 faulting;		 /* CPUs in swap_fault() */
	bool is_counted;	 /* somebody looks at all records: faults wait */
	u32 failures;		 /* to make room, one after the other */
	u64 active_permille;	 /* of pages judged lately, how many had been accessed */
	u64 stored[STORE_KINDS]; /* pages */
	struct swap_read_ahead read_ahead;
	struct swap_stall stall;
	struct swap_latency room; /* of faults that made some: these do not wait for a count */
	struct swap_totals totals;
};

/*
 * Once, before the first VM is built. INVALID: `config` asks for no overcommit, and vm->swap will
 * be NULL. NOMEM: nothing was taken.
 */
enum status swap_init(const struct config *config);

/* For a VM whose RAM is known. NOMEM; vm->swap stays NULL if there is no overcommit. */
enum status swap_begin(struct vm *vm, const struct config_vm *config);

/* The VM's RAM is as new: no vCPU is on. All of it was, or is about to be, unmapped. */
void swap_forget(struct vm *vm);

/* Forgets, and frees all but the counters. */
void swap_end(struct vm *vm);

/*
 * The guest wants the page at `at`, where its table has no leaf. OK; AGAIN: look again, or room was
 * made. NOMEM: there is no room, and none could be made for a while.
 */
enum status swap_fault(struct vm *vm, gpa_t at);

/* The guest wants to write to the page at `at`, whose frame has other holders, or had. Likewise. */
enum status swap_fault_shared(struct vm *vm, gpa_t at);

/*
 * Takes pages of this guest away: up to `pages`, and SWAP_RUN_MAX, of those that the policy lets
 * go. *freed: how many frames became free. AGAIN: another CPU is at it. Not in a walk, nor with a
 * batch of this CPU's open.
 */
enum status swap_out(struct swap *swap, u64 pages, u64 *freed);
#define SWAP_RUN_MAX 2048 /* one round of invalidation for 8 MiB */

/*
 * The guest gives up pages, ranges of whole ones in RAM: begin; take each range; close, which is
 * the one round of invalidation; settle each range; end. The guest's lock is held from begin to
 * end. Then what could leave is UNTOUCHED; see hyp/vm_memory_give_up.h, and call that.
 */
struct swap_give_up {
	struct swap *swap;
	struct s2_batch batch;
};
void swap_give_up_begin(struct swap_give_up *g, struct swap *swap);
void swap_give_up_take(struct swap_give_up *g, gpa_t at, u64 size);
void swap_give_up_close(struct swap_give_up *g);
void swap_give_up_settle(struct swap_give_up *g, gpa_t at, u64 size);
void swap_give_up_end(struct swap_give_up *g);

/* Keeps free what the watermarks want: a bounded piece of work for any CPU, about every
 * SWAP_TICK_MS. Not in a walk, nor with a batch or a lock of this CPU's. */
void swap_tick(void);
#define SWAP_TICK_MS 10

/* Both as of one moment: faults of the guest, and reclaim, wait so long. */
void swap_count(struct swap *swap, struct swap_census *census, struct swap_totals *totals);

/* Of the machine, in pages: what guests may have, and have; 0: there is no overcommit. */
u64 swap_machine_max(void);
u64 swap_machine_charged(void);

/* SHARED pages of all guests, and the frames that they are in. */
u64 swap_machine_sharing(void);
u64 swap_machine_shared(void);

#endif

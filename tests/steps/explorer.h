/*
 * A deterministic scheduler: runs a few CPUs of the real core in one thread, one access at a time,
 * and goes through the orders in which they can run.
 *
 * The core is compiled as for thread sanitizer, and linked against hooks.cc instead of its runtime:
 * so every atomic access of the core calls us first, without a line of the core being written for
 * it. A CPU is a coroutine; before an access the scheduler may let another one go on.
 *
 * What is explored, exactly:
 *
 *   orders       depth first, all that have at most Bounds::preemptions preemptions. A switch away
 *                from a CPU that waits (cpu_relax) or has ended is none.
 *   where        before accesses of words that two CPUs touch and one writes. Which those are is
 *                learned: a scenario is explored again until no new word turned up. Elsewhere a
 *                switch makes no difference, since the accesses commute.
 *   states       an order that comes to a state that was explored before (memory, TLBs, every
 *                CPU's stack and registers), with no more preemptions left than then, ends there:
 *                what can follow is known.
 *   memory       sequentially consistent. What a weaker machine may reorder is not explored;
 *                thread sanitizer (tests/race) watches over the order of accesses.
 *   waiting      a CPU in cpu_relax() goes on only when a word that it read in its last round has
 *                another value now. When nobody can go on, that is a deadlock, and a failure.
 *
 * Between two steps a judge looks at the machine. A failure comes with its order as a short string,
 * "0:57 1:12" (CPU 0 makes 57 accesses, then CPU 1 makes 12, ...), by which it is run again alone.
 */
#ifndef TESTS_STEPS_EXPLORER_H
#define TESTS_STEPS_EXPLORER_H

#include <cstdint>
#include <string>

namespace steps
{

using u8 = std::uint8_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

constexpr u32 kCpusMax = 3;
constexpr int kUnbounded = 1000;

/* What is explored: a machine, and what its CPUs do. */
class World
{
      public:
	virtual ~World() = default;
	/* A fresh machine. The same calls from here lead to the same state, always. */
	virtual void reset() = 0;
	/* This CPU's part; runs in its coroutine, with every atomic access a step. */
	virtual void run(u32 cpu) = 0;
	/* The code that runs next is this CPU's. */
	virtual void become(u32 cpu) = 0;
	/* What is wrong now, or NULL; and when all CPUs have ended. */
	virtual const char *judge() = 0;
	virtual const char *judge_end() = 0;
	/* Of everything that what follows depends on, stacks aside. */
	virtual u64 digest() = 0;
	/* Counters by which nobody decides anything: no steps, no part of the state. */
	virtual bool is_counter(const void *address) const = 0;
	/* May the judge see something new when this word has changed? */
	virtual bool is_judged(const void *address) const = 0;
	/* The word that says for how long this one is what it is, or NULL: who writes that word,
	 * ends it, and is in conflict with who touches this one. */
	virtual const void *life_of(const void *address) const = 0;
	/* Are the core's plain reads of it steps too? */
	virtual bool is_table(const void *address) const = 0;
	/* Why this CPU may not touch this word now, or NULL. */
	virtual const char *forbids(u32 cpu, const void *address) const = 0;
	/* For people. */
	virtual std::string name_of(const void *address) const = 0;
};

struct Bounds {
	u32 cpus = 2;
	int preemptions = kUnbounded;
	u64 schedules_max = 1000000; /* then the scenario is cut, and says so */
};

struct Report {
	u64 schedules = 0; /* orders that were run, to their end or to a state seen before */
	u64 ends = 0;	   /* of these, to their end */
	u64 states = 0;	   /* different states at which there was a choice */
	u64 steps = 0;	   /* accesses, those of repeated beginnings included */
	u64 words = 0;	   /* that CPUs touch in common */
	bool is_cut = false;
	std::string problem; /* empty: nothing was wrong */
	std::string schedule, trace;
};

Report explore(World &world, const Bounds &bounds);

/* One order, judged after every access. */
Report replay(World &world, u32 cpus, const std::string &schedule);

/* ---- For code that runs as a CPU ------------------------------------------------------------- */

/* A step that is no atomic access of the core's (what hardware does at once). */
void step(const char *what);
/* The same, and to let others go on here is no preemption. */
void pause(const char *what);
/* Nothing to do until something that was read has changed. */
void relax();
/* Something is wrong: ends this order. */
[[noreturn]] void fail(const char *text);
/* Does a CPU run, or the end of an order? Outside fail() must not be called. */
bool is_running();
/* This CPU's hardware has written a word, and that was no step of its own. */
void hardware_wrote(const void *address, u32 size);
/* The machine changed other than by an access: the judge should look. */
void touched();

u64 mix(u64 hash, u64 word);
u64 mix_words(u64 hash, const void *start, u64 bytes);

} // namespace steps

#endif

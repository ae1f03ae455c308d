/*
 * The scheduler: coroutines, the search through orders, and the memory of states.
 *
 *   explore: until no new common word turns up
 *     search: until the tree of choices is used up
 *       run_order: reset, then    judge, decide --> a CPU runs to its next step that matters
 *
 * An order is run from the start each time, the choices up to its last branch as the time before:
 * a small machine is set up faster than a copy of one could be kept.
 *
 * Coroutines are switched by setjmp and longjmp. Each is made once; its first frame stays for ever,
 * and going back to it is what ends a run that is given up half way. So code that runs as a CPU may
 * not own anything that needs a destructor.
 */
#include "hooks.h"

#include <algorithm>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <ucontext.h>
#include <vector>

namespace steps
{

u64 mix(u64 hash, u64 word)
{
	unsigned __int128 product =
		(unsigned __int128)(hash ^ word ^ 0x9e3779b97f4a7c15ull) * 0xd6e8feb86659fd93ull;

	return u64(product) ^ u64(product >> 64);
}

u64 mix_words(u64 hash, const void *start, u64 bytes)
{
	const u64 *words = static_cast<const u64 *>(start);
	u64 lanes[4] = {hash, 1, 2, 3}, i = 0;

	/* Four at a time, since one waits for its multiplication. */
	for (; i + 4 <= bytes / 8; i += 4) {
		for (u64 lane = 0; lane < 4; lane++) {
			lanes[lane] = mix(lanes[lane], words[i + lane]);
		}
	}
	for (; i < bytes / 8; i++) {
		lanes[0] = mix(lanes[0], words[i]);
	}
	return mix(mix(lanes[0], lanes[1]), mix(lanes[2], lanes[3]));
}

namespace
{

constexpr u64 kStack = 256 * 1024;
constexpr u64 kStackSlack = 1024; /* below the deepest stack pointer that was seen */
constexpr u32 kReadsMax = 4096;
constexpr u64 kStepsMax = 200000; /* of one order: more is an endless loop */

/* ---- Words that CPUs touch in common --------------------------------------------------------- */

/* By address: which CPUs read it, which wrote it. */
class Words
{
      public:
	struct Word {
		const void *address;
		u32 size;
		u8 readers, writers;
		bool is_common; /* as of the last freeze(): switches happen before accesses of it */
	};

	void clear()
	{
		std::fill(table_.begin(), table_.end(), Word{});
		common_.clear();
	}

	Word &at(const void *address)
	{
		u64 i = mix(0, u64(address)) % kSlots;

		while (table_[i].address && table_[i].address != address) {
			i = (i + 1) % kSlots;
		}
		table_[i].address = address;
		return table_[i];
	}

	/* True when there are more than before. */
	bool freeze()
	{
		u64 before = common_.size();

		common_.clear();
		for (Word &w : table_) {
			u32 cpus = u32(__builtin_popcount(w.readers | w.writers));

			w.is_common = w.address && w.writers && cpus >= 2;
			if (w.is_common) {
				common_.push_back(w);
			}
		}
		return common_.size() != before;
	}

	const std::vector<Word> &common() const
	{
		return common_;
	}

      private:
	static constexpr u64 kSlots = 4096; /* some ten times what a scenario touches */
	std::vector<Word> table_ = std::vector<Word>(kSlots);
	std::vector<Word> common_;
};

u64 value_at(const void *address, u32 size)
{
	u64 value = 0;

	std::memcpy(&value, address, size);
	return value;
}

/* ---- States that were explored --------------------------------------------------------------- */

/* The most preemptions that were left at a state when it was explored. */
class States
{
      public:
	void clear()
	{
		stamp_++;
		count_ = 0;
	}

	/* True when the state is new, or was not explored with that many. */
	bool visit(u64 key, int left)
	{
		if (count_ * 2 >= slots_.size()) {
			grow();
		}
		Slot &s = find(key);

		if (s.stamp == stamp_) {
			if (s.left >= left) {
				return false;
			}
			s.left = left;
			return true;
		}
		s = {key, stamp_, left};
		count_++;
		return true;
	}

	u64 count() const
	{
		return count_;
	}

      private:
	struct Slot {
		u64 key;
		u32 stamp;
		int left;
	};

	Slot &find(u64 key)
	{
		u64 i = key % slots_.size();

		while (slots_[i].stamp == stamp_ && slots_[i].key != key) {
			i = (i + 1) % slots_.size();
		}
		return slots_[i];
	}

	void grow()
	{
		std::vector<Slot> old(slots_.size() * 2);

		old.swap(slots_);
		for (const Slot &s : old) {
			if (s.stamp == stamp_) {
				find(s.key) = s;
			}
		}
	}

	std::vector<Slot> slots_ = std::vector<Slot>(1 << 14);
	u32 stamp_ = 1;
	u64 count_ = 0;
};

/* ---- CPUs ------------------------------------------------------------------------------------ */

/* Look: the judge is to look, and the same CPU goes on. Pause: as a step, but free. */
enum class Stop { Step, Look, Pause, Waits, Ended, Failed };

struct Read {
	const void *address;
	u32 size;
	u64 value;
};

struct Cpu {
	jmp_buf first, here; /* its first frame; where it stopped */
	char *stack;
	char *top, *pointer, *deepest; /* of the stack: at the first frame, now, ever in this run */
	bool is_started, is_ended, is_waiting;
	u64 digest; /* of all this, while it does not run; 0: not computed */
	u32 read_count;
	Read reads[kReadsMax]; /* since it last waited */
};

struct Choice {
	u8 taken;
	u8 left; /* bits: CPUs still to be tried here */
};

struct Turn {
	u32 cpu;
	u64 steps;
};

struct Engine {
	World *world;
	Bounds bounds;
	Cpu cpu[kCpusMax];
	jmp_buf scheduler, judge;
	bool is_judging; /* at the end, when the core runs again, without steps */
	u32 current;
	bool is_made, is_making;
	bool is_running; /* a CPU runs, so accesses are steps */
	bool is_dirty;	 /* something changed since the judge looked */
	Stop stop;

	Words words;
	States states;
	std::vector<Choice> path;
	u64 depth;     /* choices made in this order */
	int preempted; /* in this order */
	u64 steps;     /* of this order */
	std::vector<Turn> turns;

	bool is_replaying; /* `given` says who runs how long */
	std::vector<Turn> given;
	u64 given_next;
	std::vector<std::string> trace;

	std::string problem;
	Report report;
} engine;

char *stack_pointer()
{
	void *pointer;

#if defined(__x86_64__)
	__asm__ volatile("mov %%rsp, %0" : "=r"(pointer));
#elif defined(__aarch64__)
	__asm__ volatile("mov %0, sp" : "=r"(pointer));
#else
#error "how is the stack pointer read here?"
#endif
	return static_cast<char *>(pointer);
}

/* To the scheduler; returns when this CPU is chosen again. */
__attribute__((noinline)) void leave(Stop why)
{
	Cpu &c = engine.cpu[engine.current];

	engine.stop = why;
	engine.is_running = false;
	c.pointer = stack_pointer();
	c.deepest = std::min(c.deepest, c.pointer);
	if (_setjmp(c.here) == 0) {
		_longjmp(engine.scheduler, 1);
	}
}

/* The first frame of every coroutine. */
void coroutine()
{
	engine.cpu[engine.current].top = stack_pointer();
	_setjmp(engine.cpu[engine.current].first);
	if (engine.is_making) {
		engine.is_making = false;
		_longjmp(engine.scheduler, 1);
	}
	engine.world->run(engine.current);
	leave(Stop::Ended);
	std::abort();
}

__attribute__((noinline)) void make(u32 cpu)
{
	static ucontext_t context[kCpusMax];
	Cpu &c = engine.cpu[cpu];

	c.stack = static_cast<char *>(std::aligned_alloc(4096, kStack));
	engine.current = cpu;
	engine.is_making = true;
	getcontext(&context[cpu]);
	context[cpu].uc_stack.ss_sp = c.stack;
	context[cpu].uc_stack.ss_size = kStack;
	context[cpu].uc_link = nullptr;
	makecontext(&context[cpu], coroutine, 0);
	if (_setjmp(engine.scheduler) == 0) {
		setcontext(&context[cpu]);
	}
	c.deepest = c.stack;
}

/* Runs `cpu` until it leaves. */
__attribute__((noinline)) void resume(u32 cpu)
{
	Cpu &c = engine.cpu[cpu];
	jmp_buf &to = c.is_started ? c.here : c.first;

	engine.current = cpu;
	engine.world->become(cpu);
	c.is_started = true;
	c.is_waiting = false;
	c.digest = 0;
	engine.is_running = true;
	if (_setjmp(engine.scheduler) == 0) {
		_longjmp(to, 1);
	}
}

/* A wild access of the core's is a failure like any other. */
void on_signal(int number)
{
	if (!is_running()) {
		std::signal(number, SIG_DFL);
		std::raise(number);
		return;
	}
	fail(number == SIGSEGV ? "the core made a wild access (SIGSEGV)"
			       : "the core was ended by a signal");
}

void make_all()
{
	static char alternate[65536];
	stack_t stack = {};
	struct sigaction action = {};

	if (engine.is_made) {
		return;
	}
	engine.is_made = true;
	for (u32 i = 0; i < kCpusMax; i++) {
		make(i);
	}
	stack.ss_sp = alternate;
	stack.ss_size = sizeof(alternate);
	sigaltstack(&stack, nullptr);
	action.sa_handler = on_signal;
	action.sa_flags = SA_ONSTACK | SA_NODEFER;
	sigaction(SIGSEGV, &action, nullptr);
	sigaction(SIGBUS, &action, nullptr);
}

/* ---- One order ------------------------------------------------------------------------------- */

/* A CPU that waits goes on when something that it read has changed. */
bool can_go_on(const Cpu &c)
{
	if (c.is_ended) {
		return false;
	}
	for (u32 i = 0; c.is_waiting && i < c.read_count; i++) {
		if (value_at(c.reads[i].address, c.reads[i].size) != c.reads[i].value) {
			return true;
		}
	}
	return !c.is_waiting;
}

u8 able_cpus()
{
	u8 able = 0;

	for (u32 i = 0; i < engine.bounds.cpus; i++) {
		able |= u8(can_go_on(engine.cpu[i]) << i);
	}
	return able;
}

u64 digest_cpu(const Cpu &c)
{
	u64 hash = mix(1, u64(c.is_started) | u64(c.is_ended) << 1 | u64(c.is_waiting) << 2);
	if (c.is_started && !c.is_ended) {
		hash = mix_words(hash, c.pointer, u64(c.top - c.pointer));
		hash = mix_words(hash, &c.here[0].__jmpbuf, sizeof(c.here[0].__jmpbuf));
	}
	for (u32 i = 0; c.is_waiting && i < c.read_count; i++) {
		hash = mix(mix(hash, u64(c.reads[i].address)), c.reads[i].value);
	}
	return hash;
}

/* Of the whole state. Whose turn it was counts only where going on is cheaper than switching. */
u64 digest(bool is_free)
{
	bool turn_counts = !is_free && engine.bounds.preemptions < kUnbounded;
	u64 hash = mix(engine.world->digest(), turn_counts ? engine.current + 1 : 0);

	for (u32 i = 0; i < engine.bounds.cpus; i++) {
		Cpu &c = engine.cpu[i];

		c.digest = c.digest ? c.digest : digest_cpu(c);
		hash = mix(hash, c.digest);
	}
	for (const Words::Word &w : engine.words.common()) {
		hash = mix(hash, value_at(w.address, w.size));
	}
	return hash;
}

void reset_cpus()
{
	for (u32 i = 0; i < kCpusMax; i++) {
		Cpu &c = engine.cpu[i];
		char *from = std::max(c.stack, c.deepest - kStackSlack);

		/* What is left there would make equal states differ. */
		std::memset(from, 0, u64(c.top - from));
		c.deepest = c.pointer = c.top;
		c.is_started = c.is_waiting = false;
		c.is_ended = i >= engine.bounds.cpus;
		c.digest = 0;
		c.read_count = 0;
	}
}

void count_turn(u32 cpu)
{
	if (engine.turns.empty() || engine.turns.back().cpu != cpu) {
		engine.turns.push_back({cpu, 0});
	}
}

u32 lowest(u8 cpus)
{
	return u32(__builtin_ctz(cpus));
}

/* Follows the path as far as it goes, then extends it. False: this state was explored already. */
bool choose(u8 able, bool is_free, u32 *next)
{
	u32 favourite = able >> engine.current & 1 ? engine.current : lowest(able);
	int left = engine.bounds.preemptions - engine.preempted;

	*next = favourite;
	if ((able & (able - 1)) == 0) {
		return true;
	}
	if (engine.depth == engine.path.size()) {
		if (!engine.states.visit(digest(is_free), left)) {
			return false;
		}
		if (!is_free && left == 0) {
			return true;
		}
		engine.path.push_back({u8(favourite), u8(able & ~(1u << favourite))});
	} else if (!is_free && left == 0) {
		return true;
	}
	*next = engine.path[engine.depth++].taken;
	if (!is_free && *next != engine.current && engine.bounds.preemptions < kUnbounded) {
		engine.preempted++;
	}
	return true;
}

u32 choose_given(u8 able)
{
	if (engine.given_next < engine.given.size()) {
		return engine.given[engine.given_next].cpu;
	}
	return able >> engine.current & 1 ? engine.current : lowest(able);
}

void judge_if_due()
{
	const char *wrong;

	/* Up to the last branch everything is as it was the time before. */
	if (!engine.is_dirty || (!engine.is_replaying && engine.depth < engine.path.size())) {
		return;
	}
	engine.is_dirty = false;
	wrong = engine.world->judge();
	if (wrong) {
		engine.problem = wrong;
	}
}

/* What CPUs wait for, for a message. */
std::string deadlock()
{
	std::string text = "deadlock: no CPU can go on;";

	for (u32 i = 0; i < engine.bounds.cpus; i++) {
		const Cpu &c = engine.cpu[i];

		if (!c.is_ended && c.read_count > 0) {
			text += " CPU " + std::to_string(i) + " last read " +
				engine.world->name_of(c.reads[c.read_count - 1].address) + ";";
		}
	}
	return text;
}

/* The core takes the machine apart; what it finds wrong then is a failure like any other. */
__attribute__((noinline)) void judge_end()
{
	if (_setjmp(engine.judge) == 0) {
		engine.is_judging = true;
		const char *wrong = engine.world->judge_end();

		engine.problem = wrong ? wrong : "";
	}
	engine.is_judging = false;
}

/* True: run on; false: this order is over. */
bool decide(bool is_free, u32 *next)
{
	u8 able = able_cpus();
	bool all_ended = true;

	for (u32 i = 0; i < engine.bounds.cpus; i++) {
		all_ended &= engine.cpu[i].is_ended;
	}
	if (all_ended) {
		engine.report.ends++;
		judge_end();
		return false;
	}
	if (able == 0) {
		engine.problem = deadlock();
		return false;
	}
	if (engine.is_replaying) {
		*next = choose_given(able);
		return true;
	}
	return choose(able, is_free || !(able >> engine.current & 1), next);
}

void run_order()
{
	bool is_free = true; /* to switch costs nothing here */
	u32 next = 0;

	engine.world->reset();
	reset_cpus();
	engine.depth = engine.steps = engine.given_next = 0;
	engine.preempted = 0;
	engine.turns.clear();
	engine.problem.clear();
	engine.is_dirty = true;
	engine.current = 0;
	engine.stop = Stop::Step;
	for (;;) {
		judge_if_due();
		if (!engine.problem.empty()) {
			break;
		}
		if (engine.stop != Stop::Look && !decide(is_free, &next)) {
			break;
		}
		count_turn(next);
		resume(next);
		engine.cpu[next].is_ended = engine.stop == Stop::Ended;
		engine.cpu[next].is_waiting = engine.stop == Stop::Waits;
		if (engine.stop == Stop::Failed) {
			break;
		}
		is_free = engine.stop != Stop::Step;
		if (engine.stop == Stop::Ended) {
			/* One more than it made, which tells this from stopping before the last. */
			engine.turns.back().steps++;
			engine.given_next++;
		}
	}
	engine.report.schedules++;
	engine.report.steps += engine.steps;
}

/* ---- The search ------------------------------------------------------------------------------ */

/* To the next branch that was not taken; false: there is none. */
bool next_path()
{
	std::vector<Choice> &path = engine.path;

	while (!path.empty() && path.back().left == 0) {
		path.pop_back();
	}
	if (path.empty()) {
		return false;
	}
	path.back().taken = u8(lowest(path.back().left));
	path.back().left &= u8(path.back().left - 1);
	return true;
}

std::string schedule_text()
{
	std::string text;

	for (const Turn &turn : engine.turns) {
		text += (text.empty() ? "" : " ") + std::to_string(turn.cpu) + ":" +
			std::to_string(turn.steps);
	}
	return text;
}

/* True when all orders were run and nothing was wrong. */
bool search()
{
	engine.states.clear();
	engine.path.clear();
	engine.report = {};
	do {
		if (engine.report.schedules >= engine.bounds.schedules_max) {
			engine.report.is_cut = true;
			break;
		}
		run_order();
	} while (engine.problem.empty() && next_path());
	engine.report.problem = engine.problem;
	engine.report.states = engine.states.count();
	engine.report.words = engine.words.common().size();
	return engine.problem.empty() && !engine.report.is_cut;
}

void start(World &world, u32 cpus)
{
	make_all();
	engine.world = &world;
	engine.bounds.cpus = cpus;
}

std::string trace_text()
{
	constexpr u64 kLines = 60;
	u64 from = engine.trace.size() > kLines ? engine.trace.size() - kLines : 0;
	std::string text = from ? "  ...\n" : "";

	for (u64 i = from; i < engine.trace.size(); i++) {
		text += "  " + engine.trace[i] + "\n";
	}
	return text;
}

} // namespace

Report explore(World &world, const Bounds &bounds)
{
	start(world, bounds.cpus);
	engine.bounds = bounds;
	engine.words.clear();
	engine.words.freeze();
	/* Few preemptions find most of the words that are common, and fast. */
	for (int preemptions : {std::min(1, bounds.preemptions), bounds.preemptions}) {
		engine.bounds.preemptions = preemptions;
		while (search() && engine.words.freeze()) {
		}
		if (!engine.report.problem.empty()) {
			break;
		}
	}
	Report report = engine.report;

	if (!report.problem.empty()) {
		report.schedule = schedule_text();
		report.trace = replay(world, bounds.cpus, report.schedule).trace;
	}
	return report;
}

Report replay(World &world, u32 cpus, const std::string &schedule)
{
	std::istringstream text(schedule);
	Turn turn;
	char colon;

	start(world, cpus);
	engine.given.clear();
	while (text >> turn.cpu >> colon >> turn.steps) {
		engine.given.push_back(turn);
	}
	engine.report = {};
	engine.trace.clear();
	engine.is_replaying = true;
	run_order();
	engine.is_replaying = false;
	engine.report.problem = engine.problem;
	engine.report.schedule = schedule_text();
	engine.report.trace = trace_text();
	return engine.report;
}

/* ---- Steps ----------------------------------------------------------------------------------- */

namespace
{

/* Counts a step of this CPU; true when a given order says that its turn ends here. */
bool take_step()
{
	if (++engine.steps > kStepsMax) {
		fail("no end: too many steps");
	}
	engine.turns.back().steps++;
	if (!engine.is_replaying || engine.given_next >= engine.given.size() ||
	    engine.turns.back().steps < engine.given[engine.given_next].steps) {
		return false;
	}
	engine.given_next++;
	return true;
}

/* May another CPU do something here that makes a difference? */
bool is_common(const void *address)
{
	const void *life = engine.world->life_of(address);

	return engine.words.at(address).is_common || (life && engine.words.at(life).is_common);
}

bool judge_is_due()
{
	return engine.is_dirty && (engine.is_replaying || engine.depth == engine.path.size());
}

void note(const std::string &what)
{
	if (engine.is_replaying) {
		engine.trace.push_back("CPU " + std::to_string(engine.current) + "  " + what);
	}
}

} // namespace

bool plain_read(const void *address)
{
	return engine.is_running && engine.world->is_table(address) && before_access(address);
}

bool before_access(const void *address)
{
	if (!engine.is_running || engine.world->is_counter(address)) {
		return false;
	}
	bool ends = take_step();
	const char *wrong;

	if (engine.is_replaying ? ends || engine.is_dirty : is_common(address)) {
		leave(Stop::Step);
	} else if (judge_is_due()) {
		leave(Stop::Look);
	}
	wrong = engine.world->forbids(engine.current, address);
	if (wrong) {
		fail(wrong);
	}
	return true;
}

void after_access(const void *address, u32 size, u64 value, bool wrote)
{
	Cpu &c = engine.cpu[engine.current];
	Words::Word &w = engine.words.at(address);
	const void *life = engine.world->life_of(address);

	w.size = size;
	(wrote ? w.writers : w.readers) |= u8(1u << engine.current);
	if (life) {
		Words::Word &l = engine.words.at(life);

		l.size = l.size ? l.size : 8;
		l.readers |= u8(1u << engine.current);
	}
	if (engine.is_replaying) {
		char text[40];

		std::snprintf(text, sizeof(text), "%s 0x%llx", wrote ? "<-" : "is",
			      (unsigned long long)value);
		note(engine.world->name_of(address) + " " + text);
	}
	if (!wrote) {
		if (c.read_count < kReadsMax) {
			c.reads[c.read_count++] = {address, size, value};
		}
		return;
	}
	engine.is_dirty |= engine.world->is_judged(address);
	/* What it wrote itself is nothing that it waits for. */
	for (u32 i = 0; i < c.read_count; i++) {
		if (c.reads[i].address == address) {
			c.reads[i].value = value;
		}
	}
}

void step(const char *what)
{
	if (!engine.is_running) {
		return;
	}
	take_step();
	leave(Stop::Step);
	note(what);
}

void pause(const char *what)
{
	if (!engine.is_running) {
		return;
	}
	take_step();
	leave(Stop::Pause);
	note(what);
}

void hardware_wrote(const void *address, u32 size)
{
	after_access(address, size, value_at(address, size), true);
}

void relax()
{
	Cpu &c = engine.cpu[engine.current];

	if (engine.is_judging) {
		fail("the end waits for ever");
	}
	take_step();
	note("waits");
	leave(Stop::Waits);
	c.read_count = 0;
}

void fail(const char *text)
{
	engine.problem = text;
	if (engine.is_judging) {
		_longjmp(engine.judge, 1);
	}
	leave(Stop::Failed);
	std::abort();
}

bool is_running()
{
	return engine.is_running || engine.is_judging;
}

void touched()
{
	engine.is_dirty = true;
}

} // namespace steps

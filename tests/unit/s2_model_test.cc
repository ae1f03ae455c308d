// Sequences of random operations on the real core, judged after every step by models that know
// nothing of it. A failure prints its seed and the shortest sequence that was found to show it.
//
//     S2_MODEL_OPS=n       operations of each format (default 5,000)
//     S2_MODEL_SEED=n      another beginning
//     S2_MODEL_SECONDS=n   so long in all, however many operations, with seeds from the clock
#include "s2_model_machine.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include "../../arch/x86_64/s2_ept.h"
#include "../../arch/x86_64/s2_npt.h"
}

namespace
{

using namespace s2_model;
using Clock = std::chrono::steady_clock;

constexpr u64 kSequence = 1000; // operations on one space
constexpr auto kShrinkTime = std::chrono::seconds(30);
constexpr auto kTellEvery = std::chrono::seconds(10);
constexpr unsigned kHangSeconds = 60;

u64 from_environment(const char *name, u64 otherwise)
{
	const char *value = std::getenv(name);

	return value ? std::strtoull(value, nullptr, 0) : otherwise;
}

// Most are small; tables full of pages as often as it takes to have them, whatever their size.
u64 random_pages(std::mt19937_64 &random, u64 entries)
{
	u64 die = random() % 32;

	if (die == 0 && random() % (entries / 64) == 0) {
		return 0;
	}
	if (die <= 2 && random() % (entries / 512) == 0) {
		return entries;
	}
	if (die == 3 && random() % (entries / 512) == 0) {
		return 1 + random() % (2 * entries);
	}
	return die <= 6 ? 1 + random() % 64 : 1 + random() % 5;
}

struct Weight {
	Kind kind;
	unsigned weight;
};

constexpr Weight kWeights[] = {
	{MAP, 14},     {MAP_SKIP, 6}, {MAP_UPGRADE, 4}, {MAP_LIST, 4}, {MAP_SHARED, 3},
	{FAULT, 12},   {UNMAP, 16},   {PROTECT, 6},	{SPLIT, 4},    {SPLIT_RANGE, 3},
	{COLLAPSE, 6}, {CLOSE, 8},    {HARVEST, 6},	{MARK, 4},     {VALIDATE, 3},
	{DUMP, 2},     {ACCESS, 24},  {HINT, 8},	{UNHINT, 2},
};

Kind random_kind(std::mt19937_64 &random)
{
	unsigned sum = 0, die;

	for (const Weight &w : kWeights) {
		sum += w.weight;
	}
	die = random() % sum;
	for (const Weight &w : kWeights) {
		if (die < w.weight) {
			return w.kind;
		}
		die -= w.weight;
	}
	return CLOSE;
}

Op random_op(std::mt19937_64 &random, u64 seed, u64 entries)
{
	Op op = {};

	op.kind = random_kind(random);
	op.area = (random() % 2 ? seed : seed / kAreas) % kAreas; // two a sequence
	op.pages = random_pages(random, entries);
	op.page = random() % (2 * entries);
	if (random() % 3 == 0) {
		op.page &= ~(entries - 1); // where large leaves can be
	} else if (random() % 2 == 0) {
		op.page = (op.page & ~(entries - 1)) + random() % 8; // where things meet
	}
	op.pick = random();
	if (random() % 4 != 0) {
		op.pick &= ~BIT(PICK_LATER);
	}
	if (op.kind == UNMAP && random() % 3 == 0) {
		op.pages = 2 * entries; // so that sequences do not fill up
		op.page = 0;
	}
	if ((op.kind == COLLAPSE || (op.kind == HARVEST && random() % 2)) && op.pages != 0) {
		op.pages = std::max(op.pages, entries);
		op.page &= ~(entries - 1);
	}
	if ((op.kind == HINT || op.kind == UNHINT) && op.pages != 0 && random() % 2) {
		op.pages = std::max(op.pages, entries / 8); // some whole groups
		op.page &= ~(entries / 8 - 1);
	}
	op.left = random() % 12 == 0 ? int(random() % 4) : -1;
	return op;
}

std::vector<Op> random_sequence(const Shape &shape, u64 seed, u64 length)
{
	std::mt19937_64 random(seed);
	std::vector<Op> ops;

	while (ops.size() < length) {
		ops.push_back(random_op(random, seed, s2_table_entries(shape.format)));
	}
	return ops;
}

void machine_ended(int)
{
	throw Wrong(std::string("Lamina panicked: ") + fake_uart_output());
}

// "" or what is wrong first.
std::string judge(const Shape &shape, const std::vector<Op> &ops)
{
	std::string verdict;

	fake_uart_clear();
	fake_machine_end = machine_ended;
	try {
		Machine machine(shape);

		for (const Op &op : ops) {
			machine.run(op);
		}
		machine.finish();
	} catch (const Wrong &wrong) {
		verdict = wrong.what();
	}
	fake_machine_end = nullptr;
	return verdict;
}

// The same in a process of its own: what crashes, hangs or panics (which happens once) can be
// judged again and again.
std::string judge_apart(const Shape &shape, const std::vector<Op> &ops)
{
	std::string verdict;
	char text[512];
	int ends[2], status;
	ssize_t size;

	if (pipe(ends) != 0) {
		return "no pipe";
	}
	pid_t child = fork();

	if (child == 0) {
		alarm(kHangSeconds);
		verdict = judge(shape, ops);
		_exit(write(ends[1], verdict.data(), verdict.size()) < 0);
	}
	close(ends[1]);
	while ((size = read(ends[0], text, sizeof(text))) > 0) {
		verdict.append(text, (size_t)size);
	}
	close(ends[0]);
	waitpid(child, &status, 0);
	if (WIFSIGNALED(status)) {
		verdict = std::string("ended by: ") + strsignal(WTERMSIG(status));
	}
	return verdict;
}

// Leaves out ever smaller parts of the sequence for as long as it still fails.
std::vector<Op> shrink(const Shape &shape, std::vector<Op> ops)
{
	auto end = Clock::now() + kShrinkTime;

	for (size_t part = ops.size() / 2; part > 0; part /= 2) {
		for (size_t at = 0; at < ops.size() && Clock::now() < end;) {
			std::vector<Op> fewer = ops;
			size_t count = std::min(part, ops.size() - at);

			fewer.erase(fewer.begin() + at, fewer.begin() + at + count);
			if (judge_apart(shape, fewer).empty()) {
				at += part;
			} else {
				ops = fewer;
			}
		}
	}
	return ops;
}

std::string report(const Shape &shape, u64 seed, const std::vector<Op> &ops,
		   const std::string &verdict)
{
	std::vector<Op> few = shrink(shape, ops);
	std::ostringstream out;

	out << "S2_MODEL_SEED=" << seed << ", " << text(shape) << ": " << verdict
	    << "\nand of these few operations: " << judge_apart(shape, few) << "\n";
	for (const Op &op : few) {
		out << "\t" << text(op) << ",\n";
	}
	return out.str();
}

struct Flavour {
	const char *name;
	const struct s2_format *format;
};

const Flavour kFlavours[] = {
	{"armv8_4k", &s2_armv8_4k},
	{"armv8_4k_xnx", &s2_armv8_4k_xnx},
	{"armv8_4k_fwb", &s2_armv8_4k_fwb},
	{"armv8_16k", &s2_armv8_16k},
	{"armv8_64k", &s2_armv8_64k},
	{"armv8_4k_lpa2", &s2_armv8_4k_lpa2},
	{"armv8_16k_lpa2", &s2_armv8_16k_lpa2},
	{"armv8_64k_lpa", &s2_armv8_64k_lpa},
	{"ept", &s2_ept},
	{"ept_mbec", &s2_ept_mbec},
	{"ept5", &s2_ept5},
	{"ept_software", &s2_ept_software},
	{"npt", &s2_npt},
	{"npt5", &s2_npt5},
};

// "" or a report.
std::string one_sequence(const Flavour &flavour, u64 seed)
{
	Shape shape = shape_of(flavour.format, seed);
	std::vector<Op> sequence = random_sequence(shape, seed, kSequence);

	std::string verdict = judge_apart(shape, sequence);

	return verdict.empty() ? "" : report(shape, seed, sequence, verdict);
}

class S2Model : public ::testing::TestWithParam<Flavour>
{
};

INSTANTIATE_TEST_SUITE_P(formats, S2Model, ::testing::ValuesIn(kFlavours),
			 [](const auto &info) { return info.param.name; });

// How long each format goes on, and from which seed.
struct Plan {
	u64 ops = from_environment("S2_MODEL_OPS", 5000);
	u64 seed = from_environment("S2_MODEL_SEED", 1);
	std::chrono::duration<double> time{0};
};

Plan plan()
{
	u64 seconds = from_environment("S2_MODEL_SECONDS", 0);
	Plan plan;

	if (seconds > 0) {
		u64 now = (u64)std::chrono::system_clock::now().time_since_epoch().count();

		plan.ops = 0;
		plan.seed = from_environment("S2_MODEL_SEED", now / 1000 * 1000);
		plan.time = std::chrono::duration<double>(seconds) / ARRAY_COUNT(kFlavours);
		std::printf("seeds from %llu on\n", (unsigned long long)plan.seed);
	}
	return plan;
}

TEST_P(S2Model, random_operations_leave_what_the_reference_says)
{
	Plan p = plan();
	auto start = Clock::now(), told = start;

	for (u64 done = 0; done < p.ops || Clock::now() - start < p.time; done += kSequence) {
		std::string verdict = one_sequence(GetParam(), p.seed + done / kSequence);

		if (!verdict.empty()) {
			FAIL() << verdict;
		}
		if (Clock::now() - told > kTellEvery) {
			told = Clock::now();
			std::printf("%llu operations\n", (unsigned long long)(done + kSequence));
			std::fflush(stdout);
		}
	}
}

// Without an unmapped page beside it, so that nothing else invalidates the way to it.
TEST_P(S2Model, the_way_to_a_table_without_pages_is_forgotten_too)
{
	Op fault = {FAULT, 2, 5, 1, 0, 1}; // one table of two that it needs
	Op unmap = {UNMAP, 2, 5, 1, BIT(PICK_BUDGET + 2), -1};

	for (u64 seed = 0; seed < 8; seed++) {
		EXPECT_EQ(judge(shape_of(GetParam().format, seed), {fault, unmap}), "");
	}
}

} // namespace

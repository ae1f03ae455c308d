// Sequences of random operations on the real core, judged after every step by models that know
// nothing of it. A failure prints its seed and the shortest sequence that was found to show it.
//
//     S2_MODEL_OPS=n    operations in all (default 200,000)      S2_MODEL_SEED=n    another
//     beginning
#include "s2_model_machine.h"

#include <chrono>
#include <cstdlib>

namespace
{

using namespace s2_model;

constexpr u64 kSequence = 1000; // operations on one space
constexpr auto kShrinkTime = std::chrono::seconds(30);

u64 from_environment(const char *name, u64 otherwise)
{
	const char *value = std::getenv(name);

	return value ? std::strtoull(value, nullptr, 0) : otherwise;
}

u64 random_pages(std::mt19937_64 &random)
{
	switch (random() % 24) {
	case 0:
	case 1:
		return 512;
	case 2:
		return 1 + random() % kAreaPages;
	case 3:
	case 4:
	case 5:
		return 1 + random() % 64;
	default:
		return 1 + random() % 5;
	}
}

Op random_op(std::mt19937_64 &random, u64 seed)
{
	static const Kind kinds[] = {MAP,   MAP,      MAP,	   MAP_SKIP, FAULT, FAULT, FAULT,
				     UNMAP, UNMAP,    UNMAP,	   UNMAP,    SPLIT, AGE,   AGE,
				     MARK,  VALIDATE, UNMAP_LATER, CLOSE,    CLOSE, DUMP};
	Op op = {};

	op.kind = kinds[random() % ARRAY_COUNT(kinds)];
	op.area = (random() % 2 ? seed : seed / kAreas) % kAreas; // two a sequence
	op.pages = random_pages(random);
	op.page = random() % kAreaPages;
	if (random() % 3 == 0) {
		op.page &= ~511ull; // where large leaves can be
	} else if (random() % 2 == 0) {
		op.page = (op.page & ~511ull) + random() % 8; // where things meet
	}
	if (op.kind == UNMAP && random() % 2 == 0) {
		op.pages = kAreaPages; // so that sequences do not fill up
		op.page = 0;
	}
	op.pick = random();
	op.left = random() % 12 == 0 ? int(random() % 4) : -1;
	return op;
}

std::vector<Op> random_sequence(u64 seed, u64 length)
{
	std::mt19937_64 random(seed);
	std::vector<Op> ops;

	while (ops.size() < length) {
		ops.push_back(random_op(random, seed));
	}
	return ops;
}

Shape shape_of(const struct s2_format *format, bool hardware_access, u64 seed)
{
	static const unsigned ipa_bits[] = {40, 32, 34, 36, 43, 44, 48, 40};

	return {format, hardware_access, (seed & 1) != 0, (seed & 2) != 0,
		ipa_bits[(seed >> 2) % 8]};
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

		for (size_t i = 0; i < ops.size(); i++) {
			machine.run(ops[i]);
			machine.access(ops[i].area, ops[i].page + ops[i].pick % ops[i].pages,
				       ops[i].pick >> 3);
			machine.access(ops[i].area, ops[i].page, ops[i].pick >> 7);
			if (i % 50 == 0) {
				machine.judge_all();
			}
		}
		machine.finish();
	} catch (const Wrong &wrong) {
		verdict = wrong.what();
	}
	fake_machine_end = nullptr;
	return verdict;
}

// Leaves out ever smaller parts of the sequence for as long as it still fails.
std::vector<Op> shrink(const Shape &shape, std::vector<Op> ops)
{
	auto end = std::chrono::steady_clock::now() + kShrinkTime;

	for (size_t part = ops.size() / 2; part > 0; part /= 2) {
		for (size_t at = 0; at < ops.size() && std::chrono::steady_clock::now() < end;) {
			std::vector<Op> fewer = ops;
			size_t count = std::min(part, ops.size() - at);

			fewer.erase(fewer.begin() + at, fewer.begin() + at + count);
			if (judge(shape, fewer).empty()) {
				at += part;
			} else {
				ops = fewer;
			}
		}
	}
	return ops;
}

std::string report(const Shape &shape, u64 seed, const std::vector<Op> &ops)
{
	std::vector<Op> few = shrink(shape, ops);
	std::ostringstream out;

	out << "S2_MODEL_SEED=" << seed << ", ipa_bits " << shape.ipa_bits << ", by_range "
	    << shape.by_range << ", ttl " << shape.ttl << ": " << judge(shape, few) << "\n";
	for (const Op &op : few) {
		out << "\t" << text(op) << ",\n";
	}
	return out.str();
}

struct Flavour {
	const char *name;
	const struct s2_format *format;
	bool hardware_access;
};

class S2Model : public ::testing::TestWithParam<Flavour>
{
};

INSTANTIATE_TEST_SUITE_P(formats, S2Model,
			 ::testing::Values(Flavour{"armv8", &s2_armv8_4k, false},
					   Flavour{"armv8_access_flag", &s2_armv8_4k, true},
					   Flavour{"armv8_fwb", &s2_armv8_4k_fwb, false},
					   Flavour{"armv8_fwb_access_flag", &s2_armv8_4k_fwb,
						   true}),
			 [](const auto &info) { return info.param.name; });

TEST_P(S2Model, random_operations_leave_what_the_reference_says)
{
	u64 ops = from_environment("S2_MODEL_OPS", 200000) / 4;
	u64 seed = from_environment("S2_MODEL_SEED", 1);

	for (u64 done = 0; done < ops; done += kSequence, seed++) {
		Shape shape = shape_of(GetParam().format, GetParam().hardware_access, seed);
		std::vector<Op> sequence = random_sequence(seed, kSequence);

		if (!judge(shape, sequence).empty()) {
			FAIL() << report(shape, seed, sequence);
		}
	}
}

// Without an unmapped page beside it, so that nothing else invalidates the way to it.
TEST_P(S2Model, the_way_to_a_table_without_pages_is_forgotten_too)
{
	Op fault = {FAULT, 2, 5, 1, 0, 1}; // one table of two that it needs
	Op unmap = {UNMAP, 2, 5, 1, 0, -1};

	for (u64 seed = 0; seed < 4; seed++) {
		Shape shape = {GetParam().format, GetParam().hardware_access, (seed & 1) != 0,
			       (seed & 2) != 0, 40};

		EXPECT_EQ(judge(shape, {fault, unmap}), "");
	}
}

} // namespace

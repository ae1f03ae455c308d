// All orders of two and three CPUs on one block; see explorer.h for what "all" means.
//
// STEPS_PREEMPTIONS=n     explores that many preemptions instead of those stated here
// STEPS_SCENARIO=name     explores this scenario alone, and with
// STEPS_SCHEDULE=order    runs one order of it: both as a failure prints them
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "operations.h"

using namespace steps;

namespace
{

std::string environment(const char *name)
{
	const char *value = std::getenv(name);

	return value ? value : "";
}

int preemptions(int stated)
{
	std::string asked = environment("STEPS_PREEMPTIONS");

	return asked.empty() ? stated : std::atoi(asked.c_str());
}

std::string describe(const std::string &name, const Report &report)
{
	return name + ": " + report.problem + "\nSTEPS_SCENARIO=" + name + " STEPS_SCHEDULE='" +
	       report.schedule + "'\n" + report.trace;
}

struct Total {
	u64 scenarios = 0, schedules = 0, ends = 0, states = 0, steps = 0, most = 0;
	std::string largest;

	void add(const std::string &name, const Report &r)
	{
		scenarios++;
		schedules += r.schedules;
		ends += r.ends;
		states += r.states;
		steps += r.steps;
		if (r.schedules > most) {
			most = r.schedules;
			largest = name;
		}
	}

	void print(const std::string &what) const
	{
		std::cout << what << ": " << scenarios << " scenarios, " << schedules
			  << " schedules (" << ends << " to their ends), " << states << " states, "
			  << steps << " steps; the largest: " << largest << ", " << most << "\n";
	}
};

void explore_one(Scenario &scenario, int preemptions, Total &total)
{
	std::string only = environment("STEPS_SCENARIO"), order = environment("STEPS_SCHEDULE");

	if (!only.empty() && only != scenario.name()) {
		return;
	}
	if (!order.empty()) {
		Report report = replay(scenario, scenario.cpus(), order);

		FAIL() << describe(scenario.name(), report);
	}
	Bounds bounds;

	bounds.cpus = scenario.cpus();
	bounds.preemptions = preemptions;
	Report report = explore(scenario, bounds);

	total.add(scenario.name(), report);
	EXPECT_TRUE(report.problem.empty()) << describe(scenario.name(), report);
	EXPECT_FALSE(report.is_cut) << scenario.name() << " is too large to explore";
}

using Program = std::vector<Operation>;
using Place = std::tuple<Kind, Start>;

class S2Steps : public ::testing::TestWithParam<Place>
{
      protected:
	void explore_pairs()
	{
		const auto &o = operations();

		for (u64 a = 0; a < o.size(); a++) {
			for (u64 b = a; b < o.size(); b++) {
				explore_program({o[a], o[b]}, kUnbounded);
			}
		}
	}

	void explore_threes()
	{
		const auto &o = operations();

		for (u64 a = 0; a < o.size(); a++) {
			for (u64 b = a; b < o.size(); b++) {
				for (u64 c = b; c < o.size(); c++) {
					explore_program({o[a], o[b], o[c]},
							std::min({o[a].of_three, o[b].of_three,
								  o[c].of_three}));
				}
			}
		}
	}

	// The first failure is enough: others are mostly the same one.
	void explore_program(const Program &program, int stated)
	{
		auto [kind, start] = GetParam();
		Scenario scenario(kind, start, program);

		if (stated >= 0 && scenario.is_sensible() && !HasFailure()) {
			explore_one(scenario, preemptions(stated), total);
		}
	}

	// A scheduler that explores nothing finds nothing.
	void expect_plausible(u64 scenarios)
	{
		auto [kind, start] = GetParam();

		total.print(std::string(kind.name) + "/" + start_name(start));
		if (!HasFailure() && environment("STEPS_SCENARIO").empty() &&
		    environment("STEPS_PREEMPTIONS").empty()) {
			EXPECT_GE(total.scenarios, scenarios);
			EXPECT_GT(total.schedules, 100 * total.scenarios);
			EXPECT_GT(total.ends, 20 * total.scenarios);
		}
	}

	Total total;
};

TEST_P(S2Steps, two_cpus_keep_every_promise_in_every_order)
{
	explore_pairs();
	expect_plausible(25);
}

TEST_P(S2Steps, three_cpus_keep_every_promise_in_every_order_of_few_preemptions)
{
	explore_threes();
	expect_plausible(20);
}

// The judge is not blind, and an order that is printed runs again.
TEST(Steps, an_operation_that_breaks_a_promise_is_found_and_its_order_replays)
{
	for (const WrongOperation &wrong : wrong_operations()) {
		for (const Kind &kind : kKinds) {
			Scenario scenario(kind, Start::Block,
					  {wrong.operation, operation(wrong.beside)});
			Report report = explore(scenario, {2, 2});

			EXPECT_EQ(report.problem.find(wrong.found_as), 0u)
				<< describe(scenario.name(), report);
			EXPECT_EQ(replay(scenario, 2, report.schedule).problem, report.problem);
			EXPECT_FALSE(report.trace.empty());
		}
	}
}

std::string place_name(const ::testing::TestParamInfo<Place> &info)
{
	return std::string(std::get<0>(info.param).name) + "_" +
	       start_name(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(places, S2Steps,
			 ::testing::Combine(::testing::Values(kKinds[0], kKinds[1]),
					    ::testing::ValuesIn(kStarts)),
			 place_name);
// What is different there begins with a block.
INSTANTIATE_TEST_SUITE_P(without_break, S2Steps,
			 ::testing::Combine(::testing::Values(kKinds[2]),
					    ::testing::Values(Start::Block)),
			 place_name);

} // namespace

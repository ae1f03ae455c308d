// A view's rules, beside an array that says of each page what is allowed.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

extern "C" {
#include "hyp/addr.h"
#include "hyp/s2_rules.h"
}

namespace
{

constexpr u64 kWords = 16, kPages = 64, kLimit = kPages * PAGE_SIZE;

// What the rules have to be when nothing is said twice.
u64 steps_in(const std::vector<u8> &allowed)
{
	u64 steps = 1;

	for (size_t i = 1; i < allowed.size(); i++) {
		steps += allowed[i] != allowed[i - 1];
	}
	return steps;
}

void expect_same(const std::vector<u64> &rules, const std::vector<u8> &allowed)
{
	for (u64 page = 0; page < kPages; page++) {
		s2_rule rule = s2_rule_at(rules.data(), kWords, page * PAGE_SIZE + page % 7);

		ASSERT_EQ(rule.perm, allowed[page]) << "page " << page;
		ASSERT_LE(rule.start, page * PAGE_SIZE);
		ASSERT_GT(rule.end, page * PAGE_SIZE);
		for (u64 at = rule.start; at < rule.end && at < kLimit; at += PAGE_SIZE) {
			ASSERT_EQ(allowed[at / PAGE_SIZE], rule.perm) << "page " << page;
		}
	}
}

TEST(S2Rules, say_of_each_page_what_was_said_last)
{
	std::mt19937 random(1);
	std::vector<u64> rules(kWords), next(kWords);
	std::vector<u8> allowed(kPages, 3);
	unsigned refused = 0;

	s2_rules_begin(rules.data(), kWords, 3);
	for (int i = 0; i < 20000; i++) {
		u64 start = random() % kPages, end = std::min(start + 1 + random() % 6, kPages);
		s2_rule change = {start * PAGE_SIZE, end * PAGE_SIZE, u8(random() % 3)};
		std::vector<u8> wanted = allowed;

		std::fill(wanted.begin() + long(start), wanted.begin() + long(end), change.perm);
		// Word 0 is nobody's, so one rule less than there are words.
		bool fits = steps_in(wanted) < kWords;
		ASSERT_EQ(s2_rules_change(next.data(), rules.data(), kWords, &change, kLimit),
			  fits);
		refused += !fits;
		if (fits) {
			rules.swap(next);
			allowed = wanted;
		}
		expect_same(rules, allowed);
		if (HasFatalFailure()) {
			return;
		}
	}
	EXPECT_GT(refused, 100u);
}

TEST(S2Rules, one_rule_is_for_all_addresses)
{
	std::vector<u64> rules(kWords);

	s2_rules_begin(rules.data(), kWords, 5);
	EXPECT_EQ(s2_rule_at(rules.data(), kWords, 0).perm, 5);
	EXPECT_EQ(s2_rule_at(rules.data(), kWords, BIT(52) - 1).perm, 5);
	EXPECT_EQ(s2_rule_at(rules.data(), kWords, 0).start, 0u);
	EXPECT_GE(s2_rule_at(rules.data(), kWords, 0).end, BIT(52));
}

} // namespace

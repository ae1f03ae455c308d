/*
 * What a view allows where: a step function in one page.
 *
 * Sorted words, each a page's address with the permissions from there on. Word 0 is free for who
 * gives the page back (see s2_batch_note_table()); what is behind the last rule is END, and sorts
 * behind all.
 */
#include "hyp/s2_rules.h"

#define RULE_PERM BITS(3, 0)
#define RULE_AT (~BITS(11, 0))
#define END (~0ull)

static void end_rules(u64 *rules, u64 from, u64 words)
{
	while (from < words) {
		rules[from++] = END;
	}
}

void s2_rules_begin(u64 *rules, u64 words, u8 perm)
{
	rules[1] = perm;
	end_rules(rules, 2, words);
}

struct s2_rule s2_rule_at(const u64 *rules, u64 words, u64 at)
{
	u64 low = 1, high = words;

	while (high - low > 1) {
		u64 middle = low + (high - low) / 2;

		if ((rules[middle] & RULE_AT) <= at) {
			low = middle;
		} else {
			high = middle;
		}
	}
	return (struct s2_rule){
		.start = rules[low] & RULE_AT,
		.end = low + 1 < words ? rules[low + 1] & RULE_AT : END,
		.perm = rules[low] & RULE_PERM,
	};
}

bool s2_rules_change(u64 *to, const u64 *rules, u64 words, const struct s2_rule *change, u64 limit)
{
	u64 count = 1, next;

	for (u64 at = 0; at < limit; at = next) {
		struct s2_rule rule = s2_rule_at(rules, words, at);

		next = at < change->start ? min_u64(rule.end, change->start) : rule.end;
		if (at >= change->start && at < change->end) {
			rule.perm = change->perm;
			next = change->end;
		}
		if (count > 1 && (to[count - 1] & RULE_PERM) == rule.perm) {
			continue;
		}
		if (count == words) {
			return false;
		}
		to[count++] = at | rule.perm;
	}
	end_rules(to, count, words);
	return true;
}

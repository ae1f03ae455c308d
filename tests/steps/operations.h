/*
 * What a CPU may do: one row of a table each, made of the public operations of hyp/s2.h. To have
 * a new operation stepped against all others, add its row in operations.cc.
 */
#ifndef TESTS_STEPS_OPERATIONS_H
#define TESTS_STEPS_OPERATIONS_H

#include "machine.h"

#include <vector>

namespace steps
{

struct Operation {
	const char *name;
	void (*run)(u32 cpu);
	/* In threes, which are explored with as many preemptions as the least of them: -1 is in
	 * none. Two CPUs are explored without a bound. */
	int of_three;
	/* From where it has something to do that is not done from elsewhere: bits by Start. */
	u32 starts;
};

const std::vector<Operation> &operations();

/* What must be found beside another one, and how the sentence begins. */
struct WrongOperation {
	Operation operation;
	const char *beside, *found_as;
};
const std::vector<WrongOperation> &wrong_operations();
const Operation &operation(const std::string &name);

/* A space, and an operation for each CPU. */
class Scenario : public World
{
      public:
	Scenario(const Kind &kind, Start start, std::vector<Operation> program)
	    : kind_(kind), start_(start), program_(std::move(program))
	{
	}

	std::string name() const;
	u32 cpus() const
	{
		return u32(program_.size());
	}

	/* Has every operation something to do from this start? */
	bool is_sensible() const;

	void reset() override;
	void run(u32 cpu) override;
	void become(u32 cpu) override;
	const char *judge() override;
	const char *judge_end() override;
	u64 digest() override;
	bool is_counter(const void *address) const override;
	bool is_judged(const void *address) const override;
	const char *forbids(u32 cpu, const void *address) const override;
	const void *life_of(const void *address) const override;
	bool is_table(const void *address) const override;
	std::string name_of(const void *address) const override;

      private:
	Kind kind_;
	Start start_;
	std::vector<Operation> program_;
};

} // namespace steps

#endif

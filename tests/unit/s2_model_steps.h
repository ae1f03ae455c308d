// What the operations of a model machine share: memory that runs out, steps of a budget.
#ifndef S2_MODEL_STEPS_H
#define S2_MODEL_STEPS_H

#include "s2_model_machine.h"

namespace s2_model
{

inline bool is_device(u64 pa)
{
	return pa - frame_table.ram_start >= frame_table.ram_bytes;
}

// Takes all free frames but what `left` tables need for as long as it lives; with -1 none.
class Starve
{
      public:
	Starve(int left, unsigned order)
	{
		for (int next = left < 0 ? -1 : ORDER_MAX; next >= 0; next--) {
			hpa_t block;

			while (!hpa_is_none(block = frame_alloc(next, FRAME_HYP, OWNER_NONE))) {
				taken_.push_back(block);
			}
		}
		for (; left > 0 && !taken_.empty(); left--) {
			give_one(order);
		}
	}

	~Starve()
	{
		for (hpa_t block : taken_) {
			frame_put(block);
		}
	}

      private:
	// From the largest block that there is, by halves.
	void give_one(unsigned wanted)
	{
		auto largest = std::max_element(taken_.begin(), taken_.end(), [](hpa_t a, hpa_t b) {
			return frame_of(a)->order < frame_of(b)->order;
		});
		hpa_t block = *largest;

		if (frame_of(block)->order < wanted) {
			return;
		}
		taken_.erase(largest);
		while (frame_of(block)->order > wanted) {
			unsigned order = frame_of(block)->order - 1;

			frame_split(block, order);
			taken_.push_back(hpa_add(block, order_bytes(order)));
		}
		frame_put(block);
	}

	std::vector<hpa_t> taken_;
};

// Calls `step` with what is left of the range until it is done, or out of memory.
template <typename Step, typename After>
enum status in_steps(u64 start, u64 end, struct s2_batch *batch, Step step, After after)
{
	u64 budget = batch->budget;

	for (u64 at = start;;) {
		enum status status;

		batch->budget = budget;
		status = step(at, end - at);
		if (status != MORE) {
			after(at, end, status);
			return status;
		}
		if (batch->next <= at || batch->next >= end) {
			throw Wrong("a budget of " + std::to_string(budget) +
				    " is used up without a step ahead");
		}
		after(at, batch->next, MORE);
		at = batch->next;
	}
}

} // namespace s2_model

#endif

#include "hyp/dev_line.h"

#include "arch/vm.h"

void dev_line_drop(struct dev_line *line, struct lock *lock, bool level)
{
	line->level = level;
	if (likely(level == line->told) || line->busy) {
		lock_drop(lock);
		return;
	}
	line->busy = true;
	while (line->level != line->told) {
		line->told = level = line->level;
		lock_drop(lock);
		arch_vm_set_irq(line->vm, line->irq, level);
		lock_take(lock);
	}
	line->busy = false;
	lock_drop(lock);
}

#ifndef ARCH_CPU_BLOCK_H
#define ARCH_CPU_BLOCK_H

struct arch_cpu {
	bool kicked;	  /* since fake_cpu_take_kick() */
	bool fp_borrowed; /* between arch_fp_borrow() and arch_fp_return() */
};

#endif

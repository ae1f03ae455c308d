/* Says what came of one instruction. */
#include "oracle.h"

#define VECTOR_PF 14

u64 attempt_start;

void attempt_begin(void)
{
	fault_expect();
}

void attempt_end(const char *name)
{
	struct fault fault = fault_end();

	fault_resume.ip = 0;
	if (!fault.count) {
		print("%s done", name);
	} else if (fault.vector == VECTOR_PF) {
		print("%s vector %u error 0x%lx at %ld address 0x%lx", name, fault.vector,
		      fault.error, (s64)(fault.ip - attempt_start), read_register("cr2"));
	} else {
		print("%s vector %u error 0x%lx at %ld", name, fault.vector, fault.error,
		      (s64)(fault.ip - attempt_start));
	}
}

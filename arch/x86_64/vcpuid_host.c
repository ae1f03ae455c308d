/* CPUID of this very CPU, by the rules of vcpuid.c. */
#include "vcpuid.h"

#include "vmcs.h"
#include "vmx.h"

struct cpuid vcpuid_answer(const struct cpuid_request *request)
{
	struct vcpuid_extras extras = {
		.rdtscp = vmx.cpu2 & CPU2_RDTSCP,
		.invpcid = vmx.cpu2 & CPU2_INVPCID,
		.xsaves = vmx.xsaves,
	};

	return vcpuid_filter(request, cpuid(request->leaf, request->subleaf), extras);
}

/* PSCI 1.1 (DEN0022): a guest turns CPUs and itself on and off. */
#ifndef VPSCI_H
#define VPSCI_H

#include "hyp/types.h"

struct vcpu;

#define PSCI_VERSION 0x84000000u
#define PSCI_CPU_SUSPEND 0x84000001u
#define PSCI_CPU_SUSPEND_64 0xc4000001u
#define PSCI_CPU_OFF 0x84000002u
#define PSCI_CPU_ON 0x84000003u
#define PSCI_CPU_ON_64 0xc4000003u
#define PSCI_AFFINITY_INFO 0x84000004u
#define PSCI_AFFINITY_INFO_64 0xc4000004u
#define PSCI_MIGRATE_INFO_TYPE 0x84000006u
#define PSCI_SYSTEM_OFF 0x84000008u
#define PSCI_SYSTEM_RESET 0x84000009u
#define PSCI_FEATURES 0x8400000au
#define PSCI_SYSTEM_RESET2 0x84000012u
#define PSCI_SYSTEM_RESET2_64 0xc4000012u

#define PSCI_VERSION_1_1 0x10001ull
#define PSCI_SUCCESS 0ull
#define PSCI_NOT_SUPPORTED ((u64)-1)
#define PSCI_INVALID_PARAMETERS ((u64)-2)
#define PSCI_ALREADY_ON ((u64)-4)
#define PSCI_INTERNAL_FAILURE ((u64)-6)
#define PSCI_INVALID_ADDRESS ((u64)-9)

/* Answers of AFFINITY_INFO and MIGRATE_INFO_TYPE. */
#define PSCI_AFFINITY_ON 0ull
#define PSCI_AFFINITY_OFF 1ull
#define PSCI_TOS_NOT_PRESENT 2ull

/* `function` is x0 of the call; the result goes there, where there is one. */
void vpsci_call(struct vcpu *vcpu, u32 function);

#endif

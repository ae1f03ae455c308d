/* The TRNG firmware interface (DEN0098): random numbers for guests. */
#ifndef VTRNG_H
#define VTRNG_H

#include "hyp/types.h"

struct vcpu;

#define TRNG_VERSION 0x84000050u
#define TRNG_FEATURES 0x84000051u
#define TRNG_GET_UUID 0x84000052u
#define TRNG_RND 0x84000053u
#define TRNG_RND_64 0xc4000053u

#define TRNG_VERSION_1_0 0x10000ull
#define TRNG_SUCCESS 0ull
#define TRNG_NOT_SUPPORTED ((u64)-1)
#define TRNG_INVALID_PARAMETERS ((u64)-2)
#define TRNG_NO_ENTROPY ((u64)-3)

/* `function` is x0 of the call; results go to x0..x3. */
void vtrng_call(struct vcpu *vcpu, u32 function);

#endif

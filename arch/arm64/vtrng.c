/*
 * The TRNG firmware interface (DEN0098): random numbers for guests.
 *
 * What comes out of here is credited as full entropy, so on a CPU without a generator the whole
 * interface is not supported: numbers that could be guessed, sold as entropy, would be a lie. A
 * generator that fails for a moment gives NO_ENTROPY, and the guest asks again.
 */
#include "vtrng.h"

#include "arch/cpu.h"

#include "vsmccc.h"

/* 91ce84b3-c6c7-4438-8887-7c76c2b166df: what stands behind the interface, byte order of
 * DEN0098 2.3. */
#define UUID_0 0xb384ce91u
#define UUID_1 0x3844c7c6u
#define UUID_2 0x767c8788u
#define UUID_3 0xdf66b1c2u

#define TRIES 8
#define WORDS 3 /* x1..x3 hold the bits, the lowest in x3 */

/* False: none to be had now, or ever. */
static bool strong_word(u64 *word)
{
	for (u32 i = 0; i < TRIES; i++) {
		bool strong = false;

		*word = arch_random(&strong);
		if (strong) {
			return true;
		}
	}
	return false;
}

static bool is_there(void)
{
	u64 word;

	return strong_word(&word);
}

static u64 features(const struct vcpu *vcpu)
{
	switch ((u32)vcpu->arch.x[1]) {
	case TRNG_VERSION:
	case TRNG_FEATURES:
	case TRNG_GET_UUID:
	case TRNG_RND:
	case TRNG_RND_64:
		return is_there() ? TRNG_SUCCESS : TRNG_NOT_SUPPORTED;
	}
	return TRNG_NOT_SUPPORTED;
}

static void get_uuid(struct vcpu *vcpu)
{
	if (!is_there()) {
		vcpu->arch.x[0] = TRNG_NOT_SUPPORTED;
		return;
	}
	vcpu->arch.x[0] = UUID_0;
	vcpu->arch.x[1] = UUID_1;
	vcpu->arch.x[2] = UUID_2;
	vcpu->arch.x[3] = UUID_3;
}

/* `width` bits of each of x3, x2, x1, until there are `bits`; the rest is zero. */
static void random_bits(struct vcpu *vcpu, unsigned width)
{
	u64 bits = (u32)vcpu->arch.x[1];
	u64 words[WORDS] = {0, 0, 0};

	if (bits == 0 || bits > WORDS * width) {
		vcpu->arch.x[0] = TRNG_INVALID_PARAMETERS;
		return;
	}
	for (u32 i = 0; i < WORDS && bits > 0; i++) {
		u64 part = min_u64(bits, width);

		if (!strong_word(&words[i])) {
			vcpu->arch.x[0] = TRNG_NO_ENTROPY;
			return;
		}
		words[i] &= BITS(part - 1, 0);
		bits -= part;
	}
	vcpu->arch.x[0] = TRNG_SUCCESS;
	vcpu->arch.x[1] = words[2];
	vcpu->arch.x[2] = words[1];
	vcpu->arch.x[3] = words[0];
}

void vtrng_call(struct vcpu *vcpu, u32 function)
{
	switch (function) {
	case TRNG_VERSION:
		vcpu->arch.x[0] = is_there() ? TRNG_VERSION_1_0 : TRNG_NOT_SUPPORTED;
		return;
	case TRNG_FEATURES:
		vcpu->arch.x[0] = features(vcpu);
		return;
	case TRNG_GET_UUID:
		get_uuid(vcpu);
		return;
	case TRNG_RND:
		random_bits(vcpu, 32);
		return;
	case TRNG_RND_64:
		random_bits(vcpu, 64);
		return;
	}
	vcpu->arch.x[0] = SMCCC_NOT_SUPPORTED;
}

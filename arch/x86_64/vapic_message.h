/*
 * What virtual interrupt controllers send each other: a local APIC by its interrupt command
 * register, the IO-APIC by an entry of its table. Neither knows the VM; who does asks
 * vlapic_matches of each local APIC there is, and hands the message to those that match.
 */
#ifndef VAPIC_MESSAGE_H
#define VAPIC_MESSAGE_H

#include "hyp/types.h"

/* Delivery modes, as the interrupt command register, the LVT and the IO-APIC encode them. */
enum vapic_mode {
	VAPIC_FIXED = 0,
	VAPIC_LOWEST = 1, /* to the one of the matching CPUs that does the least urgent work */
	VAPIC_SMI = 2,
	VAPIC_NMI = 4,
	VAPIC_INIT = 5,
	VAPIC_STARTUP = 6, /* execution begins at `vector` << 12 */
	VAPIC_EXTINT = 7,
};

/* Destination shorthands, as in the interrupt command register. */
enum vapic_shorthand {
	VAPIC_TO_DESTINATION = 0,
	VAPIC_TO_SELF = 1,
	VAPIC_TO_ALL = 2,
	VAPIC_TO_OTHERS = 3,
};

struct vapic_message {
	u32 destination; /* 8 bits, 32 if wide; all of them ones: everybody */
	u8 vector;
	u8 mode;      /* enum vapic_mode */
	u8 shorthand; /* enum vapic_shorthand */
	bool logical; /* `destination` is a logical one, else an APIC id */
	bool wide;    /* sent by an x2APIC */
	bool level;   /* its end is to be told to the IO-APIC */
};

/* Vectors below this are not for interrupts (SDM volume 3A, 10.5.2). */
#define VAPIC_VECTOR_FIRST 16

/* Does it end up in a request register, as a vector? */
static inline bool vapic_is_vector(const struct vapic_message *message)
{
	return message->mode == VAPIC_FIXED || message->mode == VAPIC_LOWEST;
}

#endif

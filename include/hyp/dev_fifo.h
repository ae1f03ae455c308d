/* A UART's receive FIFO. How deep it is just now is its owner's to know; so is its lock. */
#ifndef HYP_DEV_FIFO_H
#define HYP_DEV_FIFO_H

#include "hyp/types.h"

#define DEV_FIFO_MAX 32

struct dev_fifo {
	u32 first, count;	   /* a ring: the oldest, how many */
	u16 entries[DEV_FIFO_MAX]; /* a byte, and what the owner has to say of it */
};

/* There is room: count < DEV_FIFO_MAX. */
static inline void dev_fifo_put(struct dev_fifo *fifo, u16 entry)
{
	fifo->entries[(fifo->first + fifo->count) % DEV_FIFO_MAX] = entry;
	fifo->count++;
}

/* The oldest; 0 when there is none. */
static inline u16 dev_fifo_take(struct dev_fifo *fifo)
{
	if (fifo->count == 0) {
		return 0;
	}

	u16 entry = fifo->entries[fifo->first];

	fifo->first = (fifo->first + 1) % DEV_FIFO_MAX;
	fifo->count--;
	return entry;
}

static inline void dev_fifo_clear(struct dev_fifo *fifo)
{
	fifo->count = 0;
}

#endif

/*
 * What can go wrong, each word meaning one thing.
 *
 * A guest's or a file's mistake is never an assertion: it is INVALID (refuse, or inject a fault).
 * AGAIN is a lost race: nothing was changed, look again. A bug of ours is a panic, never a status.
 */
#ifndef HYP_STATUS_H
#define HYP_STATUS_H

enum status {
	OK = 0,
	NOMEM,	 /* no free frame of the size asked */
	AGAIN,	 /* another CPU was faster, or an epoch is still open: look again */
	EXISTS,	 /* something is already there */
	NOENT,	 /* nothing is there */
	INVALID, /* the request makes no sense: alignment, range, value */
	DENIED,	 /* it makes sense, but is not allowed */
	FULL,	 /* a fixed limit is reached */
	MORE,	 /* so far done; the budget is used up: call again for the rest */
};

static inline const char *status_name(enum status s)
{
	switch (s) {
	case OK:
		return "ok";
	case NOMEM:
		return "out of memory";
	case AGAIN:
		return "try again";
	case EXISTS:
		return "already there";
	case NOENT:
		return "not there";
	case INVALID:
		return "invalid";
	case DENIED:
		return "denied";
	case FULL:
		return "limit reached";
	case MORE:
		return "not finished";
	}
	return "unknown status";
}

#endif

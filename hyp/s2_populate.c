/*
 * Populating a range: leaves for whatever is not mapped in it, by any number of CPUs at once.
 *
 * The range is handed out in chunks by one atomic cursor, so CPUs meet only there and at the two
 * counters, once a chunk. A chunk is gone through like a row of faults, without any lock: what is
 * there is passed, what is free gets a frame from the caller. Nobody waits for another CPU's chunk,
 * and a guest that faults meanwhile is just one more mapper: whoever is later gives its frame back.
 */
#include "hyp/s2.h"

/* What is known of one chunk's way. */
struct chunk {
	struct s2_populate *p;
	u64 at, end;
	u64 mapped, present; /* bytes */
};

/* The largest leaf that may begin here, in an empty entry of `level`. */
static unsigned level_for(const struct chunk *c, unsigned level)
{
	return s2_leaf_level(c->p->s2->format, (unsigned)min_u64(level, c->p->level), c->at,
			     c->end - c->at);
}

/* A free place gets a leaf of `level`, or of less where no frames are for more. */
static enum status fill_place(struct chunk *c, unsigned level)
{
	struct s2_populate *p = c->p;
	enum status status;
	hpa_t frame;

	while (hpa_is_none(frame = p->take(p->context, gpa(c->at), level))) {
		if (level == 0 || !p->smaller) {
			return NOMEM;
		}
		level = level_for(c, level - 1);
	}
	status = s2_map_leaf(p->s2, gpa(c->at), level, frame, p->attr);
	if (status != OK) {
		p->give(p->context, frame, level);
		/* Somebody is or was faster: the next look will say what is there. */
		return status == EXISTS || status == AGAIN ? OK : status;
	}
	c->mapped += s2_span(p->s2->format, level);
	c->at += s2_span(p->s2->format, level);
	return OK;
}

static enum status fill_chunk(struct chunk *c)
{
	struct s2 *s2 = c->p->s2;
	enum status status = OK;

	while (c->at < c->end && status == OK) {
		struct s2_leaf leaf = s2_query(s2, gpa(c->at));
		u64 next = min_u64((c->at | s2->inside[leaf.level]) + 1, c->end);

		if (load_relaxed(&c->p->cancel)) {
			return MORE;
		}
		if (leaf.kind == S2_EMPTY) {
			status = fill_place(c, level_for(c, leaf.level));
		} else if (leaf.kind == S2_TRANSIT) {
			cpu_relax();
		} else {
			c->present += next - c->at;
			c->at = next;
		}
	}
	return status;
}

/* Leaves are made one by one, so what a chunk costs is bounded by its leaves: 512 on 4 KiB formats,
 * or the caller asked for smaller ones than there could be. False: none is left. */
static bool take_chunk(struct s2_populate *p, struct chunk *c)
{
	u64 bytes = p->s2->inside[min_u64(p->level + 1u, p->s2->root_level)] + 1;
	u64 end = p->gpa.v + p->size;
	u64 start = align_down(p->gpa.v, bytes) + (atomic_add(&p->taken, 1) - 1) * bytes;

	*c = (struct chunk){
		.p = p, .at = max_u64(start, p->gpa.v), .end = min_u64(start + bytes, end)};
	return start < end;
}

enum status s2_populate_work(struct s2_populate *p)
{
	struct s2 *s2 = p->s2;
	struct chunk c;

	if (!s2_range_is_valid(s2, p->gpa, p->size) || p->level > s2->root_level ||
	    !s2_level_may_be_leaf(s2->format, p->level) || !s2_format_says(s2->format, p->attr)) {
		return INVALID;
	}
	while (!load_relaxed(&p->cancel) && take_chunk(p, &c)) {
		enum status status = fill_chunk(&c);

		atomic_add(&p->mapped_pages, c.mapped >> s2->format->page_shift);
		atomic_add(&p->present_pages, c.present >> s2->format->page_shift);
		if (status != OK && status != MORE) {
			store_relaxed(&p->cancel, true);
			return status;
		}
	}
	return load_relaxed(&p->cancel) ? MORE : OK;
}

"""Equal pages in one frame: what does a guest add to one that is like it?

A guest's own memory is what it is charged; frames that guests share are nobody's charge, and would be the
first guest's if it were alone. So the second adds what it has of its own, beside all that the first would
have. Asked of the sample where most is shared.
"""

ADDED_BOUND = 0.4
PAGE = 4096


def added(sample):
    """What the second guest adds, as a part of what the first would have."""
    first, second = (guest["memory_current"] for guest in sample["guests"][:2])
    return second / (first + sample["ksm"]["pages_shared"] * PAGE)


def report(samples, are_alike):
    """The bound is for guests that are the same; of others it is only said what the second adds."""
    best = max(samples, key=lambda sample: sample["ksm"]["pages_sharing"], default=None)
    if not best or not best["ksm"]["pages_sharing"]:
        return
    ksm = best["ksm"]
    yield (f"sharing: {ksm['pages_sharing']} pages saved at best, by {ksm['pages_shared']} frames; "
           f"{samples[-1]['ksm']['full_scans']} rounds")
    if len(best["guests"]) > 1:
        part = added(best)
        verdict = f" ({'holds' if part <= ADDED_BOUND else 'MISSED'}: {ADDED_BOUND * 100:.0f})" if are_alike else ""
        yield f"sharing: the second guest adds {part * 100:.1f} % of the first{verdict}"

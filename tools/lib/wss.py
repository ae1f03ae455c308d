"""How large was the working set, and how large did it seem?

A workload (guest/linux/wsgen.c) says now and then how many distinct pages its last `window` accesses
touched, and when. Lamina's samples say how many pages were used in each of the last rounds. Both are
of one clock, so for each of the workload's lines the same stretch of time is asked of the samples.
"""
import bisect

ERROR_BOUND = 0.05
COST_BOUND = 0.01
POINTS_LEAST = 5


def interpolate(at, points):
    """The value at `at` between (x, y) points that rise in x; None outside of them."""
    place = bisect.bisect_left([x for x, _ in points], at)
    if place == 0:
        return points[0][1] if points and points[0][0] == at else None
    if place == len(points):
        return None
    (x0, y0), (x1, y1) = points[place - 1], points[place]
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def used_since(samples, number, guest, start_ms):
    """Pages used between start_ms and that sample; None where its rounds do not reach so far."""
    ages = samples[number]["guests"][guest]["age_pages"]
    points, pages = [], 0
    for age in range(min(len(ages), number) + 1):
        points.append((-samples[number - age]["time_ns"] / 1e6, pages))
        pages += ages[age] if age < len(ages) else 0
    return interpolate(-start_ms, points)


def compare(samples, guest, workload):
    """(ms, true pages, estimated pages) for each line of progress whose whole window is known."""
    times = [sample["time_ns"] / 1e6 for sample in samples]
    ops = [(op, ms) for ms, op, _ in workload["progress"]]
    for ms, op, wss in workload["progress"]:
        began = interpolate(op - workload["window"], ops)
        number = bisect.bisect_left(times, ms)
        if began is None or number == 0 or number == len(times):
            continue
        # The samples around the line; each is asked for as long a stretch that ends with it.
        found = [used_since(samples, n, guest, times[n] - (ms - began)) for n in (number - 1, number)]
        if None not in found:
            yield ms, wss, interpolate(ms, [(times[number - 1], found[0]), (times[number], found[1])])


def mean_error(points):
    return sum(abs(seemed - true) / true for _, true, seemed in points) / len(points)


def report_guest(samples, number, guest, runs, ticks_per_ns):
    compared = False
    for workload in runs:
        points = list(compare(samples, number, workload)) if workload["clock"] == "machine" else []
        if len(points) >= POINTS_LEAST:
            compared = True
            error = mean_error(points)
            yield (f"working set: d{guest['id']} {workload['kind']}: mean error {error * 100:.1f} % over {len(points)} points "
                   f"({'holds' if error <= ERROR_BOUND else 'MISSED'}: {ERROR_BOUND * 100:.0f} %)")
    if compared:
        cost = guest["swap"]["age_ticks"] / (ticks_per_ns * guest["run_ns"])
        yield (f"harvest: d{guest['id']}: {guest['swap']['age_rounds']} rounds took {cost * 100:.2f} % of the guest's time "
               f"({'holds' if cost <= COST_BOUND else 'MISSED'}: {COST_BOUND * 100:.0f} %)")


def report(samples, summary):
    """A line for each workload of which enough is known, and one for what it cost."""
    for number, guest in enumerate(summary["guests"]):
        runs = summary["workloads"].get(f"d{guest['id']}", {}).get("runs", [])
        yield from report_guest(samples, number, guest, runs, summary["ticks_hz"] / 1e9)

"""Pictures of an experiment, from what its folder has: scripts for gnuplot, which a person may edit and run again.

    memory.dN   where guest N's pages are, over time, and the working set that its workloads really have
    rates.dN    pages taken from it and brought back, a second
    ages.dN     its pages by how many rounds ago they were used last; a round is from one sample to the next
    heatmap.dN  where in its memory it used pages, round by round (lamina,heatmap)
    latency.dN  faults by how long they took, a line for each place where their pages were
    stores      pages in stores
    pool        what compressed pages use
    misses      trace.txt's misses under the optimum, LRU and Lamina's policies, by size of memory; without that file
                misses.dN, of the run's own traces (lamina,trace)

What is drawn is SERIES: a new store, counter or estimate is a row. A picture whose data is not there is
said to be missing; it is never drawn empty.
"""
import glob
import json
import os
import re
import subprocess
from collections import namedtuple

from common import BUILD, Failure, need_file, relative
from samples import PAGES_PER_MIB, SECOND_NS, read_heatmap, read_left_out, read_stats

# `key`: in a guest's part of a sample, or in "store". `plots`: the pictures that it is in; "stack" and "line" are both
# memory.dN. Pages unless it is of "rates" or "pool". `optional`: samples without it are drawn without it.
Series = namedtuple("Series", "key label colour plots optional", defaults=(False,))
SERIES = (
    Series("pages_resident", "resident", "#4477aa", ("stack",)),
    Series("ksm_merging_pages", "shared", "#66ccee", ("stack",)),
    Series("pages_zswap", "zswap", "#ee6677", ("stack", "stores")),
    Series("pages_disk", "disk", "#aa3377", ("stack", "stores")),
    Series("pages_same", "same", "#228833", ("stack", "stores")),
    Series("pages_zero", "zero", "#ccbb44", ("stack", "stores")),
    Series("pages_untouched", "untouched", "#dddddd", ("stack",)),
    Series("wss_pages", "working set, estimated", "#aa3377", ("line",), True),
    Series("pgsteal", "steals", "#ee6677", ("rates",)),
    Series("workingset_refault", "refaults", "#4477aa", ("rates",)),
    Series("mem_used_total", "frames", "#ee6677", ("pool",)),
    Series("compr_data_size", "compressed pages in them", "#4477aa", ("pool",)),
    Series("mem_limit", "the most that it may be", "#bbbbbb", ("pool",)),
)
OWN_TRACE = re.compile(r"trace\.d\d+\.txt")
WORKING_SETS = ("#000000", "#777777", "#aa7744", "#447777")  # the truth, a colour for each workload
COLOURS = ("#000000", "#bbbbbb", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
# What replay has beside the optimum, LRU and Lamina's own.
OTHERS_POLICIES = ("arc", "s3fifo", "sieve")
SHARES = range(5, 101, 5)  # percent of a trace's pages
# Rounds ago, first and last: a band each of "ages".
AGE_BANDS = ((0, 0, "#aa3377"), (1, 1, "#ee6677"), (2, 3, "#ccbb44"), (4, 7, "#228833"), (8, 15, "#66ccee"), (16, 31, "#4477aa"))

# `points`: (x, y); (x, low, high) of an area; (x, y, left, right, low, high, value) of a box in the palette's colour for the value.
# `style`: gnuplot's.
Curve = namedtuple("Curve", "label colour style points")
# `missing`: why there is nothing to draw; `remarks`: what is not in it; `setup`: gnuplot's lines about axes.
Picture = namedtuple("Picture", "name title xlabel ylabel curves missing remarks setup", defaults=((), None, (), ("set yrange [0:*]",)))
# A decade a step, so that what is rare is seen, too.
DECADES = ("set logscale y", "set yrange [0.8:*]")
COLUMNS_MAX = 160  # of a heatmap
# The more pages, the darker.
HEAT = ("set yrange [0:*]", "set cbrange [0:*]", "set palette defined (0 '#ffeda0', 1 '#feb24c', 2 '#f03b20', 3 '#4a0010')",
        "set cblabel 'pages'", "unset key")


def absent(name, why):
    return Picture(name, "", "", "", missing=why)


def series_of(plot):
    return [series for series in SERIES if plot in series.plots]


def keys_missing(series, part):
    """A sentence about the keys that a sample does not have, or None."""
    keys = [one.key for one in series if not one.optional and one.key not in part]
    return f"the samples have no {', '.join(keys)}" if keys else None


def seconds(sample):
    return sample["time_ns"] / SECOND_NS


# ---- A guest ---------------------------------------------------------------------------------------


def lives(samples, index):
    """(seconds, its part) from each sample in which the guest has pages: before and after there is no guest."""
    parts = [(seconds(sample), sample["guests"][index]) for sample in samples if index < len(sample["guests"])]
    return [(at, part) for at, part in parts if part.get("pages_untouched") != part.get("pages_total")]


def stack(live):
    low = [0] * len(live)
    for series in series_of("stack"):
        high = [below + part[series.key] / PAGES_PER_MIB for below, (_, part) in zip(low, live)]
        yield Curve(series.label, series.colour, "filledcurves",
                    [(at, *ends) for (at, _), *ends in zip(live, low, high)])
        low = high


def estimates(live):
    for series in series_of("line"):
        points = [(at, part[series.key] / PAGES_PER_MIB) for at, part in live if series.key in part]
        if points:
            yield Curve(series.label, series.colour, "lines", points)


def working_sets(workload):
    """The truth, a curve for each workload whose clock is the samples'."""
    for number, one in enumerate(placeable(workload)):
        points = [(ms / 1000, pages / PAGES_PER_MIB) for ms, _, pages in one["progress"]]
        yield Curve(f"working set, {one['kind']} of {one['mib']} MiB", WORKING_SETS[number % len(WORKING_SETS)],
                    "linespoints", points)


def placeable(workload):
    return [one for one in workload["runs"] if one["clock"] == "machine" and one["progress"]]


def no_working_set(workload):
    if not workload or not workload.get("runs"):
        return "no working set: summary.json has no progress of a workload"
    if not placeable(workload):
        return "no working set: the guest's clock cannot be put beside Lamina's"
    return None


def memory_picture(samples, index, guest, workload):
    name, live = f"memory.{guest}", lives(samples, index)
    why = keys_missing(series_of("stack"), samples[0]["guests"][index])
    if why or not live:
        return absent(name, why or "the guest has no page in any sample")
    remark = no_working_set(workload)
    curves = [*stack(live), *estimates(live), *([] if remark else working_sets(workload))]
    return Picture(name, f"{guest} {live[0][1]['name']}: where its pages are", "seconds", "MiB", curves,
                   remarks=[remark] if remark else [])


def band_label(first, last):
    if last == 0:
        return "in the last round"
    return "in the one before" if last == 1 else f"{first} to {last} rounds ago"


def ages_picture(samples, index, guest):
    name, live = f"ages.{guest}", lives(samples, index)
    why = keys_missing((Series("age_pages", "", "", ()),), samples[0]["guests"][index])
    if why or not live:
        return absent(name, why or "the guest has no page in any sample")
    curves, low = [], [0] * len(live)
    for first, last, colour in AGE_BANDS:
        high = [below + sum(part["age_pages"][first:last + 1]) / PAGES_PER_MIB for below, (_, part) in zip(low, live)]
        curves.append(Curve(band_label(first, last), colour, "filledcurves", [(at, *ends) for (at, _), *ends in zip(live, low, high)]))
        low = high
    return Picture(name, f"{guest} {live[0][1]['name']}: its pages by when they were used last", "seconds", "MiB", curves)


def rates_picture(samples, index, guest):
    name, live = f"rates.{guest}", lives(samples, index)
    series = series_of("rates")
    why = keys_missing(series, samples[0]["guests"][index])
    if why or len(live) < 2:
        return absent(name, why or "a rate needs two samples in which the guest has pages")
    curves = [Curve(one.label, one.colour, "steps",
                    [(at, (part[one.key] - before[one.key]) / (at - then))
                     for (then, before), (at, part) in zip(live, live[1:])]) for one in series]
    return Picture(name, f"{guest} {live[0][1]['name']}: pages taken away and brought back", "seconds",
                   "pages a second", curves)


def columns(times):
    """Of each time, its column's left and right end. A picture has room for so many: then some rounds are one column."""
    width = -(-len(times) // COLUMNS_MAX)
    ends = [0, *times[width - 1:-1:width], times[-1]]
    return {at: (left, right) for left, right in zip(ends, ends[1:]) for at in times if left < at <= right}


def boxes(rows):
    """One for each part of memory that was used, as wide as its column, with the most pages of a round of it."""
    parts = sorted({mib for _, mib, _ in rows})
    height = parts[1] - parts[0] if len(parts) > 1 else 1
    ends, most = columns(sorted({at for at, _, _ in rows})), {}
    for at, mib, pages in rows:
        if pages:
            most[mib, ends[at]] = max(pages, most.get((mib, ends[at]), 0))
    for (mib, (left, right)), pages in most.items():
        yield (left + right) / 2, mib + height / 2, left, right, mib, mib + height, pages


def heatmap_picture(folder, guest):
    name = f"heatmap.{guest}"
    path = os.path.join(folder, name + ".txt")
    if not os.path.exists(path):
        return absent(name, f"there is no {name}.txt (lamina,heatmap in /chosen asks for it)")
    points = list(boxes(read_heatmap(path)))
    if not points:
        return absent(name, "no page was used in any round")
    return Picture(name, f"{guest}: where it used pages, and how many in a round", "seconds", "MiB of its memory",
                   [Curve("pages", "", "boxxyerror", points)], setup=HEAT)


def latency_picture(samples, index, guest):
    """Of all faults so far. A bin without any has no place on an axis by decades."""
    name, part = f"latency.{guest}", samples[-1]["guests"][index]
    why = keys_missing((Series("fault_latency", "", "", ()),), part)
    sources = [] if why else [(source, said["log2_ticks"]) for source, said in part["fault_latency"].items() if said["count"]]
    if why or not sources:
        return absent(name, why or "the guest has had no fault")
    curves = [Curve(source, COLOURS[number % len(COLOURS)], "linespoints", [(n, count) for n, count in enumerate(bins) if count])
              for number, (source, bins) in enumerate(sources)]
    return Picture(name, f"{guest} {part['name']}: how long faults took, by where the page was", "log2 of ticks of the system counter",
                   "faults", curves, setup=DECADES)


# ---- The machine -----------------------------------------------------------------------------------


def stores_picture(samples):
    series = series_of("stores")
    why = next((why for part in samples[0]["guests"] if (why := keys_missing(series, part))), None)
    if why:
        return absent("stores", why)
    curves = [Curve(one.label, one.colour, "lines",
                    [(seconds(sample), sum(part[one.key] for part in sample["guests"])) for sample in samples])
              for one in series]
    return Picture("stores", "Pages in stores, of all guests", "seconds", "pages", curves)


def pool_picture(samples):
    series = series_of("pool")
    why = keys_missing(series, samples[0].get("store", {}))
    if why:
        return absent("pool", why)
    curves = [Curve(one.label, one.colour, "lines",
                    [(seconds(sample), sample["store"][one.key] / (1 << 20)) for sample in samples]) for one in series]
    return Picture("pool", "What compressed pages use", "seconds", "MiB", curves)


# ---- A trace ---------------------------------------------------------------------------------------


def replay(folder, trace, out, *arguments):
    command = [need_file(os.path.join(BUILD, "host", "replay"), "replay"), *arguments, "--json", out, os.path.join(folder, trace)]
    done = subprocess.run(command,
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(done.stderr.strip() or f"replay failed: status {done.returncode}")
    with open(out, encoding="utf-8") as file:
        return json.load(file)


def replay_shares(folder, trace, picture):
    """One row a size. The first run is asked how many pages there are; PICTURE.json has all rows at the end."""
    out = os.path.join(folder, picture + ".json")
    pages = replay(folder, trace, out)[0]["pages"]
    sizes = sorted({max(1, pages * share // 100) for share in SHARES})
    rows = [replay(folder, trace, out, "--size", str(size))[0] for size in sizes]
    with open(out, "w", encoding="utf-8") as file:
        file.write(json.dumps(rows, indent=2) + "\n")
    return rows


def traces(folder):
    """(picture, trace): the one that was put there, or else the run's own."""
    if os.path.exists(os.path.join(folder, "trace.txt")):
        return [("misses", "trace.txt")]
    return [(name.replace("trace", "misses", 1)[:-len(".txt")], name) for name in sorted(os.listdir(folder)) if OWN_TRACE.fullmatch(name)]


def misses_pictures(folder):
    found = traces(folder)
    if not found:
        yield absent("misses", "there is no trace.txt, one page number a line in the order of access, and none of the run's "
                               "(lamina,trace in /chosen asks for it)")
    for name, trace in found:
        yield misses_picture(folder, name, trace)


def misses_picture(folder, picture, trace):
    rows = replay_shares(folder, trace, picture)
    names = [name for name in rows[0]["misses"] if name not in OTHERS_POLICIES]
    curves = [Curve(name, COLOURS[number % len(COLOURS)], "linespoints",
                    [(row["size"] / PAGES_PER_MIB, row["misses"][name] / row["accesses"]) for row in rows])
              for number, name in enumerate(names)]
    title = f"{trace}, {rows[0]['accesses']} accesses of {rows[0]['pages']} pages"
    left_out = read_left_out(os.path.join(folder, trace))
    return Picture(picture, title, "memory, MiB", "misses an access", curves,
                   remarks=[f"{left_out} pages that were used did not fit into {trace}"] if left_out else [])


# ---- Drawing ---------------------------------------------------------------------------------------


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def terminal_lines(picture, terminal):
    if terminal:
        return ["set terminal dumb size 100,30 noenhanced", "set key below"]
    # The key of a stack reads as the stack does.
    order = "invert" if any(curve.style == "filledcurves" for curve in picture.curves) else "noinvert"
    return ["set terminal svg size 900,420 noenhanced background 'white' font 'sans-serif,13'",
            f"set output {quoted(picture.name + '.svg')}", f"set key outside right top reverse Left {order}", "set grid back"]


# By style: the columns that it is drawn from, and how it is painted.
STYLES = {
    "filledcurves": ("1:2:3", "fc rgb '{}'"),
    "linespoints": ("1:2", "lw 2 pt 7 ps 0.4 lc rgb '{}'"),
    "lines": ("1:2", "lw 1.5 lc rgb '{}'"),
    "steps": ("1:2", "lw 1.5 lc rgb '{}'"),
    "boxxyerror": ("1:2:3:4:5:6:7", "fs solid noborder fc palette"),
}
# The terminal has no areas: there the upper edge of one is a line, and a box is a point.
ON_TERMINAL = {"filledcurves": ("lines", "1:3"), "boxxyerror": ("points", "1:2")}


def curve_text(number, curve, terminal):
    columns, paint = STYLES[curve.style]
    style = curve.style
    if terminal and style in ON_TERMINAL:
        style, columns = ON_TERMINAL[style]
        paint = STYLES["lines"][1] if curve.colour else ""
    return f"$curve{number} using {columns} with {style} {paint.format(curve.colour)} title {quoted(curve.label)}"


def script(picture, terminal):
    lines = terminal_lines(picture, terminal)
    lines += [f"set title {quoted(picture.title)}", f"set xlabel {quoted(picture.xlabel)}",
              f"set ylabel {quoted(picture.ylabel)}", *picture.setup]
    for number, curve in enumerate(picture.curves):
        lines += [f"$curve{number} << end", *(" ".join(f"{value:.6g}" for value in point) for point in curve.points), "end"]
    # What is listed last is drawn on top: a stack goes first.
    lines.append("plot " + ", \\\n     ".join(curve_text(n, curve, terminal) for n, curve in enumerate(picture.curves)))
    return "\n".join(lines) + "\n"


def gnuplot(arguments, folder, text=None):
    try:
        done = subprocess.run(["gnuplot", *arguments], cwd=folder, input=text, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failure(f"gnuplot does not start: {error.strerror}; tools/setup installs gnuplot-nox") from error
    if done.returncode != 0:
        raise Failure(f"gnuplot failed: {done.stderr.strip()}")
    return done.stdout


def draw_one(folder, picture, terminal):
    if terminal:
        print(gnuplot(["-"], folder, script(picture, terminal)))
        return
    name = picture.name + ".gp"
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(script(picture, terminal))
    gnuplot([name], folder)
    print(f"plot: {relative(os.path.join(folder, picture.name))}.svg")


def forget(folder, name):
    """An earlier run's picture is not to be taken for this one's."""
    for ending in (".gp", ".svg"):
        for path in glob.glob(os.path.join(glob.escape(folder), name + ending)):
            os.unlink(path)


def draw(folder, pictures, terminal=False):
    """Draws those that can be, says which cannot, and returns how many were drawn."""
    for picture in pictures:
        if picture.missing:
            print(f"plot: {picture.name} is missing: {picture.missing}")
        else:
            draw_one(folder, picture, terminal)
        for remark in picture.remarks:
            print(f"plot: {picture.name}: {remark}")
    return sum(not picture.missing for picture in pictures)


def read_workloads(folder):
    path = os.path.join(folder, "summary.json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file).get("workloads", {})


def pictures_of(folder):
    samples, workloads = read_stats(folder), read_workloads(folder)
    if not samples:
        why = "there is no sample in stats.jsonl (lamina,stats-ms in /chosen asks for them)"
        yield from (absent(name, why) for name in ("memory", "ages", "rates", "latency", "stores", "pool"))
    for index, part in enumerate(samples[0]["guests"] if samples else []):
        guest = f"d{part['id']}"
        yield memory_picture(samples, index, guest, workloads.get(guest))
        yield ages_picture(samples, index, guest)
        yield heatmap_picture(folder, guest)
        yield rates_picture(samples, index, guest)
        yield latency_picture(samples, index, guest)
    if samples:
        yield stores_picture(samples)
        yield pool_picture(samples)
    yield from misses_pictures(folder)


def command(options):
    if not os.path.isdir(options.out):
        raise Failure(f"{relative(options.out)}: no such folder; make exp OUT={relative(options.out)} makes one")
    pictures = list(pictures_of(options.out))
    if not options.terminal:
        for name in ("memory*", "ages*", "heatmap*", "rates*", "latency*", "stores", "pool", "misses*"):
            forget(options.out, name)
    if not draw(options.out, pictures, options.terminal):
        raise Failure(f"{relative(options.out)}: there is nothing to draw")
    return 0

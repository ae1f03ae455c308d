"""Files of what Lamina says for programs while guests run: written as it comes, plain, so that other tools read them as well.

    stats.jsonl     a sample of the counters a line
    heatmap.dN.txt  seconds, MiB of the guest's memory, pages used there since the sample before: three columns, as a heatmap of
                    DAMON's has, and a line for every part of memory at every sample
    trace.dN.txt    a page number a line, as make replay takes it; before each sample's pages a remark
"""
import json
import os
import re

PAGES_PER_MIB = 256
SECOND_NS = 10**9
STATS = "stats.jsonl"


def seconds(said):
    return f"{said['time_ns'] / SECOND_NS:.3f}"


def stats_text(sample):
    return json.dumps(sample, separators=(",", ":")) + "\n"


def heat_text(heat):
    part_mib = heat["part_pages"] / PAGES_PER_MIB
    return "".join(f"{seconds(heat)} {part_mib * number:g} {pages}\n" for number, pages in enumerate(heat["used"]))


def trace_text(trace):
    """A remark begins with #, which make replay skips."""
    pages = [page for first, count in trace["runs"] for page in range(first, first + count)]
    return f"# by {seconds(trace)} s: {len(pages)} pages, {trace['left_out']} left out\n" + "".join(f"{page}\n" for page in pages)


LEFT_OUT = re.compile(r"^# by .* (\d+) left out$", re.MULTILINE)

# What the console's mark says: the file, a guest's or the machine's, and how a part of it is written.
KINDS = {
    "stats": (lambda _: STATS, stats_text),
    "heat": (lambda said: f"heatmap.d{said['id']}.txt", heat_text),
    "trace": (lambda said: f"trace.d{said['id']}.txt", trace_text),
}


def is_one(name):
    return name == STATS or name.startswith(("heatmap.d", "trace.d"))


class SampleFolder:
    """Takes what a Stream has put together."""

    def __init__(self, folder):
        self.folder = folder
        self.files = {}

    def __call__(self, kind, said):
        name_of, text_of = KINDS[kind]
        name = name_of(said)
        if name not in self.files:
            self.files[name] = open(os.path.join(self.folder, name), "w", encoding="utf-8")
        self.files[name].write(text_of(said))
        self.files[name].flush()

    def close(self):
        for file in self.files.values():
            file.close()


# ---- Read again ------------------------------------------------------------------------------------


def read_stats(folder):
    path = os.path.join(folder, STATS)
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_heatmap(path):
    """(seconds, MiB, pages) of each line."""
    with open(path, encoding="utf-8") as lines:
        rows = [line.split() for line in lines]
    return [(float(at), float(mib), int(pages)) for at, mib, pages in rows]


def read_left_out(path):
    """How many pages were used and are not in the trace, as its remarks say; 0 where there are none."""
    with open(path, encoding="utf-8") as file:
        return sum(int(count) for count in LEFT_OUT.findall(file.read()))

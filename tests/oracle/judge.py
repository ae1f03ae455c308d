"""Compares what the oracle's guest printed under Lamina with what it printed under another hypervisor.

The guest (guest/x86_64/oracle.c) prints sections of lines, the same ones everywhere, but for:

    without F          the CPU has no F: lines "F.*" are missing here
    cannot             the other hypervisor only interprets, and does not know this instruction: the lines about it,
                       which follow, say nothing
    page A, perhaps A, log A     pages that have to be written, that may be, and that are in the hypervisor's log

An indented line belongs to the last one that is not; a line whose name goes on with "_" where the last one's ends is
about the same.
"""
import re

SECTION = re.compile(r"section (\w+)")
PAGE = re.compile(r"(page|perhaps|log) (0x[0-9a-f]+)")
WITHOUT = re.compile(r"without (\w+)")
VERDICT = re.compile(r"(ok|not ok|PASS|FAIL)\b")
CANNOT = "cannot"


class Output:
    """What one run printed."""

    def __init__(self, lines):
        self.lines = {}  # by a name that no other line has: "section/name" and which of that name
        self.excused = set()  # such names
        self.without = set()  # features
        self.pages = {"page": set(), "perhaps": set(), "log": set()}
        self.sections = []
        self.counts = {}
        self.head = self.refused = None
        for line in lines:
            self.take(line)

    def take(self, line):
        section, page, without = SECTION.fullmatch(line), PAGE.fullmatch(line), WITHOUT.fullmatch(line)
        if section:
            self.sections.append(section[1])
        elif page:
            self.pages[page[1]].add(int(page[2], 16))
        elif without:
            self.without.add(without[1])
        elif line == CANNOT:
            self.refused = CANNOT
        elif self.sections and line.strip() and not VERDICT.match(line):
            self.take_result(line)

    def take_result(self, line):
        name = line.split()[0]
        if not line.startswith(" "):
            self.head = name
        full = f"{self.sections[-1]}/{self.head}" + (f" {name}" if line.startswith(" ") else "")
        self.counts[full] = self.counts.get(full, 0) + 1
        key = full if self.counts[full] == 1 else f"{full} #{self.counts[full]}"
        self.lines[key] = line
        if self.refused == CANNOT or (self.refused and name.startswith(self.refused + "_")):
            self.excused.add(key)
            self.refused = name if self.refused == CANNOT else self.refused
        else:
            self.refused = None


def feature_of(key):
    """"nx" of "paging/nx.on read #2"."""
    head, dot, _ = key.partition("/")[2].partition(" ")[0].partition(".")
    return head if dot else None


def compare(lamina, other, known=(), others=()):
    """Sentences about what differs; how many lines were compared.

    `known` are names of lines that Lamina has wrong, and a sentence comes when one is right; `others` those that the
    other has wrong.
    """
    without = lamina.without | other.without
    excused = lamina.excused | other.excused | set(known) | set(others)
    found, compared = [], 0
    for key in [*lamina.lines, *(key for key in other.lines if key not in lamina.lines)]:
        if key in excused or feature_of(key) in without:
            continue
        compared += 1
        ours, theirs = lamina.lines.get(key), other.lines.get(key)
        if ours != theirs:
            found.append(f"{key}: Lamina: {(ours or 'nothing').strip()}; the other: {(theirs or 'nothing').strip()}")
    found += [f"{name}: no difference any more" for name in known
              if name in lamina.lines and lamina.lines[name] == other.lines.get(name)]
    if lamina.pages["page"] != other.pages["page"]:
        found.append("the guest does not write the same pages")
    return found, compared


def judge_log(output):
    """What is wrong with a hypervisor's dirty log, by the guest's own account."""
    must, may, log = output.pages["page"], output.pages["perhaps"], output.pages["log"]
    if not must or not log:
        return ["no pages, or no log of them"]
    return [f"0x{page:x} was written, and is not in the log" for page in sorted(must - log)] + \
           [f"0x{page:x} was not written, and is in the log" for page in sorted(log - must - may)]


def read_known(path):
    """Lines "NAME: why"; # begins a comment."""
    with open(path, encoding="utf-8") as lines:
        return [line.split(": ")[0].strip() for line in lines if line.strip() and not line.startswith("#")]

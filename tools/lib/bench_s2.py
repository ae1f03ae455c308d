"""What the second-level tables' operations cost on the host, in instructions, counted by callgrind.

tests/bench/s2_bench.c has the workloads: one function each, of so many operations. Callgrind counts what runs
inside such a function, its callees and the C library's memset included; divided by the operations that is
the cost of one. What the workload's own loop takes is shown beside it, and is not taken off.

Bounds are for tables alone, as the peers were measured. Looking after the frames behind the leaves is
measured too, without a bound; but the number of invalidation rounds is owed there as well.
"""
import os
import re
import subprocess

from common import Failure

MEMORIES = {"nobody": "frames outside the frame table", "counted": "frames of the frame table, referenced and freed"}
TOO_LARGE_TO_COUNT = {"W7c", "W7d"}
# W7d is about accessed flags of tables, which this MMU has not.
NOT_OF = {"stage2": {"W7d"}}
# Where no hardware marks the tables on a leaf's way, the map does: a call and a fence.
BOUND_OF = {("stage2", "W1"): 160}

# name: (what it does, the most one operation may cost, its rounds of invalidation)
WORKS = {
    "W1": ("map, one 4K page a call", 150, 0),
    "W1f": ("the same as a fault, no lock", None, 0),
    "W2m": ("map in one call, a 2M block", 66, 0),
    "W2c": ("map, one 2M block a call", None, 0),
    "W2s": ("map in one call, a 4K page", 13, 0),
    "W3": ("unmap, one 4K page a call", 200, 1),
    "W3r": ("unmap in one call, a 4K page", 12, 1),
    "W4": ("drop write in one call, a 4K page", 12, 1),
    "W5": ("unmap one 4K page of a 2M block", 3000, 1),
    "W6": ("query a random 4K page", 80, 0),
    "W7a": ("harvest 1 GiB, 1 % young, a page", 9, 1),
    "W7c": ("64 GiB, 0.1 % young, a page", 9, 1),
    "W7d": ("the same, few tables accessed", 1.5, 1),
    "W8": ("collapse 4K pages to a 2M block", 5000, 1),
}

# What the best of others take, measured in the same way; their driver's own 11 to 17 are in it.
PEERS = ("floor", "KVM arm64", "Hafnium", "Jailhouse", "ACRN", "NOVA", "Zircon")
PEERS_COSTS = {
    "W1": ("56", "965", "1,722", "314", "216", "355", "669"),
    "W2m": ("-", "266", "376", "277", "66", "291", "70"),
    "W2s": ("5.1", "253", "332", "264", "28", "13.4", "63"),
    "W3": ("50", "680", "1,550", "1,531", "3,320", "312 (a)", "531"),
    "W3r": ("6.1", "95", "32", "1,494", "24", "10", "31"),
    "W4": ("8", "78", "356", "264", "23", "10.3", "40"),
    "W5": ("2,609", "138,150", "26,326", "24,041", "6,002", "2,988", "11,251"),
    "W6": ("59", "512", "709", "167", "75", "177", "122"),
    "W7a": ("7.2", "48 (b)", "-", "-", "-", "-", "16.4"),
    "W7c": ("7.2", "48", "-", "-", "-", "-", "15.4"),
    "W7d": ("0.7", "48", "-", "-", "-", "-", "6.3"),
    "W8": ("3,616", "34,285", "72,605", "725,000", "-", "355 (c)", "-"),
}
NOTES = "(a) tables are not freed  (b) pages are not reported  (c) nothing is checked"

COST = re.compile(r"(?:[+-]?\d+|\*) (\d+)$")
NAME = re.compile(r"(c?fn)=\((\d+)\)(?: (.*))?$")


def parse_callgrind(path):
    """(self, inclusive) by function: the file's cost lines, and those that follow calls= for its callees."""
    names, own, total = {}, {}, {}
    function, is_call = None, False
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name = NAME.match(line)
            if name:
                names.setdefault(name[2], name[3])
                function = names[name[2]] if name[1] == "fn" else function
            elif line.startswith("calls="):
                is_call = True
            elif COST.match(line):
                cost = int(COST.match(line)[1])
                total[function] = total.get(function, 0) + cost
                if not is_call:
                    own[function] = own.get(function, 0) + cost
                is_call = False
    return own, total


def start(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except OSError as error:
        raise Failure(f"{command[0]} does not run: {error}") from error
    except subprocess.CalledProcessError as error:
        raise Failure(f"{' '.join(command)} ended with status {error.returncode}: {error.stderr.strip()}") from error


def expected(form, memory):
    """Names of the workloads that there have to be."""
    return set(WORKS) - NOT_OF.get(form, set()) - (TOO_LARGE_TO_COUNT if memory == "counted" else set())


def count(program, folder, form, memory):
    """One run under callgrind: a row for each workload."""
    path = os.path.join(folder, f"callgrind.{form}.{memory}")
    lines = start(["valgrind", "--tool=callgrind", "--toggle-collect=w*_*", f"--callgrind-out-file={path}",
                   program, form, memory]).splitlines()
    own, total = parse_callgrind(path)
    rows = []
    for line in lines:
        name, function, unit, operations, rounds, ranges, whole = line.split()
        if name not in WORKS:
            raise Failure(f"{program} has a workload {name} without a bound")
        if function not in total:
            raise Failure(f"callgrind saw nothing of {function}")
        rows.append({"op": name, "format": form, "memory": memory, "unit": unit,
                     "instructions": round(total[function] / int(operations), 2),
                     "bound": BOUND_OF.get((form, name), WORKS[name][1]) if memory == "nobody" else None,
                     "driver": round(own[function] / int(operations), 2), "rounds": int(rounds),
                     "flush_ranges": int(ranges), "flush_whole": int(whole)})
    return rows


def misses(row):
    """What the row does not keep to, in words."""
    bound, rounds = row["bound"], WORKS[row["op"]][2]
    found = [] if bound is None or row["instructions"] <= bound else [f"{row['instructions'] / bound:.1f} x the bound"]
    return found + ([] if row["rounds"] <= rounds else [f"rounds owed: {rounds}"])


def print_row(row):
    bound, missed = row["bound"], misses(row)
    verdict = f"MISSED: {', '.join(missed)}" if missed else "" if bound is None else "holds"
    peers = PEERS_COSTS.get(row["op"], ("",) * len(PEERS)) if row["memory"] == "nobody" else ()
    print(f"  {row['op']:<4} {WORKS[row['op']][0]:<34} {row['instructions']:>9,.1f} {row['driver']:>6.1f} "
          f"{'' if bound is None else format(bound, ','):>6} {row['rounds']:>6} {row['flush_ranges']:>6} "
          f"{row['flush_whole']:>5} {''.join(f'{cost:>10}' for cost in peers)}  {verdict}".rstrip())


def print_table(form, memory, rows):
    """The rows of one run; whether all that has to be there is, and keeps to its bounds."""
    peers = PEERS if memory == "nobody" else ()
    print(f"instructions, {form}, {MEMORIES[memory]}")
    print(f"       {'one operation':<34} {'all':>9} {'driver':>6} {'bound':>6} {'rounds':>6} {'ranges':>6} "
          f"{'whole':>5} {''.join(f'{peer:>10}' for peer in peers)}".rstrip())
    for row in rows:
        print_row(row)
    missing = expected(form, memory) - {row["op"] for row in rows}
    for name in sorted(missing):
        print(f"  {name:<4} {WORKS[name][0]:<34} MISSED: it was not measured")
    if peers:
        print(f"       {NOTES}")
    return not missing and not any(misses(row) for row in rows)


def core_rows(rows):
    """The tables alone, in the form that comparisons read."""
    return [{"work": row["op"], "format": row["format"], "unit": row["unit"], "instructions": row["instructions"],
             "closes": row["rounds"]} for row in rows if row["memory"] == "nobody" and row["bound"] is not None]


def measure(program, folder):
    """Counts and prints all; returns the rows, and whether every bound held."""
    os.makedirs(folder, exist_ok=True)
    rows, held = [], True
    for form in start([program, "formats"]).split():
        for memory in MEMORIES:
            found = count(program, folder, form, memory)
            held &= print_table(form, memory, found)
            rows += found
    return rows, held

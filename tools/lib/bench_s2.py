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

FORMATS = ["armv8"]
MEMORIES = {"nobody": "frames outside the frame table", "counted": "frames of the frame table, referenced and freed"}

# name: (what it does, the most one operation may cost, the best peer's cost, its rounds when one batch is open)
WORKS = {
    "W1": ("map, one 4K page a call", 150, (216, "ACRN"), 0),
    "W1f": ("the same as a fault, no lock", None, None, 0),
    "W2m": ("map in one call, a 2M block", 66, (66, "ACRN"), 0),
    "W2c": ("map, one 2M block a call", None, None, 0),
    "W2s": ("map in one call, a 4K page", 13, (13.4, "NOVA"), 0),
    "W3": ("unmap, one 4K page a call", 200, (531, "Zircon"), 1),
    "W3r": ("unmap in one call, a 4K page", 12, (24, "ACRN"), 1),
    "W5": ("unmap one 4K page of a 2M block", 3000, (2988, "NOVA"), 1),
    "W6": ("query a random 4K page", 80, (75, "ACRN"), 0),
}

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
                     "bound": WORKS[name][1] if memory == "nobody" else None,
                     "driver": round(own[function] / int(operations), 2), "rounds": int(rounds),
                     "flush_ranges": int(ranges), "flush_whole": int(whole)})
    if {row["op"] for row in rows} != set(WORKS):
        raise Failure(f"{program} did not run {', '.join(sorted(set(WORKS) - {row['op'] for row in rows}))}")
    return rows


def misses(row):
    """What the row does not keep to, in words."""
    bound, rounds = row["bound"], WORKS[row["op"]][3]
    found = [] if bound is None or row["instructions"] <= bound else [f"{row['instructions'] / bound:.1f} x the bound"]
    return found + ([] if row["rounds"] <= rounds else [f"rounds owed: {rounds}"])


def print_row(row):
    what, _, peer, _ = WORKS[row["op"]]
    bound, missed = row["bound"], misses(row)
    verdict = f"MISSED: {', '.join(missed)}" if missed else "" if bound is None else "holds"
    print(f"  {row['op']:<4} {what:<32} {row['instructions']:>9,.1f} {row['driver']:>6.1f} {bound or '':>6} "
          f"{'' if peer is None else f'{peer[0]:g} {peer[1]}':>13} {row['rounds']:>6} {row['flush_ranges']:>6} "
          f"{row['flush_whole']:>5}  {verdict}".rstrip())


def measure(program, folder):
    """Counts and prints all; returns the rows, and whether every bound held."""
    os.makedirs(folder, exist_ok=True)
    rows = []
    for form in FORMATS:
        for memory, words in MEMORIES.items():
            print(f"instructions, {form}, {words}")
            print(f"       {'one operation':<32} {'all':>9} {'driver':>6} {'bound':>6} {'best peer':>13} {'rounds':>6} "
                  f"{'ranges':>6} {'whole':>5}")
            found = count(program, folder, form, memory)
            for row in found:
                print_row(row)
            rows += found
    return rows, not any(misses(row) for row in rows)

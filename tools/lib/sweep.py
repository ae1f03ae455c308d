"""A sweep: the same experiment for each ratio of overcommit and each policy.

    OUT/RATIO-POLICY/    one experiment's folder (exp.py), with all it leaves
    OUT/sweep.csv        a row of each folder that has a verdict
    OUT/sweep.svg        accesses a second, to those at ratio 1.0 with the same policy

`--one RATIO POLICY` runs one pair, and `--gather` writes the table of the folders that there are, so the
runs may be spread over machines. Nothing but the pair's own folder is written by a run.
"""
import csv
import json
import os
import re

import exp
from common import MIB, STATUS_GUEST_CRASHED, STATUS_OK, Failure, relative
from config import Config, drop_property
from plot import COLOURS, Curve, Picture, absent, draw, forget

RATIO_MAX = 64
STEP = 2 * MIB  # guests' memory comes in blocks
FOLDER = re.compile(r"(\d+(?:\.\d+)?)-([a-z0-9_]+)")
STATUS = re.compile(r"^status (\d+)$", re.MULTILINE)
# `seconds` and `accesses_per_second` are by the guests' clocks, of all workloads together, each from "filled" to "done".
COLUMNS = ("ratio", "policy", "status", "seconds", "pgsteal", "refaults", "rounds", "verified_bytes", "accesses",
           "accesses_per_second")
BASE = 1.0


# ---- One pair --------------------------------------------------------------------------------------


def check_ratio(text):
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not 1 <= float(text) <= RATIO_MAX:
        raise Failure(f"RATIO = {text}: must be a number from 1 to {RATIO_MAX}, like 1.5")
    return text


def check_policy(text):
    """Which there are the checker knows; here it becomes the name of a folder."""
    if not re.fullmatch(r"[a-z0-9_]+", text):
        raise Failure(f"POLICY = {text}: must be the name of a policy")
    return text


def folder_of(out, ratio, policy):
    return os.path.join(out, f"{ratio}-{policy}")


def memory_of_guests(options, folder):
    """What the guests have together: without a limit it is what the checker says that the machine needs."""
    configuration = Config(options.config, options.arch, os.path.join(folder, "unlimited.dtb"))
    drop_property(configuration.blob, "/chosen", "lamina,guest-memory")
    done = configuration.checker("--list-modules")
    os.unlink(configuration.blob)
    if done.returncode != 0:
        raise Failure(done.stderr.strip(), STATUS_GUEST_CRASHED)
    return int(done.stdout.splitlines()[0].split("\t")[1])


def limit(memory, ratio):
    """What guests may use, as `lamina,guest-memory` has it: rounded down, so never less overcommitted than asked."""
    blocks = int(memory / float(ratio)) // STEP
    if blocks == 0:
        raise Failure(f"RATIO = {ratio}: leaves guests less than 2 MiB")
    return f"{blocks * STEP // MIB}M"


def run_one(options, ratio, policy):
    folder = folder_of(options.out, ratio, policy)
    options.out, saved = folder, options.out
    try:
        options.policy, options.store = policy, None
        options.guest_memory = limit(memory_of_guests(options, folder), ratio)
        print(f"sweep: ratio {ratio}, {policy}: guests may use {options.guest_memory}", flush=True)
        return exp.command(options)
    finally:
        options.out = saved


# ---- The table -------------------------------------------------------------------------------------


def read_status(folder):
    """None: it has not come to a verdict."""
    path = os.path.join(folder, "verdict.txt")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        found = STATUS.findall(file.read())
    return int(found[-1]) if found else None


def figures(summary):
    """Sums over all guests. Workloads side by side print in any order, and the sum of their times does not mind."""
    said = summary.get("workloads", {}).values()
    ms = sum(sum(one["done_ms"]) - sum(one["filled_ms"]) for one in said)
    accesses = sum(one["reads"] for one in said)
    swaps = [guest["swap"] for guest in summary["guests"]]
    return {
        "seconds": f"{ms / 1000:.3f}",
        "pgsteal": sum(swap["pgsteal"] for swap in swaps),
        "refaults": sum(swap["workingset_refault"] for swap in swaps),
        "rounds": sum(guest["s2"]["batches"] for guest in summary["guests"]),
        "verified_bytes": sum(one["verified_bytes"] for one in said),
        "accesses": accesses,
        "accesses_per_second": f"{accesses * 1000 / ms:.1f}" if ms > 0 else "",
    }


def row_of(folder, ratio, policy):
    """A run that went wrong has a status and no figures: they would be those of something else."""
    row = {"ratio": ratio, "policy": policy, "status": read_status(folder)}
    if row["status"] == STATUS_OK:
        with open(os.path.join(folder, "summary.json"), encoding="utf-8") as file:
            row.update(figures(json.load(file)))
    return row


def gather(out):
    """Rows of all folders, and the names of those that have no verdict."""
    found = [(match, os.path.join(out, name)) for name in sorted(os.listdir(out))
             if (match := FOLDER.fullmatch(name)) and os.path.isdir(os.path.join(out, name))]
    rows = [row_of(folder, match[1], match[2]) for match, folder in found]
    rows.sort(key=lambda row: (row["policy"], float(row["ratio"])))
    return ([row for row in rows if row["status"] is not None],
            [f"{row['ratio']}-{row['policy']}" for row in rows if row["status"] is None])


def write_table(out, rows):
    with open(os.path.join(out, "sweep.csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


# ---- The picture -----------------------------------------------------------------------------------


def relative_speeds(rows):
    """By policy: (ratio, accesses a second to those at 1.0), or None where there is no run at 1.0."""
    speeds = {}
    for row in rows:
        points = speeds.setdefault(row["policy"], [])
        if row.get("accesses_per_second"):
            points.append((float(row["ratio"]), float(row["accesses_per_second"])))
    based = {}
    for policy, points in speeds.items():
        base = dict(points).get(BASE)
        based[policy] = [(ratio, speed / base) for ratio, speed in points] if base else None
    return based


def picture_of(rows):
    based = relative_speeds(rows)
    remarks = [f"{policy} is not in it: no good run of it at ratio {BASE}" for policy, points in based.items() if not points]
    curves = [Curve(policy, COLOURS[2 + number % (len(COLOURS) - 2)], "linespoints", points)
              for number, (policy, points) in enumerate(based.items()) if points]
    if not curves:
        return absent("sweep", f"no policy has a good run at ratio {BASE}")
    return Picture("sweep", "Accesses a second, to those without overcommit", "guests' memory to what they may use",
                   f"to those at {BASE}", curves, remarks=remarks)


def tell(out):
    """Writes the table and the picture, and returns the exit status: good if every run there is was."""
    rows, without = gather(out)
    for name in without:
        print(f"sweep: {name} has no verdict: it has not been run to its end")
    if not rows:
        raise Failure(f"{relative(out)}: there is no run in it")
    write_table(out, rows)
    with open(os.path.join(out, "sweep.csv"), encoding="utf-8") as file:
        print(file.read(), end="")
    forget(out, "sweep")
    draw(out, [picture_of(rows)])
    return STATUS_OK if not without and all(row["status"] == STATUS_OK for row in rows) else STATUS_GUEST_CRASHED


def command(options):
    if options.gather:
        if not os.path.isdir(options.out):
            raise Failure(f"{relative(options.out)}: no such folder")
        return tell(options.out)
    if not options.config:
        raise Failure("sweep: which configuration?")
    pairs = [options.one] if options.one else [[ratio, policy] for policy in options.policies.split()
                                               for ratio in options.ratios.split()]
    for ratio, policy in pairs:
        check_ratio(ratio)
        check_policy(policy)
    statuses = [run_one(options, ratio, policy) for ratio, policy in pairs]
    return statuses[0] if options.one else tell(options.out)

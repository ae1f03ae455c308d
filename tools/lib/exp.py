"""An experiment: one run under overcommit that ends by itself, and what it says is held against itself.

The folder has everything: the configuration as it was written and as it was booted (booted.dtb), versions,
the command, consoles, samples of counters (stats.jsonl), the summary with what the guests' workloads said,
and verdict.txt, which is also printed. Nothing is written elsewhere, so experiments may run side by side.
"""
import json
import os
import re

import machine
import run
import sharing
import wss
from common import MIB, STATUS_FAILED, STATUS_GUEST_CRASHED, STATUS_OK, Failure, parse_memory
from config import Config, get_lines, get_property, put_property, put_strings
from samples import read_stats

TIMEOUT_S = 1800
STORES = {"zero": "zero", "same": "same", "zswap": "compressible", "disk": "mix"}  # and a content that each of them takes
OUTS = ("swpout_zero", "swpout_same", "zswpout", "pswpout", "swpout_clean")
INS = ("swpin_zero", "swpin_same", "zswpin", "pswpin")
STORED = ("pages_zero", "pages_same", "pages_zswap", "pages_disk")
COUNTERS = OUTS + INS + ("pgscan", "pgsteal", "pgdiscard", "workingset_refault")
SOURCES_STORED = ("zero", "same", "zswap", "disk")  # in "fault_latency", which has others, too
ROUNDS_BOUND = 1 / 512
WORKLOAD_WORD = "lamina.wsgen="

DONE = re.compile(rb"wsgen: done at (\d+) ms, verified (\d+) bytes in (\d+) reads, 0 bad")
BAD = re.compile(rb"wsgen: BAD .*")
ENDED = re.compile(rb"guest: wsgen (\S+) ended with (\d+)")
START = re.compile(rb"wsgen: (\w+), (\d+) MiB, .* window (\d+), clock (\w+)")
PROGRESS = re.compile(rb"wsgen: progress (\d+) of \d+ at (\d+) ms, wss (\d+) pages")
FILLED = re.compile(rb"wsgen: filled at (\d+) ms")


# ---- What must hold at every sample ----------------------------------------------------------------


def guest_faults(guest, before):
    """What does not add up in a guest's part of a sample, in sentences."""
    stored = sum(guest[name] for name in STORED)
    outs, ins = sum(guest[name] for name in OUTS), sum(guest[name] for name in INS)
    pages = guest["pages_untouched"] + guest["pages_resident"] + guest["ksm_merging_pages"] + stored
    if pages != guest["pages_total"]:
        yield f"{pages} pages are somewhere, of {guest['pages_total']}"
    if guest["pgsteal"] != outs:
        yield f"pgsteal is {guest['pgsteal']}, and stores got {outs} pages"
    if guest["workingset_refault"] != ins:
        yield f"workingset_refault is {guest['workingset_refault']}, and stores gave {ins} pages back"
    yield from latency_faults(guest, ins)
    if outs - ins - guest["pgdiscard"] != stored:
        yield f"stores got {outs} pages, gave {ins} back, dropped {guest['pgdiscard']}, and have {stored}"
    for name in COUNTERS:
        if before and guest[name] < before[name]:
            yield f"{name} fell from {before[name]} to {guest[name]}"


def latency_faults(guest, ins):
    """Every fault that was answered has a time."""
    counts = {source: said["count"] for source, said in guest["fault_latency"].items()}
    came = sum(counts[source] for source in SOURCES_STORED) + guest["swap_ra"]
    if came != ins:
        yield f"stores gave {ins} pages back, and {came} came by faults and ahead of them"
    for source, counter in (("rescued", "pgrescued"), ("shared", "cow_ksm")):
        if counts[source] != guest[counter]:
            yield f"{counter} is {guest[counter]}, and {counts[source]} faults found their page {source}"


def sample_faults(sample, before):
    if sample["guest_memory_current"] > sample["guest_memory_max"]:
        yield f"guests have {sample['guest_memory_current']} bytes, and may have {sample['guest_memory_max']}"
    if before and sample["time_ns"] <= before["time_ns"]:
        yield "its time is not after the one before"
    for i, guest in enumerate(sample["guests"]):
        for fault in guest_faults(guest, before["guests"][i] if before else None):
            yield f"d{guest['id']}: {fault}"


def all_faults(samples):
    if not samples:
        yield "there is no sample, so nothing was checked: lamina,stats-ms in /chosen asks for them"
    for number, sample in enumerate(samples):
        for fault in sample_faults(sample, samples[number - 1] if number else None):
            yield f"sample {number}: {fault}"


# ---- What the workloads said -----------------------------------------------------------------------


def read_runs(log):
    """The truth about working sets, of workloads that ran one after the other."""
    runs = []
    for line in log.splitlines():
        start, progress = START.search(line), PROGRESS.search(line)
        if start:
            runs.append({"kind": start[1].decode(), "mib": int(start[2]), "window": int(start[3]),
                         "clock": start[4].decode(), "progress": []})
        elif progress and runs:
            runs[-1]["progress"].append([int(progress[2]), int(progress[1]), int(progress[3])])
    return runs


def read_workload(log):
    """Of one guest's console: what was verified, what was wrong, the truth about its working set."""
    done = DONE.findall(log)
    return {
        "done": len(done),
        "ended": [[words.decode(), int(status)] for words, status in ENDED.findall(log)],
        "verified_bytes": sum(int(verified) for _, verified, _ in done),
        "reads": sum(int(reads) for _, _, reads in done),
        "bad": [line.decode(errors="replace") for line in BAD.findall(log)],
        "runs": read_runs(log),
        "filled_ms": [int(ms) for ms in FILLED.findall(log)],
        "done_ms": [int(ms) for ms, _, _ in done],
    }


def read_workloads(folder, wanted):
    """By guest; `wanted`: how many workloads each was to run."""
    found = {}
    for guest, count in wanted.items():
        path = os.path.join(folder, f"console.{guest}.log")
        log = b""
        if os.path.exists(path):
            with open(path, "rb") as file:
                log = file.read()
        found[guest] = {"wanted": count, **read_workload(log)}
    return found


def workload_faults(workloads):
    for guest, said in workloads.items():
        yield from (f"{guest}: {line}" for line in said["bad"])
        if said["done"] < said["wanted"]:
            yield f"{guest}: {said['done']} of {said['wanted']} workloads were done with every byte verified"


# ---- The verdict -----------------------------------------------------------------------------------


def rounds_text(summary):
    """Rounds of invalidation for each page that was taken away."""
    rounds = sum(guest["s2"]["batches"] for guest in summary["guests"])
    stolen = sum(guest["swap"]["pgsteal"] for guest in summary["guests"])
    kicks = sum(guest["s2"]["kicks"] for guest in summary["guests"])
    merged = summary["ksm"]["pages_merged"]
    if merged > 0:  # each of them in a round of its own, and its next write, too
        return f"shootdown: {rounds} rounds for {stolen} pages taken away and {merged} merged; {kicks} CPUs made to leave their guest"
    if stolen == 0:
        return "shootdown: no page was taken away"
    return (f"shootdown: {rounds} rounds for {stolen} pages taken away, 1 for {stolen / max(rounds, 1):.0f} "
            f"({'holds' if rounds / stolen <= ROUNDS_BOUND else 'MISSED'}: 1 for 512); "
            f"{kicks} CPUs made to leave their guest")


def latency_text(summary, icount):
    """For each guest: what a fault took on average, by where its page was. With icount a nanosecond is an instruction."""
    unit = "instructions" if icount else "ns"
    for guest in summary["guests"]:
        means = [f"{source} {said['ticks'] * 1e9 / summary['ticks_hz'] / said['count']:.0f} ({said['count']})"
                 for source, said in guest["swap"]["fault_latency"].items() if said["count"]]
        yield f"fault latency: d{guest['id']}: mean {unit} (and faults): {', '.join(means) or 'there was no fault'}"


def disk_text(summary):
    """What the disk had to do for the pages that it got and gave back."""
    store = summary["store"]
    if not store["disk_slots"]:
        return
    total = {name: sum(guest["swap"][name] for guest in summary["guests"])
             for name in ("pswpout", "pswpin", "swpout_clean", "swap_ra", "swap_ra_hit")}
    yield (f"disk: {total['pswpout']} pages in {store['disk_writes']} writes, {total['swpout_clean']} more were still there; "
           f"{total['pswpin']} pages in {store['disk_reads']} reads, {total['swap_ra']} of them read ahead and "
           f"{total['swap_ra_hit']} of those used; errors: {store['disk_read_errors']} reads, {store['disk_write_errors']} writes")


def table(summary, workloads):
    yield f"{'ID':4} {'Name':14} {'verified':>12} {'stolen':>9} {'refaults':>9} {'zero':>8} {'same':>8} {'zswap':>9} {'disk':>8} {'put back':>9}"
    for guest in summary["guests"]:
        swap = guest["swap"]
        said = workloads.get(f"d{guest['id']}", {"verified_bytes": 0})
        yield (f"d{guest['id']:<3} {guest['name'][:14]:14} {said['verified_bytes'] >> 20:>8} MiB {swap['pgsteal']:>9} "
               f"{swap['workingset_refault']:>9} {swap['swpout_zero']:>8} {swap['swpout_same']:>8} {swap['zswpout']:>9} {swap['pswpout']:>8} "
               f"{swap['pgputback']:>9}")


def judge(folder, status, wanted, icount=False, are_alike=False):
    """(exit status, lines): the run's, unless something in its folder is not as it must be."""
    path = os.path.join(folder, "summary.json")
    if not os.path.exists(path):
        return status or STATUS_FAILED, ["there is no summary"]
    with open(path, encoding="utf-8") as file:
        summary = json.load(file)
    if "guest_memory_max" not in summary:
        return STATUS_FAILED, ["nothing was overcommitted: lamina,guest-memory in /chosen asks for it"]
    samples = read_stats(folder)
    summary["workloads"] = read_workloads(folder, wanted)
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(summary, indent=2) + "\n")
    faults = list(all_faults(samples)) + list(workload_faults(summary["workloads"]))
    lines = [*table(summary, summary["workloads"]), *disk_text(summary), *latency_text(summary, icount), rounds_text(summary),
             *wss.report(samples, summary), *sharing.report(samples, are_alike),
             f"samples: {len(samples)}, " + ("all of them add up" if not faults else "see below"), *faults]
    return status or (STATUS_GUEST_CRASHED if faults else STATUS_OK), lines


# ---- The run ---------------------------------------------------------------------------------------


def guests_of(blob):
    """Each guest's number and node, as Lamina counts them."""
    nodes = [f"/chosen/{name}" for name in get_lines(blob, "-l", "/chosen")]
    return [(f"d{number}", node) for number, node in enumerate(nodes, 1)]


def workloads_wanted(blob):
    counts = {guest: get_property(blob, node, "bootargs").count(WORKLOAD_WORD) for guest, node in guests_of(blob)}
    return {guest: count for guest, count in counts.items() if count}


def first_two_are_alike(blob):
    """The same files, memory and words: what shares pages if anything does."""
    told = [[get_property(blob, node, word) for word in ("kernel", "ramdisk", "memory", "bootargs")]
            for _, node in guests_of(blob)[:2]]
    return len(told) == 2 and told[0] == told[1]


def pool_alone(blob):
    """What others would have is the pool's, too: half of the memory, as it has without a word, may be too little."""
    text = get_property(blob, "/chosen", "lamina,guest-memory")
    try:
        memory = parse_memory(text, "lamina,guest-memory")
    except Failure as failure:
        raise Failure(f"STORE = zswap: /chosen needs lamina,guest-memory as text, like \"128M\", or lamina,zswap-max: {failure}") from failure
    return f"{memory * 3 // 4 // (2 * MIB) * 2}M"


def use_store(blob, name):
    """That store alone, and pages that it takes: so many others fit nowhere."""
    if name not in STORES:
        raise Failure(f"STORE = {name}: must be one of {', '.join(STORES)}")
    put_strings(blob, "/chosen", "lamina,stores", [name])
    if name == "zswap" and not get_property(blob, "/chosen", "lamina,zswap-max"):
        put_property(blob, "/chosen", "lamina,zswap-max", pool_alone(blob))
    for _, node in guests_of(blob):
        words = get_property(blob, node, "bootargs").split(" ")
        words = [f"{word},content={STORES[name]}" if word.startswith(WORKLOAD_WORD) else word for word in words]
        put_property(blob, node, "bootargs", " ".join(words))


def edit(configuration, options):
    """What was asked for on the command line. If that makes no sense, Lamina would go on with a default."""
    if options.policy:
        put_property(configuration.blob, "/chosen", "lamina,reclaim", options.policy)
    if options.guest_memory:
        put_property(configuration.blob, "/chosen", "lamina,guest-memory", options.guest_memory)
    if options.store:
        use_store(configuration.blob, options.store)
    if options.store or options.policy or options.guest_memory:
        done = configuration.checker()
        if done.returncode != 0:
            raise Failure((done.stderr or done.stdout).strip(), STATUS_GUEST_CRASHED)


def prepare(options):
    options.batch = True
    options.timeout = options.timeout or str(TIMEOUT_S)
    configuration = Config(options.config, options.arch, os.path.join(options.out, "booted.dtb"))
    edit(configuration, options)
    return machine.prepare(options, configuration)


def command(options):
    target = prepare(options)
    wanted = workloads_wanted(target.config.blob)
    done = run.execute(options, target)
    status, lines = judge(options.out, done.status, wanted, options.icount, first_two_are_alike(target.config.blob))
    with open(os.path.join(options.out, "verdict.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + f"\nstatus {status}\n")
    print("\n".join(lines))
    return status

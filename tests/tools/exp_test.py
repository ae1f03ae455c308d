"""What an experiment is judged by: numbers that add up pass, and each that does not is named."""
import copy
import json
import os
import tempfile
import unittest

import config
import exp
from common import Failure

GUEST = {"id": 1, "name": "a", "pages_total": 100, "pages_untouched": 40, "pages_resident": 28, "ksm_merging_pages": 2, "pages_zero": 10,
         "pages_same": 5, "pages_zswap": 9, "pages_disk": 6, "swpout_zero": 12, "swpin_zero": 1, "swpout_same": 7, "swpin_same": 2,
         "zswpout": 10, "zswpin": 1, "pswpout": 8, "pswpin": 4, "swpout_clean": 2, "swap_ra": 2, "swap_ra_hit": 1, "pgscan": 60, "pgsteal": 39, "pgdiscard": 1, "workingset_refault": 8,
         "pgrescued": 5, "cow_ksm": 3, "fault_latency": {"fresh": {"count": 60, "ticks": 6000, "log2_ticks": [0] * 6 + [60]},
                                           **{source: {"count": count, "ticks": 900, "log2_ticks": [0] * 8 + [count]}
                                              for source, count in {"zero": 1, "same": 2, "zswap": 1, "disk": 2, "rescued": 5, "shared": 3}.items()},
                                           "room": {"count": 0, "ticks": 0, "log2_ticks": []}}}
SAMPLE = {"time_ns": 5, "guest_memory_max": 1000, "guest_memory_current": 999, "ksm": {"pages_sharing": 0}, "guests": [GUEST]}
LATER = {**SAMPLE, "time_ns": 6}
SWAP = {**GUEST, "pgputback": 3, "age_rounds": 4, "age_ticks": 5}
STORE = {"disk_slots": 64, "disk_reads": 2, "disk_writes": 1, "disk_read_errors": 0, "disk_write_errors": 1}
SUMMARY = {"guest_memory_max": 1000, "store": STORE, "ksm": {"pages_merged": 0}, "ticks_hz": 1000000000,
           "guests": [{"id": 1, "name": "a", "run_ns": 1000, "s2": {"batches": 1, "kicks": 0}, "swap": {**SWAP, "pgsteal": 512}}]}
CONSOLE = (b"wsgen: zipf, 96 MiB, 20 accesses, 30 % writes, seed 1, window 5, clock machine\nwsgen: filled at 90 ms\nwsgen: progress 10 of 20 at 99 ms, wss 7 pages, verified 40960 bytes\n"
           b"wsgen: done at 120 ms, verified 81920 bytes in 20 reads, 0 bad\nguest: wsgen zipf,size=96 ended with 0\n")


class SampleTest(unittest.TestCase):
    def faults(self, change=None, sample=None):
        changed = copy.deepcopy(LATER)
        changed["guests"][0].update(change or {})
        changed.update(sample or {})
        return list(exp.all_faults([SAMPLE, changed]))

    def test_what_adds_up_has_no_fault(self):
        self.assertEqual(self.faults(), [])

    def test_each_number_that_does_not_add_up_is_named(self):
        for name, says in (("pages_resident", "are somewhere"), ("ksm_merging_pages", "are somewhere"), ("pages_untouched", "are somewhere"),
                           ("pgsteal", "pgsteal is"), ("workingset_refault", "workingset_refault is"),
                           ("pgdiscard", "dropped")):
            found = self.faults({name: GUEST[name] + 1})
            self.assertEqual(len(found), 1, name)
            self.assertIn("sample 1: d1: ", found[0])
            self.assertIn(says, found[0])

    def test_each_fault_that_brought_a_page_has_a_time(self):
        self.assertEqual(self.faults({"swap_ra": 3}), ["sample 1: d1: stores gave 8 pages back, and 9 came by faults and ahead of them"])
        self.assertEqual(self.faults({"pgrescued": 4}), ["sample 1: d1: pgrescued is 4, and 5 faults found their page rescued"])
        self.assertEqual(self.faults({"cow_ksm": 4}), ["sample 1: d1: cow_ksm is 4, and 3 faults found their page shared"])

    def test_counters_do_not_fall_and_time_rises(self):
        self.assertIn("pgscan fell from 60 to 59", self.faults({"pgscan": 59})[0])
        self.assertIn("its time is not after", self.faults(sample={"time_ns": 5})[0])

    def test_guests_have_no_more_than_they_may(self):
        self.assertIn("may have 1000", self.faults(sample={"guest_memory_current": 1001})[0])

    def test_no_sample_is_a_fault(self):
        self.assertIn("nothing was checked", list(exp.all_faults([]))[0])


class StoreTest(unittest.TestCase):
    """What STORE= makes of a configuration."""

    def chosen(self, words, store, name):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.dts")
            with open(path, "w", encoding="utf-8") as file:
                file.write('/dts-v1/; / { chosen { %s g { bootargs = "lamina.wsgen=zipf"; }; }; };' % words)
            blob = config.compile_tree(path, os.path.join(folder, "a.dtb"))
            exp.use_store(blob, store)
            return config.get_property(blob, "/chosen", name)

    def test_the_pool_alone_has_what_others_would(self):
        memory = 'lamina,guest-memory = "130M";'
        self.assertEqual(self.chosen(memory, "zswap", "lamina,zswap-max"), "96M")
        self.assertEqual(self.chosen(memory + 'lamina,zswap-max = "8M";', "zswap", "lamina,zswap-max"), "8M")
        self.assertEqual(self.chosen(memory, "zero", "lamina,zswap-max"), "")
        self.assertEqual(self.chosen(memory, "disk", "lamina,stores"), "disk")

    def test_without_a_memory_to_take_a_part_of_it_is_refused(self):
        with self.assertRaisesRegex(Failure, "STORE = zswap: /chosen needs lamina,guest-memory"):
            self.chosen("", "zswap", "lamina,zswap-max")

    def test_an_unknown_store_is_refused(self):
        with self.assertRaisesRegex(Failure, "STORE = tape: must be one of zero, same, zswap, disk"):
            self.chosen("", "tape", "lamina,stores")


class VerdictTest(unittest.TestCase):
    def judge(self, console=CONSOLE, status=0, summary=SUMMARY, samples=(SAMPLE, LATER), wanted=1, icount=False):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "summary.json"), "w", encoding="utf-8") as file:
                json.dump(summary, file)
            with open(os.path.join(folder, "stats.jsonl"), "w", encoding="utf-8") as file:
                file.writelines(json.dumps(sample) + "\n" for sample in samples)
            with open(os.path.join(folder, "console.d1.log"), "wb") as file:
                file.write(console)
            verdict = exp.judge(folder, status, {"d1": wanted}, icount)
            with open(os.path.join(folder, "summary.json"), encoding="utf-8") as file:
                return verdict, json.load(file)

    def test_a_good_run_passes_and_its_summary_has_the_workloads(self):
        (status, lines), summary = self.judge()
        self.assertEqual(status, 0)
        self.assertIn("1 for 512 (holds", "\n".join(lines))
        said = summary["workloads"]["d1"]
        self.assertEqual((said["done"], said["reads"], said["verified_bytes"]), (1, 20, 81920))
        self.assertEqual(said["runs"], [{"kind": "zipf", "mib": 96, "window": 5, "clock": "machine", "progress": [[99, 10, 7]]}])
        self.assertEqual((said["filled_ms"], said["done_ms"]), ([90], [120]))
        self.assertEqual(said["ended"], [["zipf,size=96", 0]])

    def test_a_workload_that_is_not_done_fails_it(self):
        (status, lines), _ = self.judge(console=b"wsgen: zipf, 96 MiB\n")
        self.assertEqual(status, 1)
        self.assertIn("0 of 1 workloads", lines[-1])
        self.assertEqual(self.judge(wanted=2)[0][0], 1)

    def test_a_bad_page_fails_it_and_is_shown(self):
        (status, lines), _ = self.judge(console=CONSOLE + b"wsgen: BAD page 3 at byte 8: read 1, want 2\n")
        self.assertEqual(status, 1)
        self.assertIn("d1: wsgen: BAD page 3", lines[-1])

    def test_too_many_rounds_are_said(self):
        summary = copy.deepcopy(SUMMARY)
        summary["guests"][0]["s2"]["batches"] = 2
        self.assertIn("MISSED", "\n".join(self.judge(summary=summary)[0][1]))

    def test_rounds_of_merges_are_not_judged(self):
        lines = self.judge(summary={**SUMMARY, "ksm": {"pages_merged": 9}})[0][1]
        self.assertIn("512 pages taken away and 9 merged", "\n".join(lines))
        self.assertNotIn("MISSED", "\n".join(lines))

    def test_what_a_fault_takes_is_said_by_source(self):
        says = "fault latency: d1: mean {} (and faults): fresh 100 (60), zero 900 (1), same 450 (2), zswap 900 (1), disk 450 (2), rescued 180 (5), shared 300 (3)"
        self.assertIn(says.format("ns"), self.judge()[0][1])
        self.assertIn(says.format("instructions"), self.judge(icount=True)[0][1])

    def test_laminas_own_status_goes_first(self):
        self.assertEqual(self.judge(status=124)[0][0], 124)

    def test_a_run_without_overcommit_is_none(self):
        summary = {name: value for name, value in SUMMARY.items() if name != "guest_memory_max"}
        self.assertNotEqual(self.judge(summary=summary)[0][0], 0)

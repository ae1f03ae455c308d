"""Sweeps: what a pair changes in the blob, and the table and picture of folders that runs have left."""
import contextlib
import csv
import io
import json
import os
import tempfile
import types
import unittest
from unittest import mock

import config
import exp
import sweep
from common import TOP, Failure

DTS = """/dts-v1/;
/ { chosen { lamina,guest-memory = "64M"; lamina,stats-ms = <200>;
	a { compatible = "xen,domain"; cpus = <1>; memory = "192M"; kernel = "KERNEL"; bootargs = "lamina.wsgen=zipf"; };
	b { compatible = "xen,domain"; cpus = <1>; memory = <0x20000>; kernel = "KERNEL"; };
}; };
"""


def summary(done_ms, refaults):
    said = {"filled_ms": [1000, 1500], "done_ms": [2000, done_ms], "reads": 3000, "verified_bytes": 3000 * 4096}
    guest = {"swap": {"pgsteal": 700, "workingset_refault": refaults}, "s2": {"batches": 2}}
    return {"workloads": {"d1": said}, "guests": [guest, guest]}


def options(**words):
    return types.SimpleNamespace(**{"arch": "arm64", "ratios": "1.0 2.0", "policies": "clock gen", "one": None,
                                    "gather": False, "config": None, **words})


class SweepTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.dts = os.path.join(self.folder, "x.dts")
        with open(self.dts, "w", encoding="utf-8") as file:
            file.write(DTS.replace("KERNEL", os.path.join(TOP, "build", "guest", "arm64", "vmlinuz")))

    def ask(self, **words):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            status = sweep.command(options(**{"out": self.folder, **words}))
        return status, said.getvalue()

    def leave(self, name, status=0, done_ms=3500, refaults=5):
        """A folder as a run leaves it."""
        folder = os.path.join(self.folder, name)
        os.makedirs(folder)
        with open(os.path.join(folder, "summary.json"), "w", encoding="utf-8") as file:
            json.dump(summary(done_ms, refaults), file)
        if status is not None:
            with open(os.path.join(folder, "verdict.txt"), "w", encoding="utf-8") as file:
                file.write(f"samples: 3, all of them add up\nstatus {status}\n")

    def rows(self):
        with open(os.path.join(self.folder, "sweep.csv"), encoding="utf-8") as file:
            return list(csv.DictReader(file))

    # ---- A pair -----------------------------------------------------------------------------------

    def run_pairs(self, **words):
        """What each pair's blob says when it would be booted."""
        seen = []

        def boot(asked):
            target = exp.prepare(asked)
            words = [config.get_property(target.config.blob, "/chosen", name) for name in ("lamina,guest-memory", "lamina,reclaim")]
            seen.append((os.path.relpath(asked.out, self.folder), *words, target.memory))
            return 0

        names = {"smp": None, "cpu": None, "mem": None, "icount": False, "accel": None, "log": None, "timeout": None,
                 "swap_disk": None, "disk": []}
        with mock.patch.object(exp, "command", boot), contextlib.suppress(Failure):
            self.ask(**{**names, "config": self.dts, **words})
        return seen

    def test_each_pair_has_its_folder_limit_and_policy(self):
        seen = self.run_pairs(ratios="1.0 1.5", policies="clock gen")
        self.assertEqual([one[:3] for one in seen],
                         [("1.0-clock", "320M", "clock"), ("1.5-clock", "212M", "clock"),
                          ("1.0-gen", "320M", "gen"), ("1.5-gen", "212M", "gen")])
        # 320 MiB / 1.5 is 213.3, and the machine is as large as the limit wants it.
        self.assertGreaterEqual(seen[0][3] - seen[1][3], 100 << 20)

    def test_one_runs_one(self):
        self.assertEqual([one[:3] for one in self.run_pairs(one=["2.0", "qd"])], [("2.0-qd", "160M", "qd")])

    def test_the_configuration_is_left_as_it_was(self):
        self.run_pairs(one=["2.0", "qd"])
        with open(self.dts, encoding="utf-8") as file:
            self.assertIn('lamina,guest-memory = "64M"', file.read())

    def test_nonsense_is_refused_before_anything_runs(self):
        for words, says in (({"ratios": "1.0 0.5"}, "RATIO = 0.5"), ({"ratios": "two"}, "RATIO = two"),
                            ({"policies": "../clock"}, "POLICY = ../clock"), ({"config": None}, "which configuration")):
            with mock.patch.object(exp, "command") as ran, self.assertRaisesRegex(Failure, says):
                self.ask(**{"config": self.dts, **words})
            ran.assert_not_called()

    def test_a_policy_that_is_not_there_is_refused_by_the_checker(self):
        with self.assertRaisesRegex(Failure, 'lamina,reclaim = "lifo": want'):
            exp.edit(config.Config(self.dts, "arm64", os.path.join(self.folder, "x.dtb")),
                     types.SimpleNamespace(store=None, policy="lifo", guest_memory=None))

    # ---- The table --------------------------------------------------------------------------------

    def test_the_table_has_a_row_of_each_run(self):
        self.leave("1.0-clock")
        self.leave("10-clock", done_ms=9500, refaults=70)
        self.leave("2.0-clock", done_ms=6500, refaults=50)
        status, said = self.ask(gather=True)
        self.assertEqual(status, 0, said)
        rows = self.rows()
        self.assertEqual([row["ratio"] for row in rows], ["1.0", "2.0", "10"])
        # Two workloads: 1000 to 2000 and 1500 to 6500 ms, in either order.
        self.assertEqual(rows[1], {"ratio": "2.0", "policy": "clock", "status": "0", "seconds": "6.000", "pgsteal": "1400",
                                   "refaults": "100", "rounds": "4", "verified_bytes": str(3000 * 4096), "accesses": "3000",
                                   "accesses_per_second": "500.0"})
        self.assertEqual(sweep.relative_speeds(rows), {"clock": [(1.0, 1.0), (2.0, 0.5), (10.0, 0.3333)]})
        self.assertTrue(os.path.exists(os.path.join(self.folder, "sweep.svg")))

    def test_a_bad_run_has_a_status_and_no_figures_and_fails_it(self):
        self.leave("1.0-clock")
        self.leave("2.0-clock", status=124)
        status, _ = self.ask(gather=True)
        self.assertEqual(status, 1)
        self.assertEqual([(row["status"], row["seconds"]) for row in self.rows()], [("0", "3.000"), ("124", "")])

    def test_a_run_that_did_not_end_is_said(self):
        self.leave("1.0-clock")
        self.leave("2.0-clock", status=None)
        status, said = self.ask(gather=True)
        self.assertEqual((status, len(self.rows())), (1, 1))
        self.assertIn("2.0-clock has no verdict", said)

    def test_without_a_run_at_one_there_is_no_picture_of_the_policy(self):
        self.leave("2.0-clock")
        self.assertIn("sweep is missing: no policy has a good run at ratio 1.0", self.ask(gather=True)[1])
        self.assertFalse(os.path.exists(os.path.join(self.folder, "sweep.svg")))
        self.leave("1.0-gen")
        self.assertIn("clock is not in it", self.ask(gather=True)[1])

    def test_a_folder_without_runs_is_refused(self):
        with self.assertRaisesRegex(Failure, "no run in it"):
            self.ask(gather=True)

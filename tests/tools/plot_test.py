"""Pictures: gnuplot itself draws them from samples made here, and what cannot be drawn is said."""
import contextlib
import copy
import io
import json
import os
import tempfile
import types
import unittest
import xml.etree.ElementTree

import plot
from common import Failure

PART = {"id": 1, "name": "a_b's", "pages_total": 1024, "pages_untouched": 256, "pages_resident": 256, "ksm_merging_pages": 0, "pages_zero": 128,
        "pages_same": 128, "pages_zswap": 192, "pages_disk": 64, "pgsteal": 0, "workingset_refault": 0,
        "age_pages": [256, 128, 64, 64] + [0] * 28,
        "fault_latency": {"fresh": {"count": 7, "ticks": 900, "log2_ticks": [0, 0, 4, 0, 3]},
                          "zswap": {"count": 0, "ticks": 0, "log2_ticks": []},
                          "disk": {"count": 2, "ticks": 900, "log2_ticks": [0, 0, 0, 0, 0, 0, 0, 0, 2]}}}
STORE = {"mem_used_total": 1 << 20, "compr_data_size": 1 << 19, "mem_limit": 1 << 22}
WORKLOADS = {"d1": {"runs": [{"kind": "zipf", "mib": 4, "window": 5, "clock": "machine", "progress": [[500, 10, 512], [1500, 20, 768]]},
                            {"kind": "loop", "mib": 2, "window": 5, "clock": "machine", "progress": [[900, 5, 100]]}]}}


def samples():
    """Three seconds of a guest, and one in which it is gone."""
    made = [{"time_ns": second * 10**9, "store": STORE,
             "guests": [{**PART, "pgsteal": 1000 * second, "workingset_refault": 100 * second}]} for second in (1, 2, 3)]
    gone = {**PART, "pages_untouched": 1024, **{f"pages_{kind}": 0 for kind in ("resident", "zero", "same", "zswap", "disk")}}
    return made + [{"time_ns": 4 * 10**9, "store": STORE, "guests": [gone]}]


def curve(picture, label):
    return next(curve for curve in picture.curves if curve.label.startswith(label))


class PlotTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def fill(self, some=None, workloads=WORKLOADS, trace=None):
        with open(self.path("stats.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(sample) + "\n" for sample in (samples() if some is None else some))
        with open(self.path("summary.json"), "w", encoding="utf-8") as file:
            json.dump({"workloads": workloads}, file)
        if trace:
            self.write("trace.txt", "".join(f"{page}\n" for page in trace))
        self.write("heatmap.d1.txt", "1.000 0 3\n1.000 2 0\n2.000 0 0\n2.000 2 512\n")

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def draw(self, terminal=False):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            status = plot.command(types.SimpleNamespace(out=self.folder, terminal=terminal))
        self.assertEqual(status, 0)
        return said.getvalue()

    def pictures(self):
        return {picture.name: picture for picture in plot.pictures_of(self.folder)}

    def test_gnuplot_draws_each(self):
        self.fill(trace=[page % 40 for page in range(400)])
        self.assertNotIn("missing", self.draw())
        for name in ("memory.d1", "rates.d1", "ages.d1", "heatmap.d1", "latency.d1", "stores", "pool", "misses"):
            svg = xml.etree.ElementTree.parse(self.path(name + ".svg"))
            words = "".join(svg.getroot().itertext())
            for one in self.pictures()[name].curves:
                self.assertIn("MiB of its memory" if one.style == "boxxyerror" else one.label, words, name)
            self.assertGreater(len(svg.findall(".//{http://www.w3.org/2000/svg}path")), len(self.pictures()[name].curves))

    def test_on_the_terminal_there_is_text_and_no_file(self):
        self.fill()
        before = set(os.listdir(self.folder))
        said = self.draw(terminal=True)
        self.assertIn("where its pages are", said)
        self.assertIn("****", said)
        self.assertEqual(set(os.listdir(self.folder)), before)

    def test_the_stack_is_all_of_the_guest_while_it_is_there(self):
        self.fill()
        curves = [one for one in self.pictures()["memory.d1"].curves if one.style == "filledcurves"]
        self.assertEqual([point[1:] for point in curve(self.pictures()["memory.d1"], "resident").points], [(0, 1)] * 3)
        self.assertEqual(curves[-1].points[-1], (3, 3, 4))
        for below, above in zip(curves, curves[1:]):
            self.assertEqual([point[2] for point in below.points], [point[1] for point in above.points])

    def test_working_sets_stand_at_laminas_time_each_workload_by_itself(self):
        self.fill()
        picture = self.pictures()["memory.d1"]
        # Off at 2 s by its clock, last seen at 3 s by Lamina's: one second ahead.
        self.assertEqual(curve(picture, "working set, zipf of 4").points, [(0.5, 2), (1.5, 3)])
        self.assertEqual(curve(picture, "working set, loop of 2").points, [(0.9, 100 / 256)])

    def test_rates_are_differences_by_seconds(self):
        self.fill()
        picture = self.pictures()["rates.d1"]
        self.assertEqual(curve(picture, "steals").points, [(2, 1000), (3, 1000)])
        self.assertEqual(curve(picture, "refaults").points, [(2, 100), (3, 100)])

    def test_latency_is_a_line_for_each_source_that_had_faults(self):
        self.fill()
        picture = self.pictures()["latency.d1"]
        self.assertEqual([one.label for one in picture.curves], ["fresh", "disk"])
        self.assertEqual(curve(picture, "fresh").points, [(2, 4), (4, 3)])
        self.assertIn("set logscale y", plot.script(picture, False))

    def test_an_estimate_is_drawn_when_samples_have_it(self):
        self.fill()
        self.assertNotIn("working set, estimated", [one.label for one in self.pictures()["memory.d1"].curves])
        some = samples()
        some[1]["guests"][0]["wss_pages"] = 512
        self.fill(some)
        self.assertEqual(curve(self.pictures()["memory.d1"], "working set, estimated").points, [(2, 2)])

    def test_misses_are_replays(self):
        self.fill(trace=[page % 40 for page in range(400)])
        picture = self.pictures()["misses"]
        self.assertEqual({one.label for one in picture.curves} & {"opt", "lru", "arc", "sieve", "clock", "adaptive"},
                         {"opt", "lru", "clock", "adaptive"})
        lru = dict(curve(picture, "lru").points)
        self.assertEqual(len(lru), 20)
        self.assertEqual((lru[20 / 256], lru[40 / 256]), (1, 0.1))  # a loop: LRU always misses, until all of it fits

    def test_without_trace_txt_misses_are_of_the_runs_own_traces(self):
        self.fill()
        self.write("trace.d2.txt", "# by 1 s: 40 pages, 7 left out\n" + "".join(f"{page % 40}\n" for page in range(400)))
        self.write("trace.d1.txt", "3\n3\n4\n")
        found = self.pictures()
        self.assertEqual([name for name in found if name.startswith("misses")], ["misses.d1", "misses.d2"])
        self.assertEqual(dict(curve(found["misses.d2"], "lru").points)[40 / 256], 0.1)
        self.assertIn("plot: misses.d2: 7 pages that were used did not fit into trace.d2.txt", self.draw())
        self.write("trace.txt", "3\n")
        self.assertEqual([name for name in self.pictures() if name.startswith("misses")], ["misses"])

    def test_a_heatmap_is_a_box_for_each_part_that_was_used_as_wide_as_the_round(self):
        self.fill()
        picture = self.pictures()["heatmap.d1"]
        self.assertEqual(picture.curves[0].points, [(0.5, 1, 0, 1, 0, 2, 3), (1.5, 3, 1, 2, 2, 4, 512)])
        os.unlink(self.path("heatmap.d1.txt"))
        self.assertIn("plot: heatmap.d1 is missing: there is no heatmap.d1.txt", self.draw())

    def test_a_heatmap_of_many_rounds_has_the_most_of_some_in_a_column(self):
        self.fill()
        self.write("heatmap.d1.txt", "".join(f"{at} 0 {at}\n" for at in range(1, 400)))
        points = self.pictures()["heatmap.d1"].curves[0].points
        self.assertEqual([point[2:4] + point[6:] for point in points[:2]], [(0, 3, 3), (3, 6, 6)])
        self.assertEqual(points[-1][2:4] + points[-1][6:], (396, 399, 399))
        self.assertEqual(len(points), 133)

    def test_ages_are_bands_on_top_of_each_other(self):
        self.fill()
        picture = self.pictures()["ages.d1"]
        self.assertEqual([one.points[0] for one in picture.curves], [(1, 0, 1), (1, 1, 1.5), (1, 1.5, 2), *[(1, 2, 2)] * 3])
        self.assertEqual(picture.curves[2].label, "2 to 3 rounds ago")

    def test_what_is_missing_is_said_and_an_old_picture_of_it_goes(self):
        self.fill()
        for name in ("misses.svg", "memory.d7.svg"):
            self.write(name, "old")
        self.assertIn("plot: misses is missing: there is no trace.txt", self.draw())
        self.assertFalse(os.path.exists(self.path("misses.svg")))
        self.assertFalse(os.path.exists(self.path("memory.d7.svg")))

    def test_a_key_that_samples_do_not_have_is_named_and_nothing_is_drawn_without_it(self):
        some = copy.deepcopy(samples())
        for sample in some:
            del sample["guests"][0]["pages_same"]
        self.fill(some)
        said = self.draw()
        self.assertIn("plot: memory.d1 is missing: the samples have no pages_same", said)
        self.assertIn("plot: stores is missing: the samples have no pages_same", said)
        self.assertFalse(os.path.exists(self.path("memory.d1.svg")))

    def test_without_the_truth_memory_is_drawn_and_that_is_said(self):
        for workloads in ({}, {"d1": {"runs": []}}, {"d1": {"runs": [{**WORKLOADS["d1"]["runs"][0], "clock": "guest"}]}}):
            self.fill(workloads=workloads)
            self.assertIn("plot: memory.d1: no working set: ", self.draw())
            self.assertTrue(os.path.exists(self.path("memory.d1.svg")))

    def test_nothing_to_draw_is_a_failure(self):
        with self.assertRaisesRegex(Failure, "nothing to draw"):
            self.draw()
        self.fill(some=samples()[3:])
        self.assertIn("memory.d1 is missing: the guest has no page", self.draw())
        self.folder = self.path("none")
        with self.assertRaisesRegex(Failure, "no such folder"):
            self.draw()

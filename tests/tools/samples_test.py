"""Files of samples: what they say, and that the tools which they are for take them."""
import os
import subprocess
import tempfile
import unittest

import samples
from common import BUILD

HEATS = [{"time_ns": 1500000000, "id": 2, "part_pages": 512, "used": [3, 0, 512]},
         {"time_ns": 1750000000, "id": 2, "part_pages": 512, "used": [0, 7, 0]}]
TRACES = [{"time_ns": 1500000000, "id": 1, "runs": [[4, 1], [7, 3]], "left_out": 0},
          {"time_ns": 1750000000, "id": 1, "runs": [[4, 2]], "left_out": 9}]


class SamplesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        take = samples.SampleFolder(self.folder)
        for kind, said in (("stats", {"a": [1]}), *(("heat", heat) for heat in HEATS), *(("trace", trace) for trace in TRACES),
                           ("stats", {"a": [2]})):
            take(kind, said)
        take.close()

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def test_each_has_a_file_that_goes_before_the_next_run(self):
        self.assertEqual(sorted(os.listdir(self.folder)), ["heatmap.d2.txt", "stats.jsonl", "trace.d1.txt"])
        self.assertTrue(all(samples.is_one(name) for name in os.listdir(self.folder)))
        self.assertFalse(samples.is_one("config.dts") or samples.is_one("trace.txt"))

    def test_counters_are_read_as_they_were(self):
        self.assertEqual(samples.read_stats(self.folder), [{"a": [1]}, {"a": [2]}])
        self.assertEqual(samples.read_stats(self.path("none")), [])

    def test_a_heatmap_has_three_columns(self):
        self.assertEqual(self.read("heatmap.d2.txt"), "1.500 0 3\n1.500 2 0\n1.500 4 512\n1.750 0 0\n1.750 2 7\n1.750 4 0\n")
        self.assertEqual(samples.read_heatmap(self.path("heatmap.d2.txt"))[2], (1.5, 4, 512))

    def test_a_trace_has_a_page_a_line_and_says_what_is_left_out(self):
        self.assertEqual(self.read("trace.d1.txt"), "# by 1.500 s: 4 pages, 0 left out\n4\n7\n8\n9\n"
                                                    "# by 1.750 s: 2 pages, 9 left out\n4\n5\n")
        self.assertEqual(samples.read_left_out(self.path("trace.d1.txt")), 9)

    def test_replay_takes_a_trace_as_it_is(self):
        out = self.path("replay.json")
        subprocess.run([os.path.join(BUILD, "host", "replay"), "--json", out, self.path("trace.d1.txt")], check=True, capture_output=True)
        self.assertIn('"accesses": 6, "pages": 5', self.read("replay.json"))


if __name__ == "__main__":
    unittest.main()

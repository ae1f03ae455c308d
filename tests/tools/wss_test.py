"""Working sets: what samples say of a stretch of time, against a workload made up so that the answer is known."""
import unittest

import wss


def sample(ms, ages):
    return {"time_ns": ms * 1000000, "guests": [{"age_pages": ages}]}


class WorkingSetTest(unittest.TestCase):
    # Ten new pages in each round of 100 ms.
    SAMPLES = [sample(100 * n, [10] * n + [0] * (32 - n)) for n in range(1, 21)]

    def test_a_stretch_of_whole_rounds_is_their_sum(self):
        self.assertEqual(wss.used_since(self.SAMPLES, 10, 0, 1100 - 300), 30)

    def test_a_part_of_a_round_counts_in_proportion(self):
        self.assertEqual(wss.used_since(self.SAMPLES, 10, 0, 1100 - 250), 25)
        self.assertEqual(wss.used_since(self.SAMPLES, 10, 0, 1100), 0)

    def test_what_is_longer_ago_than_the_samples_is_not_known(self):
        self.assertIsNone(wss.used_since(self.SAMPLES, 3, 0, 50))

    def workload(self, factor):
        """An access a millisecond, windows of 400: 40 pages, times `factor`."""
        return {"window": 400, "clock": "machine", "progress": [[ms, ms, 40 * factor] for ms in range(100, 2000, 50)]}

    def test_a_truth_that_is_met_has_no_error(self):
        points = list(wss.compare(self.SAMPLES, 0, self.workload(1)))
        self.assertGreater(len(points), 20)
        self.assertAlmostEqual(wss.mean_error(points), 0)

    def test_an_error_is_relative_to_the_truth(self):
        points = list(wss.compare(self.SAMPLES, 0, self.workload(2)))
        self.assertAlmostEqual(wss.mean_error(points), 0.5)

    def test_windows_that_began_before_the_first_line_are_left_out(self):
        times = [ms for ms, _, _ in wss.compare(self.SAMPLES, 0, self.workload(1))]
        self.assertGreaterEqual(min(times), 500)

    def test_the_report_names_what_holds_and_what_does_not(self):
        summary = {"ticks_hz": 10 ** 9, "workloads": {"d1": {"runs": [{"kind": "zipf", **self.workload(1)}, {"kind": "loop", **self.workload(2)}]}},
                   "guests": [{"id": 1, "run_ns": 1000, "swap": {"age_ticks": 11, "age_rounds": 3}}]}
        zipf, loop, cost = wss.report(self.SAMPLES, summary)
        self.assertIn("zipf: mean error 0.0 %", zipf)
        self.assertIn("holds", zipf)
        self.assertIn("loop: mean error 50.0 %", loop)
        self.assertIn("MISSED", loop)
        self.assertIn("1.10 % of the guest's time (MISSED", cost)

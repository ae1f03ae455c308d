"""What a guest adds to its like is taken where most is shared, and held against the bound."""
import unittest

import sharing

PAGE = 4096


def sample(pages_sharing, pages_shared, *own):
    return {"ksm": {"pages_sharing": pages_sharing, "pages_shared": pages_shared, "full_scans": 7},
            "guests": [{"memory_current": pages * PAGE} for pages in own]}


class SharingTest(unittest.TestCase):
    def test_the_sample_where_most_is_shared_counts(self):
        samples = [sample(0, 0, 500, 500), sample(600, 400, 600, 350), sample(100, 90, 800, 10)]
        self.assertEqual(list(sharing.report(samples, True)),
                         ["sharing: 600 pages saved at best, by 400 frames; 7 rounds",
                          "sharing: the second guest adds 35.0 % of the first (holds: 40)"])

    def test_too_much_is_said(self):
        self.assertIn("adds 41.0 % of the first (MISSED: 40)", list(sharing.report([sample(9, 400, 600, 410)], True))[1])

    def test_of_guests_that_differ_there_is_no_verdict(self):
        self.assertTrue(list(sharing.report([sample(9, 400, 600, 410)], False))[1].endswith("adds 41.0 % of the first"))

    def test_nothing_is_said_where_nothing_is_shared(self):
        self.assertEqual(list(sharing.report([], True)), [])
        self.assertEqual(list(sharing.report([sample(0, 0, 5, 5)], True)), [])

    def test_a_guest_alone_adds_to_none(self):
        self.assertEqual(len(list(sharing.report([sample(5, 1, 5)], True))), 1)

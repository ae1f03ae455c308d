"""What the oracle's judge notices, and what it lets pass."""
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "oracle"))

import judge  # noqa: E402 (the path comes first)


def output(text):
    return judge.Output(text.split("\n"))


def compare(ours, theirs, known=(), others=()):
    return judge.compare(output("section a\n" + ours), output("section a\n" + theirs), known, others)


class CompareTest(unittest.TestCase):
    def test_equal_lines_are_counted(self):
        self.assertEqual(compare("x 1\ny 2\n  read done\nok all\nPASS 1", "x 1\ny 2\n  read done\nFAIL 2"), ([], 3))

    def test_another_value_is_a_difference(self):
        self.assertEqual(compare("x 1\ny 2", "x 1\ny 3")[0], ["a/y: Lamina: y 2; the other: y 3"])

    def test_a_missing_line_is_a_difference_on_either_side(self):
        self.assertEqual(len(compare("x 1\ny 2", "x 1")[0]), 1)
        self.assertEqual(len(compare("x 1", "x 1\ny 2")[0]), 1)

    def test_lines_of_one_name_are_told_apart_by_their_order(self):
        self.assertEqual(compare("x 1\nx 2", "x 1\nx 3")[0], ["a/x #2: Lamina: x 2; the other: x 3"])
        self.assertEqual(compare("p\n  read 1\nq\n  read 2", "p\n  read 1\nq\n  read 3")[0],
                         ["a/q read: Lamina: read 2; the other: read 3"])

    def test_a_feature_that_one_lacks_is_not_compared(self):
        self.assertEqual(compare("nx.on\n  read 1\nx 1", "without nx\nx 1"), ([], 1))
        self.assertEqual(len(compare("nx.on\n  read 1\nx 1", "x 1")[0]), 2)

    def test_what_follows_cannot_is_not_compared_and_what_follows_that_is(self):
        self.assertEqual(compare("lar 1\nlar_says 5\nx 1", "cannot\nlar 6\nlar_says 0\nx 1"), ([], 1))
        self.assertEqual(len(compare("lar 1\nx 1\nlar_says 2", "cannot\nlar 6\nx 1\nlar_says 3")[0]), 1)

    def test_what_lamina_has_wrong_is_left_out_until_it_is_right(self):
        self.assertEqual(compare("x 1\ny 1", "x 2\ny 1", ["a/x"]), ([], 1))
        self.assertEqual(compare("x 1", "x 1", ["a/x"])[0], ["a/x: no difference any more"])

    def test_what_the_other_has_wrong_is_left_out(self):
        self.assertEqual(compare("x 1\ny 1", "x 2\ny 1", (), ["a/x"]), ([], 1))
        self.assertEqual(compare("x 1\ny 1", "x 1\ny 2", (), ["a/x"])[1], 1)


class LogTest(unittest.TestCase):
    def test_the_log_has_what_was_written_and_perhaps_the_tables(self):
        for log, problems in (("log 0x1000\nlog 0x2000", 0), ("log 0x1000", 0), ("log 0x2000", 1), ("log 0x1000\nlog 0x3000", 1), ("", 1)):
            self.assertEqual(len(judge.judge_log(output("section d\npage 0x1000\nperhaps 0x2000\n" + log))), problems, log)


if __name__ == "__main__":
    unittest.main()

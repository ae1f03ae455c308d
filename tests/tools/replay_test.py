"""replay, against the same algorithms written again in the plainest way, and the bounds that its best policy keeps."""
import json
import math
import os
import random
import subprocess
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
REPLAY = os.path.join(TOP, "build", "host", "replay")


def opt(trace, frames):
    cache, misses = set(), 0
    for i, page in enumerate(trace):
        if page not in cache:
            misses += 1
            if len(cache) == frames:
                rest = trace[i + 1:]
                cache.remove(max(cache, key=lambda p: rest.index(p) if p in rest else len(rest)))
            cache.add(page)
    return misses


def lru(trace, frames):
    cache, misses = [], 0
    for page in trace:
        if page in cache:
            cache.remove(page)
        else:
            misses += 1
            del cache[:1 if len(cache) == frames else 0]
        cache.append(page)
    return misses


def clock(trace, frames):
    queue, used, misses = [], set(), 0
    for page in trace:
        if page in queue:
            used.add(page)
            continue
        misses += 1
        while len(queue) == frames:
            first = queue.pop(0)
            if first in used:
                used.remove(first)
                queue.append(first)
        queue.append(page)
    return misses


def sieve(trace, frames):
    queue, used, hand, misses = [], set(), 0, 0  # the oldest first
    for page in trace:
        if page in queue:
            used.add(page)
            continue
        misses += 1
        if len(queue) == frames:
            while queue[hand % len(queue)] in used:
                hand %= len(queue)
                used.remove(queue[hand])
                hand += 1
            hand %= len(queue)
            del queue[hand]
            hand = hand if hand < len(queue) else 0  # what comes now is not what the hand waits for
        queue.append(page)
    return misses


def sample(seed):
    """Short, so that the plain ways end; of pages that are used unevenly, with runs among them."""
    rng = random.Random(seed)
    trace = []
    while len(trace) < 400:
        start = int(rng.paretovariate(1) * 3) % 60
        trace += range(start, start + rng.choice((1, 1, 1, 5)))
    return trace


class ReplayTest(unittest.TestCase):
    def replay(self, *arguments, text=None):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "replay.json")
            done = subprocess.run([REPLAY, "--json", out, *arguments], input=text, text=True, capture_output=True, check=False)
            rows = None
            if os.path.exists(out):
                with open(out, encoding="utf-8") as file:
                    rows = json.load(file)
        return done, rows

    def misses(self, trace, frames):
        done, rows = self.replay("--size", str(frames), "-", text="".join(f"{page}\n" for page in trace))
        self.assertEqual(done.returncode, 0, done.stderr)
        return rows[0]["misses"]

    def test_the_same_misses_as_the_plainest_way(self):
        for seed in range(6):
            trace = sample(seed)
            for frames in (1, 2, 7, 20, 64):
                misses = self.misses(trace, frames)
                for way in (opt, lru, clock, sieve):
                    self.assertEqual(misses[way.__name__], way(trace, frames), f"{way.__name__} {seed} {frames}")
                self.assertEqual(min(misses.values()), misses["opt"])

    def test_what_fits_misses_once_a_page(self):
        self.assertEqual(set(self.misses(sample(1), 100).values()), {len(set(sample(1)))})

    def test_arc_on_a_trace_worked_out_by_hand(self):
        # 1 is used twice and so in T2; 2, 3 and 4 drive each other out of T1, and 1 is still there. 3 comes back from
        # B1: T1 may be 1 page long now, so 1 goes, and comes back from B2.
        self.assertEqual(self.misses([1, 1, 2, 3, 4, 1], 2)["arc"], 4)
        self.assertEqual(self.misses([1, 1, 2, 3, 4, 1, 3, 1], 2)["arc"], 6)

    def test_s3_fifo_on_a_trace_worked_out_by_hand(self):
        # 9 is used three times and moves to the main queue; of the others each is let go, 2 comes back as a ghost.
        self.assertEqual(self.misses([9, 9, 9, 1, 2, 3, 4, 9, 2], 3)["s3fifo"], 6)

    def test_the_bounds_of_the_best_policy(self):
        done, rows = self.replay()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(rows), 20)
        ratios = [row["misses"]["adaptive"] / row["misses"]["opt"] for row in rows]
        self.assertLessEqual(math.exp(sum(map(math.log, ratios)) / len(ratios)), 1.37)
        for row in rows:
            self.assertLessEqual(row["misses"]["adaptive"], 1.10 * row["misses"]["lru"], row)

    def test_a_sample_that_was_written_is_read_as_the_same(self):
        made = subprocess.run([REPLAY, "--make", "phases"], text=True, capture_output=True, check=True).stdout
        _, rows = self.replay("--size", "1200", "-", text=made)
        _, all_rows = self.replay()
        same = [row for row in all_rows if row["trace"] == "phases" and row["size"] == 1200]
        self.assertEqual([row["misses"] for row in rows], [row["misses"] for row in same])

    def test_numbers_may_be_hexadecimal_and_lines_empty_or_comments(self):
        done, rows = self.replay("--size", "1", "-", text="# a trace\n0x10\n\n16\n 0xffffffffffffffff\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((rows[0]["accesses"], rows[0]["pages"], rows[0]["misses"]["opt"]), (3, 2, 2))

    def test_bad_traces_are_refused_with_their_line(self):
        for text, why in (("1\ntwo\n", '-:2: not one page number: "two"'), ("1 2\n", '-:1: not one page number: "1 2"'),
                          ("-3\n", '-:1: not one page number: "-3"'), ("", "-: no page number in it"),
                          ("99999999999999999999\n", "-:1: a page number of more than 64 bits")):
            done, _ = self.replay("-", text=text)
            self.assertEqual(done.returncode, 1, text)
            self.assertIn("replay: " + why, done.stderr)

    def test_bad_requests_are_refused(self):
        for arguments in (("--size", "0", "-"), ("--size", "many", "-"), ("--size", "5"), ("--make", "noise"), ("-", "-"), ("--what", "1")):
            done, _ = self.replay(*arguments, text="1\n")
            self.assertEqual(done.returncode, 2, arguments)


if __name__ == "__main__":
    unittest.main()

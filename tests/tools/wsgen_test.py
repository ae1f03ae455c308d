"""The workload, built for this machine: it verifies what it wrote, repeats itself, and finds a byte that was changed."""
import os
import re
import subprocess
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
KINDS = ("stairs", "zipf", "scan", "loop", "phases", "mixed")
SMALL = ("size=4", "ops=6000", "window=1500", "report=1500")
PAGES = 4 * 256
DONE = re.compile(r"wsgen: done at \d+ ms, verified (\d+) bytes in (\d+) reads, 0 bad$", re.MULTILINE)
WORKING_SET = re.compile(r"progress (\d+) of \d+ at \d+ ms, wss (\d+) pages")


def timeless(text):
    return re.sub(r"at \d+ ms", "at ? ms", text)


class WsgenTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.program = os.path.join(cls.folder.name, "wsgen")
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-Wl,--build-id=none", "-o", cls.program,
                        os.path.join(TOP, "guest", "linux", "wsgen.c"), "-lm"], check=True)

    def run_it(self, *words):
        done = subprocess.run([self.program, *words], capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout

    def test_each_kind_verifies_all_that_it_reads_and_every_page_at_the_end(self):
        for kind in KINDS:
            status, said = self.run_it(kind, *SMALL)
            self.assertEqual(status, 0, said)
            self.assertEqual(DONE.findall(said), [(str((6000 + PAGES) * 4096), str(6000 + PAGES))], kind)

    def test_each_content_verifies(self):
        for content in ("mix", "zero", "same", "compressible", "random"):
            status, said = self.run_it("zipf", *SMALL, f"content={content}")
            self.assertEqual((status, len(DONE.findall(said))), (0, 1), said)

    def test_a_seed_says_the_same_again_and_another_does_not(self):
        for kind in ("zipf", "stairs", "mixed"):
            first = timeless(self.run_it(kind, *SMALL, "seed=7")[1])
            self.assertEqual(first, timeless(self.run_it(kind, *SMALL, "seed=7")[1]), kind)
            other = timeless(self.run_it(kind, *SMALL, "seed=8")[1]).replace("seed 8", "seed 7")
            self.assertNotEqual(first, other, kind)

    def test_the_working_set_is_what_can_be_reckoned(self):
        # A loop over 1024 pages: a window of 1500 has seen all of them; one of 1000 sees each page once. Its own tables have
        # 12 bytes for each page and 4 for each access in the window.
        for window, size in (("1500", 1024 + 4), ("1000", 1000 + 3)):
            _, said = self.run_it("loop", "size=4", "ops=6000", f"window={window}", "report=1500")
            self.assertEqual([int(wss) for _, wss in WORKING_SET.findall(said)], [size] * 4)
        # Phases: a quarter at a time, and never more.
        _, said = self.run_it("phases", *SMALL)
        sizes = [int(wss) for _, wss in WORKING_SET.findall(said)]
        self.assertEqual(len(sizes), 4)
        for size in sizes:
            self.assertTrue(250 <= size <= 256 + 5, sizes)

    def test_a_byte_that_was_changed_is_found(self):
        for access in (1, 500, 5999):
            status, said = self.run_it("zipf", *SMALL, f"corrupt={access}")
            self.assertEqual(status, 1, said)
            self.assertRegex(said, r"wsgen: BAD page \d+ at byte 1232: read [0-9a-f]{16}, want [0-9a-f]{16}")
            self.assertEqual(DONE.findall(said), [])

    def test_words_that_make_no_sense_are_refused(self):
        for words in ((), ("dance",), ("zipf", "sizes=4"), ("zipf", "size"), ("zipf", "size=four"), ("zipf", "size="),
                      ("zipf", "size=4x"), ("zipf", "size=0"), ("zipf", "ops=0"), ("zipf", "window=0"), ("zipf", "writes=101"),
                      ("zipf", "content=jam"), ("zipf", "")):
            status, said = self.run_it(*words)
            self.assertEqual(status, 2, (words, said))
            self.assertRegex(said, r"\Awsgen: [^\n]+\n\Z")

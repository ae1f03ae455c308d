"""docs/LIBRARY.md: its program is compiled by its command, and prints what the page says."""
import os
import re
import subprocess
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
PAGE = os.path.join(TOP, "docs", "LIBRARY.md")


def blocks():
    """The page's fenced blocks, by their language: one of each."""
    with open(PAGE, encoding="utf-8") as page:
        found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read(), re.MULTILINE | re.DOTALL)
    return dict(found), len(found)


class LibraryTest(unittest.TestCase):
    def test_the_page_has_a_program_a_command_and_an_output(self):
        by_language, count = blocks()
        self.assertEqual((sorted(by_language), count), (["", "c", "sh"], 3))

    def test_the_program_prints_what_the_page_says(self):
        page, _ = blocks()
        with tempfile.TemporaryDirectory() as folder:
            place = os.path.join(folder, "library")
            with open(place + ".c", "w", encoding="utf-8") as program:
                program.write(page["c"])
            command = page["sh"].replace("/tmp/library", place)
            self.assertEqual(command.count(place), 3)
            ran = subprocess.run(["sh", "-ec", command], cwd=TOP, capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(ran.stderr, "")
        self.assertEqual(ran.returncode, 0)
        self.assertEqual(ran.stdout, page[""])


if __name__ == "__main__":
    unittest.main()

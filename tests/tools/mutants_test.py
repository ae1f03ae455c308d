"""The wrong edits themselves: what tests/mutants makes of a few lines of C."""
import os
import sys
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "mutants"))

from edits import read_edits  # noqa: E402 (the path comes first)
from operators import edits_of  # noqa: E402
from source import Source  # noqa: E402

CODE = """\
/* a < b */
#define MASK BITS(7, 4)

static bool first(u64 *at,
		  unsigned level)
{
	if (level < 2) {
		return false; /* true */
	}
	check(level < 3);
	note(at, level);
	wait(at);
	return true;
}

static const struct format data = {
	.mask = BIT(3),
};
"""


class Mutants(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.source = Source(self.folder.name, self.write("a.c", CODE))

    def tearDown(self):
        self.folder.cleanup()

    def write(self, name, text):
        with open(os.path.join(self.folder.name, name), "w", encoding="utf-8") as file:
            file.write(text)
        return name

    def made_of(self, text):
        at = next(n for n, line in enumerate(self.source.lines) if text in line)
        return [(operator, [line.strip() for line in new]) for operator, new in edits_of(self.source, at)]

    def test_a_line_has_the_function_that_it_is_in(self):
        self.assertEqual(self.source.owner[self.source.lines.index("\tnote(at, level);")], "first")
        self.assertEqual(self.source.owner[self.source.lines.index("\t.mask = BIT(3),")], "=")
        self.assertIsNone(self.source.owner[self.source.lines.index("\t\t  unsigned level)")])

    def test_a_condition_is_negated_and_compared_otherwise(self):
        made = self.made_of("if (level")
        self.assertIn(("negate", ["if (!(level < 2)) {"]), made)
        self.assertIn(("compare", ["if (level <= 2) {"]), made)
        self.assertIn(("level", ["if ((level + 1) < 2) {"]), made)

    def test_a_call_is_dropped_or_comes_too_late(self):
        made = self.made_of("note(")
        self.assertIn(("drop", [";"]), made)
        self.assertIn(("swap", ["wait(at);", "note(at, level);"]), made)

    def test_masks_are_edited_and_comments_and_assertions_are_not(self):
        self.assertIn(("constant", ["#define MASK BITS(7, 4 + 1)"]), self.made_of("#define"))
        self.assertIn(("constant", [".mask = BIT(3 + 1),"]), self.made_of(".mask"))
        self.assertEqual(self.made_of("check("), [])
        self.assertEqual(self.made_of("a < b"), [])

    def edit(self, lines):
        name = self.write("known", "\n".join(lines))
        return read_edits(os.path.join(self.folder.name, name))[0]

    def test_a_written_edit_fits_whatever_its_indentation(self):
        edit = self.edit(["= no wait", "a.c first", " note(at, level);", "-wait(at);"])
        self.assertIsNone(edit.problem({"a.c": self.source}))
        self.assertEqual(edit.new, ["note(at, level);"])

    def test_a_stale_edit_has_a_problem(self):
        edit = self.edit(["= gone", "a.c", "-flush(at);"])
        self.assertEqual(edit.problem({"a.c": self.source}), "its old lines are not there")


if __name__ == "__main__":
    unittest.main()

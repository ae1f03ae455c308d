"""Edits written by hand: tests/mutants/known and tests/mutants/equivalent are lists of such.

    = Bao: frames go back before the flush
    hyp/s2_batch.c s2_batch_close
    -	s2_epoch_flush(batch);
    -	free_leaves(batch);
    +	free_leaves(batch);
    +	s2_epoch_flush(batch);

A sentence, a file and, where the lines stand in it more than once, the function; then lines as in a patch: `-`
goes, `+` comes, a space stays. Indentation does not count. What fits no place any more is stale: of known edits that
is an error, as such a list is worth what it still tries; of equivalent ones it is said.
"""
import re

HEAD = re.compile(r"^(\S+\.[ch])(?: (\w+))?$")


class Edit:
    def __init__(self, name, where):
        self.name, self.where = name, where
        self.file = self.function = None
        self.old, self.new = [], []

    def take(self, line):
        """A line of the patch."""
        if line[0] in "- ":
            self.old.append(line[1:])
        if line[0] in "+ ":
            self.new.append(line[1:])

    def problem(self, sources):
        """Why it does not fit exactly one place, or None."""
        source = sources.get(self.file)
        if source is None:
            return f"{self.file} is not a file of the core"
        found = len(source.places(self.old, self.function))
        return {0: "its old lines are not there", 1: None}.get(found, f"its old lines are there {found} times")


def read_edits(path):
    edits = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file.read().split("\n"), 1):
            head = HEAD.match(line)
            if line.startswith("= "):
                edits.append(Edit(line[2:].strip(), f"{path}:{number}"))
            elif edits and head and edits[-1].file is None:
                edits[-1].file, edits[-1].function = head[1], head[2]
            elif edits and edits[-1].file and line[:1] in ("-", "+", " "):
                edits[-1].take(line)
            elif line and not line.startswith("#"):
                raise SystemExit(f"{path}:{number}: neither a name, a file nor a line of a patch: {line}")
    return edits

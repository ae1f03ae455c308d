"""C as far as mutants need it: which lines are code, of which function, and what is nothing but words.

Nothing is parsed. The house's formatting does the rest: a body begins with `{` and ends with `}` in the first
column, a statement has a line, and a block has braces.
"""
import os
import re

COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"', re.DOTALL)
FUNCTION = re.compile(r"(\w+)\([^;]*\)\s*$", re.DOTALL)


def blank(match):
    """Spaces of the same size, so that lines and columns stay."""
    return re.sub(r"[^\n]", " ", match[0])


class Source:
    """A file: `lines` as they are, `code` the same without comments and strings, `owner` by line."""

    def __init__(self, top, name):
        self.name = name
        with open(os.path.join(top, name), encoding="utf-8") as file:
            self.text = file.read()
        self.lines = self.text.split("\n")
        self.code = COMMENT_OR_STRING.sub(blank, self.text).split("\n")
        self.owner = self.find_owners()

    def find_owners(self):
        """For each line the function it is in the body of; "=" in tables and macros of data; else None."""
        owners, owner, start = [], None, 0
        macro = False
        for number, line in enumerate(self.code):
            macro = line.startswith("#define") or macro
            inside = owner if owner and line != "}" else None
            owners.append("=" if macro else inside)
            macro = macro and line.rstrip().endswith("\\")
            if line == "{":
                head = FUNCTION.search("\n".join(self.code[start:number]))
                owner = head[1] if head else None
            elif re.match(r"\S.*= \{$", line):
                owner = "="
            elif line.startswith("}"):
                owner = None
            if not line.strip() or line.startswith("}") or line.rstrip().endswith(";"):
                start = number + 1 if owner is None else start
        return owners

    def places(self, old, function=None):
        """The first lines of where these lines stand, whatever their indentation."""
        wanted = [line.strip() for line in old]
        stripped = [line.strip() for line in self.lines]
        return [at for at in range(len(stripped) - len(wanted) + 1)
                if stripped[at:at + len(wanted)] == wanted and function in (None, self.owner[at])]

    def changed(self, at, count, new):
        """The text with `count` lines from `at` on replaced."""
        return "\n".join(self.lines[:at] + new + self.lines[at + count:])

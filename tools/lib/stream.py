"""What comes out of Lamina's one console, taken apart while it comes.

    [json] TEXT   a line of the summary: kept, and not shown
    [stats] TEXT  a line of a sample of counters: put together, and not shown
    [heat] TEXT, [trace] TEXT  likewise, of what goes with one
    [dN] TEXT     a line of guest N (without a keyboard, all of a guest's output is such lines)
    TEXT          Lamina's own

Bytes are shown as they come, not by lines: a person is typing. Only the start of a line is held back,
for as long as it may still become a line of the summary.
"""
import json
import os
import re

from samples import KINDS

SAMPLE_MARKS = {kind: b"[%s] " % kind.encode() for kind in KINDS}
JSON_MARK = b"[json] "
GUEST_MARK = re.compile(rb"\[(d[0-9]+)\] ?")


class Stream:
    """feed() bytes as they come; it returns those to show. close() when there are no more."""

    def __init__(self, sink=None, take_sample=None):
        self.sink = sink  # gets whole lines: guest or None, bytes
        # take_sample gets whole objects: of which kind, and what it says
        self.objects = {mark: Objects(kind, take_sample) for kind, mark in SAMPLE_MARKS.items()}
        self.json = []
        self.line = b""
        self.shown = 0  # bytes of self.line that were returned already

    def feed(self, data):
        show = bytearray()
        pieces = (self.line + data).split(b"\n")
        for piece in pieces[:-1]:
            show += self.end_line(piece)
        self.line = pieces[-1]
        if not may_be_marked(self.line):
            show += self.line[self.shown:]
            self.shown = len(self.line)
        return bytes(show)

    def end_line(self, line):
        rest = line[self.shown:] + b"\n"
        self.shown = 0
        if self.keep(line.rstrip(b"\r")):
            return b""
        self.file(line)
        return rest

    def keep(self, line):
        """What is for programs; false: it is for people."""
        if line.startswith(JSON_MARK):
            self.json.append(line[len(JSON_MARK):])
            return True
        for mark, objects in self.objects.items():
            if line.startswith(mark):
                objects.add(line[len(mark):])
                return True
        return False

    def file(self, line):
        if self.sink:
            mark = GUEST_MARK.match(line)
            guest = mark[1].decode() if mark else None
            self.sink(guest, line[mark.end() if mark else 0:].rstrip(b"\r"))

    def close(self):
        """The last line may have no newline."""
        rest = self.line[self.shown:]
        if self.keep(self.line):
            rest = b""
        elif self.line:
            self.file(self.line)
        self.line, self.shown = b"", 0
        return rest


def may_be_marked(line):
    return any(line.startswith(mark) or mark.startswith(line) for mark in (JSON_MARK, *SAMPLE_MARKS.values()))


class Objects:
    """Of one kind, whose text comes in pieces, cut anywhere; each goes to `take` when it is whole."""

    def __init__(self, kind, take):
        self.kind = kind
        self.take = take
        self.text = ""

    def add(self, piece):
        self.text += piece.decode(errors="replace")
        if not self.text.endswith("}"):
            return
        try:
            said = json.loads(self.text)
        except ValueError:
            return  # a brace in the middle of it
        self.text = ""
        if self.take:
            self.take(self.kind, said)


class LogFolder:
    """The sink that files lines: console.dN.log for each guest, hyp.log for Lamina."""

    def __init__(self, folder):
        self.folder = folder
        self.files = {}

    def __call__(self, guest, line):
        name = f"console.{guest}.log" if guest else "hyp.log"
        if name not in self.files:
            self.files[name] = open(os.path.join(self.folder, name), "wb")
        self.files[name].write(line + b"\n")
        self.files[name].flush()

    def close(self):
        for file in self.files.values():
            file.close()

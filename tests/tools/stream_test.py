"""The launcher's reading of Lamina's console, against streams cut at every place."""
import unittest

from stream import Stream

TEXT = (b"lamina 0.1: 2 CPUs\n"
        b"[d1] Booting Linux\r\n"
        b"[d2] guest: up\r\n"
        b"[j] no summary, [json] in the middle neither\n"
        b"[json] {\"a\":\n"
        b"[json]  1}\n"
        b"$ typed")
SHOWN = (b"lamina 0.1: 2 CPUs\n[d1] Booting Linux\r\n[d2] guest: up\r\n"
         b"[j] no summary, [json] in the middle neither\n$ typed")
FILED = [(None, b"lamina 0.1: 2 CPUs"), ("d1", b"Booting Linux"), ("d2", b"guest: up"),
         (None, b"[j] no summary, [json] in the middle neither"), (None, b"$ typed")]


def pass_through(pieces):
    filed = []
    stream = Stream(lambda guest, line: filed.append((guest, line)))
    shown = b"".join(stream.feed(piece) for piece in pieces) + stream.close()
    return shown, filed, stream.json


class StreamTest(unittest.TestCase):
    def check(self, pieces):
        shown, filed, summary = pass_through(pieces)
        self.assertEqual(shown, SHOWN)
        self.assertEqual(filed, FILED)
        self.assertEqual(summary, [b'{"a":', b" 1}"])

    def test_a_stream_in_one_piece_is_taken_apart(self):
        self.check([TEXT])

    def test_a_stream_cut_anywhere_gives_the_same(self):
        for cut in range(len(TEXT)):
            self.check([TEXT[:cut], TEXT[cut:]])

    def test_a_stream_byte_by_byte_gives_the_same(self):
        self.check([TEXT[i:i + 1] for i in range(len(TEXT))])

    def test_bytes_are_shown_before_their_line_ends(self):
        stream = Stream()
        self.assertEqual(stream.feed(b"~ # l"), b"~ # l")
        self.assertEqual(stream.feed(b"s"), b"s")

    def test_what_may_become_a_summary_line_is_held_back(self):
        stream = Stream()
        self.assertEqual(stream.feed(b"[js"), b"")
        self.assertEqual(stream.feed(b"x"), b"[jsx")

    def test_samples_are_put_together_and_not_shown(self):
        text = b'[stats] {"a":{"b"\n[stats] :1}\n[d1] up\n[heat] {"d":[]}\n[stats] ,"c":2}\r\n[trace] {\n[trace] "e":5}\n[stats] {"a":3}\n[stat] x\n'
        for cut in range(len(text)):
            samples = []
            stream = Stream(take_sample=lambda *said, to=samples: to.append(said))
            shown = stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.close()
            self.assertEqual(shown, b"[d1] up\n[stat] x\n")
            self.assertEqual(samples, [("heat", {"d": []}), ("stats", {"a": {"b": 1}, "c": 2}), ("trace", {"e": 5}), ("stats", {"a": 3})])

    def test_a_summary_line_without_a_newline_is_kept(self):
        _, _, summary = pass_through([b"[json] {}"])
        self.assertEqual(summary, [b"{}"])

"""Disks of the machine: what a configuration asks for, and what was named instead."""
import os
import tempfile
import unittest

import config
from common import Failure
from disks import Disks

GUEST = """
/dts-v1/;
/ { chosen { %s domU1 { compatible = "xen,domain"; cpus = <1>; memory = "64M"; kernel = "vmlinuz"; %s }; }; };
"""


class DisksTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = scratch.name

    def disks(self, chosen="", guest="", swap_file=None, given=()):
        path = os.path.join(self.folder, "a.dts")
        with open(path, "w", encoding="utf-8") as file:
            file.write(GUEST % (chosen, guest))
        return Disks(config.Config(path, "arm64", os.path.join(self.folder, "a.dtb")), swap_file, given)

    def test_who_asks_for_none_has_none(self):
        self.assertEqual(self.disks().options(), [])

    def test_the_disk_for_pages_is_there_for_the_run(self):
        disks = self.disks('lamina,swap-disk = "64M";')
        own = os.path.join(self.folder, f"a.{os.getpid()}.swap")
        self.assertFalse(os.path.exists(own))
        line = " ".join(disks.options())
        self.assertEqual(os.path.getsize(own), 64 << 20)
        self.assertIn("force-legacy=false", line)
        self.assertIn(f"file={own},", line)
        self.assertIn("werror=report", line)
        self.assertIn("virtio-blk-device,drive=disk0,serial=swap", line)
        disks.close()
        self.assertFalse(os.path.exists(own))

    def test_another_may_be_named_and_is_left_where_it_is(self):
        other = os.path.join(self.folder, "other")
        with open(other, "wb"):
            pass
        disks = self.disks('lamina,swap-disk = "64M";', swap_file=other)
        self.assertNotIn("cache=unsafe", " ".join(disks.options()))
        disks.close()
        self.assertEqual(os.path.getsize(other), 0)

    def test_a_guests_disk_is_the_file_of_its_name_or_what_was_named(self):
        with open(os.path.join(self.folder, "sda"), "wb"):
            pass
        asks = 'lamina,machine-disk = "sda";'
        self.assertIn(f"file={self.folder}/sda,", " ".join(self.disks(guest=asks).options()))
        self.assertIn("file=nbd:host:7,", " ".join(self.disks(guest=asks, given=["sda=nbd:host:7"]).options()))

    def test_what_makes_no_sense_is_refused(self):
        for words, says in (({"swap_file": "x"}, "SWAP_DISK = x: the configuration has no"),
                            ({"given": ["sda"]}, "DISK = sda: must be NAME=FILE"),
                            ({"given": ["sda=x"]}, "DISK = sda=...: no guest has"),
                            ({"guest": 'lamina,machine-disk = "sdb";'}, "lamina,machine-disk = sdb: no such file in")):
            with self.assertRaisesRegex(Failure, says.replace("(", r"\(")):
                self.disks(**words)


if __name__ == "__main__":
    unittest.main()

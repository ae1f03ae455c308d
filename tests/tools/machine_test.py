"""Where the launcher puts files, and what it refuses."""
import argparse
import os
import tempfile
import unittest

import config
import machine
from common import MIB, Failure


class FakeConfig:
    arch = "arm64"
    path = "configs/fake.dts"
    blob = "no.dtb"
    memory = 512 * MIB

    @staticmethod
    def files_size():
        return 30 * MIB


def options(**changed):
    given = {"cpu": None, "smp": None, "mem": None, "icount": False, "log": None, "batch": False, "accel": None,
             "swap_disk": None, "disk": []}
    return argparse.Namespace(**{**given, **changed})


class PlacesTest(unittest.TestCase):
    def test_files_never_meet_each_other_lamina_or_the_device_tree(self):
        for memory in (256 * MIB, 512 * MIB, 4096 * MIB):
            places = machine.Places(memory)
            for size in (1, 27 * MIB, 2 * MIB, 2 * MIB + 1, 60 * MIB, 5):
                start = places.place(size, "file")
                self.assertEqual(start % (2 * MIB), 0)
            taken = sorted(places.taken)
            for (_, end), (start, _) in zip(taken, taken[1:]):
                self.assertLessEqual(end, start)
            self.assertLessEqual(taken[-1][1], machine.RAM_START + memory)

    def test_files_that_do_not_fit_are_refused(self):
        places = machine.Places(64 * MIB)
        with self.assertRaisesRegex(Failure, "vmlinuz does not fit"):
            places.place(40 * MIB, "vmlinuz")


class MachineTest(unittest.TestCase):
    def test_a_bare_cpu_name_gets_what_makes_it_quick(self):
        self.assertEqual(machine.cpu_model("max", False), "max,pauth-impdef=on")
        self.assertEqual(machine.cpu_model("max,pauth=off", True), "max,pauth=off")
        self.assertEqual(machine.cpu_model("cortex-a72", True), "cortex-a72,cntfrq=1000000000")

    def test_counted_runs_have_one_cpu(self):
        self.assertEqual(machine.Machine(options(icount=True), FakeConfig).smp, 1)
        with self.assertRaisesRegex(Failure, "not repeatable"):
            machine.Machine(options(icount=True, smp="2"), FakeConfig)

    def test_memory_is_the_guests_and_room_for_lamina_and_the_files(self):
        self.assertGreaterEqual(machine.Machine(options(), FakeConfig).memory, (512 + 30 + 256) * MIB)
        self.assertEqual(machine.Machine(options(mem="2G"), FakeConfig).memory, 2048 * MIB)

    def test_nonsense_is_refused_by_name(self):
        for changed, name in (({"smp": "0"}, "SMP"), ({"accel": "kvm"}, "ACCEL"), ({"smp": "99"}, "SMP"), ({"mem": "much"}, "MEM"), ({"log": "loud"}, "LOG")):
            with self.assertRaisesRegex(Failure, f"^{name} = "):
                machine.Machine(options(**changed), FakeConfig)


class IncludeTest(unittest.TestCase):
    def test_a_cyclic_include_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, other in (("a.dts", "b.dtsi"), ("b.dtsi", "a.dts")):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(f'/include/ "{other}"\n')
            with self.assertRaisesRegex(Failure, "cyclic: a.dts -> b.dtsi -> a.dts"):
                config.compile_tree(os.path.join(folder, "a.dts"))

    def test_a_syntax_error_is_one_line_with_its_place(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.dts")
            with open(path, "w", encoding="utf-8") as file:
                file.write("/dts-v1/;\n/ { chosen { a = <1> } };\n")
            with self.assertRaisesRegex(Failure, r"^\S*x.dts:2\.\d+-\d+: syntax error$"):
                config.compile_tree(path)

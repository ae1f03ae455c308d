"""What Bochs and QEMU are told, what they say at their end, and what they cannot be asked for."""
import argparse
import os
import subprocess
import tempfile
import unittest

import bochs
import debug
import pc
from common import MIB, STATUS_FAILED, Failure
from emulator import Qemu, QemuPc
from run import Run


class FakeConfig:
    arch = "x86_64"
    memory = 512 * MIB
    modules = []
    blob = "config.dtb"

    @staticmethod
    def files_size():
        return 30 * MIB


def options(**changed):
    given = {"cpu": None, "smp": None, "mem": None, "icount": False, "log": None, "batch": False, "accel": None,
             "swap_disk": None, "disk": []}
    return argparse.Namespace(**{**given, **changed})


class Console:
    """An emulator with a console of its own, which says what it is told to, and on its standard output its end."""

    name = "a fake"

    def __init__(self, said, end):
        self.master, self.slave = os.openpty()
        bochs.tty.setraw(self.slave)
        self.script = f"printf '{said}' >{os.ttyname(self.slave)}; printf '{end}'"

    def command(self):
        return ["sh", "-c", self.script]

    judge = bochs.Bochs.judge

    def close(self):
        os.close(self.master)
        os.close(self.slave)


class BochsTest(unittest.TestCase):
    def test_the_status_is_the_last_one_that_was_said(self):
        for said, status in ((b"x\nlamina: exit status 0\n", 0), (b"lamina: exit status 1\r\nmore\n", 1), (b"lamina: exit status 2", 2),
                             (b"", STATUS_FAILED), (b"so lamina: exit status 0\n", STATUS_FAILED), (b"lamina: exit status 77\n", STATUS_FAILED)):
            self.assertEqual(bochs.Bochs.judge(None, 1, said, True), status, said)

    def test_the_menu_boots_at_once(self):
        self.assertEqual(bochs.grub_menu(["multiboot /lamina batch", "module /module0 config"]),
                         "set timeout=0\nset default=0\nmenuentry it {\nmultiboot /lamina batch\nmodule /module0 config\n}\n")

    def test_a_run_hears_the_console_to_its_last_byte(self):
        run = Run(Console("[d1] hello\\n[json] {}\\nend", "lamina: exit status 1\\n"), keyboard=False, show=False)
        self.assertEqual(run.status, 1)
        self.assertEqual(run.summary, {})

    def test_qemu_is_judged_by_its_status_and_the_summary(self):
        self.assertEqual([Qemu([]).judge(code, b"", True) for code in (0, 1, 2, 3)], [0, 1, 2, STATUS_FAILED])
        self.assertEqual([Qemu([]).judge(code, b"", False) for code in (0, 1, 2)], [STATUS_FAILED, STATUS_FAILED, 2])


class PcTest(unittest.TestCase):
    def test_memory_is_the_guests_and_room_for_lamina_and_the_files(self):
        self.assertEqual(pc.Pc(options(), FakeConfig).memory, 704 * MIB)

    def test_what_bochs_cannot_do_is_refused_by_name(self):
        with self.assertRaisesRegex(Failure, "^ICOUNT = 1: "):
            pc.Pc(options(icount=True), FakeConfig)
        with self.assertRaisesRegex(Failure, "^MEM = 2049 MiB: "):
            pc.Pc(options(mem="2049"), FakeConfig)
        self.assertEqual(pc.Pc(options(mem="2G"), FakeConfig).memory, 2048 * MIB)

    def test_a_name_that_grub_would_take_apart_is_refused(self):
        target = pc.Pc(options(), type("Config", (FakeConfig,), {"modules": [("a b", "/etc/hostname")]}))
        target_image, pc.lamina_image = pc.lamina_image, lambda _: "/etc/hostname"
        try:
            with self.assertRaisesRegex(Failure, "^a b: "):
                target.emulator()
        finally:
            pc.lamina_image = target_image

class DebuggerTest(unittest.TestCase):
    def assemble(self, source):
        file = tempfile.NamedTemporaryFile(suffix=".o")
        self.addCleanup(file.close)
        subprocess.run(["as", "--64", "-o", file.name, "-"], input=source.encode(), check=True)
        return file.name

    def test_symbols_are_places_in_their_order(self):
        elf = self.assemble("one: nop\n.global _start\n_start: nop\n.set size, 77\n.global elsewhere\ncall elsewhere\n")
        self.assertEqual(debug.read_symbols(elf), [(0, "one"), (1, "_start")])

    def test_an_image_without_symbols_is_refused(self):
        with self.assertRaisesRegex(Failure, "has no symbols$"):
            debug.read_symbols(self.assemble("nop\n"))

    def test_bochs_loads_symbols_and_goes_on_to_the_first_instruction(self):
        self.assertEqual(debug.debugger_commands("/x/symbols", debug.first_instruction([(1, "a"), (0x200010, "_start")])),
                         'ldsym global "/x/symbols"\npb 0x200010\nc\n')


class QemuTargetTest(unittest.TestCase):
    def test_a_debug_exit_is_twice_the_status_and_one(self):
        self.assertEqual([QemuPc([]).judge(code, b"", True) for code in (1, 3, 5, 7, 0, 2, -15, 255)],
                         [0, 1, 2] + 5 * [STATUS_FAILED])

    def test_qemus_own_failure_is_no_success(self):
        self.assertEqual([QemuPc([]).judge(code, b"", False) for code in (1, 3, 5)], [STATUS_FAILED, STATUS_FAILED, 2])

    def test_without_a_wish_it_is_bochs(self):
        self.assertIs(type(pc.prepare(options(), FakeConfig)), pc.Pc)
        self.assertIs(type(pc.prepare(options(accel="kvm"), FakeConfig)), pc.QemuTarget)

    def test_the_cpu_is_the_hosts_unless_it_was_named(self):
        self.assertEqual(pc.QemuTarget(options(accel="kvm"), FakeConfig).cpu, "host")
        self.assertEqual(pc.QemuTarget(options(accel="tcg"), FakeConfig).cpu, "max")
        self.assertEqual(pc.QemuTarget(options(accel="kvm", cpu="Skylake-Client"), FakeConfig).cpu, "Skylake-Client")

    def test_modules_are_one_word_with_their_commas_doubled(self):
        target = pc.QemuTarget(options(accel="tcg"), type("Config", (FakeConfig,), {"modules": [("a,b", "/x/a,b")]}))
        self.assertEqual(target.initrd(), "config.dtb config,/x/a,,b a,,b")

    def test_a_path_with_a_space_is_refused(self):
        target = pc.QemuTarget(options(accel="tcg"), type("Config", (FakeConfig,), {"modules": [("a", "/x y/a")]}))
        with self.assertRaisesRegex(Failure, "^/x y/a: "):
            target.initrd()


class KvmTest(unittest.TestCase):
    """Each reason, from files that say so."""

    def missing(self, flags, nested):
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, name) for name in ("kvm", "cpuinfo", "nested")]
            for path, text in zip(paths, ("", f"processor : 0\nflags\t\t: fpu {flags}\n", nested)):
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            return pc.missing_for_kvm(*paths)

    def test_nothing_is_missing_where_kvm_nests(self):
        self.assertIsNone(self.missing("vmx sse", "Y\n"))
        self.assertIsNone(self.missing("vmx", "1\n"))

    def test_what_is_missing_is_named(self):
        self.assertRegex(self.missing("svm vmx_none", "Y\n"), "no vmx in ")
        self.assertRegex(self.missing("vmx", "N\n"), "nested=1")
        self.assertRegex(pc.missing_for_kvm("/nowhere"), "^/nowhere is not there$")


if __name__ == "__main__":
    unittest.main()

"""The PC for x86-64: what was asked for, as Bochs or QEMU can be told it.

A multiboot loader (GRUB; QEMU's own) hands Lamina the configuration and the files that it names as modules, each
under the name that the configuration uses. Bochs is what has VMX everywhere. QEMU has it with KVM alone, where KVM
itself may be nested: that is the quick way, on machines that have it.
"""
import os
import re

from bochs import Bochs
from common import MIB, Failure, first_line, lamina_image
from emulator import QemuPc
from target import Target

DEFAULT_CPU = "corei7_skylake_x"
OWN_MEMORY = 128 * MIB
MEMORY_MAX = 2048 * MIB  # Bochs 2.7 itself: it says so of its "megs", and hangs where they are told another way
NAME = re.compile(r"[A-Za-z0-9_.,+/:@%-]+")

ACCELERATORS = ("kvm", "tcg")
QEMU_CPUS = {"kvm": "host", "tcg": "max"}
DEVICE = "/dev/kvm"
PROCESSOR = "/proc/cpuinfo"
NESTED = "/sys/module/kvm_intel/parameters/nested"


class Pc(Target):
    def __init__(self, options, configuration):
        super().__init__(options, configuration, OWN_MEMORY)
        self.cpu = options.cpu or self.default_cpu(options)
        if options.icount:
            raise Failure("ICOUNT = 1: QEMU counts instructions; Bochs's ticks are the same within a percent")
        if self.memory > MEMORY_MAX:
            raise Failure(f"MEM = {self.memory // MIB} MiB: a PC is given no more than {MEMORY_MAX // MIB}")

    def modules(self):
        """Names and paths, the configuration first."""
        return [("config", self.config.blob)] + self.config.modules

    @staticmethod
    def default_cpu(_):
        return DEFAULT_CPU

    def machine_text(self):
        return f"PC, {self.smp} x {self.cpu}"

    @staticmethod
    def emulator_version():
        return first_line(["dpkg-query", "-W", "-f", "Bochs ${Version}\n", "bochs"])

    def command(self):
        raise Failure("Bochs is told by files, not by a command: run it, they are in build/bochs meanwhile")

    def emulator(self):
        files = {"lamina": lamina_image(self.config.arch)}
        commands = [f"multiboot /lamina {self.boot_words()}"]
        for number, (name, path) in enumerate(self.modules()):
            if not NAME.fullmatch(name):
                raise Failure(f"{name}: GRUB cannot be given a file of this name")
            files[f"module{number}"] = path
            commands.append(f"module /module{number} {name}")
        return Bochs(self.cpu, self.smp, self.memory, files, commands)


def read_text(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def missing_for_kvm(device=DEVICE, processor=PROCESSOR, nested=NESTED):
    """Why QEMU's guest would have no VMX here; None if it has."""
    if not os.access(device, os.R_OK | os.W_OK):
        reason = "may not be used by this user" if os.path.exists(device) else "is not there"
        return f"{device} {reason}"
    flags = re.search(r"^flags\s*:(.*)$", read_text(processor), re.MULTILINE)
    if not flags or "vmx" not in flags[1].split():
        return f"this PC's CPU has no VMX (no vmx in {processor})"
    if read_text(nested).strip() not in ("Y", "1"):
        return f"its KVM does not give VMX to guests ({nested} is not Y: modprobe kvm_intel nested=1)"
    return None


class QemuTarget(Pc):
    """The same PC in QEMU."""

    def __init__(self, options, configuration):
        self.accelerator = options.accel
        super().__init__(options, configuration)

    @staticmethod
    def default_cpu(options):
        return QEMU_CPUS[options.accel]

    def machine_text(self):
        return f"{super().machine_text()}, {self.accelerator}"

    @staticmethod
    def emulator_version():
        return "QEMU " + first_line(["qemu-system-x86_64", "--version"]).replace("QEMU emulator version ", "")

    def initrd(self):
        """All modules in one word: a path, a space, the module's name; commas between them, those inside doubled."""
        words = []
        for name, path in self.modules():
            if " " in path + name:
                raise Failure(f"{path}: QEMU cannot be given a module whose path or name has a space in it")
            words.append(f"{path} {name}".replace(",", ",,"))
        return ",".join(words)

    def command(self):
        line = ["qemu-system-x86_64", "-M", f"pc,accel={self.accelerator}", "-cpu", self.cpu, "-smp", str(self.smp),
                "-m", str(self.memory // MIB), "-display", "none", "-nic", "none", "-monitor", "none", "-no-reboot",
                "-chardev", "stdio,id=console,mux=off,signal=off", "-serial", "chardev:console",
                "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
                "-kernel", lamina_image(self.config.arch), "-initrd", self.initrd()]
        return line + (["-append", self.boot_words()] if self.boot_words() else [])

    def emulator(self):
        missing = missing_for_kvm() if self.accelerator == "kvm" else None
        if missing:
            raise Failure(f"ACCEL = kvm: {missing}; without ACCEL it runs in Bochs")
        return QemuPc(self.command())


def prepare(options, configuration):
    return (QemuTarget if options.accel else Pc)(options, configuration)

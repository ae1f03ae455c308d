"""The emulated machine: one QEMU command for one configuration.

Memory of `virt` starts at 1 GiB. QEMU puts Lamina 2 MiB above that, and the machine's own device tree
where a Linux kernel would like it; the configuration and the files that it names are placed here, in
what is left. Lamina finds them in the device tree, each under the name that the configuration uses.

    0x40000000  QEMU's boot code
    0x40200000  Lamina, up to LAMINA_ROOM
                files, each at a multiple of 2 MiB, around the device tree
"""
import os
import shlex
import sys

import pc
from common import MIB, Failure, first_line, lamina_image
from config import Config
from disks import Disks, commas_doubled
from emulator import Qemu
from target import DEFAULT_SMP, Target, align_up

RAM_START = 0x40000000
LAMINA_START = RAM_START + 2 * MIB
LAMINA_ROOM = 32 * MIB
PLACE_STEP = 2 * MIB
DTB_ROOM = 2 * MIB
OWN_MEMORY = 256 * MIB

DEFAULT_CPU = "cortex-a76"
# QEMU computes pointer authentication's real cipher, at many times the cost of everything else.
CPU_EXTRAS = {"max": "pauth-impdef=on"}
# One instruction is one nanosecond is one tick of the counter, and nothing comes from the host's clock.
ICOUNT_OPTIONS = ["-icount", "shift=0,sleep=off", "-seed", "1", "-rtc", "base=2026-01-01,clock=vm"]
ICOUNT_CPU = "cntfrq=1000000000"


def cpu_model(cpu, icount):
    """A full CPU string is the user's own; a bare name gets what it needs to be quick."""
    if "," in cpu:
        return cpu
    parts = [cpu] + ([CPU_EXTRAS[cpu]] if cpu in CPU_EXTRAS else []) + ([ICOUNT_CPU] if icount else [])
    return ",".join(parts)


class Places:
    """Hands out memory for files: upwards, around what QEMU has put there itself."""

    def __init__(self, memory):
        # hw/arm/boot.c: at half of memory but at most 128 MiB up, then to a multiple of 2 MiB.
        dtb = align_up(RAM_START + min(memory // 2, 128 * MIB), 2 * MIB)
        self.taken = [(LAMINA_START, LAMINA_START + LAMINA_ROOM), (dtb, dtb + DTB_ROOM)]
        self.end = RAM_START + memory

    def place(self, size, name):
        start = LAMINA_START
        for low, high in sorted(self.taken):
            if start < high and low < start + size:
                start = align_up(high, PLACE_STEP)
        if start + size > self.end:
            raise Failure(f"MEM: {self.end - RAM_START >> 20} MiB are too little for the files: {name} does not fit")
        self.taken.append((start, start + size))
        return start


class Machine(Target):
    """QEMU's `virt`, for ARMv8."""

    def __init__(self, options, configuration):
        self.icount = options.icount
        if options.accel:
            raise Failure(f"ACCEL = {options.accel}: for ARCH=x86_64 alone; on ARMv8 QEMU's own CPU is the machine")
        super().__init__(options, configuration, OWN_MEMORY)
        if self.icount and self.smp > 1:
            raise Failure(f"SMP = {self.smp}: ICOUNT=1 is for one CPU: with more, runs are not repeatable")
        self.cpu = cpu_model(options.cpu or DEFAULT_CPU, self.icount)
        self.disks = Disks(configuration, options.swap_disk, options.disk)

    @staticmethod
    def default_smp(options):
        return "1" if options.icount else DEFAULT_SMP

    def machine_text(self):
        return f"virt, {self.smp} x {self.cpu}" + (", instructions counted" if self.icount else "")

    @staticmethod
    def emulator_version():
        return "QEMU " + first_line(["qemu-system-aarch64", "--version"]).replace("QEMU emulator version ", "")

    def emulator(self):
        return Qemu(self.command(), self.disks.close)

    def loaders(self):
        places = Places(self.memory)
        for name, path in [("config", self.config.blob)] + self.config.modules:
            address = places.place(os.path.getsize(path), name)
            yield f"guest-loader,addr={address:#x},kernel={commas_doubled(path)},bootargs={commas_doubled(name)}"

    def command(self):
        machine = "virt,virtualization=on,gic-version=3" + (",dtb-randomness=off" if self.icount else "")
        line = ["qemu-system-aarch64", "-M", machine, "-cpu", self.cpu, "-smp", str(self.smp),
                "-m", str(self.memory // MIB), "-display", "none", "-nic", "none", "-monitor", "none",
                "-chardev", "stdio,id=console,mux=off,signal=off", "-serial", "chardev:console",
                "-semihosting-config", "enable=on,target=native",
                "-kernel", lamina_image(self.config.arch)]
        if self.icount:
            line += ICOUNT_OPTIONS
        if self.boot_words():
            line += ["-append", self.boot_words()]
        line += self.disks.options()
        for loader in self.loaders():
            line += ["-device", loader]
        return line


def prepare(options, configuration=None):
    """The machine for a command's options; the configuration's problems go to stderr."""
    configuration = configuration or Config(options.config, options.arch)
    configuration.take_files(sys.stderr)
    target = {"arm64": Machine, "x86_64": pc.prepare}[options.arch](options, configuration)
    if target.log:
        configuration.add_log_level(target.log)
    if target.batch:
        configuration.add_poweroff()
    return target


def command(options):
    print(shlex.join(prepare(options).command()))
    return 0

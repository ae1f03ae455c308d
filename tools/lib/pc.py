"""The emulated PC for x86-64: what was asked for, as Bochs can be told it.

GRUB hands Lamina the configuration and the files that it names as multiboot modules, each under the name that
the configuration uses.
"""
import re

from bochs import Bochs
from common import MIB, Failure, first_line, lamina_image
from target import Target

DEFAULT_CPU = "corei7_skylake_x"
OWN_MEMORY = 128 * MIB
MEMORY_MAX = 3072 * MIB  # below the devices
NAME = re.compile(r"[A-Za-z0-9_.,+/:@%-]+")


class Pc(Target):
    def __init__(self, options, configuration):
        super().__init__(options, configuration, OWN_MEMORY)
        self.cpu = options.cpu or DEFAULT_CPU
        if options.icount:
            raise Failure("ICOUNT = 1: QEMU counts instructions; Bochs's ticks are the same within a percent")
        if self.memory > MEMORY_MAX:
            raise Failure(f"MEM = {self.memory // MIB} MiB: Bochs is given no more than {MEMORY_MAX // MIB}")

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
        for number, (name, path) in enumerate([("config", self.config.blob)] + self.config.modules):
            if not NAME.fullmatch(name):
                raise Failure(f"{name}: GRUB cannot be given a file of this name")
            files[f"module{number}"] = path
            commands.append(f"module /module{number} {name}")
        return Bochs(self.cpu, self.smp, self.memory, files, commands)

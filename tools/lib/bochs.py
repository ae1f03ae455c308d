"""The emulated PC: Bochs, started from a disc that GRUB boots.

The console is COM1, a pseudoterminal that Bochs opens; what Bochs itself says,
and the exit status, which Lamina writes to port 0xE9, come on its standard output.
"""
import os
import pty
import re
import shutil
import subprocess
import tempfile
import tty

from common import (BUILD, MIB, STATUS_FAILED, STATUS_GUEST_CRASHED, STATUS_OK, STATUS_PANICKED, Failure,
                    need_file)

INSTRUCTIONS_PER_SECOND = 100000000

FIRMWARE = "/usr/share/bochs/BIOS-bochs-latest"
VIDEO_FIRMWARE = "/usr/share/vgabios/vgabios.bin"
STATUS_LINE = re.compile(rb"^lamina: exit status ([0-9]+)", re.MULTILINE)

SETTINGS = """\
megs: {megs}
romimage: file={firmware}
vgaromimage: file={video}
boot: cdrom
ata0-master: type=cdrom, path={disc}, status=inserted
cpu: model={cpu}, count={smp}, ips={ips}, reset_on_triple_fault=0
clock: sync=none
port_e9_hack: enabled=1
com1: enabled=1, mode=term, dev={terminal}
speaker: enabled=0
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
display_library: rfb, options="timeout=0"
log: {log}
panic: action=fatal
error: action=report
info: action=report
"""


def grub_menu(commands):
    return "\n".join(["set timeout=0", "set default=0", "menuentry it {", *commands, "}"]) + "\n"


class Bochs:
    """One machine for one run: its files in a folder of their own, and its console."""

    name = "Bochs"

    def __init__(self, cpu, smp, memory, files, commands):
        """`files` by their names on the disc; `commands` are GRUB's."""
        os.makedirs(os.path.join(BUILD, "bochs"), exist_ok=True)
        self.folder = tempfile.mkdtemp(dir=os.path.join(BUILD, "bochs"))
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        self.make_disc(files, commands)
        self.write("settings", SETTINGS.format(
            megs=memory // MIB, firmware=need_file(FIRMWARE, "Bochs' firmware"),
            video=need_file(VIDEO_FIRMWARE, "Bochs' video firmware"), disc=self.path("disc.iso"), cpu=cpu, smp=smp,
            ips=INSTRUCTIONS_PER_SECOND, terminal=os.ttyname(self.slave), log=self.path("log")))
        self.write("commands", "c\n")  # Debian's Bochs begins in its debugger

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def make_disc(self, files, commands):
        os.makedirs(self.path("disc/boot/grub"))
        for name, path in files.items():
            shutil.copyfile(path, self.path(f"disc/{name}"))
        self.write("disc/boot/grub/grub.cfg", grub_menu(commands))
        command = ["grub-mkrescue", "-o", self.path("disc.iso"), self.path("disc"), "--fonts=", "--locales=", "--themes=",
                   "--install-modules=multiboot linux normal iso9660 biosdisk"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise Failure(f"{command[0]} does not start: {error.strerror}") from error
        if done.returncode != 0:
            raise Failure(f"grub-mkrescue failed: {done.stderr.strip().splitlines()[-1:]}")
        shutil.rmtree(self.path("disc"))

    def command(self):
        return ["bochs", "-q", "-f", self.path("settings"), "-rc", self.path("commands")]

    def close(self):
        for descriptor in (self.master, self.slave):
            os.close(descriptor)
        shutil.rmtree(self.folder)

    def judge(self, _code, said, _has_summary):
        """Bochs's own exit status says nothing; what Lamina said at its end does."""
        found = STATUS_LINE.findall(said)
        status = int(found[-1]) if found else STATUS_FAILED
        return status if status in (STATUS_OK, STATUS_GUEST_CRASHED, STATUS_PANICKED) else STATUS_FAILED

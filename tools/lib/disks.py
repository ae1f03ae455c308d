"""Disks of the emulated machine, each of which Lamina knows by what it calls itself.

The disk for pages is a sparse file beside the blob, made for the run and gone after it; a guest's is the file of its
name. For both, something else may be named, whatever QEMU takes for a file.
"""
import os

from common import Failure, guest_folder, parse_memory
from config import get_lines, get_property

SWAP_DISK = "swap"
SWAP_WORD = "lamina,swap-disk"
GUEST_WORD = "lamina,machine-disk"


def commas_doubled(text):
    """QEMU's way to write a comma inside of an option's value."""
    return text.replace(",", ",,")


def swap_size(blob):
    """Bytes; 0: the configuration asks for none."""
    text = get_property(blob, "/chosen", SWAP_WORD)
    return parse_memory(text, SWAP_WORD) if text else 0


def guest_disks(blob):
    """Names, once each."""
    nodes = [f"/chosen/{name}" for name in get_lines(blob, "-l", "/chosen")]
    return sorted({get_property(blob, node, GUEST_WORD) for node in nodes} - {""})


def parse_given(given):
    """NAME=FILE texts as a dictionary."""
    files = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise Failure(f"DISK = {text}: must be NAME=FILE")
        files[name] = file
    return files


def find_file(name, folders):
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return path
    raise Failure(f"{GUEST_WORD} = {name}: no such file in {' or '.join(folders)}; DISK={name}=FILE names one")


class Disks:
    """What a run's machine has; close() removes what was made for it."""

    def __init__(self, configuration, swap_file, given):
        blob = configuration.blob
        self.files = {}
        self.own = None
        self.add_guests(blob, parse_given(given), [os.path.dirname(configuration.path) or ".", guest_folder(configuration.arch)])
        self.own_size = swap_size(blob)
        if swap_file and not self.own_size:
            raise Failure(f"SWAP_DISK = {swap_file}: the configuration has no {SWAP_WORD} in /chosen")
        if self.own_size:
            # Of this process alone: the same configuration may run twice at once.
            self.own = None if swap_file else f"{os.path.splitext(blob)[0]}.{os.getpid()}.swap"
            self.files[SWAP_DISK] = swap_file or self.own

    def add_guests(self, blob, given, folders):
        names = guest_disks(blob)
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise Failure(f"DISK = {unknown[0]}=...: no guest has a {GUEST_WORD} of this name")
        for name in names:
            self.files[name] = given.get(name) or find_file(name, folders)

    def make_own(self):
        if self.own:
            with open(self.own, "wb") as file:
                file.truncate(self.own_size)

    def options(self):
        """QEMU's; a disk's serial number is what it calls itself. The command may be run: its files are there."""
        self.make_own()
        line = ["-global", "virtio-mmio.force-legacy=false"] if self.files else []
        for number, (name, path) in enumerate(self.files.items()):
            # Nobody reads what was made for the run afterwards, so nothing of it has to be on the host's disk.
            cache = ",cache=unsafe" if path == self.own else ""
            # Errors are Lamina's to deal with; QEMU would stop the machine when its own disk is full.
            line += ["-drive", f"file={commas_doubled(path)},if=none,id=disk{number},format=raw{cache},"
                               "werror=report,rerror=report",
                     "-device", f"virtio-blk-device,drive=disk{number},serial={commas_doubled(name)}"]
        return line

    def close(self):
        if self.own and os.path.exists(self.own):
            os.remove(self.own)

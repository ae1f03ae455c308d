"""A configuration on its way to the machine: text to blob, the blob checked, its files found.

The rules are not known here: build/host/check-ARCH is the hypervisor's own parser, compiled for this
machine, and it alone says what is right, how much memory is asked for and which files are named.
"""
import os
import re
import shutil
import subprocess
import sys

from common import BUILD, STATUS_GUEST_CRASHED, Failure, guest_folder, need_file, relative

INCLUDE = re.compile(r'^\s*/include/\s+"([^"]+)"', re.MULTILINE)


# The ramdisk that the build makes; its /init knows the word.
OWN_RAMDISK = "initramfs.cpio.gz"
POWEROFF_WORD = "lamina.poweroff"


class Config:
    """What a machine is to be given: the blob, the memory of all guests, and their files by name."""

    def __init__(self, path, arch, blob=None):
        self.path = path
        self.arch = arch
        self.blob = compile_tree(path, blob)
        self.memory = 0
        self.modules = []

    def checker(self, *options):
        tool = need_file(os.path.join(BUILD, "host", f"check-{self.arch}"), "the checker")
        return subprocess.run([tool, "--search", guest_folder(self.arch), *options,
                               self.blob, relative(self.path)], capture_output=True, text=True, check=False)

    def take_files(self, complain):
        """One guest's problem is said, and does not stop the others; with no good guest there is no run."""
        done = self.checker("--list-modules")
        complain.write(done.stderr)
        if done.returncode > 1 or not done.stdout:
            raise Failure(f"the checker failed: status {done.returncode}")
        memory, *modules = [tuple(line.split("\t")) for line in done.stdout.splitlines()]
        self.memory = int(memory[1])
        self.modules = modules
        if not self.memory:
            raise Failure(f"{relative(self.path)}: no guest in it can be started", STATUS_GUEST_CRASHED)

    def copy_name(self):
        return "config.dts" if self.path.endswith(".dts") else "config.dtb"

    def files_size(self):
        return sum(os.path.getsize(path) for _, path in self.modules)

    def add_log_level(self, level):
        put_property(self.blob, "/chosen", "lamina,log-level", level)

    def add_poweroff(self):
        """Without a keyboard a shell would wait for ever: guests with our ramdisk are told to end."""
        for node in get_lines(self.blob, "-l", "/chosen"):
            path = "/chosen/" + node
            if get_property(self.blob, path, "ramdisk") == OWN_RAMDISK:
                words = [get_property(self.blob, path, "bootargs"), POWEROFF_WORD]
                put_property(self.blob, path, "bootargs", " ".join(words).strip())


def get_lines(blob, *question):
    done = subprocess.run(["fdtget", *question[:-1], blob, question[-1]], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def get_property(blob, node, name):
    done = subprocess.run(["fdtget", "-t", "s", "-d", "", blob, node, name], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def put_property(blob, node, name, text):
    put_strings(blob, node, name, [text])


def put_strings(blob, node, name, texts):
    done = subprocess.run(["fdtput", "-t", "s", blob, node, name, *texts], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{node}: {name} cannot be set: {done.stderr.strip()}")


def drop_property(blob, node, name):
    """Nothing to do where there is none."""
    subprocess.run(["fdtput", "-d", blob, node, name], capture_output=True, check=False)


def check_includes(path, chain):
    """dtc ends a cycle at a depth of 200 without a word about where it is."""
    if path in chain:
        steps = " -> ".join(os.path.basename(step) for step in chain[chain.index(path):] + [path])
        raise Failure(f"{relative(path)}: /include/: cyclic: {steps}", STATUS_GUEST_CRASHED)
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            text = source.read()
    except OSError:
        return  # dtc says it better: it knows the line
    for name in INCLUDE.findall(text):
        check_includes(os.path.normpath(os.path.join(os.path.dirname(path), name)), chain + [path])


def first_complaint(text, path):
    """One line of dtc's many: the first that names a place, else the last."""
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        if line.startswith("Error: "):
            return re.sub(r"^(\S+:\d+\.\d+(?:-[\d.]+)?) ", r"\1: ", line[len("Error: "):])
    reason = lines[-1] if lines else "dtc failed without a word"
    return f"{relative(path)}: {reason.replace('FATAL ERROR: ', '')}"


def build_blob(path):
    """Where a configuration's blob is, if nobody says otherwise."""
    return os.path.join(BUILD, "config", os.path.splitext(os.path.basename(path))[0] + ".dtb")


def compile_tree(path, blob=None):
    """Writes the blob, and returns its path; what is no .dts is taken as a blob already."""
    blob = blob or build_blob(path)
    if not os.path.isfile(path):
        raise Failure(f"{path}: no such configuration", STATUS_GUEST_CRASHED)
    os.makedirs(os.path.dirname(blob) or ".", exist_ok=True)
    if not path.endswith(".dts"):
        if os.path.exists(blob) and os.path.samefile(path, blob):
            raise Failure(f"{path}: is what this run would write; copy it elsewhere first")
        shutil.copyfile(path, blob)
        return blob
    check_includes(os.path.abspath(path), [])
    done = subprocess.run(["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", blob, path],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(first_complaint(done.stderr, path), STATUS_GUEST_CRASHED)
    return blob


def command(options):
    configuration = Config(options.config, options.arch)
    done = configuration.checker()
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode

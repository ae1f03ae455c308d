"""Where things are, and how a refusal is said."""
import os
import re
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BUILD = os.path.join(TOP, "build")

STATUS_OK = 0
STATUS_GUEST_CRASHED = 1
STATUS_PANICKED = 2
STATUS_FAILED = 3
STATUS_TIMEOUT = 124
STATUS_INTERRUPTED = 130

MIB = 1 << 20


class Failure(Exception):
    """A sentence for the person who asked, and the exit status."""

    def __init__(self, sentence, status=STATUS_FAILED):
        super().__init__(sentence)
        self.status = status


def relative(path):
    """A path as a person at the current folder would write it."""
    short = os.path.relpath(path)
    return path if short.startswith("..") else short


def need_file(path, what):
    if not os.path.isfile(path):
        raise Failure(f"{what} is not there: {relative(path)} (make builds it)")
    return path


def lamina_image(arch):
    return need_file(os.path.join(BUILD, arch, "lamina.bin"), "Lamina's image")


def lamina_elf(arch):
    return need_file(os.path.join(BUILD, arch, "lamina.elf"), "Lamina's image with symbols")


def guest_folder(arch):
    return os.path.join(BUILD, "guest", arch)


def parse_number(text, what, low, high):
    if not re.fullmatch(r"[0-9]+", text) or not low <= int(text) <= high:
        raise Failure(f"{what} = {text}: must be a number from {low} to {high}")
    return int(text)


def parse_memory(text, what):
    """Bytes, from "1024" (MiB), "512M" or "2G"."""
    match = re.fullmatch(r"([0-9]+)([MG]?)", text)
    if not match or int(match[1]) == 0:
        raise Failure(f"{what} = {text}: must be MiB as a number, or like 512M or 2G")
    return int(match[1]) * (1024 * MIB if match[2] == "G" else MIB)


def first_line(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure(f"{command[0]} does not run: {error}") from error


def versions(arch):
    """Names and versions of the guest's files."""
    found = {}
    try:
        with open(os.path.join(guest_folder(arch), "versions"), encoding="utf-8") as lines:
            for line in lines:
                name, version, _ = line.split()
                found["kernel" if name.startswith("linux-image") else name] = f"{name} {version}"
    except OSError:
        found["kernel"] = "no Debian kernel was fetched"
    return found

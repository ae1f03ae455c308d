"""What things cost, in instructions (Bochs: ticks): a counter that ticks once an instruction is read by the guest.

`boot` starts the same kernel and ramdisk bare and under Lamina. The ramdisk's first program prints the
counter at user space's first instructions. Bare that is the count since power-on, and under Lamina as well:
a guest reads the machine's own counter, virtual or TSC.

`s2` needs no machine: the second-level tables' operations run on the host (bench_s2.py).
"""
import argparse
import json
import os
import re
import sys

import bench_s2
import machine
import pc
from bochs import Bochs
from common import BUILD, MIB, STATUS_OK, Failure, guest_folder, need_file, relative
from emulator import Qemu
from run import Run

BOOT_ARGUMENTS = {
    "arm64": "console=ttyAMA0 quiet cryptomgr.notests nokaslr lamina.poweroff rdinit=/bin/ticks",
    "x86_64": "console=ttyS0 quiet cryptomgr.notests lamina.poweroff rdinit=/bin/ticks",
}
BOOT_MEMORY_MIB = 512
BOOT_CONFIG = """/dts-v1/;

/* Made by tools/lamina bench boot. */
/ {
	chosen {
		domU1 {
			compatible = "xen,domain";
			cpus = <1>;
			memory = "%(memory)sM";
			kernel = "vmlinuz";
			ramdisk = "initramfs.cpio.gz";
			bootargs = "%(arguments)s";
		};
	};
};
"""
TICKS = re.compile(r"guest: ticks = (\d+)")
TIMEOUT_S = 300

# name of the guest's operation: the most it may cost; None is measured without a bound
EXIT_BOUNDS = {"arm64": {
    "hvc_psci_version": 150,
    "id_register": 150,
    "gicd_typer_read": 250,
    "touch_4k_fresh": 700,
    "touch_2m_fresh_per_4k": 100,
    "self_sgi": 700,
    "vtimer": 700,
    "wfi_wake": None,
}, "x86_64": {
    "cpuid": 400,
    "hypercall": 400,
    "touch_4k_fresh": 1500,
    "touch_2m_fresh_per_4k": 300,
    "self_ipi": 1500,
}}
UNITS = {"arm64": "instructions", "x86_64": "ticks"}
BOOT_BOUNDS = {"arm64": {"before_guest": 10_000_000, "inside": 3_000_000}, "x86_64": {"inside": 20_000_000}}
# How much of a bare boot a boot under Lamina may take.
BOOT_RATIO = {"arm64": 1.0, "x86_64": 1.05}


class Lines:
    """A sink that keeps all lines, for looking numbers up."""

    def __init__(self):
        self.lines = []

    def __call__(self, guest, line):
        self.lines.append(line.decode(errors="replace"))

    def first(self, pattern):
        for line in self.lines:
            match = pattern.search(line)
            if match:
                return match
        raise Failure(f"the run printed no line like: {pattern.pattern}")


def machine_options(arch, path):
    """QEMU counts instructions; Bochs's ticks are instructions, within a percent."""
    counts = arch == "arm64"
    return argparse.Namespace(arch=arch, config=path, cpu="max" if counts else None, smp="1", mem=None, icount=counts, swap_disk=None, disk=[],
                              log=None, batch=True, accel=None)


def run_lamina(arch, path):
    """Lines and summary of a counted run."""
    lines = Lines()
    target = machine.prepare(machine_options(arch, path))
    run = Run(target.emulator(), keyboard=False, timeout_s=TIMEOUT_S, sink=lines, show=False)
    if run.status != STATUS_OK or run.summary is None:
        sys.stdout.write("\n".join(lines.lines[-40:]) + "\n")
        raise Failure(f"the measured run under Lamina ended with status {run.status}: {run.ending()}")
    return lines, run.summary


class Seen(Exception):
    """The line that was waited for came: what the machine does behind it is not looked at."""


class LinesUntil(Lines):
    def __init__(self, pattern):
        super().__init__()
        self.pattern = pattern

    def __call__(self, guest, line):
        super().__call__(guest, line)
        if self.pattern.search(self.lines[-1]):
            raise Seen


def bare_qemu(kernel, ramdisk):
    return Qemu(["qemu-system-aarch64", "-M", "virt,gic-version=3,dtb-randomness=off",
                 "-cpu", machine.cpu_model("max", True), "-smp", "1", "-m", str(BOOT_MEMORY_MIB),
                 "-display", "none", "-nic", "none", "-monitor", "none", "-serial", "stdio",
                 "-kernel", kernel, "-initrd", ramdisk, "-append", BOOT_ARGUMENTS["arm64"]] + machine.ICOUNT_OPTIONS)


def bare_bochs(kernel, ramdisk):
    return Bochs(pc.DEFAULT_CPU, 1, BOOT_MEMORY_MIB * MIB, {"kernel": kernel, "ramdisk": ramdisk},
                 [f"linux /kernel {BOOT_ARGUMENTS['x86_64']}", "initrd /ramdisk"])


def run_bare(arch):
    """Ticks from power-on to user space without a hypervisor."""
    folder = guest_folder(arch)
    kernel = need_file(os.path.join(folder, "vmlinuz"), "the guest's kernel")
    ramdisk = need_file(os.path.join(folder, "initramfs.cpio.gz"), "the guest's ramdisk")
    lines = LinesUntil(TICKS)
    try:
        Run({"arm64": bare_qemu, "x86_64": bare_bochs}[arch](kernel, ramdisk), keyboard=False, timeout_s=TIMEOUT_S,
            sink=lines, show=False)
    except Seen:
        pass
    return int(lines.first(TICKS)[1])


def take(summary, key):
    if key not in summary:
        raise Failure(f"summary.json has no {key}")
    return summary[key]


def write_result(name, result):
    folder = os.path.join(BUILD, "bench")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=2)
        file.write("\n")
    print(f"written: {relative(path)}")


def print_row(name, value, bound):
    verdict = "" if bound is None else ("holds" if value <= bound else "MISSED")
    print(f"  {name:<26} {value:>13,} {'' if bound is None else format(bound, ','):>13}  {verdict}")
    return bound is None or value <= bound


def bench_boot(arch):
    folder = os.path.join(BUILD, "bench")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "boot.dts")
    with open(path, "w", encoding="utf-8") as file:
        file.write(BOOT_CONFIG % {"memory": BOOT_MEMORY_MIB, "arguments": BOOT_ARGUMENTS[arch]})
    bare = run_bare(arch)
    lines, summary = run_lamina(arch, path)
    before = take(summary, "before_guest_ticks")
    result = {
        "bare": bare,
        "lamina": int(lines.first(TICKS)[1]),
        "before_guest": before,
        "inside": take(summary, "inside_ticks"),
        "exits": take(summary, "inside_by_reason"),
    }
    print(f"{UNITS[arch]}, power-on to user space ({BOOT_MEMORY_MIB} MiB, one vCPU)".ljust(55) + "bound")
    held = print_row("bare", bare, None)
    bounds = {"lamina": int(bare * BOOT_RATIO[arch]), "before_guest": None, **BOOT_BOUNDS[arch]}
    for name, bound in bounds.items():
        held &= print_row(name, result[name], bound)
    for reason, count in sorted(result["exits"].items(), key=lambda pair: -pair[1]):
        print_row("  " + reason, count, None)
    print(f"  lamina / bare = {result['lamina'] / bare:.4f}")
    write_result(f"boot-{arch}.json", result)
    return held


def bench_exits(arch):
    lines, _ = run_lamina(arch, os.path.join("configs", "bench.dts"))
    measured = {}
    for line in lines.lines:
        match = re.search(r"\bbench (\w+) (\d+)$", line)
        if match:
            measured[match[1]] = int(match[2])
    bounds, unit = EXIT_BOUNDS[arch], UNITS[arch]
    missing = [name for name in bounds if name not in measured]
    if missing:
        raise Failure(f"the guest did not measure {', '.join(missing)}")
    print(f"{unit} for one operation of a guest".ljust(49) + "bound")
    held = all([print_row(name, count, bounds.get(name)) for name, count in measured.items()])
    write_result(f"exits-{arch}.json", [{"op": name, unit: count} for name, count in measured.items()])
    return held


def bench_tables(_):
    """The host's compiler and CPU count here, whatever machine Lamina is built for."""
    program = need_file(os.path.join(BUILD, "host", "s2-bench"), "the tables' benchmark")
    rows, held = bench_s2.measure(program, os.path.join(BUILD, "bench"))
    write_result("s2.json", rows)
    write_result("core.json", bench_s2.core_rows(rows))
    return held


BENCHES = {"boot": bench_boot, "exits": bench_exits, "s2": bench_tables}


def command(options):
    held = all([BENCHES[what](options.arch) for what in options.what])
    if not held:
        print("lamina: a bound is missed", file=sys.stderr)
    return 0 if held else 1

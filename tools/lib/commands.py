"""The sub-commands: what can be asked for, each with its options, and the function that does it."""
import argparse
import sys

import bench
import config
import debug
import exp
import machine
import pc
import plot
import run
import sweep
from common import STATUS_FAILED, Failure


ARCHITECTURES = ("arm64", "x86_64")


class Parser(argparse.ArgumentParser):
    """argparse would end with 2, which here means that Lamina panicked."""

    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(STATUS_FAILED, f"{self.prog}: {message}\n")


def add_machine_options(parser):
    parser.add_argument("--arch", default="arm64", choices=ARCHITECTURES, help="what to boot (arm64)")
    parser.add_argument("--cpu", help="the emulator's CPU model (default: cortex-a76, corei7_skylake_x)")
    parser.add_argument("--smp", help="CPUs of the machine (default: 2; 1 with --icount)")
    parser.add_argument("--mem", help="its memory, in MiB or as 2G (default: the guests' and 256 MiB)")
    parser.add_argument("--icount", action="store_true", help="repeatable: one instruction, one tick")
    parser.add_argument("--accel", choices=pc.ACCELERATORS, help="x86_64 in QEMU instead of Bochs; tcg has no VMX")
    parser.add_argument("--swap-disk", help="what lamina,swap-disk is on, as QEMU's file= has it, instead of a file of its own")
    parser.add_argument("--disk", action="append", default=[], metavar="NAME=FILE",
                        help="what a lamina,machine-disk is, likewise")
    parser.add_argument("--log", help="level of Lamina's own log: error, warn, info, debug")
    parser.add_argument("--batch", action="store_true", help="no keyboard; guests power off once up")


def add_config(parser):
    parser.add_argument("config", help="a device tree (.dts), or a compiled one")


def build_parser():
    parser = Parser(prog="lamina", description="Boots, checks and measures Lamina.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser("run", help="boot a configuration")
    add_machine_options(one)
    one.add_argument("-o", "--out", help="folder for the logs and the summary of the run")
    one.add_argument("--timeout", help="seconds until the run is ended with status 124")
    add_config(one)
    one.set_defaults(function=run.command)

    one = commands.add_parser("exp", help="run a configuration with overcommit, and check what it counted")
    add_machine_options(one)
    one.add_argument("-o", "--out", required=True, help="folder for all that it leaves")
    one.add_argument("--timeout", help=f"seconds until the run is ended with status 124 ({exp.TIMEOUT_S})")
    one.add_argument("--store", help="this store alone: " + ", ".join(exp.STORES))
    one.add_argument("--policy", help="of reclaim, instead of the configuration's")
    one.add_argument("--guest-memory", help="what all guests may use together, instead of the configuration's: 64M, ...")
    add_config(one)
    one.set_defaults(function=exp.command)

    one = commands.add_parser("plot", help="draw what an experiment left in its folder, with gnuplot")
    one.add_argument("--terminal", action="store_true", help="as text, on the terminal; else SVGs in OUT")
    one.add_argument("out", metavar="OUT", help="the experiment's folder")
    one.set_defaults(function=plot.command)

    one = commands.add_parser("sweep", help="the same experiment for each ratio of overcommit and each policy")
    add_machine_options(one)
    one.add_argument("-o", "--out", required=True, help="folder: a folder of each run, sweep.csv and a picture")
    one.add_argument("--timeout", help=f"seconds until a run is ended with status 124 ({exp.TIMEOUT_S})")
    one.add_argument("--ratios", default="1.0 1.5 2.0", help="guests' memory to what they may use (1.0 1.5 2.0)")
    one.add_argument("--policies", default="clock adaptive", help="of reclaim (clock adaptive)")
    one.add_argument("--one", nargs=2, metavar=("RATIO", "POLICY"), help="run this pair alone")
    one.add_argument("--gather", action="store_true", help="run nothing: sweep.csv and picture of the runs that there are")
    one.add_argument("config", nargs="?", help="a device tree (.dts), or a compiled one; not with --gather")
    one.set_defaults(function=sweep.command)

    one = commands.add_parser("check", help="check a configuration on this machine")
    one.add_argument("--arch", default="arm64", choices=ARCHITECTURES, help="for which architecture (arm64)")
    add_config(one)
    one.set_defaults(function=config.command)

    one = commands.add_parser("qemu-cmd", help="print what `run` would start, and do not start it")
    add_machine_options(one)
    add_config(one)
    one.set_defaults(function=machine.command)

    one = commands.add_parser("gdb", help="start stopped, with a debugger: gdb, or Bochs's own")
    add_machine_options(one)
    add_config(one)
    one.set_defaults(function=debug.command)

    one = commands.add_parser("bench", help="count instructions of a boot, of single exits, of table operations")
    one.add_argument("--arch", default="arm64", help="which Lamina to measure (arm64)")
    one.add_argument("what", nargs="+", choices=sorted(bench.BENCHES), help="what to measure")
    one.set_defaults(function=bench.command)
    return parser


def main(arguments):
    options = build_parser().parse_args(arguments)
    try:
        return options.function(options)
    except Failure as failure:
        # What is wrong with a configuration begins with its file's name, whoever found it.
        who = "lamina: " if failure.status == STATUS_FAILED else ""
        print(f"{who}{failure}", file=sys.stderr)
        return failure.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return STATUS_FAILED

"""A run that waits for a debugger: Lamina stopped at its first instruction, symbols loaded.

QEMU talks to gdb. Debian's Bochs is built without that, and has a debugger of its own.
"""
import os
import signal
import subprocess
import sys
import threading

import machine
from common import BUILD, STATUS_INTERRUPTED, Failure, lamina_elf, relative

PORT = 1234
BOCHS_HELP = 'c goes on, Ctrl-C stops, s steps, r registers, lb "NAME" stops there, x /4gx "NAME" shows memory, q ends'


def console_log(arch):
    return os.path.join(BUILD, arch, "gdb-console.log")


def command(options):
    options.batch = True  # the terminal is the debugger's
    target = machine.prepare(options)
    return {"arm64": run_gdb, "x86_64": run_bochs}[target.config.arch](target)


def run_gdb(target):
    log = console_log(target.config.arch)
    line = target.command() + ["-S", "-gdb", f"tcp::{PORT}"]
    print(f"lamina: the console goes to {relative(log)}; gdb: 'continue' starts Lamina")
    with open(log, "wb") as console:
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
                                   start_new_session=True)
    # The image is linked at 0 and runs where QEMU puts it.
    symbols = f"add-symbol-file {lamina_elf(target.config.arch)} -o {machine.LAMINA_START:#x}"
    try:
        subprocess.run(["gdb-multiarch", "-q", "-ex", "set confirm off", "-ex", "set architecture aarch64",
                        "-ex", symbols, "-ex", f"target remote :{PORT}"], check=False)
    finally:
        process.terminate()
        process.wait()
    return 0


# ---- Bochs ------------------------------------------------------------------------------------------


def read_symbols(elf):
    """Pairs of address and name. Not absolute ones, which are no places."""
    done = subprocess.run(["nm", "-n", "--defined-only", elf], capture_output=True, text=True, check=False)
    symbols = [line.split() for line in done.stdout.splitlines()]
    found = [(int(address, 16), name) for address, kind, name in symbols if kind not in "aA"]
    if not found:
        raise Failure(f"{relative(elf)} has no symbols")
    return found


def first_instruction(symbols):
    return next(address for address, name in symbols if name == "_start")


def debugger_commands(symbol_file, start):
    """Bochs begins in its firmware; it goes on to Lamina, and then asks the terminal."""
    return f'ldsym global "{symbol_file}"\npb {start:#x}\nc\n'


def pass_on(descriptor, path):
    with open(path, "wb") as log:
        while True:
            try:
                log.write(os.read(descriptor, 65536))
            except OSError:
                return
            log.flush()


def run_bochs(target):
    emulator = target.emulator()
    log = console_log(target.config.arch)
    symbols = read_symbols(lamina_elf(target.config.arch))
    emulator.write("symbols", "".join(f"{address:x} {name}\n" for address, name in symbols))
    emulator.write("commands", debugger_commands(emulator.path("symbols"), first_instruction(symbols)))
    threading.Thread(target=pass_on, args=(emulator.master, log), daemon=True).start()
    print(f"lamina: the console goes to {relative(log)}; Bochs stops at Lamina's first instruction, in a minute. Then:\n"
          f"lamina: {BOCHS_HELP}", flush=True)
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is Bochs's: it stops the machine
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda *_: sys.exit(STATUS_INTERRUPTED))
    try:
        subprocess.run(emulator.command(), check=False)  # an exception ends Bochs, too
    except OSError as error:
        raise Failure(f"bochs does not start: {error.strerror}") from error
    finally:
        emulator.close()
    return 0

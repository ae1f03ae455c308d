"""A run that waits for gdb: Lamina stopped at its first instruction, symbols loaded."""
import os
import subprocess

import machine
from common import BUILD, lamina_elf, relative

PORT = 1234


def command(options):
    options.batch = True  # the terminal is gdb's
    target = machine.prepare(options)
    log = os.path.join(BUILD, target.config.arch, "gdb-console.log")
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

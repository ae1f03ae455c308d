"""One run: QEMU started, its console passed on and filed, its end told truthfully."""
import fcntl
import json
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
import tty

import machine
from common import (STATUS_FAILED, STATUS_GUEST_CRASHED, STATUS_INTERRUPTED, STATUS_OK, STATUS_PANICKED,
                    STATUS_TIMEOUT, Failure, first_line, parse_number, versions, TOP)
from samples import SampleFolder, is_one
from stream import LogFolder, Stream

TIMEOUT_MAX_S = 7 * 24 * 3600
PROGRESS_S = 10
MEANINGS = {
    STATUS_OK: "all guests are off",
    STATUS_GUEST_CRASHED: "a guest crashed or was refused",
    STATUS_PANICKED: "Lamina panicked, or cannot boot here",
    STATUS_TIMEOUT: "the time was up",
    STATUS_INTERRUPTED: "interrupted",
}


class Terminal:
    """QEMU makes the terminal raw, for others it is done here; whatever becomes of them, it is put back as it was."""

    def __init__(self, make_raw):
        self.make_raw = make_raw

    def __enter__(self):
        self.settings = termios.tcgetattr(0) if os.isatty(0) else None
        self.flags = fcntl.fcntl(0, fcntl.F_GETFL) if self.settings else 0
        if self.settings and self.make_raw:
            tty.setraw(0)
        return self

    def __exit__(self, *_):
        if self.settings:
            termios.tcsetattr(0, termios.TCSANOW, self.settings)
            fcntl.fcntl(0, fcntl.F_SETFL, self.flags)


def write_all(descriptor, data):
    """The terminal is QEMU's too, which makes it non-blocking: then a full one is tried again."""
    while data:
        try:
            data = data[os.write(descriptor, data):]
        except BlockingIOError:
            time.sleep(0.002)


class Run:
    """Ends in `status`; `summary` is what Lamina counted, or None if it did not come to that."""

    def __init__(self, emulator, keyboard, timeout_s=None, sink=None, show=True, take_sample=None):
        self.emulator = emulator
        self.keyboard = keyboard
        self.timeout_s = timeout_s
        self.show = show
        self.started = time.monotonic()
        self.stream = Stream(sink, take_sample)
        self.complaints = b""  # what the emulator itself said
        self.summary = None
        self.status = self.supervise()
        self.take_summary()

    def supervise(self):
        with Terminal(self.keyboard and self.emulator.master is not None):
            command = self.emulator.command()
            try:
                self.process = subprocess.Popen(
                    command, stdin=None if self.keyboard and self.emulator.master is None else subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            except OSError as error:
                raise Failure(f"{command[0]} does not start: {error.strerror}") from error
            try:
                ended = self.pass_on()
                return self.judge() if ended else STATUS_TIMEOUT
            except KeyboardInterrupt:
                return STATUS_INTERRUPTED
            finally:
                self.stop()
                self.emit(self.stream.close())
                self.emulator.close()

    def judge(self):
        return self.emulator.judge(self.process.wait(), self.complaints, bool(self.stream.json))

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def sources(self):
        """What to listen to: a descriptor, whether it ends with the emulator, and who takes its bytes."""
        if self.emulator.master is None:
            yield self.process.stdout.fileno(), True, self.take_console
            yield self.process.stderr.fileno(), True, self.take_complaint
            return
        yield self.process.stdout.fileno(), True, self.take_murmur
        yield self.process.stderr.fileno(), True, self.take_murmur
        yield self.emulator.master, False, self.take_console
        if self.keyboard:
            yield 0, False, self.take_key

    def pass_on(self):
        """False when the time was up, true when the emulator closed its end."""
        deadline = time.monotonic() + self.timeout_s if self.timeout_s else None
        selector = selectors.DefaultSelector()
        open_ends = 0
        for descriptor, ends, take in self.sources():
            selector.register(descriptor, selectors.EVENT_READ, (take, ends))
            open_ends += ends
        while open_ends:
            left = max(0, deadline - time.monotonic()) if deadline else None
            if left == 0:
                return False
            for key, _ in self.wait(selector, left):
                take, ends = key.data
                data = os.read(key.fd, 65536)
                if data:
                    take(data)
                else:
                    selector.unregister(key.fileobj)
                    open_ends -= ends
        self.drain()
        return True

    def wait(self, selector, left):
        """An emulator with a console of its own is slow, and its firmware and loader are silent there."""
        if self.emulator.master is None or not self.show:
            return selector.select(left)
        events = selector.select(PROGRESS_S if left is None else min(left, PROGRESS_S))
        if not events:
            write_all(2, b"lamina: %s works, %d s so far\n" % (self.emulator.name.encode(), time.monotonic() - self.started))
        return events

    def drain(self):
        """What the console still holds when the emulator has gone."""
        if self.emulator.master is not None:
            os.set_blocking(self.emulator.master, False)
            try:
                while True:
                    self.take_console(os.read(self.emulator.master, 65536))
            except OSError:
                pass

    def take_console(self, data):
        self.emit(self.stream.feed(data))

    def take_complaint(self, data):
        self.complaints += data
        write_all(2, data)

    def take_murmur(self, data):
        """Bochs's debugger talks a lot, and says nothing but at its end."""
        self.complaints += data

    def take_key(self, data):
        os.write(self.emulator.master, data)

    def emit(self, data):
        if self.show:
            write_all(1, data)

    def take_summary(self):
        if not self.stream.json:
            return
        try:
            self.summary = json.loads(b"".join(self.stream.json))
        except ValueError as error:
            print(f"lamina: the summary is no JSON: {error}", file=sys.stderr)
            self.status = self.status or STATUS_FAILED

    def ending(self):
        if self.status != STATUS_FAILED:
            return MEANINGS[self.status]
        last = self.complaints.decode(errors="replace").strip().splitlines()
        return f"{self.emulator.name} failed: " + (last[-1] if last else "it ended before Lamina's summary")


class Record:
    """The folder of one run: enough to read what happened, and to do it again."""

    def __init__(self, folder, target, emulator):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(folder):
            if name in ("hyp.log", "summary.json", "verdict.txt") or name.startswith("console.d") or is_one(name):
                os.unlink(os.path.join(folder, name))  # of an earlier run: not to be taken for this one's
        self.sink = LogFolder(folder)
        self.take_sample = SampleFolder(folder)
        shutil.copyfile(target.config.path, os.path.join(folder, target.config.copy_name()))
        self.write("cmdline", shlex.join(emulator.command()) + "\n")
        self.write("versions", "".join(f"{name}: {text}\n" for name, text in self.versions(target)))

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write(text)

    @staticmethod
    def versions(target):
        found = sorted({**versions(target.config.arch), "emulator": target.emulator_version()}.items())
        try:
            found.append(("lamina", first_line(["git", "-C", TOP, "describe", "--always", "--dirty"])))
        except Failure:
            pass  # no git, or no repository: a tree from an archive runs as well
        return found

    def close(self, run):
        self.sink.close()
        self.take_sample.close()
        if run.summary is not None:
            self.write("summary.json", json.dumps(run.summary, indent=2) + "\n")


def raise_interrupt(*_):
    raise KeyboardInterrupt


def execute(options, target):
    """Boots it, and files what it says where options.out says; with a keyboard unless options.batch."""
    timeout = parse_number(options.timeout, "TIMEOUT", 1, TIMEOUT_MAX_S) if options.timeout else None
    emulator = target.emulator()
    for text in target.describe():
        print(f"lamina: {text}", flush=True)
    record = Record(options.out, target, emulator) if options.out else None
    signal.signal(signal.SIGTERM, raise_interrupt)
    signal.signal(signal.SIGHUP, raise_interrupt)
    run = Run(emulator, not options.batch, timeout, record.sink if record else None,
              take_sample=record.take_sample if record else None)
    if record:
        record.close(run)
    print(f"lamina: {run.ending()} (status {run.status})", file=sys.stderr)
    return run


def command(options):
    return execute(options, machine.prepare(options)).status

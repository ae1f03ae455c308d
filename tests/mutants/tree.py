"""A copy of the tree for one worker: a wrong edit goes in, what depends on it is built, and all is put back.

The Makefile builds here as it builds at home, from the same objects, so a new kind of test needs nothing here.
"""
import filecmp
import os
import re
import shutil
import signal
import subprocess

SOURCES = ("Makefile", "arch", "guest", "hyp", "include", "tests", "tools")
BUILD_TIMEOUT_S = 300
SANITIZERS = {"TSAN_OPTIONS": "halt_on_error=1", "UBSAN_OPTIONS": "halt_on_error=1"}
# Objects that see a header's mutant. Tests that use the cursor to look are to look rightly; but what
# tests call of a header as a guest's CPU would is under test.
CORE_OBJECT = re.compile(r"/(hyp|arch/\w+)/(s2|fake)\w*\.o$")
CALLED_BY_TESTS = "s2_inline.h"
INLINE_FUNCTION = re.compile(r"^static inline [\w ]+ \*?(\w+)\(", re.MULTILINE)


running = set()  # processes with groups of their own, which outlive us unless they are told not to


def kill_all():
    for process in list(running):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def environment():
    """Without what the make above us said to its own children."""
    kept = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    return {**kept, **SANITIZERS}


def execute(command, folder, log, timeout_s):
    """The exit status, or None when the time was up; whatever it started is dead then."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True, env=environment())
        running.add(process)
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            running.discard(process)
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Tree:
    def __init__(self, home, folder, kinds):
        self.home, self.folder, self.kinds = home, folder, kinds
        self.log = os.path.join(folder, "log")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(os.path.join(folder, "build", "host"))
        for name in SOURCES + ("build/setup.host",) + tuple(f"build/host/{kind}" for kind in kinds):
            self.bring(name)

    def bring(self, name):
        """From home, with its times: to make it is as old as it was."""
        source, target = os.path.join(self.home, name), os.path.join(self.folder, name)
        if os.path.isdir(source):
            shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)
        else:
            shutil.copy2(source, target)

    def built(self):
        """Names of all that was built for these kinds."""
        for kind in self.kinds:
            for folder, _, files in os.walk(os.path.join(self.folder, "build", "host", kind)):
                for file in files:
                    yield os.path.relpath(os.path.join(folder, file), self.folder)

    def put(self, file, text):
        """The wrong file. Objects that are not to see it are made younger than it is."""
        with open(os.path.join(self.folder, file), "w", encoding="utf-8") as output:
            output.write(text)
        if file.endswith(".h"):
            called = set(INLINE_FUNCTION.findall(text)) if file.endswith(CALLED_BY_TESTS) else set()
            for name in self.built():
                if name.endswith(".o") and not CORE_OBJECT.search(name) and not self.calls(name, called):
                    os.utime(os.path.join(self.folder, name))

    def calls(self, name, functions):
        """Does the test that this object was made of name one of the functions?"""
        source = os.path.join(self.folder, *name.split("/")[3:])[:-len(".o")] + ".cc"
        if not functions or not os.path.exists(source):
            return False
        with open(source, encoding="utf-8") as file:
            return not functions.isdisjoint(re.findall(r"\w+", file.read()))

    def put_back(self, file, since):
        """Whatever is younger than `since` is home's again."""
        self.bring(file)
        for name in list(self.built()):
            path = os.path.join(self.folder, name)
            if os.stat(path).st_mtime < since:
                continue
            if os.path.exists(os.path.join(self.home, name)):
                self.bring(name)
            else:
                os.unlink(path)

    def build(self, kind):
        """Whether it compiles. Warnings are not what is asked about."""
        return execute(["make", "-s", "-j1", f"build/host/{kind}/all", "WARN=-w"], self.folder, self.log,
                       BUILD_TIMEOUT_S) == 0

    def is_same_code(self, kind, since):
        """The compiler made of the wrong edit what it made of the right text: there is nothing to notice."""
        for name in self.built():
            path = os.path.join(self.folder, name)
            if name.startswith(f"build/host/{kind}/") and name.endswith(".o") and os.stat(path).st_mtime >= since:
                if not self.is_same_object(path, os.path.join(self.home, name)):
                    return False
        return True

    def is_same_object(self, one, two):
        stripped = [os.path.join(self.folder, name) for name in ("one.o", "two.o")]
        for path, target in zip((one, two), stripped):
            subprocess.run(["objcopy", "--strip-debug", path, target], check=True)
        return filecmp.cmp(*stripped, shallow=False)

    def run(self, kind, tests, limit, folder=None):
        """What failed, or None when all passed. The limit is (seconds of CPU, seconds); the folder, another tree's."""
        command = ["prlimit", f"--cpu={limit[0]}", f"build/host/{kind}/all", "--gtest_fail_fast", "--gtest_color=no",
                   f"--gtest_filter={tests}"]
        status = execute(command, folder or self.folder, self.log, limit[1])
        if status == 0:
            return None
        return self.culprit() + (" hangs" if status in (None, -signal.SIGXCPU, -signal.SIGKILL) else "")

    def culprit(self):
        """The test that failed, or that ran when all ended."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            names = re.findall(r"^\[(?:  FAILED  | RUN      )\] ([\w./]+)", file.read(), re.MULTILINE)
        return names[-1] if names else "the program before its first test"

"""QEMU as a run sees it: its console is its own standard input and output. Bochs is the other one."""
from common import STATUS_FAILED, STATUS_GUEST_CRASHED, STATUS_OK, STATUS_PANICKED


class Qemu:
    name = "QEMU"
    master = None  # of a console of its own

    def __init__(self, line, close=None):
        self.line = line
        self.when_closed = close

    def command(self):
        return self.line

    def judge(self, code, _said, has_summary):
        """QEMU's own failures end with 1 too, and a terminated QEMU with 0: Lamina's have a summary."""
        if code == STATUS_PANICKED:
            return STATUS_PANICKED
        if code in (STATUS_OK, STATUS_GUEST_CRASHED) and has_summary:
            return code
        return STATUS_FAILED

    def close(self):
        if self.when_closed:
            self.when_closed()


class QemuPc(Qemu):
    """A PC ends by isa-debug-exit, which makes 2 n + 1 of n."""

    def judge(self, code, said, has_summary):
        return super().judge(code >> 1, said, has_summary) if code > 0 and code & 1 else STATUS_FAILED

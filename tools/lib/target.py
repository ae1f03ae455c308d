"""What every emulated machine is asked for: CPUs, memory, a level of the log."""
from common import MIB, Failure, parse_memory, parse_number, relative, versions

MEMORY_STEP = 64 * MIB
DEFAULT_SMP = "2"
CPUS_MAX = 8
LOG_LEVELS = ("error", "warn", "info", "debug")


def align_up(value, step):
    return (value + step - 1) // step * step


class Target:
    """What was asked for, made definite; refuses what cannot be."""

    def __init__(self, options, configuration, own_memory):
        self.config = configuration
        self.batch = options.batch
        self.log = options.log
        if self.log and self.log not in LOG_LEVELS:
            raise Failure(f"LOG = {self.log}: must be one of {', '.join(LOG_LEVELS)}")
        self.smp = parse_number(options.smp or self.default_smp(options), "SMP", 1, CPUS_MAX)
        wanted = configuration.memory + configuration.files_size() + own_memory
        self.memory = parse_memory(options.mem, "MEM") if options.mem else align_up(wanted, MEMORY_STEP)

    @staticmethod
    def default_smp(_):
        return DEFAULT_SMP

    def describe(self):
        found = versions(self.config.arch)
        return [
            f"guest kernel {found['kernel']}; {self.emulator_version()}",
            f"machine: {self.machine_text()}, {self.memory // MIB} MiB",
            f"configuration: {relative(self.config.path)}" + (", no keyboard" if self.batch else ""),
        ]

    def boot_words(self):
        return "batch" if self.batch else ""

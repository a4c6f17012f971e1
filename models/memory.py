"""The memory that a process held at most."""

import resource
from pathlib import Path

_STATUS, _PEAK = Path("/proc/self/status"), "VmHWM:"


def peak_memory_mb() -> float:
    """Of this process since its program began, in MiB.

    `ru_maxrss` would count what the process that started it held before: of a stage under DVC, DVC's own memory. It is
    taken where there is no /proc.
    """
    lines = _STATUS.read_text().splitlines() if _STATUS.is_file() else []
    for line in lines:
        if line.startswith(_PEAK):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

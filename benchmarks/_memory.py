"""How much memory a process has held, and keeping one from taking the machine with it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def _field(file: str, name: str) -> int:
    """A number of KiB out of one of Linux's ``name: value kB`` files, in MiB."""
    for line in Path(file).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) // 1024
    raise LookupError(f"{file} has no {name}")


def peak_mib() -> int:
    """The most memory this process has held at once, in MiB.

    Not `getrusage`, where Linux can say so: there a process starts with the peak of the one
    that started it.
    """
    if sys.platform == "linux":
        return _field("/proc/self/status", "VmHWM")
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) // (1024 * 1024)


def limit_memory_to_available() -> None:
    """Have an allocation beyond what the machine has free fail, instead of the machine."""
    if sys.platform != "linux":
        return
    free = _field("/proc/meminfo", "MemAvailable") + _field("/proc/self/status", "VmSize")
    limit = int(0.95 * free) * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

"""What a process and all its descendants take: peak memory and processor time, looked at every half second (Linux).

Memory is the proportional set size, so that what several processes share counts once. Processes that live for less than half a second are
not seen.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["Watch"]

_EVERY_S = 0.5


class Watch:
    """Looks at the process `pid` until it is stopped; `peak` is in bytes."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._ticks: dict[int, int] = {}
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    @property
    def processor(self) -> float:
        """Processor seconds seen, of all processes together."""
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_EVERY_S):
            total = 0
            for pid, ticks in _family(self._pid).items():
                self._ticks[pid] = ticks
                total += _memory(pid)
            self.peak = max(self.peak, total)


def _family(root: int) -> dict[int, int]:
    """Return the processor ticks of a process and its descendants, by process id."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended just now
        parents[int(path.parent.name)] = int(fields[1])
        ticks[int(path.parent.name)] = int(fields[11]) + int(fields[12])
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return {pid: ticks[pid] for pid in family if pid in ticks}


def _memory(pid: int) -> int:
    """Return the bytes a process holds, what it shares counted in part; 0 where it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))

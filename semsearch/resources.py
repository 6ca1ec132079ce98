"""Room on the disk and in memory, asked for before it is used.

Whatever may write much asks first, and is refused in one line while nothing is written yet. A part
of the disk is left free (``min_free``): a full one stops more than this program.
"""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path
from typing import NamedTuple

from semsearch.errors import OutOfMemory, StorageError, UsageError

MIN_FREE = "SEMSEARCH_MIN_FREE"
"""The environment variable that says how much of a disk to leave free; 0 asks for nothing."""

_DEFAULT_FREE = 256 * 10**6
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
_USED = ("memory.current", "memory/memory.usage_in_bytes")
_MEMINFO = Path("/proc/meminfo")
_NO_LIMIT = 2**60
"""What version 1 of control groups gives where there is no limit is above this."""


class Memory(NamedTuple):
    """Bytes of memory; ``available`` is what can be had without swapping.

    ``limit`` is that of the control group (a container's), which the others heed. None: not known.
    """

    total: int | None
    available: int | None
    limit: int | None


def size(number: float) -> str:
    """Bytes for people: ``12.3 MB``."""
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError("unreachable")


def min_free() -> int:
    """How many bytes of a disk are left free: ``$SEMSEARCH_MIN_FREE``, else 256 MB.

    Raises UsageError for what is no amount: bytes, or a number with kB, MB, GB or TB.
    """
    asked = os.environ.get(MIN_FREE, "").strip()
    if not asked:
        return _DEFAULT_FREE
    found = _AMOUNT.fullmatch(asked.lower())
    if found is None or found[2] not in _UNITS:
        raise UsageError(f"{MIN_FREE}={asked}: an amount such as 256MB, 2GB or 0 is expected")
    return int(float(found[1]) * _UNITS[found[2]])


def nearest_there(folder: Path) -> Path:
    """The folder itself, or what is there on the way to it."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def free_bytes(folder: Path) -> int | None:
    """What this user may still write to the disk of a folder, which need not exist yet.

    None where the system does not say.
    """
    try:
        disk = os.statvfs(nearest_there(folder))
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else None


def require_space(folder: Path, needed: float, what: str) -> None:
    """Raise StorageError unless the disk of ``folder`` has room for so many bytes of ``what``.

    They must fit above what is left free; nothing is asked where that is 0.
    """
    least = min_free()
    free = free_bytes(folder) if least else None
    if free is not None and free < needed + least:
        raise StorageError(
            f"{folder}: {what} needs about {size(needed)} and leaves {size(least)} of the disk"
            f" free, but {size(free)} are free: free some space, or lower {MIN_FREE} (0: no check)"
        )


def require_batch_space(folder: Path, batch: float) -> None:
    """Raise StorageError where a batch of so many bytes would bring the disk below its floor.

    The floor is what is left free, and at least twice the batch: once for its journal.
    """
    least = min_free()
    free = free_bytes(folder) if least else None
    floor = max(least, 2 * batch)
    if free is not None and free < floor:
        raise StorageError(
            f"{folder}: {size(free)} of the disk are free, and a batch is written above"
            f" {size(floor)} only: nothing of this one was; free some space and run again, or lower"
            f" {MIN_FREE} (now {size(least)}; 0: no check)"
        )


def require_memory(needed: float, what: str) -> None:
    """Raise OutOfMemory unless so many bytes of memory can be had; where nothing is known, do not.

    Asked under the same setting as the disk: ``SEMSEARCH_MIN_FREE=0`` asks for nothing.
    """
    available = memory().available if min_free() else None
    if available is not None and available < needed:
        raise OutOfMemory(
            f"{what} needs about {size(needed)} of memory, and {size(available)} are available:"
            f" end other programs or use a smaller model ({MIN_FREE}=0: no check)"
        )


def require_room(needed: int, what: str) -> None:
    """Raise OutOfMemory unless this process can have so many bytes at once.

    For what others compute: where Python raises MemoryError, they end the process.
    """
    try:
        mmap.mmap(-1, needed, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError as exc:
        raise OutOfMemory(
            f"not enough memory: {what} needs {size(needed)} of it: end other programs, or raise"
            " the limit of this one (ulimit -v)"
        ) from exc


def memory() -> Memory:
    """This machine's memory, or what a container's limit leaves of it."""
    info = _meminfo()
    total, available = info.get("MemTotal"), info.get("MemAvailable")
    if total is None:
        total = _installed()
    limit, used = _first_number(_LIMITS), _first_number(_USED)
    if limit is None or limit >= _NO_LIMIT or (total is not None and limit >= total):
        return Memory(total, available, None)
    left = max(0, limit - (used or 0) + _reclaimable())
    return Memory(total, left if available is None else min(available, left), limit)


def _meminfo() -> dict[str, int]:
    """Bytes by name, from the kernel's table; empty where there is none."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    parts = [line.split() for line in lines if line.endswith("kB")]
    return {name.rstrip(":"): int(number) * 1024 for name, number, _ in parts}


def _installed() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _first_number(names: tuple[str, ...]) -> int | None:
    for name in names:
        try:
            text = (_CGROUP / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None


def _reclaimable() -> int:
    """Bytes of cached files that count as used by the group, and give way when memory is needed."""
    try:
        lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = dict(line.split() for line in lines if line.startswith(("inactive_file ",)))
    return int(found.get("inactive_file", 0))

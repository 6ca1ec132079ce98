"""How many threads the numeric libraries may use, decided in one place.

FAISS searches one query on one thread and many queries on all of them. On macOS, FAISS and PyTorch
each bring an OpenMP runtime of their own and may clash in one process: whoever needs both there
must import torch first.
"""

from __future__ import annotations

import os


def thread_count() -> int:
    """``OMP_NUM_THREADS`` if it is a positive number, else the cores this process may run on."""
    wish = os.environ.get("OMP_NUM_THREADS", "")
    if wish.isdigit() and int(wish) > 0:
        return int(wish)
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

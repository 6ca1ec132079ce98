"""What the numbers were measured with: processor, memory, load, threads, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_PACKAGES = (
    "semsearch", "numpy", "torch", "transformers", "sentence-transformers", "openvino", "faiss-cpu",
    "faiss-gpu", "tantivy", "tokenizers", "sqlite-utils", "click",
)  # fmt: skip
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_ROOT = Path(__file__).resolve().parent.parent


def facts() -> dict[str, Any]:
    """Everything but the numbers themselves; no names of users, hosts or folders."""
    commit, changed = _commit()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "uncommitted_changes": changed,
        "machine": {
            "cpu": _cpu(),
            "cores": cores(),
            "memory_gib": round(_memory() / 2**30, 1),
            "flags": flags(),
            "system": f"{platform.system()} {platform.machine()}",
            "load_average_before": [round(load, 2) for load in os.getloadavg()],
        },
        "threads": {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")},
        "versions": {"python": platform.python_version(), **_versions()},
    }


def cores() -> int:
    """The cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_seconds() -> float:
    """Seconds of processor time that this process and its finished children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def flags() -> list[str]:
    """Which of the instruction sets that matter the processor has."""
    words = set(_cpuinfo("flags").split())
    return [flag for flag in _FLAGS if flag in words]


def has_native_bf16() -> bool:
    """Whether the processor multiplies bf16 matrices natively."""
    return bool({"avx512_bf16", "amx_bf16"} & set(flags()))


def _cpu() -> str:
    return _cpuinfo("model name") or platform.processor() or "unknown"


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^{key}\s*: (.*)$", text, re.M)
    return found[1].strip() if found else ""


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> tuple[str, bool | None]:
    try:
        commit = _git("rev-parse", "HEAD")
        return commit, bool(_git("status", "--porcelain", "--", "semsearch", "benchmarks"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", None


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()

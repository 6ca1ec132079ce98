"""The machine: processor, memory, files, devices."""

from __future__ import annotations

import os
from pathlib import Path

from semsearch.cli.health.finding import Finding, Findings
from semsearch.encoders.runtimes.choose import sees_nvidia
from semsearch.resources import memory, size
from semsearch.threads import thread_count

TOPIC = "machine"
_CPUINFO = Path("/proc/cpuinfo")
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_FEATURES = {
    "AVX2": ("avx2", "asimd"),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni", "asimddp"),
    "BF16": ("avx512_bf16", "bf16"),
    "AMX": ("amx_tile",),
}
_LITTLE_MEMORY = 10**9
_FEW_FILES = 512


def look_at_machine() -> Findings:
    """Processor, cores, memory, open files, graphics cards."""
    yield _processor()
    yield _cores()
    yield _memory()
    yield _files()
    seen = sees_nvidia()
    yield Finding(TOPIC, "NVIDIA device", "seen" if seen else "none: the processor computes")


def _processor() -> Finding:
    try:
        lines = _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return Finding(TOPIC, "processor", "not known on this system")
    values = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    told = {name.strip(): value.strip() for name, value in values.items()}
    flags = set((told.get("flags") or told.get("Features") or "").split())
    has = [name for name, any_of in _FEATURES.items() if not flags.isdisjoint(any_of)]
    lacks = [name for name in _FEATURES if name not in has]
    value = f"{told.get('model name', 'unnamed')}: {', '.join(has) or 'none of AVX2 and later'}"
    if lacks:
        value += f"; without {', '.join(lacks)}"
    if "AVX2" in has:
        return Finding(TOPIC, "processor", value)
    return Finding(
        TOPIC,
        "processor",
        value,
        "note",
        "encoding is slow without AVX2: use a newer machine",
    )


def _cores() -> Finding:
    used, there = thread_count(), os.cpu_count() or 1
    value = f"{used} used of {there}"
    try:
        quota, period = _CPU_QUOTA.read_text(encoding="ascii").split()
        allowed = float(quota) / float(period)
    except (OSError, ValueError):  # no group, or "max"
        return Finding(TOPIC, "cores", value)
    value += f", {allowed:g} allowed by the container"
    if allowed >= used:
        return Finding(TOPIC, "cores", value)
    return Finding(
        TOPIC, "cores", value, "note",
        f"threads wait for each other: set OMP_NUM_THREADS={max(1, int(allowed))}",
    )  # fmt: skip


def _memory() -> Finding:
    total, available, limit = memory()
    if total is None:
        return Finding(TOPIC, "memory", "not known on this system")
    value = size(total)
    if limit is not None:
        value += f", limited to {size(limit)} by the container"
    if available is None:
        return Finding(TOPIC, "memory", value)
    value += f", {size(available)} available"
    if available >= _LITTLE_MEMORY:
        return Finding(TOPIC, "memory", value)
    return Finding(
        TOPIC, "memory", value, "note",
        "models may not fit: end other programs, or use a smaller model",
    )  # fmt: skip


def _files() -> Finding:
    try:
        import resource
    except ImportError:  # Windows
        return Finding(TOPIC, "open files", "not known on this system")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= _FEW_FILES or soft == resource.RLIM_INFINITY:
        return Finding(TOPIC, "open files", f"at most {soft:,}")
    most = "more" if hard == resource.RLIM_INFINITY else f"up to {hard:,}"
    return Finding(
        TOPIC, "open files", f"at most {soft:,}", "note",
        f"a large index opens many: `ulimit -n {_FEW_FILES * 2}` ({most} are allowed)",
    )  # fmt: skip

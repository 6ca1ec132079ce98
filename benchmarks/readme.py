"""Writing the newest results into README.md, between its markers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.results import Goal, Result, newest, parts

README = Path(__file__).with_name("README.md")
_PICTURES = {
    "growth": "Time, memory, disk and a query's time over the number of documents",
    "late_interaction": "nDCG@10 gained by reranking over the bytes kept for a token",
}
_PART = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.S)


def write() -> list[str]:
    """Fill every marked part; returns the names of the benchmarks that have no result yet."""
    missing: list[str] = []

    def part(match: re.Match[str]) -> str:
        record = newest(match[2])
        if record is None:
            missing.append(match[2])
            return f"{match[1]}\nNot measured yet.\n\n{match[3]}"
        lines = _lines(record)
        if match[2] in _PICTURES and (path := plot.PICTURES[match[2]][1]).is_file():
            lines += ["", f"![{_PICTURES[match[2]]}](results/{path.name})"]
        return match[1] + "\n" + "\n".join(lines) + "\n\n" + match[3]

    text = README.read_text(encoding="utf-8")
    README.write_text(_PART.sub(part, text), encoding="utf-8")
    return missing


def draw() -> str:
    """Draw the pictures of the newest results; what hindered it, if anything, in a line."""
    command = [sys.executable, "-m", "benchmarks.plot"]
    root = README.parent.parent
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    return (done.stderr.strip().splitlines() or ["it failed"])[-1] if done.returncode else ""


def _lines(record: dict[str, Any]) -> list[str]:
    machine = record["machine"]
    loads = [machine["load_average_before"][0], machine["load_average_after"][0]]
    where = (
        f"{record['title']}: {record['date'][:10]}, commit {record['commit'][:12]}, sizes"
        f" {record['size']}; {machine['cpu']}, {machine['cores']} cores,"
        f" {machine['memory_gib']:.0f} GiB{_bf16(machine['flags'])}; load average before and"
        f" after {loads[0]} and {loads[1]}. Python {record['versions']['python']}, torch"
        f" {record['versions'].get('torch', '-')}, openvino"
        f" {record['versions'].get('openvino', '-')}."
    )
    kept = {key: record.get(key, {}) for key in ("title", "dataset", "rows", "notes", "more")}
    result = Result(**kept, goals=[Goal(**goal) for goal in record["goals"]])
    lines = [where]
    for part in parts(result):
        lines += ["", *part]
    return lines


def _bf16(flags: list[str]) -> str:
    found = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    return f", with {' and '.join(found)}" if found else ""

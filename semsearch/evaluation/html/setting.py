"""What the numbers were measured with: model, index, machine, versions; no names of places."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from semsearch import __version__

if TYPE_CHECKING:
    from semsearch.collection.reader import Reader

_PACKAGES = (
    "numpy", "openvino", "torch", "sentence-transformers", "transformers", "faiss-cpu",
    "faiss-gpu", "tantivy", "tokenizers",
)  # fmt: skip


def index_facts(reader: Reader | None) -> list[tuple[str, str]]:
    """The model and what the index holds; a model's folder is named without its path."""
    if reader is None:
        return []
    snapshot = reader.snapshot()
    encoder = snapshot.encoder
    facts = []
    if encoder is not None:
        name = PurePath(encoder.name).name if PurePath(encoder.name).is_absolute() else encoder.name
        facts.append(("model", f"{name} ({encoder.fingerprint[:12]})"))
        reads = f"{snapshot.dims} dimensions, {encoder.max_length} tokens at most"
        facts.append(("reads and gives", reads))
        facts.append(("computed by", f"{encoder.runtime}, {encoder.precision}"))
    generation = snapshot.generation
    held = f"{generation.n_document:,} documents, {generation.n_passage:,} passages"
    rotated = "rotated onto the principal axes" if snapshot.rotation_id is not None else "as given"
    return [*facts, ("index", held), ("vectors", f"float16, {rotated}")]


def machine_facts() -> list[tuple[str, str]]:
    """The processor, its cores, the system and the versions of what computes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    versions = ", ".join(f"{name} {version}" for name, version in found.items())
    return [
        ("machine", f"{_processor()}, {cores} cores, {platform.system()} {platform.machine()}"),
        ("semsearch", __version__),
        ("versions", f"Python {platform.python_version()}, {versions}"),
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*: (.*)$", text, re.M)
    return found[1].strip() if found else platform.processor() or "unknown processor"

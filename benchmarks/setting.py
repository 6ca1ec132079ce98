"""What a run of benchmarks shares: its size, its folder for work, the datasets, one index."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import texts
from benchmarks.processes import SEMSEARCH, Finished, run

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_DATASETS = Path(__file__).resolve().parent.parent.parent / "shared" / "datasets"


@dataclass
class Setting:
    """One run. ``full`` asks for the sizes of the published figures, not the quick ones."""

    full: bool
    work: Path
    _said: set[str] = field(default_factory=set)

    def note(self, message: str) -> None:
        """Say on stderr what is being done."""
        print(f"  [{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)

    def dataset(self, name: str = "scifact") -> Path | None:
        """A labelled set's folder; None, and loudly so, where it is not on this machine."""
        folder = Path(os.environ.get("SEMSEARCH_DATASETS") or _DATASETS) / name
        if (folder / "corpus.jsonl").is_file():
            return folder
        if name not in self._said:
            self._said.add(name)
            texts.warn(f"NO DATASET {name}: set SEMSEARCH_DATASETS to the folder that holds it")
        return None

    def datasets_folder(self) -> Path | None:
        """The folder of all labelled sets; None, and loudly so, where it is not on this machine."""
        folder = Path(os.environ.get("SEMSEARCH_DATASETS") or _DATASETS)
        if folder.is_dir():
            return folder
        texts.warn("NO DATASETS: set SEMSEARCH_DATASETS to the folder that holds them")
        return None

    def main_dataset(self) -> Path:
        """Scifact, or the documentation of Python's standard library instead of it."""
        found = self.dataset()
        if found is None and "instead" not in self._said:
            self._said.add("instead")
            texts.warn("MEASURING ON PYTHON'S DOCUMENTATION INSTEAD OF scifact")
        return found or texts.stdlib_folder(self.work)

    def convert_model(self) -> None:
        """Let the default model be converted and cached, so that no timing holds it."""
        from semsearch.encoders import open_encoder

        open_encoder(MODEL).encode_queries(["a text"])

    def index_of(self, dataset: Path, long_text: str = "chunk") -> tuple[Path, Finished | None]:
        """The index of a whole labelled set, made by the first benchmark that asks for it."""
        folder = self.work / f"{dataset.name}-{long_text}.idx"
        if (folder / "catalog.db").is_file():
            return folder, None
        self.note(f"indexing {dataset.name}")
        part = folder.with_suffix(".part")
        done = run(
            [*SEMSEARCH, "index", str(dataset / "corpus.jsonl"), "-i", str(part), "--json"]
            + ["-m", MODEL, "--long-text", long_text]
        )
        part.rename(folder)
        return folder, done

"""Peak anonymous memory while indexing ten thousand and a hundred thousand documents.

Anonymous memory is what a process holds for itself: pages of mapped files, which the system can
drop at any time, do not count. Each run is a fresh process.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from benchmarks.processes import SEMSEARCH
from benchmarks.processes import run as run_process
from benchmarks.results import Goal, Result
from benchmarks.setting import MODEL, Setting
from benchmarks.texts import checksum, sentences, write_jsonl
from semsearch.types import Document

GROWTH = 1.20
SIZES = (10_000, 100_000)
_MORE = 300_000
_WORDS = 10
_MIB = 2**20


def run(setting: Setting) -> Result:
    dataset = setting.main_dataset()
    words = _vocabulary(dataset / "corpus.jsonl")
    result = Result(
        title="Memory while indexing",
        dataset={
            "name": f"{_WORDS} words a document, from {dataset.name}",
            "words": len(words),
            "words_sha256": checksum(words),
        },
        notes=[
            f"Documents of {_WORDS} words drawn at random from {dataset.name}, the default model,"
            " converted before. Above 10,000 passages a quantised index is built as well."
        ],
    )
    setting.convert_model()
    peaks = {}
    for size in (*SIZES, _MORE) if setting.full else SIZES:
        setting.note(f"{size:,} documents")
        peaks[size], seconds = _index(setting, words, size)
        result.raw[f"{size} documents"] = {"peak_bytes": peaks[size], "seconds": seconds}
        result.rows.append(
            {
                "documents": size,
                "peak MiB": peaks[size] / _MIB,
                "times the first": peaks[size] / peaks[SIZES[0]],
                "seconds": seconds,
            }
        )
    ratio = peaks[SIZES[1]] / peaks[SIZES[0]]
    what = f"peak for {SIZES[1]:,} documents, times that for {SIZES[0]:,}"
    result.goals.append(Goal(what, f"<= {GROWTH}", ratio, ratio <= GROWTH))
    return result


def _vocabulary(corpus: Path) -> list[str]:
    """The different words of some sentences, in the order they come."""
    found = {
        word: None
        for sentence in sentences(corpus, 5_000, 40, 400)
        for word in sentence.split()
        if word.isalpha() and word.isascii()
    }
    return list(found)


def _index(setting: Setting, words: list[str], size: int) -> tuple[int, float]:
    """Peak anonymous memory in bytes, and seconds, of ``semsearch index``."""
    rng = np.random.default_rng(size)
    corpus, folder = setting.work / f"memory-{size}.jsonl", setting.work / f"memory-{size}.idx"
    shutil.rmtree(folder, ignore_errors=True)
    chosen = rng.integers(0, len(words), (size, _WORDS)).tolist()
    texts = (" ".join(words[i] for i in row) for row in chosen)
    write_jsonl(corpus, (Document(f"d{number}", text) for number, text in enumerate(texts)))
    command = [*SEMSEARCH, "index", str(corpus), "-i", str(folder), "-m", MODEL, "--json"]
    done = run_process(command, watch_memory=True)
    if json.loads(done.stdout)["documents"] != size:
        raise RuntimeError(f"not all of {size} documents were indexed")
    shutil.rmtree(folder)
    corpus.unlink()
    return done.peak_anonymous, done.seconds

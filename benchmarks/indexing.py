"""Documents per second: indexing from file to finished index against a library's encoding alone.

The two take turns, each time in a fresh process. Ours reads, tokenises, encodes, stores and builds
the derived files; the other side is ``SentenceTransformer.encode`` on texts already in memory.
"""

from __future__ import annotations

import json
import os
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.machine import has_native_bf16
from benchmarks.processes import PYTHON, SEMSEARCH
from benchmarks.processes import run as run_process
from benchmarks.results import Goal, Result, Row, Spread
from benchmarks.setting import MODEL, Setting
from benchmarks.texts import checksum, write_jsonl
from semsearch.corpus import read_corpus
from semsearch.encoders.resolve import resolve_model

RATIO_BF16, RATIO_ELSEWHERE = 3.0, 1.5
_SMALL = 600
_ROUNDS = 3


def run(setting: Setting) -> Result:
    dataset = setting.main_dataset()
    everything = read_corpus(dataset / "corpus.jsonl")
    documents = list(everything if setting.full else islice(everything, _SMALL))
    corpus, texts = setting.work / "speed.jsonl", setting.work / "speed.json"
    write_jsonl(corpus, documents)
    contents = [document.content for document in documents]
    texts.write_text(json.dumps(contents), encoding="utf-8")
    setting.convert_model()
    ours, theirs = _measure(setting, corpus, texts)
    return _result(dataset.name, contents, ours, theirs)


def _measure(
    setting: Setting, corpus: Path, texts: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    ours, theirs = [], []
    model = str(resolve_model(MODEL))
    for number in range(1, _ROUNDS + 1):
        setting.note(f"round {number} of {_ROUNDS}: semsearch index")
        ours.append(_index(setting.work / "speed.idx", corpus))
        setting.note(f"round {number} of {_ROUNDS}: SentenceTransformer.encode")
        done = run_process([*PYTHON, "-m", "benchmarks.peer_encode", str(texts), model])
        theirs.append({"load": os.getloadavg()[0], **json.loads(done.stdout)})
    return ours, theirs


def _index(folder: Path, corpus: Path) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    command = [*SEMSEARCH, "index", str(corpus), "-i", str(folder), "-m", MODEL, "--json"]
    done = run_process(command)
    facts = json.loads(done.stdout)
    return {
        "wall": done.seconds,
        "without_start_up": facts["seconds"],
        "processor_seconds": done.cpu_seconds,
        "load": os.getloadavg()[0],
        **{name: facts[name] for name in ("encoded", "tokens", "truncated")},
    }


def _result(
    name: str, contents: list[str], ours: list[dict[str, Any]], theirs: list[dict[str, Any]]
) -> Result:
    count = len(contents)
    encode = [count / run["seconds"] for run in theirs]
    result = Result(
        title="Indexing speed",
        dataset={"name": name, "documents": count, "sha256": checksum(contents)},
        notes=[
            f"{count:,} documents of {name}, {ours[0]['tokens'] / count:.0f} tokens on average"
            f" before {ours[0]['truncated']:,} of them are cut at {theirs[0]['max_length']};"
            f" {_ROUNDS} rounds in turns; torch ran {theirs[0]['threads']} threads."
            " Medians, with lowest and highest."
        ],
        raw={"semsearch_index": ours, "sentence_transformers_encode": theirs},
    )
    for what, seconds in (("", "wall"), (", start-up not counted", "without_start_up")):
        rates = [count / run[seconds] for run in ours]
        ratios = [a / b for a, b in zip(rates, encode, strict=True)]
        result.rows.append(_row(f"semsearch index{what}", rates, ratios))
    result.rows.append(_row("SentenceTransformer.encode alone", encode, [1.0]))
    wanted = RATIO_BF16 if has_native_bf16() else RATIO_ELSEWHERE
    ratio = Spread.of([count / a["wall"] / b for a, b in zip(ours, encode, strict=True)]).median
    what = "whole process of semsearch index, times SentenceTransformer.encode alone"
    result.goals.append(Goal(what, f">= {wanted}", ratio, ratio >= wanted))
    return result


def _row(what: str, rates: list[float], ratios: list[float]) -> Row:
    ratio = str(Spread.of(ratios)) if len(ratios) > 1 else "1"
    return {"what": what, "documents/s": str(Spread.of(rates)), "ratio": ratio}

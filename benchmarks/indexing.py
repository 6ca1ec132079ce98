"""Documents per second of indexing, from a file to the finished index.

Beside it, in turns: the model alone on batches made beforehand, which is what indexing cannot beat,
and ``SentenceTransformer.encode`` on texts already in memory.
"""

from __future__ import annotations

import json
import os
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.driver import System, fleet
from benchmarks.machine import has_native_bf16
from benchmarks.processes import SEMSEARCH
from benchmarks.processes import run as run_process
from benchmarks.results import Goal, Result, Spread
from benchmarks.setting import MODEL, Setting
from benchmarks.texts import checksum, write_jsonl
from semsearch.corpus import read_corpus
from semsearch.encoders.resolve import resolve_model

RATIO_BF16, RATIO_ELSEWHERE, SHARE = 3.0, 1.5, 0.95
_SMALL = 128
_ROUNDS = 3
_WHOLE = "semsearch index, whole process"
_WARM = "semsearch index, start-up not counted"
_START_UP = "semsearch index of one document"
_ALONE = "its model alone"
_PEER = "SentenceTransformer.encode alone"

SYSTEMS = (
    System(_ALONE, "ours", "ModelAlone", {"precision": "auto"}),
    System(_PEER, "sentence_transformers", "Encoder"),
)


def run(setting: Setting) -> Result:
    dataset = setting.main_dataset()
    everything = read_corpus(dataset / "corpus.jsonl")
    documents = list(everything if setting.full else islice(everything, _SMALL))
    corpus, texts = setting.work / "speed.jsonl", setting.work / "speed.json"
    write_jsonl(corpus, documents)
    single = setting.work / "single.jsonl"
    write_jsonl(single, documents[:1])
    contents = [document.content for document in documents]
    texts.write_text(json.dumps(contents), encoding="utf-8")
    setting.convert_model()
    raw: dict[str, Any] = {"semsearch index": [], _START_UP: []}
    model = str(resolve_model(MODEL))
    with fleet(SYSTEMS, lambda _: {"model": model}, setting.work, note=setting.note) as systems:
        for number in range(1, _ROUNDS + 1):
            setting.note(f"round {number} of {_ROUNDS}")
            raw[_START_UP].append(_index(setting.work / "single.idx", single))
            raw["semsearch index"].append(_index(setting.work / "speed.idx", corpus))
            for name, answers in systems.turns(1, "timed", lambda _: {"texts": str(texts)}).items():
                raw.setdefault(name, []).extend(answers)
    raw = {name: runs for name, runs in raw.items() if name not in systems.failed}
    result = _result(dataset.name, contents, raw)
    result.notes += systems.reasons()
    return result


def _index(folder: Path, corpus: Path) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    command = [*SEMSEARCH, "index", str(corpus), "-i", str(folder), "-m", MODEL, "--json"]
    command += ["--long-text", "truncate"]  # as the others read them
    done = run_process(command)
    facts = json.loads(done.stdout)
    return {
        "wall": done.seconds,
        "seconds": facts["seconds"],
        "processor_seconds": done.cpu_seconds,
        "load": os.getloadavg()[0],
        **{name: facts[name] for name in ("encoded", "tokens", "truncated")},
    }


def _result(name: str, contents: list[str], raw: dict[str, Any]) -> Result:
    count, ours = len(contents), raw["semsearch index"]
    result = Result(
        title="Indexing speed",
        dataset={"name": name, "documents": count, "sha256": checksum(contents)},
        notes=[
            f"{count:,} documents of {name}, {ours[0]['tokens'] / count:.0f} tokens on average"
            f" before {ours[0]['truncated']:,} of them are cut; {_ROUNDS} rounds in turns. Medians,"
            " with lowest and highest; ratios are of the same round. Start-up is what indexing one"
            " document takes, loading the model included; the model alone is loaded beforehand."
        ],
        raw=raw,
    )
    seconds = {
        _WHOLE: [run["wall"] for run in ours],
        _WARM: [
            run["seconds"] - start["seconds"]
            for run, start in zip(ours, raw[_START_UP], strict=True)
        ],
    }
    for system in (_ALONE, _PEER):
        if system in raw:
            seconds[system] = [run["seconds"] for run in raw[system]]
    for what, found in seconds.items():
        row = {"what": what, "documents/s": str(Spread.of([count / s for s in found]))}
        for other, heading in ((_ALONE, f"share of {_ALONE}"), (_PEER, f"times {_PEER}")):
            row[heading] = str(_ratios(seconds, other, what) or "-")
        result.rows.append({**row})
    wanted = RATIO_BF16 if has_native_bf16() else RATIO_ELSEWHERE
    for what, other, least in ((_WHOLE, _PEER, wanted), (_WARM, _ALONE, SHARE)):
        if (ratio := _ratios(seconds, other, what)) is not None:
            goal = Goal(
                f"{what}, against {other}", f">= {least}", ratio.median, ratio.median >= least
            )
            result.goals.append(goal)
    return result


def _ratios(seconds: dict[str, list[float]], slow: str, fast: str) -> Spread | None:
    """How many times as fast one is as another, round by round."""
    if slow not in seconds:
        return None
    return Spread.of([a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)])

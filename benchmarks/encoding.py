"""Documents and tokens per second of encoding alone: semsearch and what users would pick instead.

Same weights, same texts, same threads, at most 256 tokens of a text; every system in a process of
its own, loaded before any clock runs, all taking turns. Beside them, in the same turns: what the
processor reaches in the matrix products that the model is made of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.driver import Fleet, System, fleet, versions
from benchmarks.machine import has_native_bf16
from benchmarks.matrix import Layers
from benchmarks.results import Goal, Result, Spread
from benchmarks.setting import MODEL, Setting
from benchmarks.texts import checksum
from semsearch.corpus import read_corpus
from semsearch.encoders.resolve import resolve_model

_SMALL, _FULL = 96, 2_000
_TOKENS = 4_096
_ROUNDS = 3
_PEER = "SentenceTransformer.encode"
_OURS, _INT8, _ALONE = "semsearch, bf16", "semsearch, int8", "its model alone, bf16"
_PRODUCTS = "matrix products"

TIMES = {_OURS: 4.0, _INT8: 6.0}
SHARE = 0.85

SYSTEMS = (
    System(_OURS, "ours", "Encoder", {"precision": "bf16"}),
    System(_INT8, "ours", "Encoder", {"precision": "int8"}),
    System("semsearch, float32", "ours", "Encoder", {"precision": "float32"}),
    System(_ALONE, "ours", "ModelAlone", {"precision": "bf16"}),
    System(_PEER, "sentence_transformers", "Encoder"),
    System(f"{_PEER}, bfloat16", "sentence_transformers", "Encoder", {"dtype": "bfloat16"}),
    System(
        f"{_PEER}, its openvino backend",
        "sentence_transformers",
        "Encoder",
        {"backend": "openvino"},
        "openvino",
    ),
    System(
        f"{_PEER}, its onnx backend",
        "sentence_transformers",
        "Encoder",
        {"backend": "onnx"},
        "onnx",
    ),
    System("ONNX Runtime by hand, float32", "onnx_runtime", "Encoder", {"max_length": 256}, "onnx"),
    System(_PRODUCTS, "benchmarks.matrix", "Products", {"tokens": _TOKENS}),
)

Answers = dict[str, list[dict[str, Any]]]


def run(setting: Setting) -> Result:
    dataset = setting.main_dataset()
    documents = islice(read_corpus(dataset / "corpus.jsonl"), _FULL if setting.full else _SMALL)
    texts = [document.content for document in documents]
    file = setting.work / "encoding.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    setting.convert_model()
    model = str(resolve_model(MODEL))
    with fleet(SYSTEMS, lambda _: {"model": model}, setting.work, note=setting.note) as systems:
        answers = _measure(setting, systems, file)
        facts = {name: systems.ask(name, "facts") or {} for name in answers if name != _PRODUCTS}
    lengths = facts[_OURS]["lengths"]
    for found in facts.values():
        found.pop("lengths", None)  # the same for all of ours, and the checksum tells the texts
    result = Result(
        title="Encoding",
        dataset={
            "name": dataset.name,
            "documents": len(texts),
            "tokens": sum(lengths),
            "sha256": checksum(texts),
        },
        notes=[
            f"{len(texts):,} documents of {dataset.name}, {np.mean(lengths):.0f} tokens each after"
            f" cutting at {facts[_OURS]['max_length']}; {_ROUNDS} rounds in turns, every system in"
            " its own process and warm. Medians, with lowest and highest; ratios are of the same"
            " round.",
        ],
        raw={"answers": answers, "facts": facts, "failed": systems.failed},
    )
    _speed(result, answers, len(texts), sum(lengths))
    _against_processor(result, answers, Layers.of(model).flop(lengths), sum(lengths))
    _closeness(result, setting.work, list(facts))
    result.notes += [*versions(facts), *systems.reasons()]
    return result


def _measure(setting: Setting, systems: Fleet, file: Path) -> Answers:
    def arguments(name: str) -> Mapping[str, Any]:
        if name == _PRODUCTS:
            return {}
        return {"texts": str(file), "keep": str(_vectors(setting.work, name))}

    setting.note(f"{_ROUNDS} rounds of {len(systems.running)} systems")
    return systems.turns(_ROUNDS, "timed", arguments)


def _vectors(work: Path, name: str) -> Path:
    return work / f"encoding-{name.replace(' ', '-').replace(',', '')}.npy"


def _speed(result: Result, answers: Answers, count: int, tokens: int) -> None:
    """Rates and their ratios to the peer's, round by round."""
    peer = answers.get(_PEER, [])
    for name in (system.name for system in SYSTEMS if system.name in answers):
        if name == _PRODUCTS:
            continue
        ours = answers[name]
        times, by_processor = (
            [a[clock] / b[clock] for a, b in zip(peer, ours, strict=False)]
            for clock in ("seconds", "processor_seconds")
        )
        result.rows.append(
            {
                "system": name,
                "documents/s": str(Spread.of([count / answer["seconds"] for answer in ours])),
                "tokens/s": Spread.of([tokens / answer["seconds"] for answer in ours]).median,
                f"times {_PEER}": str(Spread.of(times)) if times else None,
                "by processor time": Spread.of(by_processor).median if times else None,
            }
        )
        if name in TIMES and times and has_native_bf16():
            ratio, wanted = Spread.of(times).median, TIMES[name]
            what = f"{name}, times {_PEER}"
            result.goals.append(Goal(what, f">= {wanted}", ratio, ratio >= wanted))


def _against_processor(result: Result, answers: Answers, flop: float, tokens: int) -> None:
    """Operations per second of the products, of the model and of the whole encoder."""
    if _PRODUCTS not in answers:
        return
    rates = {
        f"bf16 products in {kind}": [a["flop_per_s"][kind] for a in answers[_PRODUCTS]]
        for kind in answers[_PRODUCTS][0]["flop_per_s"]
    }
    best = [max(answer["flop_per_s"].values()) for answer in answers[_PRODUCTS]]
    for name in (name for name in (_ALONE, _INT8, _OURS) if name in answers):
        rates[name] = [flop / answer["seconds"] for answer in answers[name]]
    rows = result.more["Against the processor"] = []
    for name, found in rates.items():
        shares = Spread.of([a / b for a, b in zip(found, best, strict=True)])
        rows.append(
            {
                "what": name,
                "GFLOP/s": str(Spread.of([rate / 1e9 for rate in found])),
                "share of the best product": str(shares),
            }
        )
    share = shares.median
    what = f"{_OURS}: share of the processor's bf16 matrix rate"
    result.goals.append(Goal(what, f">= {SHARE}", share, share >= SHARE))
    result.notes.append(
        f"The model needs {flop / tokens / 1e6:.1f} MFLOP a token on these texts, attention"
        " included, padding not. The best product is the fastest of the four in the same round."
    )


def _closeness(result: Result, work: Path, names: list[str]) -> None:
    """Cosine of each system's vectors with those of the library in float32."""
    if not _vectors(work, _PEER).is_file():
        return
    reference = _unit(np.load(_vectors(work, _PEER)))
    rows = result.more["Closeness to float32: cosine with SentenceTransformer.encode"] = []
    for name in names:
        if name not in (_PEER, _ALONE):
            cosines = (_unit(np.load(_vectors(work, name))) * reference).sum(axis=1)
            lowest, mean = f"{cosines.min():.4f}", f"{cosines.mean():.4f}"
            rows.append({"system": name, "lowest": lowest, "mean": mean})


def _unit(vectors: Any) -> Any:
    wide = vectors.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)

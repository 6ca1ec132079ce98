"""How good the rankings are: nDCG@10 and more, by mode and by width, from one encoding each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import semsearch
from benchmarks.results import Goal, Result, Row
from benchmarks.setting import Setting
from benchmarks.texts import describe
from semsearch.evaluation import Report

ANCHOR, TOLERANCE = 0.645, 0.002
"""Published nDCG@10 of the default model on scifact, texts cut at its maximum length."""

HYBRID = 0.70
_MORE = ("banking77", "faquad-pt", "cmrc2018-zh", "sinhala-squad")
_COLUMNS = ("ndcg@10", "mrr@10", "accuracy@1", "recall@100")


def run(setting: Setting) -> Result:
    main = setting.main_dataset()
    folders = [main]
    if setting.full:
        folders += [found for name in _MORE if (found := setting.dataset(name))]
    result = Result(
        title="Quality of the rankings",
        dataset={folder.name: describe(folder) for folder in folders},
        notes=[
            "The default model and settings; the first row of each set is the default pipeline,"
            " exactly as a query is answered. Dense rows compare every vector. Long documents are"
            " cut into passages; the published figure is compared with vectors of texts that are"
            " cut off where the model stops reading."
        ],
    )
    for folder in folders:
        report = _evaluate(setting, folder)
        result.raw[folder.name] = report.to_json()
        result.rows += _rows(folder.name, report)
        if folder.name == "scifact":
            result.goals += _goals(report, _cut_off(setting, folder))
    return result


def _cut_off(setting: Setting, folder: Path) -> float:
    """nDCG@10 of the vectors of texts that are cut off, as the published one was measured."""
    path, _ = setting.index_of(folder, "truncate")
    with semsearch.open(path) as index:
        report = semsearch.evaluate(index, folder, modes=["dense"])
    return report.results[0].metrics["ndcg@10"]


def _evaluate(setting: Setting, folder: Path) -> Report:
    path, _ = setting.index_of(folder)
    setting.note(f"evaluating {folder.name}")
    with semsearch.open(path) as index:
        return semsearch.evaluate(index, folder)


def _rows(name: str, report: Report) -> list[Row]:
    rows: list[Row] = []
    for number, row in enumerate(report.results):
        mode = f"{row.mode} (default)" if number == 0 else row.mode
        measures = {measure: f"{row.metrics[measure]:.3f}" for measure in _COLUMNS}
        rows.append({"dataset": name, "mode": mode, "dims": row.dims, **measures})
    return rows


def _goals(report: Report, cut_off: float) -> list[Goal]:
    rows: dict[Any, float] = {}
    for row in report.results:  # the first of a kind: full width, as it is served
        rows.setdefault(row.mode, row.metrics["ndcg@10"])
    hybrid = rows["hybrid"]
    near = abs(cut_off - ANCHOR) <= TOLERANCE
    return [
        Goal("nDCG@10 on scifact, dense, cut off", f"{ANCHOR} +- {TOLERANCE}", cut_off, near),
        Goal("nDCG@10 on scifact, hybrid", f">= {HYBRID}", hybrid, hybrid >= HYBRID),
    ]

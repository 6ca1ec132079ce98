"""Measures of ranking quality, equal to trec_eval, in pure NumPy.

Nothing is loaded until a name is used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.metrics.evaluate import Evaluation, evaluate_run
    from semsearch.metrics.measures import DEFAULT_MEASURES, KNOWN_MEASURES, Measure
    from semsearch.metrics.ordering import rank_documents
    from semsearch.metrics.rules import explain_rules
    from semsearch.metrics.statistics import (
        PairedTest,
        bootstrap_interval,
        bootstrap_intervals,
        holm,
        paired_test,
    )

__all__ = [
    "DEFAULT_MEASURES",
    "KNOWN_MEASURES",
    "Evaluation",
    "Measure",
    "PairedTest",
    "bootstrap_interval",
    "bootstrap_intervals",
    "evaluate_run",
    "explain_rules",
    "holm",
    "paired_test",
    "rank_documents",
]

__getattr__ = lazy_names(
    __name__,
    {
        "DEFAULT_MEASURES": ".measures",
        "KNOWN_MEASURES": ".measures",
        "Evaluation": ".evaluate",
        "Measure": ".measures",
        "PairedTest": ".statistics",
        "bootstrap_interval": ".statistics",
        "bootstrap_intervals": ".statistics",
        "evaluate_run": ".evaluate",
        "explain_rules": ".rules",
        "holm": ".statistics",
        "paired_test": ".statistics",
        "rank_documents": ".ordering",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""What ``evaluate --report`` and ``--plots`` add: costs measured, a page and plots written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semsearch.cli.output import note, progress_bar

if TYPE_CHECKING:
    from semsearch.cli.results import Measured
    from semsearch.evaluation.html.points import Costs


def check_targets(page: str | None, plots: str | None) -> None:
    """Refuse early what would fail after minutes of measuring.

    Raises BadParameter (no such folder), MissingExtra (nothing to draw PNG with).
    """
    if page is not None and not Path(page).resolve().parent.is_dir():
        raise click.BadParameter(f"no folder {Path(page).parent}", param_hint="--report")
    if plots is not None:
        from semsearch.evaluation.html.png import require_pillow

        require_pillow()


def write_report(found: Measured, measure: str, page: str | None, plots: str | None) -> None:
    """Time single queries of every pipeline, then write what was asked for."""
    from semsearch.evaluation.html.figures import write_plots
    from semsearch.evaluation.html.page import content_of, write_page

    content = content_of(
        found.report,
        found.run,
        _costs(found),
        found.index.reader if found.index is not None else None,
        measure=measure,
        ignore_identical_ids=found.how.ignore_identical_ids,
    )
    if page is not None:
        write_page(page, content)
        note(f"wrote {page}")
    if plots is not None:
        written = write_plots(content.plots, plots)
        note(f"wrote {len(written)} files into {plots}")


def _costs(found: Measured) -> Costs | None:
    """Measured as ``query`` serves these pipelines; nothing for a run file."""
    if found.index is None:
        return None
    from semsearch.evaluation.costs import SAMPLE, measure_latency, measure_storage
    from semsearch.evaluation.html.points import Costs

    served = [replace(pipeline, exact=False).options for pipeline in found.pipelines]
    texts = [query.text for query in found.labelled.queries]
    with progress_bar(min(len(texts), SAMPLE), "timing", "queries") as advance:
        latency = measure_latency(found.index.searcher, served, texts, progress=advance)
    return Costs(latency, measure_storage(found.index.reader))

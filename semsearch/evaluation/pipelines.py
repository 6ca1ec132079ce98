"""Ways to search that can be measured: named by people, chosen for a report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from semsearch.errors import UsageError
from semsearch.ranking.settings import Ranking
from semsearch.search.options import MODES, Mode, Options
from semsearch.search.rerankers import NONE
from semsearch.search.searcher import Searcher

_WIDTHS = (1024, 768, 512, 256, 128, 64)
_WRITTEN = re.compile(rf"({'|'.join(MODES)})(?:@([0-9]{{1,6}}))?(?:\+(.+))?")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One way to search. ``dims`` 0 is the index's own width.

    ``exact`` scans every vector; otherwise as ``query`` would be served. ``rerank`` and ``ranking``
    are those of ``Options``: None is what ``query`` does with this mode.
    """

    mode: Mode
    dims: int
    exact: bool = True
    rerank: str | None = None
    ranking: Ranking | None = None

    @property
    def options(self) -> Options:
        """What ``Searcher.rank`` is asked for."""
        return Options(
            self.mode,
            self.dims or None,
            exact=self.exact,
            rerank=self.rerank,
            ranking=self.ranking,
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a report was asked for; None where it was not.

    ``dims`` are widths of vectors, ``rerank`` and ``ranking`` those of every row.
    """

    modes: Sequence[Mode] | None = None
    dims: Sequence[int] | None = None
    rerank: str | None = None
    ranking: Ranking | None = None


def default_pipeline(dims: int = 0) -> Pipeline:
    """What ``query`` does without options."""
    return Pipeline("hybrid", dims, exact=False)


def parse_pipeline(text: str) -> Pipeline | None:
    """Read ``MODE[@DIMS][+RERANK]``, served as ``query`` would with these options.

    None for other text.

    >>> found = parse_pipeline("dense@128+self")
    >>> found.mode, found.dims, found.rerank, found.exact
    ('dense', 128, 'self', False)
    >>> parse_pipeline("run.trec") is None
    True

    Raises UsageError for a width of ``lexical``, which has none, and a width of 0.
    """
    written = _WRITTEN.fullmatch(text)
    if written is None:
        return None
    mode, width, rerank = cast("Mode", written[1]), written[2], written[3]
    if width is not None and mode == "lexical":
        raise UsageError(f"{text!r}: lexical search compares words and has no dimensions")
    if width is not None and int(width) == 0:
        raise UsageError(f"{text!r}: dims must be 1 or more")
    return Pipeline(mode, int(width or 0), exact=False, rerank=rerank)


def choose_pipelines(searcher: Searcher, wanted: Wanted) -> list[Pipeline]:
    """The rows of a report: the default and everything beside it, or exactly what was asked.

    What stands beside the default is not reranked, so that each stage shows what it adds. A
    reranker or a ranking without modes and widths changes the default; named with modes it is
    measured at the index's own width. Raises UsageError for a width that the index does not have.
    """
    stored = searcher.snapshot.dims
    for width in wanted.dims or ():
        if not 1 <= width <= stored:
            raise UsageError(
                f"dims must be between 1 and {stored}, the width of this index, not {width}"
            )
    if wanted.modes is None and wanted.dims is None:
        default = replace(default_pipeline(stored), rerank=wanted.rerank, ranking=wanted.ranking)
        if wanted.rerank is not None or wanted.ranking is not None:
            return [default]
        return [default, *_rows(MODES, _widths(stored), Pipeline("hybrid", stored, rerank=NONE))]
    narrower = wanted.rerank is None and wanted.ranking is None
    widths = wanted.dims or (_widths(stored) if narrower else [stored])
    like = Pipeline("hybrid", stored, rerank=wanted.rerank, ranking=wanted.ranking)
    return _rows(wanted.modes or MODES, widths, like)


def _widths(stored: int) -> list[int]:
    return [stored, *(width for width in _WIDTHS if width < stored)]


def _rows(modes: Sequence[Mode], widths: Sequence[int], like: Pipeline) -> list[Pipeline]:
    """Every mode at every width, otherwise like ``like``; words have no width."""
    return [
        replace(like, mode=mode, dims=width)
        for mode in modes
        for width in (widths if mode != "lexical" else [0])
    ]

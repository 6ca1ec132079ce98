"""Ways to search that can be measured: named by people, chosen for a report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from semsearch.errors import UsageError
from semsearch.search.options import MODES, Mode, Options
from semsearch.search.searcher import Searcher

_WIDTHS = (1024, 768, 512, 256, 128, 64)
_WRITTEN = re.compile(rf"({'|'.join(MODES)})(?:@([0-9]{{1,6}}))?")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One way to search. ``dims`` 0 is the index's own width.

    ``exact`` scans every vector; otherwise as ``query`` would be served.
    """

    mode: Mode
    dims: int
    exact: bool = True

    @property
    def options(self) -> Options:
        """What ``Searcher.rank`` is asked for."""
        return Options(self.mode, self.dims or None, exact=self.exact)


def default_pipeline(dims: int = 0) -> Pipeline:
    """What ``query`` does without options."""
    return Pipeline("hybrid", dims, exact=False)


def parse_pipeline(text: str) -> Pipeline | None:
    """Read ``MODE[@DIMS]``, served as ``query`` would with these options; None for other text.

    >>> parse_pipeline("dense@128")
    Pipeline(mode='dense', dims=128, exact=False)
    >>> parse_pipeline("run.trec") is None
    True

    Raises UsageError for a width of ``lexical``, which has none, and a width of 0.
    """
    written = _WRITTEN.fullmatch(text)
    if written is None:
        return None
    mode, width = cast("Mode", written[1]), written[2]
    if width is not None and mode == "lexical":
        raise UsageError(f"{text!r}: lexical search compares words and has no dimensions")
    if width is not None and int(width) == 0:
        raise UsageError(f"{text!r}: dims must be 1 or more")
    return Pipeline(mode, int(width or 0), exact=False)


def choose_pipelines(
    searcher: Searcher, modes: Sequence[Mode] | None, dims: Sequence[int] | None
) -> list[Pipeline]:
    """The rows of a report: the default and everything beside it, or exactly what was asked."""
    stored = searcher.snapshot.dims
    for width in dims or ():
        if not 1 <= width <= stored:
            raise UsageError(
                f"dims must be between 1 and {stored}, the width of this index, not {width}"
            )
    widths = list(dims or [stored, *(w for w in _WIDTHS if w < stored)])
    rows = []
    for mode in modes or MODES:
        rows += [Pipeline(mode, w) for w in widths] if mode != "lexical" else [Pipeline(mode, 0)]
    if modes is None and dims is None:
        return [default_pipeline(stored), *rows]
    return rows

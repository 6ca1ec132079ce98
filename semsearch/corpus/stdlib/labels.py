"""Where the questions about the standard library and their judgements lie."""

from __future__ import annotations

from pathlib import Path

from semsearch.errors import NotFound


def labelled_set() -> Path:
    """The folder with ``queries.jsonl`` and ``qrels/dev.tsv`` and ``qrels/test.tsv``.

    An installed wheel carries it as ``semsearch/_data/stdlib``; a checkout has it as
    ``data/stdlib``. Raises NotFound if neither is there.
    """
    package = Path(__file__).resolve().parents[2]
    places = [package / "_data" / "stdlib", package.parent / "data" / "stdlib"]
    for place in places:
        if (place / "queries.jsonl").is_file():
            return place
    raise NotFound(f"{places[0]}: the demo's labelled questions are missing; reinstall semsearch")

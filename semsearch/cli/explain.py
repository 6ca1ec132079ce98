"""Explained hits: how the query was answered, each hit's place in every stage, bold words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from semsearch.cli.output import bold, count, on_terminal

if TYPE_CHECKING:
    from semsearch.search.why import Standing
    from semsearch.types import Explanation, Hit, Place, Setting

_NOT_FOUND = "not found"
_NOTHING = "-"
_UNSPACED = 0x2E80
"""Scripts from here on, Chinese and Japanese among them, are written without spaces."""


def setting_lines(setting: Setting) -> Iterator[str]:
    """How the query was answered, a line for each stage."""
    tuned = ", tuned on this index" if setting.tuned else ""
    proposed = count(setting.candidates, "candidate")
    yield (
        f"{'mode':<10}{setting.mode}{tuned}: {proposed}, at most {setting.depth:,} of each index;"
        f" generation {setting.generation}"
    )
    if setting.index is not None:
        yield f"{'vectors':<10}{setting.index}, {setting.dims} dims"
    if setting.mode != "dense":
        yield f"{'words':<10}stemmed as {setting.language}"
    if setting.reads is not None:
        part = 100 * (setting.dense_weight or 0)
        yield (
            f"{'fusion':<10}{setting.fusion}, {part:.0f} % of it dense;"
            f" the model reads {100 * setting.reads:.0f} % of query and corpus"
        )
    if setting.reranker is not None:
        part = 100 * (setting.rerank_weight or 0)
        yield (
            f"{'reranker':<10}{setting.reranker} orders the first {setting.rerank_depth},"
            f" its score is {part:.0f} % of the mixed one"
        )
    if setting.diversity:
        yield f"{'diversity':<10}{setting.diversity:g}"


def stage_lines(hit: Hit, explanation: Explanation) -> list[str]:
    """The hit's rank and score in every stage, in columns as wide for every hit; its words."""
    columns = list(_columns(hit, explanation))
    lines = [
        "stage" + "".join(f"{name:>11}" for name, _ in columns),
        "rank " + "".join(f"{_rank(place):>11}" for _, place in columns),
        "score" + "".join(f"{_score(place):>11}" for _, place in columns),
    ]
    if explanation.matched is not None:
        lines.append(f"words  {', '.join(explanation.matched) or 'none of the query'}")
    return lines


def _columns(hit: Hit, explanation: Explanation) -> Iterator[tuple[str, Place | None]]:
    """The stages that took part, in their order."""
    from semsearch.types import Place

    setting = explanation.setting
    if setting.index is not None:
        yield "dense", explanation.dense
    if setting.mode != "dense":
        yield "lexical", explanation.lexical
    if setting.fusion is not None:
        yield "fused", explanation.fused
    if setting.reranker is not None:
        yield "reranker", explanation.reranker
        yield "mixed", explanation.mixed
    if setting.diversity:
        yield "diverse", Place(hit.rank, hit.score)


def _rank(place: Place | None) -> str:
    if place is None:
        return _NOTHING
    return _NOT_FOUND if place.rank is None else f"{place.rank:,}"


def _score(place: Place | None) -> str:
    return _NOTHING if place is None else f"{place.score:.4f}"


def reason_line(name: str, found: Standing, k: int) -> str:
    """Where a document stands, in one sentence."""
    if found.hit is None:
        if found.reason == "filter":
            return f"{name} is no hit: the filter leaves it out"
        return f"{name} is no hit: it is not among the first 10,000 that the indexes propose"
    rank, score = f"{found.hit.rank:,}", f"{found.hit.score:.4f}"
    return {
        "hit": f"{name} is hit {rank}",
        "k": f"{name} is no hit: its rank is {rank}, and {k:,} were asked for",
        "min_score": f"{name} is no hit: its score, {score} at rank {rank}, is below --min-score",
        "diversity": f"{name} is no hit: at rank {rank}, it is too like those above (--diversity)",
        "depth": f"{name} is no hit: no index has it among its first candidates; its rank is"
        f" {rank} when each is asked for {0 if found.setting is None else found.setting.depth:,}",
    }[found.reason]


def highlighted(text: str, explanation: Explanation) -> str:
    """``text`` with the words that the query matched in bold, on a terminal."""
    if not explanation.matched or not on_terminal():
        return text
    from semsearch.lexical.matching import matched_words

    asked = " ".join(explanation.matched)
    found = matched_words(text, asked, explanation.setting.language)  # as they are written here
    patterns = [_pattern(word) for word in sorted(found, key=len, reverse=True)]
    return re.sub("|".join(patterns), lambda m: bold(m[0]), text, flags=re.I) if found else text


def _pattern(word: str) -> str:
    if any(ord(character) >= _UNSPACED for character in word):
        return re.escape(word)
    return rf"(?<!\w){re.escape(word)}(?!\w)"


def explanation_dict(hit: Hit, explanation: Explanation) -> dict[str, Any]:
    """An explanation as JSON: null for a stage that took no part or did not get so far down."""
    stages = ("dense", "lexical", "fused", "reranker", "mixed")
    places = {name: getattr(explanation, name) for name in stages}
    return {
        **{name: place and place._asdict() for name, place in places.items()},
        "final": {"rank": hit.rank, "score": hit.score},
        "matched": explanation.matched,
    }


def setting_dict(setting: Setting) -> dict[str, Any]:
    """How a query was answered as JSON: null for what took no part."""
    return asdict(setting)

"""What is looked for in the rows before the first step, each with a count and the rows it is in.

Texts are compared without regard to case and white space.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from semsearch.errors import InputError
from semsearch.training.losses import RANKING
from semsearch.training.recipe import Recipe
from semsearch.training.rows import Rows, plain

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from semsearch.training.evaluation_sets import HeldOut

_SHOWN = 5
_MEASURED_ROWS = 20_000
"""Rows whose texts are tokenized to see whether they are cut, spread over a longer file."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the rows that a person should know.

    ``count`` of ``total`` rows of ``source`` are concerned, the first few at ``lines``. ``allowed``
    says that it may be meant, so that even a strict run goes on.
    """

    kind: str
    source: str
    count: int
    total: int
    lines: tuple[int, ...]
    message: str
    allowed: bool = False

    def __str__(self) -> str:
        places = ", ".join(map(str, self.lines))
        more = ", ..." if self.count > len(self.lines) > 0 else ""
        where = f" (rows {places}{more})" if self.lines else ""
        return f"{self.source}: {self.count:,} of {self.total:,} rows: {self.message}{where}"

    def to_json(self) -> dict[str, Any]:
        """The finding as plain JSON values."""
        return {**asdict(self), "lines": list(self.lines)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Finding:
        """The finding that ``to_json`` told of."""
        return cls(**{**value, "lines": tuple(value["lines"])})


def check_rows(
    recipe: Recipe, rows: Sequence[Rows], model: SentenceTransformer, held_out: Sequence[HeldOut]
) -> tuple[tuple[Rows, ...], tuple[Finding, ...]]:
    """The rows without empty ones, and everything found. Raises InputError when none are left."""
    findings: list[Finding] = []
    kept = []
    for source in rows:
        full, empty = _without_empty(source)
        findings += empty
        kept.append(full)
        for check in (_identical, _contradictions):
            findings += check(full)
        findings += _leaks(full, held_out)
        if recipe.loss.name in RANKING:
            findings += _in_batch(full, recipe)
            findings += _refused(full, recipe.loss.name)
        findings += _truncated(full, model, recipe.training.max_length)
        findings += _too_few(full, recipe)
    return tuple(kept), tuple(findings)


def refuse_findings(findings: Iterable[Finding]) -> None:
    """Raise InputError for the first finding that is not allowed, and say how many more."""
    wrong = [finding for finding in findings if not finding.allowed]
    if wrong:
        more = f"; and {len(wrong) - 1} more findings" if len(wrong) > 1 else ""
        raise InputError(f"{wrong[0]}{more}: mend the rows, or leave out --strict")


def _found(
    kind: str, rows: Rows, places: Sequence[int], message: str, *, allowed: bool = False
) -> Iterator[Finding]:
    if places:
        lines = tuple(rows.lines[place] for place in places[:_SHOWN])
        yield Finding(kind, rows.source, len(places), len(rows), lines, message, allowed)


def _without_empty(rows: Rows) -> tuple[Rows, list[Finding]]:
    empty = [n for n, texts in enumerate(rows.texts) if not all(t.strip() for t in texts)]
    if not empty:
        return rows, []
    without = set(empty)
    full = rows.only([n for n in range(len(rows)) if n not in without])
    if not len(full):
        raise InputError("every row has an empty text: there is nothing to train on", rows.source)
    return full, list(_found("empty", rows, empty, "an empty text; they are left out"))


def _identical(rows: Rows) -> Iterator[Finding]:
    places = [n for n, texts in enumerate(rows.texts) if plain(texts[0]) == plain(texts[1])]
    message = "anchor and positive are the same text: such a row trains by dropout alone"
    return _found("identical", rows, places, message, allowed=True)


def _contradictions(rows: Rows) -> Iterator[Finding]:
    """Negatives that are, for the same anchor, a positive of this or another row."""
    if len(rows.columns) < 3:
        return iter(())
    positives: dict[str, set[str]] = defaultdict(set)
    for anchor, positive, *_ in rows.texts:
        positives[plain(anchor)].add(plain(positive))
    places = [
        n
        for n, (anchor, _, *negatives) in enumerate(rows.texts)
        if positives[plain(anchor)] & set(map(plain, negatives))
    ]
    return _found("contradiction", rows, places, "a negative is a positive of the same anchor")


def _leaks(rows: Rows, held_out: Sequence[HeldOut]) -> Iterator[Finding]:
    for one in held_out:
        asked, told = [], []
        for n, texts in enumerate(rows.texts):
            known = [plain(text) for text in texts]
            if not one.queries.isdisjoint(known) or frozenset(known[:2]) in one.pairs:
                asked.append(n)
            if not one.documents.isdisjoint(known):
                told.append(n)
        message = f"a query or pair that {one.name} measures is trained on"
        yield from _found("leak", rows, asked, message)
        message = f"a document that is relevant in {one.name} is trained on"
        yield from _found("leak-documents", rows, told, message)


def _in_batch(rows: Rows, recipe: Recipe) -> Iterator[Finding]:
    """Rows that share an anchor or a positive: in one batch each is a false negative."""
    batch = recipe.training.per_device_train_batch_size
    if recipe.training.batch_sampler == "no_duplicates" or len(rows) < 2:
        return
    places: set[int] = set()
    expected = 0.0
    chance = min(1.0, (batch - 1) / (len(rows) - 1))
    seen = [Counter(map(plain, rows.column(number))) for number in (0, 1)]
    together = Counter((plain(texts[0]), plain(texts[1])) for texts in rows.texts)
    for n, texts in enumerate(rows.texts):
        pair = plain(texts[0]), plain(texts[1])
        others = seen[0][pair[0]] + seen[1][pair[1]] - together[pair] - 1
        if others:
            places.add(n)
            expected += 1 - (1 - chance) ** others
    message = (
        f"an anchor or positive that comes again: with batches of {batch} about {expected:,.0f}"
        ' rows an epoch meet it as a negative (batch_sampler = "no_duplicates" avoids it)'
    )
    yield from _found("duplicates", rows, sorted(places), message)


def _refused(rows: Rows, loss: str) -> Iterator[Finding]:
    places = [n for n, line in enumerate(rows.lines) if line in rows.refused]
    message = f"the file labels them 0 or less, but {loss} takes every row for a positive pair"
    return _found("labels", rows, places, message)


def _truncated(rows: Rows, model: SentenceTransformer, while_training: int) -> Iterator[Finding]:
    limits = [limit for limit in (model.max_seq_length, while_training) if limit]
    if not limits:
        return
    longest = min(limits)
    step = -(-len(rows) // _MEASURED_ROWS)
    looked_at = range(0, len(rows), step)
    cut: set[int] = set()
    for column in range(len(rows.columns)):
        texts = [rows.texts[n][column] for n in looked_at]
        lengths = model.tokenizer(texts, truncation=False, return_length=True)["length"]
        cut |= {n for n, length in zip(looked_at, lengths, strict=True) if length > longest}
    places = sorted(cut)
    if places:
        every = "" if step == 1 else f"; one in {step} was looked at"
        share = f"{len(places) / len(looked_at):.1%} have a text longer than {longest} tokens"
        lines = tuple(rows.lines[place] for place in places[:_SHOWN])
        message = f"{share}, which is cut off{every}"
        yield Finding("truncated", rows.source, len(places), len(looked_at), lines, message)


def _too_few(rows: Rows, recipe: Recipe) -> Iterator[Finding]:
    training = recipe.training
    batch = training.per_device_train_batch_size
    together = batch * training.gradient_accumulation_steps
    if len(rows) >= together:
        return
    what = f"fewer than one batch of {batch}"
    if len(rows) >= batch:
        what = f"fewer than the {together} of one step ({batch} x gradient_accumulation_steps)"
    message = f"{what}: an epoch is one step, with fewer negatives than the batch promises"
    yield Finding("few-rows", rows.source, len(rows), len(rows), (), message)

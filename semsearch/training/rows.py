"""Rows to train and evaluate on: pairs, triplets or longer tuples of texts, with a label or not."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from semsearch.corpus import BeirDataset, read_corpus
from semsearch.corpus.records import read_rows
from semsearch.errors import InputError, NotFound, UsageError
from semsearch.training.recipe import Data, Evaluation
from semsearch.types import Document

Label: TypeAlias = "str | float | None"

_USUAL = (
    ("anchor", "query", "question", "sentence1", "sentence_0", "sentence_A", "text1", "premise"),
    ("positive", "answer", "document", "passage", "sentence2", "sentence_1", "sentence_B", "text2"),
)
_NEGATIVE = re.compile(r"negative(_\d+)?")
_SLICE = re.compile(r"(-?\d*):(-?\d*)")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one source, in its order.

    ``columns`` names the texts of each row (anchor, positive, negatives ...), ``texts`` has them,
    ``labels`` a number a row or None. ``lines`` are the 1-based lines or records of ``source``;
    ``refused`` those whose label in the file is 0 or less, where no label is asked for.
    """

    name: str
    source: str
    columns: tuple[str, ...]
    texts: list[tuple[str, ...]]
    labels: list[float] | None
    lines: list[int]
    refused: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.texts)

    def column(self, number: int) -> list[str]:
        """All texts of one column."""
        return [row[number] for row in self.texts]

    def only(self, keep: Sequence[int]) -> Rows:
        """These rows alone, in this order."""
        return Rows(
            self.name,
            self.source,
            self.columns,
            [self.texts[i] for i in keep],
            None if self.labels is None else [self.labels[i] for i in keep],
            [self.lines[i] for i in keep],
            self.refused,
        )

    def digest(self) -> str:
        """SHA-256 (hexadecimal) of what is trained on."""
        found = hashlib.sha256(repr(self.columns).encode())
        for number, row in enumerate(self.texts):
            label = None if self.labels is None else self.labels[number]
            found.update(repr((row, label)).encode("utf-8", "surrogatepass"))
        return found.hexdigest()


def read_data(data: Data | Evaluation, root: Path, *, needs: int = 2, label: bool = False) -> Rows:
    """Read the rows of a source, ``needs`` texts each at least and a label if ``label``.

    A relative path is looked for under ``root``. Raises InputError with file and line (a missing
    column or value, a label that is no number), NotFound, UsageError for a slice that is none.
    """
    path = root / data.path
    if path.is_dir():
        rows = _from_judgements(data, path)
    elif path.is_file():
        rows = _from_file(data, path, label)
    else:
        raise NotFound(
            f"{path}: no such file or folder of rows (named in the recipe; --data says where)"
        )
    if not rows.texts:
        raise InputError("holds no rows", path)
    if len(rows.columns) < needs:
        raise InputError(f"{needs} columns of text are needed, found {rows.columns}", path)
    if label and rows.labels is None:
        raise InputError('a label is needed: name its column with label = "..."', path)
    return rows if not data.rows else rows.only(_sliced(data.rows, len(rows)))


def _sliced(text: str, count: int) -> range:
    found = _SLICE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"rows = {text!r}: expected a slice such as ':1000' or '-500:'")
    start, stop = (int(part) if part else None for part in found.groups())
    kept = range(count)[start:stop]
    if not kept:
        raise UsageError(f"rows = {text!r}: none of the {count:,} rows is in it")
    return kept


def _from_file(data: Data | Evaluation, path: Path, wants_label: bool) -> Rows:
    texts: list[tuple[str, ...]] = []
    labels: list[float] = []
    lines: list[int] = []
    refused: set[int] = set()
    chosen: dict[str, str] | None = None
    label: Label = data.label
    for line, record in read_rows(path):
        if chosen is None:
            chosen = dict(data.columns) or _usual_columns(record, path, line)
            if label is None and wants_label:
                label = next((key for key in ("label", "score") if key in record), None)
        texts.append(tuple(_text(record, column, path, line) for column in chosen.values()))
        lines.append(line)
        if label is not None:
            labels.append(_number(record, label, path, line))
        if not wants_label and _says_no(record):
            refused.add(line)
    name = data.name or path.name.split(".")[0]
    columns = tuple(chosen or ())
    kept = labels if label is not None else None
    return Rows(name, str(path), columns, texts, kept, lines, frozenset(refused))


def _says_no(record: Mapping[str, object]) -> bool:
    """Whether the usual label of a row, which nothing asks for, is a number that is not above 0."""
    value = next((record[key] for key in ("label", "score") if key in record), None)
    try:
        return isinstance(value, str | int | float) and float(value) <= 0
    except (ValueError, OverflowError):
        return False


def _usual_columns(record: Mapping[str, object], path: Path, line: int) -> dict[str, str]:
    """The columns by what they are, where the recipe does not say."""
    found = []
    for usual, what in zip(_USUAL, ("anchor", "positive"), strict=True):
        name = next((key for key in usual if key in record), None)
        if name is None:
            there = ", ".join(record)
            raise InputError(
                f"no column for the {what} ({', '.join(usual)}) among {there}: name it with"
                ' columns = { anchor = "...", positive = "..." }',
                path,
                line,
            )
        found.append(name)
    found += [key for key in record if _NEGATIVE.fullmatch(key)]
    return {name: name for name in found}


def _text(record: Mapping[str, object], column: str, path: Path, line: int) -> str:
    value = record.get(column)
    if value is None:
        raise InputError(f"no {column!r} in this row: there are {', '.join(record)}", path, line)
    if not isinstance(value, str):
        raise InputError(f"{column!r} is not a text but {value!r}", path, line)
    return value.encode("utf-8", "replace").decode()


def _number(record: Mapping[str, object], label: str | float, path: Path, line: int) -> float:
    if not isinstance(label, str):
        return float(label)
    value = record.get(label)
    try:
        number = float(value) if isinstance(value, str | int | float) else float("nan")
    except (ValueError, OverflowError):
        number = float("nan")
    if not math.isfinite(number):
        raise InputError(f"the label {label!r} is {value!r}, which is no number", path, line)
    return number


def _from_judgements(data: Data | Evaluation, folder: Path) -> Rows:
    """A row for each relevant document of each query, in the order of the queries."""
    dataset = BeirDataset.open(folder, data.split)
    documents = relevant_documents(dataset)
    texts: list[tuple[str, ...]] = []
    lines: list[int] = []
    for query in dataset.queries:
        for document, grade in dataset.qrels[query.id].items():
            if grade > 0 and document in documents:
                texts.append((query.text, documents[document].content))
                lines.append(documents[document].line)
    columns = tuple(data.columns) or ("anchor", "positive")
    name = data.name or f"{folder.name}-{data.split}"
    return Rows(name, str(dataset.require_corpus()), columns, texts, None, lines)


def relevant_documents(dataset: BeirDataset) -> dict[str, Document]:
    """The documents of a set that are relevant to any of its queries, by id."""
    wanted = {d for grades in dataset.qrels.values() for d, grade in grades.items() if grade > 0}
    return {d.id: d for d in documents_of(dataset) if d.id in wanted}


def documents_of(dataset: BeirDataset) -> Iterator[Document]:
    """Every document of a set's corpus. Raises NotFound, InputError."""
    return read_corpus(dataset.require_corpus())


def plain(text: str) -> str:
    """A text as it is compared with others: in one case, white space as single spaces."""
    return " ".join(text.split()).casefold()


def sample(rows: Rows, count: int, seed: int) -> Rows:
    """``count`` rows drawn without replacement, in their order; all of them if 0."""
    import numpy as np

    if not count or count >= len(rows):
        return rows
    kept = np.random.default_rng(seed).choice(len(rows), count, replace=False)
    return rows.only(sorted(kept.tolist()))

"""Labelled sets in BEIR's layout: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/<split>.tsv``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semsearch.corpus.qrels import read_qrels
from semsearch.corpus.queries import read_queries
from semsearch.errors import InputError, NotFound
from semsearch.fs import sha256_of
from semsearch.types import Qrels, Query

CORPUS_NAMES = ("corpus.jsonl", "corpus.jsonl.gz")
QUERIES_NAMES = ("queries.jsonl", "queries.jsonl.gz", "queries.tsv", "queries.tsv.gz")
_QRELS_SUFFIXES = (".tsv", ".tsv.gz", ".txt", ".txt.gz", ".qrels", ".qrels.gz")


@dataclass(frozen=True, slots=True)
class BeirDataset:
    """One split of a labelled set; nothing is ever written to its folder.

    ``queries`` are those that the split judges, in the order of their file; ``missing_queries``
    are the ids that it judges and the file lacks. ``qrels`` holds every judgement. ``corpus`` is
    None where there is none: such a set measures an index that was made from elsewhere.
    """

    folder: Path
    corpus: Path | None
    split: str
    queries: list[Query]
    qrels: Qrels
    missing_queries: tuple[str, ...]

    @classmethod
    def open(
        cls,
        folder: str | Path,
        split: str | None = None,
        queries: str | Path | None = None,
        qrels: str | Path | None = None,
    ) -> BeirDataset:
        """Read a set's queries and judgements; its corpus is only located.

        Without ``split`` it is ``test``, else ``dev``, else the only one there is. ``queries`` and
        ``qrels`` name files to read instead of the folder's own. Raises NotFound when the folder,
        a file or the split is not there, InputError when a file cannot be used or none of the
        judged queries is in the queries' file.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise NotFound(f"{folder}: no such folder (expected one with {CORPUS_NAMES[0]} in it)")
        there = [folder / name for name in CORPUS_NAMES if (folder / name).is_file()]
        queries_file = _first_of(folder, QUERIES_NAMES) if queries is None else Path(queries)
        if qrels is None:
            split, qrels_file = _choose(folder / "qrels", split)
        else:
            qrels_file = Path(qrels)
            split = split or split_name(qrels_file)
        judged = read_qrels(qrels_file)
        known = [query for query in read_queries(queries_file) if query.id in judged]
        if judged and not known:
            raise InputError(f"none of the queries that {qrels_file} judges is here", queries_file)
        ids = {query.id for query in known}
        missing = tuple(query_id for query_id in judged if query_id not in ids)
        return cls(folder, there[0] if there else None, split, known, judged, missing)

    def require_corpus(self) -> Path:
        """The corpus file. Raises NotFound."""
        return self.corpus or _first_of(self.folder, CORPUS_NAMES)

    def corpus_sha256(self) -> str:
        """SHA-256 of the corpus file's bytes, hexadecimal, read in pieces.

        Raises NotFound, InputError.
        """
        corpus = self.require_corpus()
        try:
            return sha256_of(corpus)
        except OSError as exc:
            raise InputError(f"cannot read: {exc.strerror}", corpus) from exc


def _first_of(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise NotFound(
        f"{folder}: no {names[0]} in this folder: "
        "a dataset holds corpus.jsonl, queries.jsonl and qrels/<split>.tsv"
    )


def _choose(folder: Path, split: str | None) -> tuple[str, Path]:
    splits = qrels_files(folder)
    if not splits:
        raise NotFound(f"{folder}: no judgements here: expected {split or 'test'}.tsv")
    if split is None:
        split = next((name for name in ("test", "dev") if name in splits), None)
    if split is None and len(splits) == 1:
        split = next(iter(splits))
    there = ", ".join(splits)
    if split is None:
        raise NotFound(f"{folder}: no test or dev split: choose one with --split from {there}")
    if split not in splits:
        raise NotFound(f"{folder}: no split {split!r}: there is {there}")
    return split, splits[split]


def qrels_files(folder: Path) -> dict[str, Path]:
    """The files of judgements in a folder, by the name of their split; none where it is none."""
    if not folder.is_dir():
        return {}
    splits: dict[str, Path] = {}
    for suffix in _QRELS_SUFFIXES:
        for path in sorted(folder.glob(f"*{suffix}")):
            if path.is_file() and not path.name.startswith("."):
                splits.setdefault(split_name(path), path)
    return dict(sorted(splits.items()))


def split_name(path: Path) -> str:
    """What a file of judgements is the split of: ``test`` for ``qrels/test.tsv.gz``."""
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]

"""Answering queries: the stages of a search over the newest generation, then documents and hits.

query text -> vector and words -> candidates (dense, lexical) -> fused -> reranked -> hits
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from semsearch.collection.reader import Reader, StaleSnapshot
from semsearch.collection.snapshot import Snapshot
from semsearch.errors import UsageError
from semsearch.ranking.settings import DEFAULT_RANKING, Ranking
from semsearch.search.attempts import attempts
from semsearch.search.candidates import CandidateSource
from semsearch.search.explain import Explainer, setting_of
from semsearch.search.hits import choose, read_hits
from semsearch.search.options import DEFAULT, Options
from semsearch.search.owners import Owners, Ranked
from semsearch.search.questions import Questions, encode_questions, require_model
from semsearch.search.rerankers import NONE, SELF, Rerankers
from semsearch.search.stages import Search, Stages, no_stages
from semsearch.threads import Pool, thread_count
from semsearch.types import Hit, Setting

if TYPE_CHECKING:
    from semsearch.encoders import Encoder
    from semsearch.ranking.contract import Reranker
    from semsearch.types import Candidates

_AT_ONCE = 256
"""Queries that go through the stages together: memory stays bounded however many are asked."""

T = TypeVar("T")


class _View:
    """One generation, ready to be searched; what is opened and looked up for it is kept."""

    def __init__(self, reader: Reader, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.source = CandidateSource(reader, snapshot)
        self.owners = Owners(reader, snapshot)


class Searcher:
    """Answers queries from an open index, each from one whole generation.

    ``load_encoder`` is called with the snapshot when a dense search first needs it. Safe to use
    from several threads at once.
    """

    def __init__(self, reader: Reader, load_encoder: Callable[[Snapshot], Encoder]) -> None:
        self.reader = reader
        self._load_encoder = load_encoder
        self._encoder: Encoder | None = None
        self._lock = threading.Lock()
        self._view = _View(reader, reader.snapshot())
        self._rerankers = Rerankers(reader)
        self._meanwhile = Pool(thread_count(), "words")  # threads start when used

    @property
    def snapshot(self) -> Snapshot:
        """The generation that was searched last."""
        return self._view.snapshot

    @property
    def source(self) -> CandidateSource:
        """Its indexes."""
        return self._view.source

    @property
    def ranking(self) -> Ranking:
        """How this index ranks unless told otherwise."""
        return self._view.source.ranking or DEFAULT_RANKING

    def close(self) -> None:
        """Close the index."""
        self._meanwhile.shutdown()
        self.reader.close()

    def refresh(self) -> None:
        """Search the newest generation from now on."""
        with self._lock:
            newest = self.reader.snapshot()
            if newest is not self._view.snapshot:
                self._view = _View(self.reader, newest)

    def search(self, text: str, k: int = 10, options: Options = DEFAULT) -> list[Hit]:
        """The best ``k`` documents for one query, best first.

        Raises UsageError, Mismatch (another model), Corrupt.
        """
        return self._retry(lambda view: self._answer(view, text, k, options)[1])

    def explain(
        self, text: str, k: int = 10, options: Options = DEFAULT
    ) -> tuple[Setting, list[Hit]]:
        """The same hits, each with its place in every stage, and how the query was answered."""

        def answer(view: _View) -> tuple[Setting, list[Hit]]:
            stages, hits = self._answer(view, text, k, options)
            ranking = self._settings(view, options)
            setting = setting_of(view.source, self.reader.connection, stages, ranking, options)
            explainer = Explainer(text, stages, view.owners, setting)
            return setting, [explainer.explained(hit) for hit in hits]

        return self._retry(answer)

    def rank(
        self,
        texts: Sequence[str],
        k: int,
        options: Options = DEFAULT,
        questions: Questions | None = None,
    ) -> list[list[Ranked]]:
        """Rankings of many queries at once, each of at most ``k`` documents, best first.

        ``questions`` are what ``encode`` gave for the texts, where they are encoded already. A
        text without words gets an empty ranking: among many it is no reason to answer none.
        """
        asked = [number for number, text in enumerate(texts) if text.strip()]
        rankings: list[list[Ranked]] = [[] for _ in texts]
        for start in range(0, len(asked), _AT_ONCE):
            part = asked[start : start + _AT_ONCE]
            words = [texts[number] for number in part]
            some = None if questions is None else questions.some(part)
            answer = partial(self._rank, texts=words, k=k, options=options, questions=some)
            for number, ranking in zip(part, self._retry(answer), strict=True):
                rankings[number] = ranking
        return rankings

    def stages(
        self,
        texts: Sequence[str],
        k: int = 10,
        options: Options = DEFAULT,
        questions: Questions | None = None,
    ) -> Stages:
        """What each stage makes of these queries, all at once: to explain a ranking or learn one.

        They are as deep as ``k`` documents for each query need, over passages. What comes after
        them (``min_score``, ``diversity``) is left out. ``questions`` are as ``rank`` takes them.
        """
        return self._retry(lambda view: self._run(view, texts, k, options, questions)[0])

    def encode(self, texts: Sequence[str]) -> Questions:
        """Q queries as the encoder reads them, as ``rank`` takes them. Raises Mismatch."""
        return encode_questions(self._encoder_for(self._view.snapshot), texts)

    def _encoder_for(self, snapshot: Snapshot) -> Encoder:
        recorded = snapshot.encoder
        with self._lock:
            encoder = self._encoder
            if encoder is None or (recorded and recorded.fingerprint != encoder.fingerprint):
                encoder = self._encoder = self._load_encoder(snapshot)  # it may have been swapped
        require_model(recorded, encoder)
        return encoder

    def _answer(self, view: _View, text: str, k: int, options: Options) -> tuple[Stages, list[Hit]]:
        if not text.strip():
            raise UsageError("the query is empty: give some words to search for")
        stages, (ranking,) = self._run(view, [text], k, options)
        chosen = choose(ranking, k, options, view.snapshot)
        return stages, read_hits(self.reader, chosen, options.conditions)

    def _rank(
        self,
        view: _View,
        texts: Sequence[str],
        k: int,
        options: Options,
        questions: Questions | None = None,
    ) -> list[list[Ranked]]:
        rankings: dict[int, list[Ranked]] = {number: [] for number in range(len(texts))}
        asked = list(rankings)
        search = self._search(view, texts, k, options, questions)
        deeper = 0
        while search is not None and asked:
            _, found, short = self._run_once(view, search, k, options, deeper)
            for number, ranking in zip(asked, found, strict=True):
                rankings[number] = choose(ranking, k, options, view.snapshot)
            # Only those that fell short go deeper: no query's answer depends on its neighbours.
            asked, search = [asked[at] for at in short], search.some(short)
            deeper += 1
        return list(rankings.values())

    def _run(
        self,
        view: _View,
        texts: Sequence[str],
        k: int,
        options: Options,
        questions: Questions | None = None,
    ) -> tuple[Stages, list[list[Ranked]]]:
        """The stages, all as deep as the queries need, and the rankings they end in."""
        search = self._search(view, texts, k, options, questions)
        if search is None:
            return no_stages(len(texts)), [[] for _ in texts]
        deeper = 0
        while True:
            stages, found, short = self._run_once(view, search, k, options, deeper)
            if not short:
                return stages, found
            deeper += 1

    def _search(
        self,
        view: _View,
        texts: Sequence[str],
        k: int,
        options: Options,
        questions: Questions | None,
    ) -> Search | None:
        """These queries, ready to be run; None where there is nothing to search."""
        dims = options.width(view.snapshot, k)
        if not len(view.snapshot.rows) or not texts:
            return None
        if options.mode == "lexical":
            view.source.require_lexical()

        def encoded() -> Questions:
            made_by = view.snapshot.encoder
            if questions and made_by and questions.fingerprint == made_by.fingerprint:
                return questions
            return encode_questions(self._encoder_for(view.snapshot), texts)

        return Search(view.source, view.owners, texts, encoded, options, dims)

    def _run_once(
        self, view: _View, search: Search, k: int, options: Options, deeper: int
    ) -> tuple[Stages, list[list[Ranked]], list[int]]:
        """The stages, at a depth doubled ``deeper`` times, and the rankings they end in.

        These hold k documents, or more to choose from. Last, the positions of the queries that have
        too few while an index still has candidates for them.
        """
        ranking = self._settings(view, options)
        reranker = partial(self._reranker, view, search, ranking, options)
        first = max(ranking.depth, k)
        depth = first * 2**deeper
        stages = search.run(ranking, depth, self._both, reranker)
        found = view.owners.rank(stages.final, first if options.diversity else k)
        more = stages.more if depth < len(view.snapshot.rows) else np.zeros(len(found), np.bool_)
        short = [at for at, row in enumerate(found) if len(row) < k and more[at]]
        return stages, found, short

    def _settings(self, view: _View, options: Options) -> Ranking:
        return options.ranking or view.source.ranking or DEFAULT_RANKING

    def _reranker(
        self, view: _View, search: Search, ranking: Ranking, options: Options
    ) -> Reranker | None:
        name = options.reranker(ranking)
        if name == NONE:
            return None
        if name != SELF:
            return self._rerankers.cross_encoder(name)
        encoder = self._encoder_for(view.snapshot)
        if encoder.token_dim:
            return self._rerankers.late_interaction(encoder, search.questions, view.snapshot)
        if options.rerank is None:
            return None
        raise UsageError(
            f"{encoder.name} gives no vectors of its tokens, so it cannot rerank: choose"
            " a cross-encoder, or none"
        )

    def _both(
        self, first: Callable[[], Candidates], second: Callable[[], Candidates]
    ) -> list[Candidates]:
        """The results of two computations that run at once; both have ended, whatever they did."""
        # In turns on a busy machine of 2 cores, p50: 105 ms instead of 112, and 19.2 for 19.9.
        other = self._meanwhile.submit(second)
        try:
            return [first(), other.result()]
        finally:
            wait((other,))

    def _retry(self, answer: Callable[[_View], T]) -> T:
        for view in attempts(self._newest):
            with suppress(StaleSnapshot):  # purged or replaced by a commit meanwhile
                found = answer(view)
                self.reader.require_current(view.snapshot)  # settings are read along the way
                return found
        raise AssertionError("unreachable")

    def _newest(self) -> _View:
        self.refresh()
        return self._view

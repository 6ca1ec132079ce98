"""What the bytes kept for a token buy: nDCG@10 of reranking by `self` with codes of several sizes.

All sizes rerank the same candidates with the same token vectors, encoded once, at the default's
depth and weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import semsearch
from benchmarks.rankings import MEASURE, Values, mean_of_sets, signed
from benchmarks.results import Goal, Result, Row
from benchmarks.setting import Setting
from benchmarks.texts import describe, stdlib_folder
from semsearch.corpus import BeirDataset
from semsearch.evaluation.labelled import open_labelled
from semsearch.evaluation.measure import as_run
from semsearch.maxsim import Codes, TokenCodec
from semsearch.metrics import evaluate_run
from semsearch.ranking.rerank import mixed
from semsearch.ranking.settings import DEFAULT_RANKING
from semsearch.search.facade import Index
from semsearch.search.options import Options
from semsearch.search.owners import Owners
from semsearch.search.questions import Questions
from semsearch.threads import one_blas_thread
from semsearch.types import Candidates

Rows: TypeAlias = NDArray[np.float32]

NOTHING, FULL = "no reranking", "float16"
MOST_LOST = 0.005
_K = 10
_NOISE = 0.02
"""How far scores of the same texts in other batches may lie apart."""

_HALF = 2
_SHAPES = ((1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (2, 3))
"""What the width of a vector is divided by, and how many tokens share a code."""


@dataclass(frozen=True)
class Kept:
    """One way to keep tokens: by a codec, whole (none), or not at all (0 bytes)."""

    name: str
    bytes_a_token: float
    codec: TokenCodec | None = None


def run(setting: Setting) -> Result:
    folders = [stdlib_folder(setting.work)]
    names = ("faquad-pt", "scifact") if setting.full else ("faquad-pt",)
    folders += [there for name in names if (there := setting.dataset(name))]
    found: dict[str, dict[str, Values]] = {}
    ways: list[Kept] = []
    for folder in folders:
        path, _ = setting.index_of(folder)
        with semsearch.open(path) as index:
            ways = ways_of(index)
            found[folder.name] = _measure(setting, index, folder, ways)
    result = Result(
        title="Late interaction: what the bytes of a token buy",
        dataset={folder.name: describe(folder) for folder in folders},
        notes=[
            f"nDCG@10 of the default: of each query the {DEFAULT_RANKING.rerank_depth} best of"
            f" the fused ranking, reranked with weight {DEFAULT_RANKING.rerank_weight}; the same"
            " token vectors for all sizes, encoded once. Bytes a token: what a passage's codes"
            " take by its number of tokens, before the last pool of a passage is rounded up."
            " Differences are those to float16, each set counting alike, with 95 % bootstrap"
            " intervals."
        ],
    )
    for way in ways:
        means: Row = {name: float(values[way.name].mean()) for name, values in found.items()}
        mean, low, high = mean_of_sets([v[way.name] - v[FULL] for v in found.values()])
        result.rows.append(
            {"kept": way.name, "bytes a token": way.bytes_a_token, **means,
             "mean": float(np.mean([v[way.name].mean() for v in found.values()])),
             "difference": signed(mean), "95 % interval": f"[{signed(low)}, {signed(high)}]"}
        )  # fmt: skip
    _goals(result, found, ways)
    return result


def ways_of(index: Index) -> list[Kept]:
    """From none to whole, those between by the bytes that they take."""
    dim = index.encoder_for(index.reader.snapshot()).token_dim
    codecs = [TokenCodec(dim, pooled=pooled, bits=dim // part // 8 * 8) for part, pooled in _SHAPES]
    kept = [Kept(codec.name, codec.width / codec.pooled, codec) for codec in codecs]
    kept.sort(key=lambda way: (way.bytes_a_token, way.name))
    return [Kept(NOTHING, 0), *kept, Kept(FULL, _HALF * dim)]


def _measure(
    setting: Setting, index: Index, folder: Path, ways: Sequence[Kept]
) -> dict[str, Values]:
    """nDCG@10 of each query by each way."""
    dataset = open_labelled(folder, "test")
    texts = [query.text for query in dataset.queries]
    setting.note(f"ranking {folder.name}")
    questions = index.searcher.encode(texts)
    stages = index.searcher.stages(texts, _K, Options(ranking=DEFAULT_RANKING), questions)
    if stages.second is None or stages.weights is None:
        raise ValueError("the default ranking does not rerank: there is nothing to compare")
    heads = stages.first.ids[:, : stages.second.shape[1]]
    setting.note(f"encoding the tokens of {len(np.unique(heads[heads >= 0])):,} passages")
    tokens = Tokens(index, np.unique(heads[heads >= 0]), [w.codec for w in ways if w.codec])
    values = {}
    for way in ways:
        setting.note(f"reranking with {way.name}")
        final = stages.first
        if way.name != NOTHING:
            second = second_scores(tokens, questions, heads, way.codec)
            final = mixed(stages.first, second, stages.weights)
        values[way.name] = _values(index, dataset, final)
    default = TokenCodec(tokens.dim)
    if not np.allclose(
        stages.second, second_scores(tokens, questions, heads, default), atol=_NOISE
    ):
        raise ValueError("stored codes do not score as those made here: index the set again")
    return values


class Tokens:
    """The token vectors of passages, encoded once: whole in float16, and as each codec's codes."""

    def __init__(self, index: Index, vids: NDArray[np.int64], codecs: Sequence[TokenCodec]) -> None:
        encoder = index.encoder_for(index.reader.snapshot())
        self.dim = encoder.token_dim
        self.whole: dict[int, NDArray[np.float16]] = {}
        self.codes: dict[str, dict[int, NDArray[np.uint8]]] = {c.name: {} for c in codecs}
        passages = index.reader.passages_of(vids.tolist())
        texts = [row.document.passage(p.start, p.end) for p, row in passages.values()]
        by_text: dict[str, list[int]] = {}
        for vid, text in zip(passages, texts, strict=True):
            by_text.setdefault(text, []).append(vid)
        unique = list(by_text)

        def keep(positions: NDArray[np.int64], lengths: NDArray[np.int64], rows: Rows) -> None:
            owners = [by_text[unique[position]] for position in positions.tolist()]
            parts = np.split(rows.astype(np.float16), np.cumsum(lengths)[:-1])
            for same, part in zip(owners, parts, strict=True):
                self.whole.update(dict.fromkeys(same, part))
            for codec in codecs:
                made = codec.encode(rows, lengths)
                pieces = np.split(made.codes, np.cumsum(made.counts)[:-1])
                for same, piece in zip(owners, pieces, strict=True):
                    self.codes[codec.name].update(dict.fromkeys(same, piece))

        encoder.encode_documents(unique, token_sink=keep)


def second_scores(
    tokens: Tokens, questions: Questions, heads: NDArray[np.int64], codec: TokenCodec | None
) -> Rows:
    """MaxSim float32 (Q, depth) of each query with its candidates; -inf where padded."""
    scores = np.full(heads.shape, -np.inf, np.float32)
    for number, query in enumerate(questions.tokens):
        real = np.flatnonzero(heads[number] >= 0)
        vids = heads[number, real].tolist()
        if codec is None:
            scores[number, real] = _max_sim(query, [tokens.whole[vid] for vid in vids])
            continue
        parts = [tokens.codes[codec.name][vid] for vid in vids]
        counts = np.array([len(part) for part in parts], np.int64)
        codes = Codes(np.concatenate(parts), counts)
        scores[number, real] = codec.scores(codec.project(query), codes)
    return scores


def _max_sim(query: Rows, passages: Sequence[NDArray[np.float16]]) -> Rows:
    """MaxSim float32 (n,) with whole vectors; 0 where there are none."""
    found = np.zeros(len(passages), np.float32)
    some = [number for number, passage in enumerate(passages) if len(passage)]
    if not len(query) or not some:
        return found
    lengths = np.array([len(passages[number]) for number in some], np.int64)
    rows = np.concatenate([passages[number] for number in some]).astype(np.float32)
    with one_blas_thread():
        similar = query @ rows.T
    starts = np.cumsum(lengths) - lengths
    found[some] = np.maximum.reduceat(similar, starts, axis=1).mean(axis=0)
    return found


def _values(index: Index, dataset: BeirDataset, final: Candidates) -> Values:
    owners = Owners(index.reader, index.searcher.snapshot)
    run = as_run(dataset, owners.rank(final, _K))
    return evaluate_run(dataset.qrels, run, [MEASURE]).per_query(MEASURE)


def _goals(result: Result, found: dict[str, dict[str, Values]], ways: Sequence[Kept]) -> None:
    default = TokenCodec(next(way.codec.dim for way in ways if way.codec)).name
    lost, _, _ = mean_of_sets([v[FULL] - v[default] for v in found.values()])
    gained, low, _ = mean_of_sets([v[default] - v[NOTHING] for v in found.values()])
    result.goals += [
        Goal(f"nDCG@10 lost by the default, {default}, against float16", f"<= {MOST_LOST}",
             lost, lost <= MOST_LOST),
        Goal("nDCG@10 gained by reranking with it", "> 0", gained, gained > 0),
        Goal("the same, lower bound of the interval", "> 0", low, low > 0),
    ]  # fmt: skip

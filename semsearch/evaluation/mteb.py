"""Models for MTEB: our encoder, an index, or a pipeline that indexes each task's corpus.

    import mteb
    from semsearch.evaluation.mteb import mteb_pipeline
    task = mteb.get_task("SciFact")
    print(mteb.evaluate(mteb_pipeline("indexes", "all-MiniLM-L6-v2"), task))

MTEB knows its models by their methods (its EncoderProtocol and SearchProtocol, mteb 2), which it
calls with keywords; what we have no use for is taken and left alone. It is imported only where it
asks for a model's description.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semsearch import __version__
from semsearch.encoders import Encoder, open_encoder
from semsearch.encoders.resolve import DEFAULT_MODEL
from semsearch.errors import MissingExtra, NotFound, UsageError
from semsearch.evaluation.measure import DEPTH
from semsearch.search import Index, Options
from semsearch.types import Document
from semsearch.vectors import unit

if TYPE_CHECKING:
    import torch

    from semsearch.types import Floats

log = logging.getLogger("semsearch")

USUAL = Options()


def mteb_encoder(model: str | Path | Encoder = DEFAULT_MODEL) -> Any:
    """A model of dense vectors for any task of MTEB over texts; MTEB does the searching.

    Queries get the model's query prompt, everything else its document prompt. Vectors are float32
    of unit length, so the similarity is the cosine. An encoder that is open already keeps its
    runtime and precision. Raises NotFound, ModelError.
    """
    return _Encoder(open_encoder(model) if isinstance(model, (str, Path)) else model)


def mteb_index(index: Index, options: Options = USUAL, *, depth: int = DEPTH) -> Any:
    """An index as it is, for a retrieval task of MTEB whose corpus it holds.

    Before it is searched it is compared with the task's corpus: documents that the corpus lacks are
    refused (UsageError), as they would take places in the rankings; documents that the index lacks
    are counted in a warning. Rankings are ``depth`` documents long, those that `evaluate` measures:
    MTEB asks for 1,000, which matters to its measures at 1,000 alone.
    """
    index.require()
    encoder = index.encoder_for(index.reader.snapshot())
    return _Search(lambda _name: index, encoder, options, depth, fill=False)


def mteb_pipeline(
    folder: str | Path,
    model: str | Path = DEFAULT_MODEL,
    options: Options = USUAL,
    *,
    depth: int = DEPTH,
) -> Any:
    """A pipeline for any retrieval tasks of MTEB: each corpus gets an index of its own.

    The indexes lie in ``folder``, named by task, subset and split, and are brought up to date when
    a task comes again, so that only what changed is encoded. ``depth`` is that of ``mteb_index``.
    Raises NotFound, ModelError.
    """

    def open_index(name: str) -> Index:
        return Index(Path(folder) / name, model)

    return _Search(open_index, open_encoder(model), options, depth, fill=True)


class _Encoder:
    """MTEB's EncoderProtocol."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @property
    def mteb_model_meta(self) -> Any:
        precision = self._encoder.precision  # reduced ones move the numbers in the fourth place
        how = {} if precision == "float32" else {"precision": precision}
        return _meta(self._encoder, self._encoder.fingerprint[:12], "dense", how)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Sequence[str]]],
        *,
        prompt_type: str | None = None,
        **asked: Any,
    ) -> Floats:
        """Float32 vectors (n, dim) of the batches' texts, in their order."""
        if asked.get("precision") not in (None, "float32"):
            raise UsageError(
                f"vectors for MTEB are float32, not {asked['precision']}: leave out the precision"
            )
        texts = [_only_text(text) for batch in inputs for text in batch["text"]]
        if prompt_type == "query":
            return self._encoder.encode_queries(texts).vectors
        return self._encoder.encode_documents(texts).vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosines float32 (n, m) of (n, dim) or (dim,) with (m, dim) or (dim,)."""
        return _tensor(_rows(embeddings1) @ _rows(embeddings2).T)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosines float32 (n,) of the rows of (n, dim) with those of (n, dim)."""
        return _tensor(np.einsum("nd,nd->n", _rows(embeddings1), _rows(embeddings2)))


class _Search:
    """MTEB's SearchProtocol: an index for each corpus, searched as ``options`` say."""

    def __init__(
        self,
        open_index: Callable[[str], Index],
        encoder: Encoder,
        options: Options,
        depth: int,
        *,
        fill: bool,
    ) -> None:
        self._open = open_index
        self._encoder = encoder
        self._options = options
        self._depth = depth
        self._fill = fill
        self._index: Index | None = None

    @property
    def mteb_model_meta(self) -> Any:
        # What a pipeline finds depends on our version, too, and MTEB keeps results by these names.
        revision = f"{self._encoder.fingerprint[:12]}-semsearch-{__version__}"
        mode = self._options.mode
        kind = {"lexical": "sparse"}.get(mode, mode)
        chosen = {field.name: getattr(self._options, field.name) for field in fields(Options)}
        how = {k: repr(v) for k, v in chosen.items() if v != getattr(USUAL, k)}
        return _meta(self._encoder, revision, kind, {**how, "mode": mode, "depth": self._depth})

    def index(
        self,
        corpus: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        **_asked: Any,
    ) -> None:
        """Make, bring up to date or check the index of a corpus: rows of id, text and title."""
        name = "-".join((task_metadata.name, hf_subset, hf_split)).replace("/", "-")
        index = self._open(name)
        ids: set[str] = set()
        if self._fill:
            index.add(_documents(corpus, ids), source=name)
            if surplus := [document.id for document in index.documents() if document.id not in ids]:
                index.delete(surplus)
        else:
            ids.update(str(row["id"]) for row in corpus)
            _compare({document.id for document in index.documents()}, ids, index)
        self._index = index

    def search(
        self,
        queries: Iterable[Mapping[str, Any]],
        *,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_asked: Any,
    ) -> dict[str, dict[str, float]]:
        """A run: query id -> document id -> score; not above ``top_k`` documents, nor our depth.

        With ``top_ranked`` (tasks of reranking) these documents of each query alone, in the order
        in which the pipeline ranks the whole corpus; what it does not find is left out.
        """
        if self._index is None:
            raise NotFound("no corpus was indexed: MTEB calls index before search")
        asked = {str(row["id"]): _query(row) for row in queries}
        searcher = self._index.searcher
        if top_ranked is None:
            k = min(top_k, self._depth)
            rankings = searcher.rank(list(asked.values()), k, self._options)
            found = zip(asked, rankings, strict=True)
            return {query: {hit.id: hit.score for hit in hits} for query, hits in found}
        run: dict[str, dict[str, float]] = {}
        for query, text in asked.items():
            given = set(top_ranked.get(query, ()))
            ranking = searcher.rank([text], max(len(self._index), 1), self._options)[0]
            hits = [hit for hit in ranking if hit.id in given]
            run[query] = {hit.id: hit.score for hit in hits[:top_k]}
        return run


def _documents(corpus: Iterable[Mapping[str, Any]], ids: set[str]) -> Iterator[Document]:
    """The corpus as documents; ``ids`` collects theirs."""
    for row in corpus:
        ids.add(str(row["id"]))
        yield Document(str(row["id"]), _only_text(row.get("text")), row.get("title") or "")


def _compare(there: set[str], wanted: set[str], index: Index) -> None:
    if surplus := sorted(there - wanted):
        raise UsageError(
            f"{index.folder}: {len(surplus)} of its documents are not in the task's corpus,"
            f" {surplus[0]!r} first: index that corpus alone"
        )
    if missing := len(wanted - there):
        log.warning("%s: %d documents of the task's corpus are missing", index.folder, missing)


def _query(row: Mapping[str, Any]) -> str:
    """A query's text and, as MTEB joins them, its instruction."""
    return " ".join(filter(None, (_only_text(row.get("text")), row.get("instruction"))))


def _only_text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise UsageError(f"this task holds {type(value).__name__} where semsearch takes text alone")


def _rows(embeddings: Any) -> Floats:
    return unit(np.atleast_2d(np.asarray(embeddings, dtype=np.float32)))


def _tensor(values: Floats) -> torch.Tensor:
    import torch

    return torch.from_numpy(values)


def _meta(encoder: Encoder, revision: str, kind: str, how: Mapping[str, Any]) -> Any:
    """What MTEB writes beside the numbers; what we do not know of a model is None."""
    try:
        from mteb.models.model_meta import ModelMeta
    except ImportError as exc:
        raise MissingExtra("mteb", None, "describing a model to MTEB") from exc
    return ModelMeta(
        loader=None,
        name=f"semsearch/{Path(encoder.name).name}",
        revision=revision,
        release_date=None,
        languages=None,
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=encoder.max_length,
        embed_dim=encoder.dim,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=[],
        similarity_fn_name="cosine",
        use_instructions=bool(encoder.prompts),
        training_datasets=None,
        model_type=[kind],
        experiment_kwargs=dict(how) or None,
    )

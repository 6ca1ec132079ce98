"""A labelled set on this machine as a task of MTEB: no hub is asked for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semsearch.corpus import BeirDataset, read_corpus
from semsearch.errors import MissingExtra


def mteb_task(
    dataset: str | Path | BeirDataset, split: str | None = None, language: str = "eng-Latn"
) -> Any:
    """A BEIR folder as a retrieval task for ``mteb.evaluate``, its main score nDCG@10.

    The task is called as the folder is; ``language`` is MTEB's code, which it keeps beside the
    numbers. The corpus is read when MTEB loads its data, into memory. Raises NotFound, InputError,
    MissingExtra without mteb.
    """
    try:
        from mteb.abstasks import AbsTaskRetrieval
        from mteb.abstasks.task_metadata import TaskMetadata
    except ImportError as exc:
        raise MissingExtra("mteb", None, "a task of MTEB") from exc
    data = dataset if isinstance(dataset, BeirDataset) else BeirDataset.open(dataset, split)
    corpus = data.require_corpus()

    class Task(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = TaskMetadata(
            name=data.folder.resolve().name,
            type="Retrieval",
            description=f"The labelled set {data.folder.resolve().name}, split {data.split}.",
            dataset={"path": str(data.folder), "revision": data.corpus_sha256()},
            category="t2t",
            modalities=["text"],
            eval_splits=[data.split],
            eval_langs=[language],
            main_score="ndcg_at_10",
            bibtex_citation="",
            **dict.fromkeys(_UNKNOWN),
        )

        def load_data(self, num_proc: int | None = None, **_asked: Any) -> None:
            self.dataset = {"default": {data.split: _load(data, corpus)}}
            self.data_loaded = True

    return Task()


_UNKNOWN = (
    *("reference", "date", "domains", "task_subtypes", "license", "annotations_creators"),
    *("dialect", "sample_creation"),
)


def _load(data: BeirDataset, corpus: Path) -> dict[str, Any]:
    from datasets import Dataset

    documents = [{"id": d.id, "title": d.title, "text": d.text} for d in read_corpus(corpus)]
    asked = {query.id: query.text for query in data.queries}
    return {
        "corpus": Dataset.from_list(documents),
        "queries": Dataset.from_list([{"id": id_, "text": text} for id_, text in asked.items()]),
        "relevant_docs": {query: dict(data.qrels[query]) for query in asked},
        "top_ranked": None,
    }

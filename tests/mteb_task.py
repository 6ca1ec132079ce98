"""A retrieval task of MTEB made of what is in memory: no hub, no cache, no network."""

from typing import Any

from semsearch.types import Document, Qrels, Query


def make_task(
    documents: list[Document],
    queries: list[Query],
    qrels: Qrels,
    *,
    name: str = "MadeHere",
    top_ranked: dict[str, list[str]] | None = None,
    ignore_identical_ids: bool = False,
) -> Any:
    """The task; ``top_ranked`` makes it one of reranking."""
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class Task(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = TaskMetadata(
            name=name,
            type="Retrieval" if top_ranked is None else "Reranking",
            description="Made in a test.",
            dataset={"path": "none", "revision": "none"},
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            reference=None,
            date=None,
            domains=None,
            task_subtypes=None,
            license=None,
            annotations_creators=None,
            dialect=None,
            sample_creation=None,
            bibtex_citation="",
        )

        def load_data(self, num_proc: int | None = None, **_: Any) -> None:
            corpus = [{"id": d.id, "title": d.title, "text": d.text} for d in documents]
            asked = [{"id": query.id, "text": query.text} for query in queries]
            split = {
                "corpus": Dataset.from_list(corpus),
                "queries": Dataset.from_list(asked),
                "relevant_docs": {query: dict(judged) for query, judged in qrels.items()},
                "top_ranked": top_ranked,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    Task.ignore_identical_ids = ignore_identical_ids
    return Task()


def scores_of(model: Any, task: Any) -> dict[str, float]:
    """What MTEB finds, under our names of the measures: ``ndcg@10`` for its ``ndcg_at_10``."""
    import mteb

    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
    (found,) = result.task_results[0].scores["test"]
    ours = {"hit_rate": "accuracy"}
    values = {}
    for name, value in found.items():
        measure, at, k = name.rpartition("_at_")
        if at and not name.startswith("nauc"):
            values[f"{ours.get(measure, measure)}@{k}"] = value
    return values

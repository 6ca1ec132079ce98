"""The rules behind every number, for people: peers disagree, so ours are printed on request."""

from __future__ import annotations

from textwrap import wrap
from typing import NamedTuple

from semsearch.metrics.measures import KNOWN_MEASURES

_WIDTH = 88
_INDENT = 18


class Rule(NamedTuple):
    """What is meant by a word, and who means something else by it; plain text."""

    subject: str
    ours: str
    others: str = ""


RULES = (
    Rule(
        "accuracy@k",
        "1 if any of the top k documents is relevant, else 0. The same as Success@k in "
        "ir_measures, hit_rate@k in ranx and top_k_accuracy@k in BEIR and MTEB.",
        "ir_measures' own Accuracy is another measure.",
    ),
    Rule("precision@k", "Relevant documents in the top k, divided by k."),
    Rule("recall@k", "Relevant documents in the top k, divided by all relevant documents."),
    Rule("mrr@k", "1 / rank of the first relevant document within the top k, else 0."),
    Rule(
        "ndcg@k",
        "Gain = grade (or 2^grade - 1 with the gain 'exp'), discount log2(rank + 1), divided by "
        "the value of the best possible ranking of all judged documents (trec_eval's ndcg_cut).",
        "sentence-transformers knows relevant or not, no grades; ranx also has the 'exp' form; "
        "usearch takes the best ranking from the retrieved documents only, which inflates.",
    ),
    Rule(
        "map@k",
        "Average precision cut at k, divided by all relevant documents (trec_eval's map_cut).",
        "sentence-transformers divides by min(k, relevant), far higher where hundreds are "
        "relevant: map_st@k gives that one.",
    ),
    Rule("relevant", "A grade of 1 or more. Negative grades count as gain 0."),
    Rule(
        "ties",
        "Scores are cast to float32, as trec_eval keeps them, so a difference of 1e-9 is a tie. "
        "Then by score descending, then by document id descending (byte order of UTF-8). One "
        "rule for live rankings, run files and measures.",
        "sentence-transformers orders tied ids ascending.",
    ),
    Rule(
        "no results",
        "A judged query without results scores 0 and stays in the mean.",
        "trec_eval and BEIR leave it out; ranx raises.",
    ),
    Rule("no relevant", "A query without any relevant document is left out, and counted."),
    Rule(
        "id = query id",
        "A hit whose id equals the query's is kept; --ignore-identical-ids drops it.",
        "BEIR drops it silently: a run that is all correct can score 0.90.",
    ),
    Rule(
        "missing document",
        "A judged document that the corpus lacks stays in the ideal and in the number of "
        "relevant documents; it is counted and warned about.",
    ),
    Rule(
        "qrels header",
        "Recognised, not assumed: qrels without a header are read whole.",
        "BEIR's reader always discards the first row.",
    ),
    Rule("rounding", "Only when printing.", "BEIR rounds each value to 5 places."),
    Rule(
        "mean",
        "Over queries, with a 95 % bootstrap interval (10,000 resamples, seeded). Two runs are "
        "compared by a paired randomisation test (10,000 exchanges; all of them where there are "
        "fewer) and the interval of the difference; several p are corrected after Holm.",
        "sentence-transformers and MTEB give no interval.",
    ),
)


def explain_rules() -> str:
    """Every rule and who differs, as plain text of at most 88 columns, without a final newline."""
    lines = ["How the numbers are computed: equal to trec_eval, query by query.", ""]
    for rule in RULES:
        text = _block(rule.ours) + _block(rule.others, "Differs: ")
        subjects = [rule.subject] + [""] * (len(text) - 1)
        lines += [
            f"{subject:<{_INDENT}}{line}" for subject, line in zip(subjects, text, strict=True)
        ]
    return "\n".join([*lines, "", *wrap(f"Measures: {KNOWN_MEASURES}.", _WIDTH)])


def _block(text: str, label: str = "") -> list[str]:
    return wrap(label + text, _WIDTH - _INDENT) if text else []

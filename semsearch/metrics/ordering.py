"""The one order of documents: for live rankings, run files and measures alike."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

import numpy as np

from semsearch.errors import InputError


def rank_documents(scores: Mapping[str, float]) -> list[str]:
    """Order document ids best first, as trec_eval does.

    Scores are cast to float32, as trec_eval keeps them, so that a difference of 1e-9 is a tie;
    then score descending, then document id descending.

    Raises:
        InputError: a score is NaN.
    """
    with np.errstate(over="ignore"):  # beyond float32 is infinity, there as here
        single = np.fromiter(scores.values(), np.float64, len(scores)).astype(np.float32)
    if np.isnan(single).any():
        document = next(document for document, score in scores.items() if isnan(score))
        raise InputError(f"the score of document {document!r} is not a number")
    # trec_eval compares ids with strcmp, byte by byte; UTF-8 keeps the order of code points,
    # which is how Python compares text, lone surrogates included.
    ranked = sorted(zip(single.tolist(), scores, strict=True), reverse=True)
    return [document for _, document in ranked]

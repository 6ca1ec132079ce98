"""Candidates that a cross-encoder takes for right are no negatives."""

from dataclasses import replace

import numpy as np
import pytest

from semsearch.search.options import Options
from semsearch.search.rerankers import Rerankers
from semsearch.training.mining import Mining
from semsearch.types import Candidates
from tests.cross_encoder_models import build_cross_encoder
from tests.mining_sets import TRAIN, Oracle, ids, indexed, made_documents, mined, write_labelled


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("mining") / "set"
    write_labelled(made, made_documents())
    return made


@pytest.fixture(scope="module")
def index(folder):
    with indexed(folder) as made:
        yield made


@pytest.fixture(scope="module")
def oracle(index, folder):
    return Oracle(index, folder)


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    return str(build_cross_encoder("bert", tmp_path_factory.mktemp("pairs")))


def scores_of(index, oracle, cross_encoder, query):
    """What the cross-encoder says of every document, by the passage with the best cosine."""
    snapshot = index.reader.snapshot()
    text = oracle.texts[query]
    vids = index.searcher.rank([text], len(oracle.documents), Options("dense"))[0]
    ids = np.array([[ranked.vid for ranked in vids]])
    judge = Rerankers(index.reader).cross_encoder(cross_encoder)
    scores = judge.score([text], Candidates(ids, np.zeros(ids.shape, np.float32)))[0]
    assert len(snapshot.ordinals(ids[0])) == len(vids)
    return {ranked.id: score for ranked, score in zip(vids, scores.tolist(), strict=True)}


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_the_cross_encoder_drops_what_it_takes_for_right(
    index, folder, oracle, cross_encoder, margin
):
    plain = Mining(mode="dense", ranks=(3, 60), per_query=60, judged=True)
    every, _ = mined(index, folder, plain)
    filtered = replace(plain, per_query=4, cross_encoder=cross_encoder, cross_encoder_margin=margin)
    rows, report = mined(index, folder, filtered)
    documents, dropped = made_documents(), 0
    expected: dict[tuple[str, str], list[str]] = {}
    scores = {f"q{n:02}": scores_of(index, oracle, cross_encoder, f"q{n:02}") for n in range(TRAIN)}
    for row in every:
        query, positive, negative = ids([row])[0]
        own = expected.setdefault((query, positive), [])
        if len(own) == 4:
            continue
        judged = negative == documents[60 + int(query[1:])].id
        if judged or scores[query][negative] <= scores[query][positive] - margin + 1e-4:
            own.append(negative)
        else:
            dropped += 1
    assert ids(rows) == [(*pair, name) for pair, own in expected.items() for name in own]
    assert report.dropped["cross_encoder"] == dropped > 0

"""The campaign of hostile indexes, models and corpora, at the size for every day."""

from tests.faults import hostile
from tests.faults.campaign import push


def test_nothing_hostile_is_let_through():
    outcome = push(hostile.CAMPAIGN)
    assert outcome.failures == []
    kinds = {"schema", "names", "links", "models", "corpora"}
    assert {kind: outcome.figures[kind] for kind in kinds} == dict.fromkeys(kinds, 20)

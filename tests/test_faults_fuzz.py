"""Hostile input of every kind is taken, or refused in one line; nothing else happens."""

import pytest

from tests.faults.campaign import push
from tests.faults.fuzz import CAMPAIGN, SECONDS
from tests.faults.fuzz_worker import targets


@pytest.mark.slow
def test_ten_thousand_hostile_inputs_are_taken_or_refused_in_one_line():
    outcome = push(CAMPAIGN)
    assert outcome.failures == []
    for name in targets():
        assert float(outcome.figures[f"{name} accepted"]) > 0, name
        assert name == "words" or float(outcome.figures[f"{name} refused"]) > 0, name
    assert float(outcome.figures["seconds"]) <= SECONDS

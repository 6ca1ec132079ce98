"""Any order of everything that can be done to an index leaves what a dictionary holds."""

import pytest

from semsearch.collection.check import check_index
from tests.fakes import FakeEncoder, make_documents, opened
from tests.faults.campaign import push
from tests.faults.steps import CAMPAIGN
from tests.store_model import small_sizes


@pytest.mark.slow
def test_any_order_of_operations_answers_as_a_dictionary_and_numpy_do():
    outcome = push(CAMPAIGN)
    assert outcome.failures == []
    done = outcome.figures
    assert float(done["steps"]) >= 500
    for what in (
        "FAISS", "backed up", "compacted", "deleted", "filtered", "fused", "listing ended",
        "lost lex", "lost tokens", "metadata changed", "migrated", "pruned", "put back", "refused",
        "reranked", "restored", "searched vectors", "searched words", "steps on a rotation",
        "steps on dead passages", "steps on several segments", "swapped",
    ):  # fmt: skip
        assert float(done[what]) > 0, what


def test_check_reads_the_disk_whatever_this_process_has_open(tmp_path, monkeypatch):
    small_sizes(monkeypatch.setattr)
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(make_documents(20))
        index.search("bal", rerank="self")
        assert list(check_index(index.reader)) == []
        files = list(tmp_path.glob("idx/seg/*.tok"))
        assert files
        for path in files:
            path.unlink()
        found = [str(finding) for finding in check_index(index.reader)]
        assert len(found) == len(files)
        assert all("the token vectors are missing" in line for line in found)

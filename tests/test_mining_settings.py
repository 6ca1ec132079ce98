"""What is mined and by which rules: settings that make sense, ranks as written, the split."""

import pytest

from semsearch.errors import UsageError
from semsearch.training.mining import Mining
from semsearch.training.mining.run import mining_split
from semsearch.training.mining.settings import parse_ranks
from tests.mining_sets import made_documents, qrels, write_labelled

WRONG = [
    (Mining(ranks=(0, 10)), "ranks 0-10 are no range"),
    (Mining(ranks=(11, 10)), "ranks 11-10 are no range"),
    (Mining(ranks=(1, 100_001)), "the last at most 100000"),
    (Mining(per_query=0), "ask for 1 or more"),
    (Mining(per_query=3, ranks=(1, 2), layout="tuples"), "hold 2 documents"),
    (Mining(margin=-0.1), "from 0 to 2, not -0.1"),
    (Mining(margin=float("nan")), "from 0 to 2, not nan"),
    (Mining(relative_margin=0.05), "0.95 keeps it 5 % below"),
    (Mining(max_score=1.5), "from -1 to 1, not 1.5"),
    (Mining(cross_encoder="x", cross_encoder_margin=float("inf")), "0 or more, not inf"),
    (Mining(cross_encoder_margin=1.0), "needs a cross-encoder"),
    (Mining(cross_encoder="self"), "'self' is no cross-encoder"),
    (Mining(seed=-1), "the seed must be 0 or more"),
    (Mining(layout="quads"), "'quads' is unknown here"),  # type: ignore[arg-type]
    (Mining(mode="words"), "'words' is unknown here"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("mining", "message"), WRONG)
def test_settings_that_make_no_sense(mining, message):
    with pytest.raises(UsageError, match=message):
        mining.check()


def test_the_rules_at_their_bounds():
    rules = Mining(margin=0.25, relative_margin=0.5, max_score=0.5)
    assert rules.against(0.25, 0.5) is None
    assert rules.against(0.26, 0.5) == "margin"
    assert rules.against(0.5, 0.75) == "relative_margin"
    assert rules.against(0.51, 1.0) == "relative_margin"
    assert Mining(max_score=0.5).against(0.51, 1.0) == "max_score"
    assert Mining().against(1.0, -1.0) is None
    below = Mining(relative_margin=0.5)
    assert below.against(-0.375, -0.25) is None
    assert below.against(-0.3, -0.25) == "relative_margin", "lower than a positive below 0, too"


def test_ranks_as_they_are_written():
    assert parse_ranks("10-100") == (10, 100)
    assert parse_ranks(" 7 ") == (7, 7)
    for text in ("", "a-b", "1-2-3", "-5", "1-", "1.5-2"):
        with pytest.raises(UsageError, match="give the first and the last, as in 10-100"):
            parse_ranks(text)


def test_the_split_to_mine(tmp_path):
    folder = tmp_path / "set"
    write_labelled(folder, made_documents())
    assert mining_split(folder) == "train"
    assert mining_split(folder / "qrels" / "dev.tsv") is None
    qrels(tmp_path, "dev", [("q", "d", 1)])
    assert mining_split(tmp_path) == "dev"
    (tmp_path / "qrels" / "dev.tsv").rename(tmp_path / "qrels" / "test.tsv")
    with pytest.raises(UsageError, match="no train or dev split to mine, only test"):
        mining_split(tmp_path)

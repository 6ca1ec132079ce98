"""Near-duplicates, compared with all pairs of documents."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import semsearch.encoders
from semsearch.cli.main import cli
from semsearch.collection.layout import Layout
from semsearch.collection.maintain import compact
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.errors import StorageError, UsageError
from semsearch.lexical.tokens import words
from semsearch.search import duplicates
from semsearch.search.duplicates import find_duplicates
from semsearch.types import Document
from semsearch.vectors import unit
from tests.fakes import WORDS, FakeEncoder, index_into, lower_limits, opened


def near_documents(count, seed=1, length=10, **metadata):
    """Random texts, most of them an earlier one with a word or two exchanged, some copies."""
    random = np.random.default_rng(seed)
    texts: list[list[str]] = []
    for _ in range(count):
        if texts and random.random() < 0.7:
            text = list(texts[int(random.integers(len(texts)))])
            for _ in range(int(random.integers(0, 3))):
                text[int(random.integers(len(text)))] = str(random.choice(WORDS))
        else:
            text = [str(word) for word in random.choice(WORDS, length)]
        texts.append(text)
    return [
        Document(f"d{n}", " ".join(text), metadata={"year": 2000 + n % 5, **metadata})
        for n, text in enumerate(texts)
    ]


def found(index, **options):
    return list(index.duplicates(**options))


def names(groups, kind):
    return [[d.document.id for d in group.documents] for group in groups if group.kind == kind]


def by_all_pairs(folder, documents, threshold, least):
    """The same rule over an N x N matrix: copies, then near groups with cosines and words."""
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        vids = snapshot.rows.ids.tolist()
        owner = {vid: row.ext_id for vid, row in reader.documents_of(vids).items()}
        rows = unit(snapshot.rows.take(np.arange(len(vids)))[:, : snapshot.dims])
    contents: dict[str, list[Document]] = {}
    for document in documents:
        contents.setdefault(document.content, []).append(document)
    copies = [[d.id for d in same] for same in contents.values() if len(same) > 1]
    distinct = [same[0] for same in contents.values()]
    several = len(vids) > len(documents)
    means = []
    for document in distinct:
        own = [rows[n] for n, vid in enumerate(vids) if owner[vid] == document.id]
        mean = unit(np.sum(own, axis=0, keepdims=True))[0] if several else own[0]
        means.append(mean.astype(np.float16) if several else mean)
    matrix = unit(np.array(means, np.float32)).astype(np.float64)
    cosines = (matrix @ matrix.T).astype(np.float32)
    held = [set(words(document.content)) for document in distinct]
    taken: set[int] = set()
    near = []
    for first in range(len(distinct)):
        if first in taken:
            continue
        members = []
        for other in range(first + 1, len(distinct)):
            shared = len(held[first] & held[other]) / len(held[first] | held[other])
            if other not in taken and cosines[first, other] >= threshold and shared >= least:
                members.append((-cosines[first, other], other, shared))
                taken.add(other)
        if members:
            near.append([(distinct[first].id, 1.0, 1.0)])
            near[-1] += [(distinct[n].id, -float(c), shared) for c, n, shared in sorted(members)]
    return copies, near


def assert_same(groups, wanted):
    copies, near = wanted
    assert [group.kind for group in groups] == ["copies"] * len(copies) + ["near"] * len(near)
    assert names(groups, "copies") == copies
    shown = [
        [(d.document.id, d.cosine, d.words) for d in g.documents] for g in groups[len(copies) :]
    ]
    for group, expected in zip(shown, near, strict=True):
        assert {d[0] for d in group} == {d[0] for d in expected}
        assert group[0][0] == expected[0][0]
        first, second = np.array([d[1:] for d in group]), np.array([d[1:] for d in expected])
        np.testing.assert_allclose(first[:, 0], second[:, 0], atol=1e-5)
        np.testing.assert_allclose(sorted(first[:, 1]), sorted(second[:, 1]))


@pytest.mark.parametrize(
    ("threshold", "least"), [(0.9501, 0.5), (0.8503, 0.0), (0.7004, 0.6), (0.9999, 0.0)]
)
def test_groups_are_those_of_all_pairs(tmp_path, threshold, least):
    documents = near_documents(300)
    index_into(tmp_path / "idx", FakeEncoder(), documents)
    groups = found(opened(tmp_path / "idx", None), threshold=threshold, words=least)
    wanted = by_all_pairs(tmp_path / "idx", documents, threshold, least)
    assert_same(groups, wanted)
    assert wanted[0]
    assert wanted[1] or threshold > 0.99


def test_documents_of_several_passages_are_compared_whole(tmp_path):
    documents = near_documents(120, length=40)
    index_into(tmp_path / "idx", FakeEncoder(max_length=16), documents)
    groups = found(opened(tmp_path / "idx", None), threshold=0.9502, words=0.6)
    wanted = by_all_pairs(tmp_path / "idx", documents, 0.9502, 0.6)
    assert_same(groups, wanted)
    assert len(wanted[1]) > 10


def test_an_approximate_index_finds_them_too(tmp_path, monkeypatch):
    lower_limits(monkeypatch, 100)
    monkeypatch.setattr(duplicates, "_EXACT_ROWS", 100)
    documents = near_documents(1500)
    index_into(tmp_path / "idx", FakeEncoder(), documents)
    index = opened(tmp_path / "idx", None)
    assert index.searcher.source.vectors.kind != "exact"
    groups = found(index, threshold=0.9501, words=0.5)
    copies, near = by_all_pairs(tmp_path / "idx", documents, 0.9501, 0.5)
    assert names(groups, "copies") == copies
    pairs = {(g[0], name) for g in names(groups, "near") for name in g[1:]}
    wanted = {(g[0][0], name) for g in near for name, *_ in g[1:]}
    assert len(pairs & wanted) >= 0.9 * len(wanted) > 50


def test_many_neighbours_are_followed(tmp_path):
    random = np.random.default_rng(0)
    base = list(WORDS[:40])
    documents = []
    for n in range(200):  # far more than are asked for at first
        text = base.copy()
        text[int(random.integers(40))] = f"w{n}"
        documents.append(Document(f"d{n}", " ".join(text)))
    index_into(tmp_path / "idx", FakeEncoder(max_length=80), documents)
    (group,) = found(opened(tmp_path / "idx", None), threshold=0.8, words=0.5)
    assert len(group.documents) == 200


def test_filters_and_deleted_documents(tmp_path):
    documents = near_documents(200)
    index_into(tmp_path / "idx", FakeEncoder(), documents)
    with open_for_writing(Layout(tmp_path / "idx")) as writer:
        writer.delete([document.id for document in documents[::7]])
    index = opened(tmp_path / "idx", None)
    groups = found(index, threshold=0.9, filters=["year>=2002"])
    left = [d for n, d in enumerate(documents) if n % 7 and d.metadata["year"] >= 2002]
    index_into(tmp_path / "left", FakeEncoder(), left)
    assert groups
    alone = found(opened(tmp_path / "left", None), threshold=0.9)
    assert [g.kind for g in groups] == [g.kind for g in alone]
    for group, other in zip(groups, alone, strict=True):
        assert {d.document.id for d in group.documents} == {d.document.id for d in other.documents}
    assert groups == found(index, threshold=0.9, filters=["year>=2002"])


def test_words_tell_what_vectors_cannot(tmp_path, monkeypatch):
    encoder = FakeEncoder()  # one that reads nothing: to it all words are alike
    monkeypatch.setattr(encoder, "_word", lambda _: np.ones(encoder.dim))
    index_into(
        tmp_path / "idx",
        encoder,
        [Document("a", "bal car dir"), Document("b", "gol hil kar"), Document("c", "bal car dir!")],
    )
    index = opened(tmp_path / "idx", None)
    assert names(found(index), "near") == [["a", "c"]]
    assert names(found(index, words=0), "near") == [["a", "b", "c"]]


@pytest.mark.parametrize("texts", [[], ["bal"], ["bal", "nor far"]])
def test_nothing_is_alike(tmp_path, texts):
    index_into(tmp_path / "idx", FakeEncoder(), [Document(text, text) for text in texts])
    assert found(opened(tmp_path / "idx", None)) == []


def test_values_out_of_range_are_refused(tmp_path):
    index_into(tmp_path / "idx", FakeEncoder(), [])
    index = opened(tmp_path / "idx", None)
    for wrong in ({"threshold": 1.1}, {"words": -1.0}, {"threshold": float("nan")}):
        with pytest.raises(UsageError, match="must be between 0 and 1, not"):
            found(index, **wrong)


def test_an_index_compacted_meanwhile_is_told(tmp_path):
    documents = near_documents(100)
    index_into(tmp_path / "idx", FakeEncoder(), documents)
    searcher = opened(tmp_path / "idx", None).searcher
    groups = find_duplicates(searcher.reader, searcher.source, threshold=0.9)
    next(groups)
    with open_for_writing(Layout(tmp_path / "idx")) as writer:
        writer.delete([document.id for document in documents])
        compact(writer)
    with pytest.raises(StorageError, match="compacted meanwhile: look for duplicates again"):
        list(groups)


def test_documents_added_meanwhile_are_looked_at(tmp_path):
    encoder = FakeEncoder()
    index_into(tmp_path / "idx", encoder, [Document("a", "bal car")])
    with opened(tmp_path / "idx", encoder) as index:
        assert found(index) == []
        index.add([Document("b", "bal car")])
        assert names(found(index), "copies") == [["a", "b"]]


# On the command line


@pytest.fixture
def dups(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        semsearch.encoders, "open_encoder", lambda *_, **__: pytest.fail("loaded a model")
    )
    texts = ["bal car dir gol", "nor far", "bal car dir gol", "bal car dir gol hil", "nor kar"]
    documents = [
        Document(f"d{n}", text, metadata={"year": 2000 + n}) for n, text in enumerate(texts)
    ]
    index_into(tmp_path / ".semsearch", FakeEncoder(), documents)

    def call(*arguments, code=0):
        result = CliRunner().invoke(cli, ["dups", "--threshold", "0.8", *arguments])
        assert result.exit_code == code, (result.stdout, result.stderr)
        return result

    return call


def test_a_table_for_people(dups):
    result = dups()
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "cosine  words  document",
        "copies         d0  bal car dir gol",
        "1.0000   1.00  d2  bal car dir gol",
    ]
    assert lines[3] == "near           d0  bal car dir gol"
    assert lines[4].endswith("   0.80  d3  bal car dir gol hil")
    assert len(lines) == 5
    assert result.stderr == "note: 2 groups, 2 documents beside the first of each\n"
    stopped = dups("--limit", "1")
    assert stopped.stdout.splitlines() == lines[:3]
    assert "stopped at --limit 1" in stopped.stderr


def test_lines_of_json(dups):
    first, second = map(json.loads, dups("--json").stdout.splitlines())
    assert first == {
        "kind": "copies",
        "documents": [
            {"id": "d0", "title": "", "cosine": 1.0, "words": 1.0},
            {"id": "d2", "title": "", "cosine": 1.0, "words": 1.0},
        ],
    }
    assert second["kind"] == "near"
    assert [d["id"] for d in second["documents"]] == ["d0", "d3"]
    assert second["documents"][1]["words"] == 0.8


def test_options(dups):
    assert "d2" not in dups("-f", "year>=2003", "-f", "year<2004").stdout
    assert dups("--threshold", "1").stdout.count("\n") == 3
    assert "d1  nor far" in dups("--threshold", "0", "--words", "0").stdout
    error = dups("--words", "2", code=2).stderr.splitlines()[-1]
    assert error == "Error: words must be between 0 and 1, not 2.0"

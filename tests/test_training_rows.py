"""Rows to train on: the same whatever the format, by column, slice and sample; places of errors."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from semsearch.errors import InputError, NotFound, UsageError
from semsearch.training.recipe import Data, Evaluation
from semsearch.training.rows import plain, read_data, sample
from semsearch.types import Document
from tests.mining_sets import lines, qrels
from tests.test_evaluate import write_set

TEXTS = [
    ("how do I wait", 'say "sleep", then wake', "a, b"),
    ("日本語 の テキスト", "ü; and\ttabs", "no"),
    ("third", "line one\nline two", "never"),
    ("fourth", "'quoted' \\n", "x"),
]
RECORDS = [
    {"anchor": a, "positive": p, "negative": n, "label": number / 2}
    for number, (a, p, n) in enumerate(TEXTS)
]
NO_TABS = [
    {key: value.replace("\t", " ").replace("\n", " ") if isinstance(value, str) else value
     for key, value in record.items()}
    for record in RECORDS
]  # fmt: skip


def quoted(value):
    return '"' + str(value).replace('"', '""') + '"'


def as_jsonl(records):
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()


def as_csv(records):
    rows = [",".join(records[0]), *(",".join(map(quoted, r.values())) for r in records)]
    return "\r\n".join(rows).encode()


def as_tsv(records):
    rows = ["\t".join(records[0]), *("\t".join(map(str, r.values())) for r in records)]
    return "\n".join(rows).encode()


def write(folder, name, records=None):
    """A file of rows in the format that its name says."""
    path, records = folder / name, RECORDS if records is None else records
    kind = name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(records), path)
        return path
    made = {"jsonl": as_jsonl, "csv": as_csv, "tsv": as_tsv}[kind](records)
    path.write_bytes(gzip.compress(made) if name.endswith(".gz") else made)
    return path


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.csv", "r.csv.gz", "r.parquet"])
def test_the_same_rows_in_every_format(tmp_path, name):
    write(tmp_path, name)
    rows = read_data(Data(name, label="label"), tmp_path)
    assert rows.columns == ("anchor", "positive", "negative")
    assert rows.texts == TEXTS
    assert rows.labels == [0.0, 0.5, 1.0, 1.5]
    assert (rows.name, rows.source) == ("r", str(tmp_path / name))
    assert rows.column(1) == [positive for _, positive, _ in TEXTS]


@pytest.mark.parametrize("name", ["r.tsv", "r.tsv.gz", "r.csv", "r.jsonl", "r.parquet"])
def test_tabs_separate_the_same_rows_of_one_line(tmp_path, name):
    write(tmp_path, name, NO_TABS)
    write(tmp_path, "other.jsonl", NO_TABS)
    found = read_data(Data(name, label="label"), tmp_path)
    other = read_data(Data("other.jsonl", label="label"), tmp_path)
    assert (found.texts, found.labels) == (other.texts, other.labels)
    assert found.texts[2][1] == "line one line two"
    assert found.digest() == other.digest()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("r.jsonl", [1, 2, 3, 4]), ("r.csv", [2, 3, 4, 6]), ("r.parquet", [1, 2, 3, 4])],
)
def test_a_row_knows_its_place_in_the_file(tmp_path, name, expected):
    write(tmp_path, name)
    rows = read_data(Data(name), tmp_path)
    assert rows.lines == expected, "a quoted field spans two lines of the CSV"
    assert rows.only([3, 0]).lines == [expected[3], expected[0]]
    assert rows.only([3, 0]).texts == [TEXTS[3], TEXTS[0]]


@pytest.mark.parametrize(
    ("anchor", "positive"),
    [
        ("anchor", "positive"),
        ("query", "answer"),
        ("question", "passage"),
        ("sentence1", "sentence2"),
        ("sentence_0", "sentence_1"),
        ("sentence_A", "sentence_B"),
        ("text1", "text2"),
    ],
)
def test_usual_names_are_found_whatever_else_there_is(tmp_path, anchor, positive):
    record = {"id": 7, positive: "p", anchor: "a", "negative_2": "n2", "negative_1": "n1", "z": "z"}
    lines(tmp_path / "r.jsonl", [record])
    rows = read_data(Data("r.jsonl"), tmp_path)
    assert rows.columns == (anchor, positive, "negative_2", "negative_1")
    assert rows.texts == [("a", "p", "n2", "n1")]
    assert rows.labels is None


def test_columns_are_renamed_ordered_and_chosen(tmp_path):
    write(tmp_path, "r.jsonl")
    columns = {"sentence_0": "positive", "sentence_1": "anchor"}
    rows = read_data(Data("r.jsonl", "called", columns=columns), tmp_path)
    assert rows.columns == ("sentence_0", "sentence_1")
    assert rows.texts == [(positive, anchor) for anchor, positive, _ in TEXTS]
    assert rows.name == "called"


@pytest.mark.parametrize("label", [1.0, 0.25, -3.0])
def test_a_number_is_the_label_of_every_row(tmp_path, label):
    write(tmp_path, "r.jsonl")
    assert read_data(Data("r.jsonl", label=label), tmp_path).labels == [label] * 4


def test_a_label_is_looked_for_only_where_one_is_needed(tmp_path):
    write(tmp_path, "r.jsonl")
    assert read_data(Data("r.jsonl"), tmp_path).labels is None
    assert read_data(Data("r.jsonl"), tmp_path, label=True).labels == [0.0, 0.5, 1.0, 1.5]
    scored = [{"anchor": "a", "positive": "b", "score": "4.5"}]
    lines(tmp_path / "scored.jsonl", scored)
    assert read_data(Evaluation("similarity", "scored.jsonl"), tmp_path, label=True).labels == [4.5]


@pytest.mark.parametrize(
    ("text", "kept"),
    [(":2", [0, 1]), ("-1:", [3]), ("1:3", [1, 2]), (":-3", [0]), (":", [0, 1, 2, 3]),
     (" 2: ", [2, 3]), ("-99:2", [0, 1]), (":99", [0, 1, 2, 3]), ("", [0, 1, 2, 3])],
)  # fmt: skip
def test_slices_are_those_of_python(tmp_path, text, kept):
    write(tmp_path, "r.jsonl")
    rows = read_data(Data("r.jsonl", rows=text, label="label"), tmp_path)
    assert rows.texts == [TEXTS[n] for n in kept]
    assert rows.labels == [n / 2 for n in kept]
    assert rows.lines == [n + 1 for n in kept]


@pytest.mark.parametrize("text", ["3", "a:b", "1:2:3", ":0", "9:", "2:1", "1.5:"])
def test_slices_of_nothing(tmp_path, text):
    write(tmp_path, "r.jsonl")
    with pytest.raises(UsageError, match=r"rows = '"):
        read_data(Data("r.jsonl", rows=text), tmp_path)


# Labelled queries


@pytest.fixture
def beir(tmp_path):
    """Three queries; graded, irrelevant and missing documents."""
    documents = [Document(f"d{n}", f"text {n}", f"title {n}" if n else "") for n in range(5)]
    queries = {"q1": "first?", "q0": "zeroth?", "q2": "second?"}
    folder = write_set(tmp_path / "set", documents, queries, {"q1": {"d4": 1}})
    judged = [("q0", "d3", 2), ("q0", "d0", 1), ("q1", "d1", 0), ("q2", "d2", 1), ("q2", "gone", 1)]
    qrels(folder, "train", judged)
    return folder


def test_judgements_give_a_row_for_each_relevant_document(beir):
    rows = read_data(Data("set"), beir.parent)
    assert rows.columns == ("anchor", "positive")
    assert rows.texts == [
        ("zeroth?", "title 3 text 3"),
        ("zeroth?", "text 0"),
        ("second?", "title 2 text 2"),
    ]
    assert rows.lines == [4, 1, 3], "where the documents stand in the corpus"
    assert (rows.name, rows.source) == ("set-train", str(beir / "corpus.jsonl"))
    assert rows.labels is None
    assert read_data(Data("set", split="test"), beir.parent).texts == [("first?", "title 4 text 4")]


def test_judgements_that_are_not_there(beir):
    with pytest.raises(NotFound, match="dev"):
        read_data(Data("set", split="dev"), beir.parent)
    qrels(beir, "none", [("q1", "d1", 0), ("q1", "gone", 1)])
    with pytest.raises(InputError, match="holds no rows"):
        read_data(Data("set", split="none"), beir.parent)


# What is wrong


def message(tmp_path, text, *, name="r.jsonl", needs=2, wants=False, **data):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read_data(Data(name, **data), tmp_path, needs=needs, label=wants)
    told = str(caught.value)
    assert "\n" not in told
    return told.removeprefix(str(tmp_path) + "/")


GOOD = '{"anchor": "a", "positive": "b"}\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD + "{nonsense", "r.jsonl:2: not valid JSON"),
        (GOOD + "[1]", "r.jsonl:2: expected a JSON object a line"),
        (GOOD + '\n{"anchor": "a"}', "r.jsonl:3: no 'positive' in this row: there are anchor"),
        (GOOD + '{"anchor": "a", "positive": 5}', "r.jsonl:2: 'positive' is not a text but 5"),
        (GOOD + '{"anchor": null, "positive": "p"}', "r.jsonl:2: no 'anchor' in this row"),
        ('{"a": "x", "b": "y"}', "r.jsonl:1: no column for the anchor (anchor, query, question"),
        ('{"query": "x", "b": "y"}', "r.jsonl:1: no column for the positive (positive, answer"),
        ("", "r.jsonl: holds no rows"),
        ("\n\n", "r.jsonl: holds no rows"),
    ],
)
def test_a_bad_row_is_named(tmp_path, text, told):
    assert message(tmp_path, text).startswith(told)


def test_a_bad_row_of_other_formats_is_named(tmp_path):
    told = message(tmp_path, "anchor,positive\na,b\na,b,c\n", name="r.csv")
    assert told.startswith("r.csv:3: 3 columns where the header has 2")
    told = message(tmp_path, "anchor\tanchor\na\tb\n", name="r.tsv")
    assert told.startswith("r.tsv:1: a column of the header")
    assert message(tmp_path, "anchor\tpositive\n", name="h.tsv") == "h.tsv: holds no rows"
    pytest.importorskip("pyarrow")
    told = message(tmp_path, "no parquet", name="r.parquet")
    assert told.startswith("r.parquet: not a Parquet file, or damaged")
    write(tmp_path, "null.parquet", [{"anchor": "a", "positive": "b"}, {"anchor": "a"}])
    with pytest.raises(InputError, match=r"null\.parquet:2: no 'positive' in this row"):
        read_data(Data("null.parquet"), tmp_path)


@pytest.mark.parametrize("value", ['"many"', "null", '"nan"', "[1]", '"inf"', "1e999", "9" * 400])
def test_a_label_that_is_no_number(tmp_path, value):
    rows = GOOD.replace("}", ', "n": 1}') + GOOD.replace("}", f', "n": {value}}}')
    told = message(tmp_path, rows, label="n")
    assert told.startswith("r.jsonl:2: the label 'n' is ")


def test_what_the_loss_needs_is_asked_for(tmp_path):
    assert "3 columns of text are needed" in message(tmp_path, GOOD, needs=3)
    assert "a label is needed: name its column" in message(tmp_path, GOOD, wants=True)
    told = message(tmp_path, GOOD, label="score")
    assert told.startswith("r.jsonl:1: the label 'score' is None")


def test_a_place_that_is_none(tmp_path):
    with pytest.raises(NotFound, match="no such file or folder of rows"):
        read_data(Data("missing.jsonl"), tmp_path)
    with pytest.raises(NotFound):
        read_data(Data("."), tmp_path)  # a folder that is no labelled set


def test_half_a_character_is_replaced(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"anchor": "a \\ud800", "positive": "b"}')
    assert read_data(Data("r.jsonl"), tmp_path).texts == [("a ?", "b")]


def test_an_absolute_path_needs_no_root(tmp_path):
    path = write(tmp_path, "r.jsonl")
    assert read_data(Data(str(path)), Path("/nowhere")).texts == TEXTS


# Samples and digests


@pytest.fixture
def many(tmp_path):
    lines(tmp_path / "r.jsonl", [{"anchor": f"a{n}", "positive": f"p{n}"} for n in range(300)])
    return read_data(Data("r.jsonl", label=0.5), tmp_path)


def test_a_sample_is_drawn_by_the_seed_and_keeps_the_order(many):
    drawn = sample(many, 40, 7)
    assert len(drawn) == len(set(drawn.lines)) == 40
    assert drawn.lines == sorted(drawn.lines)
    assert drawn.texts == [(f"a{n - 1}", f"p{n - 1}") for n in drawn.lines]
    assert drawn.labels == [0.5] * 40
    assert sample(many, 40, 7) == drawn
    assert sample(many, 40, 8) != drawn
    wanted = np.random.default_rng(7).choice(300, 40, replace=False)
    assert drawn.lines == sorted((wanted + 1).tolist())
    means = [np.mean(sample(many, 40, seed).lines) for seed in range(50)]
    assert np.mean(means) == pytest.approx(150, abs=10), "all rows are as likely"


def test_a_sample_of_all(many):
    assert sample(many, 0, 7) is many
    assert sample(many, 300, 7) is many
    assert sample(many, 999, 7) is many
    assert len(sample(many, 299, 7)) == 299


def test_the_digest_is_of_what_is_trained_on(many, tmp_path):
    again = read_data(Data("r.jsonl", "another name", label=0.5), tmp_path)
    assert again.digest() == many.digest()
    others = [
        many.only(range(299)),
        many.only([1, 0, *range(2, 300)]),
        read_data(Data("r.jsonl"), tmp_path),
        read_data(Data("r.jsonl", label=1.0), tmp_path),
        read_data(Data("r.jsonl", label=0.5, columns={"x": "anchor", "y": "positive"}), tmp_path),
    ]
    assert len({rows.digest() for rows in others} | {many.digest()}) == 6


def test_texts_are_compared_without_case_and_white_space():
    assert plain("  A\tsimple\n STRASSE ") == plain("a simple straße")
    assert plain("ab") != plain("a b")

"""CSV and TSV corpora."""

import csv
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.corpus import read_corpus
from semsearch.corpus.table import scalar
from semsearch.errors import InputError
from semsearch.types import Document


def refusal(path, **options):
    with pytest.raises(InputError) as caught:
        list(read_corpus(path, **options))
    return str(caught.value)


@pytest.fixture
def table(tmp_path):
    def write(name, text):
        path = tmp_path / name
        data = text.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "A.CSV"])
def test_csv(table, name):
    path = table(
        name,
        "\ufeffID,Title,text,year,open,tag\r\n"
        '1,"A, b","line one\r\nline ""two""",2020,true,x\r\n'
        "\r\n"
        "007,,plain,1.5,,null\r\n",
    )
    found = list(read_corpus(path))
    assert found == [
        Document("1", 'line one\nline "two"', "A, b", {"year": 2020, "open": True, "tag": "x"}),
        Document("007", "plain", "", {"year": 1.5, "tag": None}),
    ]
    assert [(d.source, d.line) for d in found] == [(str(path), 2), (str(path), 5)]


def test_tsv_takes_quotes_as_text(table):
    path = table(
        "a.tsv",
        'id\ttext\tyear\n1\t"Hello" he said\t1999\n2\t"a ""quoted"" field"\t\n3\tit\'s 5"\t"\n',
    )
    assert list(read_corpus(path)) == [
        Document("1", '"Hello" he said', "", {"year": 1999}),
        Document("2", 'a "quoted" field', ""),
        Document("3", "it's 5\"", "", {"year": '"'}),
    ]


def test_semicolons(table):
    path = table("a.csv", "id;text;price\n1;one, two;3\n")
    assert list(read_corpus(path)) == [Document("1", "one, two", "", {"price": 3})]
    path = table("b.csv", "id,a;b,text\n1,x,y\n")
    assert list(read_corpus(path)) == [Document("1", "y", "", {"a;b": "x"})]


def test_two_columns_of_tsv_without_header_are_id_and_text(table):
    path = table("collection.tsv", "0\tThe first passage\n1\tThe second\n")
    found = list(read_corpus(path))
    assert found == [Document("0", "The first passage"), Document("1", "The second")]
    assert [d.line for d in found] == [1, 2]


def test_a_header_is_needed_elsewhere(table):
    path = table("a.csv", "0,The first passage\n")
    assert refusal(path) == (
        f"{path}:1: no id: expected a field _id, id, docid, doc_id or document_id; "
        "there is 0, The first passage (choose one with --id-field)"
    )
    path = table("a.tsv", "name\tbody\nx\ty\n")
    assert refusal(path).startswith(f"{path}:1: no id: expected")
    assert (
        refusal(path, id_field="key") == f"{path}:1: no field 'key' for the id: there is name, body"
    )
    assert list(read_corpus(path, id_field="name")) == [Document("x", "y")]
    path = table("b.tsv", "key\tabstract\nx\ty\n")
    assert list(read_corpus(path, id_field="key", text_field="abstract")) == [Document("x", "y")]
    path = table("c.csv", "id,abstract\n")
    assert refusal(path).startswith(f"{path}:1: no text: expected a field text, ")


def test_a_column_twice(table):
    path = table("a.csv", "id,text,year,year\n1,t,1,2\n")
    assert refusal(path) == f"{path}:1: the column 'year' appears twice in the header"


def test_columns_without_a_name_are_dropped(table):
    path = table("a.csv", ",id,text\n0,a,one\n1,b,two\n")
    assert list(read_corpus(path)) == [Document("a", "one"), Document("b", "two")]


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("a.csv", "id,text\n1,one\n2,two,three\n4,four\n", "quote fields that hold separators"),
        ("a.tsv", "id\ttext\n1\tone\n2\ttwo\t3\n4\tfour\n", "a field with line breaks needs CSV"),
    ],
)
def test_rows_of_another_length(table, name, text, hint):
    path = table(name, text)
    expected = f"{path}:3: 3 columns where the header has 2: {hint}"
    assert refusal(path) == expected
    errors: list[InputError] = []
    found = list(read_corpus(path, on_error="skip", on_skip=errors.append))
    assert [(d.id, d.line) for d in found] == [("1", 2), ("4", 4)]
    assert [str(error) for error in errors] == [expected]


def test_broken_quotes(table):
    path = table("a.csv", 'id,text\n1,"a"b\n2,two\n')
    assert refusal(path) == (
        f"{path}:2: not valid CSV (',' expected after '\"'): "
        "quotes inside a quoted field are doubled"
    )
    assert [d.id for d in read_corpus(path, on_error="skip")] == ["2"]


def test_a_quote_that_never_closes_is_refused_whatever_the_policy(table):
    path = table("a.csv", 'id,text\n1,one\n2,"two\n3,three\n')
    expected = f"{path}:3: a quoted field that begins in this record is never closed"
    assert refusal(path) == expected
    assert refusal(path, on_error="skip") == expected


def test_a_field_over_the_limit(table, monkeypatch):
    monkeypatch.setattr("semsearch.corpus.table.MAX_LINE", 1000)
    before = csv.field_size_limit(1000)
    try:
        path = table("a.csv", 'id,text\n1,"' + "two\n" * 1000)
        assert refusal(path).startswith(f"{path}:2: a quoted field that begins")
    finally:
        csv.field_size_limit(before)


def test_a_large_field_passes(table):
    path = table("a.csv", "id,text\n1," + "x" * 1_000_000 + "\n")
    assert len(next(read_corpus(path)).text) == 1_000_000


def test_bad_encoding_spoils_one_record_even_within_quotes(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\n1,"one\n caf\xe9 ""x"" \nend"\n2,two\n3,"t\0"\n4,four\n')
    assert refusal(path).startswith(f"{path}:3: not UTF-8 (byte 0xe9 at byte 5 of the line)")
    errors: list[InputError] = []
    found = list(read_corpus(path, on_error="skip", on_skip=errors.append))
    assert [(d.id, d.line) for d in found] == [("2", 5), ("4", 7)]
    assert [error.line for error in errors] == [3, 6]


def test_bad_ids_name_the_line(table):
    path = table("a.csv", "id,text\n1,one\n ,two\n")
    assert refusal(path) == f"{path}:3: the id is empty"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_empty_tables(table, name):
    assert list(read_corpus(table(name, ""))) == []
    assert list(read_corpus(table(name, "\n\n"))) == []
    assert (
        list(read_corpus(table(name, "id,text\n".replace(",", "\t" if "t" in name else ",")))) == []
    )


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2020", 2020),
        (" -3 ", -3),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("null", None),
        ("True", "True"),
        ("007", "007"),
        ("+1", "+1"),
        (".5", ".5"),
        ("1_000", "1_000"),
        ("٣", "٣"),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("9" * 50, "9" * 50),
        ('"x"', '"x"'),
        (" text ", " text "),
    ],
)
def test_scalars(cell, expected):
    value = scalar(cell)
    assert value == expected
    assert type(value) is type(expected)


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))


@given(st.lists(st.tuples(cells.filter(str.strip), cells, cells), min_size=1, max_size=5))
def test_any_csv_survives_the_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("trip") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "text"])
        writer.writerows(rows)
    found = list(read_corpus(path))
    assert found == [Document(id_, text, title) for id_, title, text in rows]

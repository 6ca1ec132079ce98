"""Parquet corpora (skipped without pyarrow, but for the advice to install it)."""

import datetime
import decimal
import sys
import tracemalloc

import pytest

from semsearch.corpus import read_corpus
from semsearch.errors import InputError, MissingExtra
from semsearch.types import Document


@pytest.fixture
def parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="PYARROW IS NOT INSTALLED: no Parquet tests")
    writer = pytest.importorskip("pyarrow.parquet")

    def write(columns, name="a.parquet", **options):
        writer.write_table(pyarrow.table(columns), tmp_path / name, **options)
        return tmp_path / name

    return write


def test_values_become_what_json_has(parquet):
    path = parquet(
        {
            "id": [1, 2],
            "title": ["T", None],
            "text": ["one", None],
            "year": [1999, None],
            "score": [0.5, float("nan")],
            "day": [datetime.date(2020, 1, 2), None],
            "at": [datetime.datetime(2020, 1, 2, 3, 4, 5), None],
            "price": [decimal.Decimal("1.50"), decimal.Decimal("2.00")],
            "tags": [["a", "b"], []],
            "more": [{"x": 1, "y": None}, None],
        }
    )
    found = list(read_corpus(path))
    assert found == [
        Document(
            "1",
            "one",
            "T",
            {
                "year": 1999,
                "score": 0.5,
                "day": "2020-01-02",
                "at": "2020-01-02T03:04:05",
                "price": 1.5,
                "tags": ["a", "b"],
                "more": {"x": 1, "y": None},
            },
        ),
        Document("2", "", "", {"price": 2, "tags": []}),
    ]
    assert [(d.source, d.line) for d in found] == [(str(path), 1), (str(path), 2)]


def test_bad_rows_name_their_number(parquet):
    path = parquet({"id": ["a", None, "c"], "text": ["x", "y", "z"]})
    errors: list[InputError] = []
    found = list(read_corpus(path, on_error="skip", on_skip=errors.append))
    assert [(d.id, d.line) for d in found] == [("a", 1), ("c", 3)]
    expected = f"{path}:2: the id is null: ids are text or whole numbers"
    assert [str(error) for error in errors] == [expected]
    with pytest.raises(InputError, match="^" + expected):
        list(read_corpus(path))


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([b"raw"], "the field 'x' holds a value of type bytes, which JSON does not have"),
        ([float("inf")], "the field 'x' holds a number that is not finite"),
    ],
)
def test_values_that_json_does_not_have(parquet, column, expected):
    path = parquet({"id": ["a"], "text": ["t"], "x": column})
    with pytest.raises(InputError) as caught:
        list(read_corpus(path))
    assert str(caught.value).startswith(f"{path}:1: {expected}")


def test_columns_that_are_missing(parquet):
    path = parquet({"name": ["a"], "text": ["t"]})
    with pytest.raises(InputError, match=f"^{path}:1: no id: expected .*there is name, text"):
        list(read_corpus(path))
    assert list(read_corpus(path, id_field="name")) == [Document("a", "t")]


def test_a_file_that_is_none(tmp_path):
    pytest.importorskip("pyarrow", reason="PYARROW IS NOT INSTALLED: no Parquet tests")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"id,text\n1,one\n")
    with pytest.raises(InputError, match=f"^{path}: not a Parquet file, or damaged: ") as caught:
        list(read_corpus(path, on_error="skip"))
    assert "\n" not in str(caught.value)


def test_damage_in_the_middle(parquet):
    path = parquet({"id": [str(n) for n in range(2000)], "text": ["text"] * 2000})
    data = bytearray(path.read_bytes())
    data[200:900] = b"\xff" * 700
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"^{path}"):
        list(read_corpus(path))


def test_text_that_is_not_utf_8(parquet):
    import pyarrow

    broken = pyarrow.array([b"fine", b"caf\xe9"]).view(pyarrow.string())
    path = parquet({"id": ["1", "2"], "text": broken})
    with pytest.raises(InputError, match=f"^{path}:1: text that is not UTF-8 in this row or one"):
        list(read_corpus(path))


def test_an_empty_table(parquet):
    import pyarrow

    path = parquet({"id": pyarrow.array([], "string"), "text": pyarrow.array([], "string")})
    assert list(read_corpus(path)) == []


def test_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra) as caught:
        list(read_corpus(tmp_path / "a.parquet"))
    assert str(caught.value) == (
        "reading Parquet files needs pyarrow: pip install 'semsearch[parquet]'"
    )


def test_rows_are_read_in_batches(parquet):
    path = parquet(
        {"id": list(range(5000)), "text": [f"{n} " + "word " * 1000 for n in range(5000)]},
        row_group_size=500,
    )
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_corpus(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 5000
    assert peak < 6_000_000

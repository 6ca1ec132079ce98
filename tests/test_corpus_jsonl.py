"""JSON lines and the rules that make a record a document."""

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.corpus import read_corpus
from semsearch.corpus.fields import Fields, mend
from semsearch.corpus.jsonl import parse_object, read_jsonl
from semsearch.errors import InputError
from semsearch.types import Document


@pytest.fixture
def corpus(tmp_path):
    def write(*lines):
        path = tmp_path / "corpus.jsonl"
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_text(text + "\n", encoding="utf-8")
        return path

    return write


def refusal(path, **options):
    with pytest.raises(InputError) as caught:
        list(read_corpus(path, **options))
    return str(caught.value)


def test_a_beir_record(corpus):
    path = corpus({"_id": "d1", "title": "T", "text": "body", "metadata": {"year": 1999}, "x": [1]})
    found = list(read_corpus(path))
    assert found == [Document("d1", "body", "T", {"year": 1999, "x": [1]})]
    assert (found[0].source, found[0].line, found[0].content) == (str(path), 1, "T body")


@pytest.mark.parametrize("id_name", ["_id", "id", "docid", "doc_id", "document_id", "ID", "DocID"])
@pytest.mark.parametrize(
    "text_name", ["text", "contents", "body", "content", "document_text", "Text", "BODY"]
)
def test_the_usual_field_names(corpus, id_name, text_name):
    path = corpus({"other": 1, text_name: "hello", id_name: "a"})
    assert list(read_corpus(path)) == [Document("a", "hello", "", {"other": 1})]


def test_the_first_usual_name_wins_and_the_others_are_metadata(corpus):
    path = corpus({"contents": "c", "text": "t", "id": "i", "_id": "u", "ID": "x"})
    assert list(read_corpus(path)) == [
        Document("u", "t", "", {"contents": "c", "id": "i", "ID": "x"})
    ]


def test_chosen_fields(corpus):
    path = corpus({"id": "i", "key": 7, "text": "t", "abstract": "a", "title": "T"})
    chosen = list(read_corpus(path, id_field="key", text_field="abstract"))
    assert chosen == [Document("7", "a", "T", {"id": "i", "text": "t"})]
    as_text = list(read_corpus(path, text_field="title"))
    assert as_text == [Document("i", "T", "", {"key": 7, "text": "t", "abstract": "a"})]


def test_a_chosen_field_that_is_missing(corpus):
    path = corpus({"id": "i", "text": "t"})
    assert refusal(path, id_field="key") == (
        f"{path}:1: no field 'key' for the id: there is id, text"
    )
    assert refusal(path, text_field="Text") == (
        f"{path}:1: no field 'Text' for the text: there is id, text"
    )


def test_missing_id_or_text_names_what_is_there(corpus):
    path = corpus("", {"name": "n", "text": "t"})
    assert refusal(path) == (
        f"{path}:2: no id: expected a field _id, id, docid, doc_id or document_id; "
        "there is name, text (choose one with --id-field)"
    )
    path = corpus({"id": "a", "text": ""}, {"id": "b", "title": "only a title"})
    assert refusal(path) == (
        f"{path}:2: no text: expected a field text, contents, body, content or document_text; "
        "there is id, title (choose one with --text-field)"
    )
    assert "there is no field (" in refusal(corpus({}))
    assert r"there is 'a\nb', 'c\ud800' (" in refusal(corpus({"a\nb": 1, "c\ud800": 2}))
    many = refusal(corpus({f"f{n:02}" + "x" * 100: n for n in range(50)}))
    assert "f11xxx" in many
    assert "f12" not in many
    assert len(many) < 900


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (-5, "-5"), (2**70, str(2**70)), (" a b ", " a b ")]
)
def test_ids_become_text(corpus, value, expected):
    assert [d.id for d in read_corpus(corpus({"id": value, "text": "t"}))] == [expected]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "true or false"),
        (1.0, "a number with a fraction"),
        (None, "null"),
        ([1], "a list"),
        ({"a": 1}, "an object"),
    ],
)
def test_ids_of_another_type_are_refused(corpus, value, kind):
    path = corpus({"id": "ok", "text": "t"}, {"id": value, "text": "t"})
    assert refusal(path) == f"{path}:2: the id is {kind}: ids are text or whole numbers"


@pytest.mark.parametrize("value", ["", " \t"])
def test_an_empty_id_is_refused(corpus, value):
    path = corpus({"id": value, "text": "t"})
    assert refusal(path) == f"{path}:1: the id is empty"


@pytest.mark.parametrize("value", ["a\0b", "a\ud800b"])
def test_an_id_that_no_file_can_hold_is_refused(corpus, value):
    path = corpus({"id": value, "text": "t"})
    assert refusal(path) == (
        f"{path}:1: the id {value!a} holds a NUL or a lone surrogate: give it another id"
    )


def test_text_and_title_are_text_or_null(corpus):
    path = corpus({"id": 1, "text": None, "title": None})
    assert list(read_corpus(path)) == [Document("1", "", "")]
    path = corpus({"id": 1, "text": 5})
    assert refusal(path) == f"{path}:1: the field 'text' is a number: expected text"
    path = corpus({"id": 1, "text": "t", "title": ["x"]})
    assert refusal(path) == f"{path}:1: the field 'title' is a list: expected text"


def test_documents_without_text_are_yielded(corpus):
    found = list(read_corpus(corpus({"id": 1, "text": "  "}, {"id": 2, "text": ""})))
    assert [document.content for document in found] == ["", ""]


def test_surrogates_and_nul_are_replaced_outside_ids(corpus):
    path = corpus(
        r'{"id": 1, "title": "\udc00", "text": "a\u0000b\ud800 \ud83d\ude00", '
        r'"k\ud800": ["\ud800", {"z\u0000": "\udfff"}]}'
    )
    assert list(read_corpus(path)) == [
        Document(
            "1",
            "a\ufffdb\ufffd \U0001f600",
            "\ufffd",
            {"k\ufffd": ["\ufffd", {"z\ufffd": "\ufffd"}]},
        )
    ]


def test_metadata_is_merged_and_the_record_wins(corpus):
    path = corpus({"id": 1, "text": "t", "year": 2, "metadata": {"year": 1, "a": {"b": None}}})
    assert list(read_corpus(path)) == [Document("1", "t", "", {"year": 2, "a": {"b": None}})]
    cases: list[tuple[object, dict[str, object]]]
    cases = [(None, {}), ("x", {"metadata": "x"}), ([1], {"metadata": [1]})]
    for value, expected in cases:
        found = list(read_corpus(corpus({"id": 1, "text": "t", "metadata": value})))
        assert found == [Document("1", "t", "", expected)]


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constants_that_json_does_not_have(corpus, constant):
    path = corpus({"id": 1, "text": "t"}, f'{{"id": 2, "text": "t", "x": {constant}}}')
    assert refusal(path) == (
        f"{path}:2: not valid JSON ({constant} is not a JSON value: use null or leave it out)"
    )


@pytest.mark.parametrize("number", ["1e999", '[1, {"a": -1e999}]'])
def test_numbers_that_overflow(corpus, number):
    path = corpus(f'{{"id": 1, "text": "t", "x": {number}}}')
    assert refusal(path) == (
        f"{path}:1: the field 'x' holds a number that is not finite: use null or leave it out"
    )


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_whole_numbers_beyond_64_bits(corpus, number):
    path = corpus({"id": 1, "text": "t", "metadata": {"n": number}})
    assert refusal(path) == (
        f"{path}:1: the field 'n' holds a whole number beyond 64 bits: store it as text"
    )
    edge = 2**63 - 1 if number > 0 else -(2**63)
    assert next(read_corpus(corpus({"id": 1, "text": "t", "n": edge}))).metadata == {"n": edge}


def test_thousands_of_digits(corpus):
    path = corpus(f'{{"id": 1, "text": "t", "n": {"9" * 5000}}}')
    assert refusal(path).startswith(f"{path}:1: not valid JSON (Exceeds the limit (4300")


def test_nesting(corpus):
    path = corpus('{"id": 1, "text": "t", "x": ' + "[" * 100 + "]" * 100 + "}")
    assert len(list(read_corpus(path))) == 1
    path = corpus('{"id": 1, "text": "t", "x": ' + "[" * 101 + "]" * 101 + "}")
    assert refusal(path) == f"{path}:1: the field 'x' is nested more than 100 levels deep"
    path = corpus("", '{"id": 1, "text": "t", "x": ' + '{"a":' * 200_000 + "1" + "}" * 200_001)
    assert refusal(path) == f"{path}:2: the JSON is nested too deeply"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"id": 1', "not valid JSON (Expecting ',' delimiter at column 9): "),
        ("{", "not valid JSON (Expecting property name enclosed in double quotes at column 2): "),
        ('{"id": 1} {"id": 2}', "not valid JSON (Extra data at column 11): "),
        ('{"id": "a\tb"}', "not valid JSON (Invalid control character at at column 10): "),
        ("hello", "not valid JSON (Expecting value at column 1): "),
    ],
)
def test_malformed_json(corpus, line, expected):
    path = corpus({"id": 1, "text": "t"}, "", line)
    assert refusal(path) == f"{path}:3: {expected}expected one JSON object a line"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("[1]", "a list (one JSON array: split it with jq -c '.[]')"),
        ('"a"', "text"),
        ("5", "a number, true, false or null"),
    ],
)
def test_lines_that_are_no_object(corpus, line, found):
    path = corpus(line)
    assert refusal(path) == f"{path}:1: expected a JSON object a line, found {found}"


def test_skipping_loses_only_the_bad_records(tmp_path):
    path = tmp_path / "corpus.jsonl"
    good = [b'{"id": "%d", "text": "t"}' % n for n in range(4)]
    bad = [b"{", b'{"id": "x", "text": "\xff"}', b'{"text": "no id"}', b"\0"]
    path.write_bytes(b"\n".join(line for pair in zip(good, bad, strict=True) for line in pair))
    errors: list[InputError] = []
    found = list(read_corpus(path, on_error="skip", on_skip=errors.append))
    assert [(d.id, d.line) for d in found] == [("0", 1), ("1", 3), ("2", 5), ("3", 7)]
    assert [error.line for error in errors] == [2, 4, 6, 8]
    assert [str(e).split(": ", 1)[1][:9] for e in errors] == [
        "not valid",
        "not UTF-8",
        "no id: ex",
        "the line ",
    ]
    assert [d.id for d in read_corpus(path, on_error="skip")] == ["0", "1", "2", "3"]


def test_what_stands_before_a_bad_record_comes_first(corpus):
    documents = read_corpus(corpus({"id": 1, "text": "t"}, "{"))
    assert next(documents).id == "1"
    with pytest.raises(InputError):
        next(documents)


def test_byte_order_marks_of_files_pasted_together(tmp_path):
    path = tmp_path / "two.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": 1, "text": "t"}\n\xef\xbb\xbf{"id": 2, "text": "t"}\r\n')
    assert [(d.id, d.line) for d in read_corpus(path)] == [("1", 1), ("2", 2)]


def test_standard_input(monkeypatch):
    lines = b'{"id": 1, "text": "one"}\n{"id": 2}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    documents = read_corpus("-")
    assert next(documents) == Document("1", "one")
    with pytest.raises(InputError, match="^stdin:2: no text"):
        next(documents)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert next(read_corpus("-")).source == "stdin"


def test_the_line_limit_can_be_set(corpus):
    path = corpus({"id": 1, "text": "short"}, {"id": 2, "text": "long " * 20})
    with pytest.raises(InputError, match=f"^{path}:2: the line is longer than 60 bytes"):
        list(read_jsonl(path, max_line=60))


ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    str.strip
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ids, inner, max_size=3),
    max_leaves=8,
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
reserved = {*Fields().usual_ids, *Fields().usual_texts, "title", "metadata"}
metadata = st.dictionaries(ids.filter(lambda k: k.strip().lower() not in reserved), values)


@given(st.lists(st.tuples(ids, texts, texts, metadata), max_size=5), st.booleans(), st.booleans())
def test_any_document_survives_the_round_trip(tmp_path_factory, rows, ascii_only, nested):
    path = tmp_path_factory.mktemp("trip") / "corpus.jsonl"
    expected = [Document(id_, text, title, data) for id_, text, title, data in rows]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for document in expected:
            more = {"metadata": document.metadata} if nested else document.metadata
            record = {"_id": document.id, "title": document.title, "text": document.text, **more}
            file.write(json.dumps(record, ensure_ascii=ascii_only) + "\n")
    assert list(read_corpus(path)) == expected


@given(st.text(st.characters()))
def test_mended_text_can_be_written_and_keeps_its_length(text):
    mended = mend(text)
    assert "\0" not in mended
    assert mended.encode().decode() == mended
    assert len(mended) == len(text)
    assert mend(mended) == mended


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_that_is_no_object_is_refused_as_json(text):
    with pytest.raises(ValueError, match="JSON"):
        parse_object("[" + text)

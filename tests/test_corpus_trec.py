"""Judgements, runs and queries: read and written."""

import gzip
import itertools
import os
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.corpus import read_qrels, read_queries, read_run, write_qrels, write_run
from semsearch.errors import InputError, StorageError
from semsearch.types import Query


@pytest.fixture
def file(tmp_path):
    def write(text, name="file.txt"):
        path = tmp_path / name
        data = text.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def refusal(read, path):
    with pytest.raises(InputError) as caught:
        read(path)
    return str(caught.value)


# Judgements

EXPECTED = {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": -1}}


@pytest.mark.parametrize(
    "text",
    [
        "q1 0 d1 2\nq1 0 d2 0\nq2 0 d1 -1\n",
        "q1\t0\td1\t2\r\nq1\t0\td2\t0\r\n\r\nq2\t0\td1\t-1",
        "q1  Q0   d1\t2\n q1 Q0 d2 0 \nq2 Q0 d1 -1\n",
        "q1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n",
        "q1 d1 2\nq1 d2 0\nq2 d1 -1\n",
        "\ufeffquery-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n",
        "\n\nQID\tDocID\tRelevance\nq1\td1\t+2\nq1\td2\t0\nq2\td1\t-1\n",
        "query_id iteration doc_id rel\nq1 0 d1 2\nq1 0 d2 0\nq2 0 d1 -1\n",
        "score\tcorpus-id\tquery-id\n2\td1\tq1\n0\td2\tq1\n-1\td1\tq2\n",
    ],
)
@pytest.mark.parametrize("name", ["qrels", "qrels.tsv", "qrels.txt.gz"])
def test_qrels_in_every_form(file, text, name):
    found = read_qrels(file(text, name))
    assert found == EXPECTED
    assert list(found) == ["q1", "q2"]


def test_a_first_line_of_data_is_not_taken_for_a_header(file):
    assert read_qrels(file("query-id\tcorpus-id\t1\n")) == {"query-id": {"corpus-id": 1}}


def test_ids_with_spaces_in_a_table(file):
    path = file("query-id\tcorpus-id\tscore\nq 1\tNew York\t1\n")
    assert read_qrels(path) == {"q 1": {"New York": 1}}


@pytest.mark.parametrize("text", ["", "\n \n", "query-id\tcorpus-id\tscore\n"])
def test_qrels_without_judgements(file, text):
    assert read_qrels(file(text)) == {}


SHAPES = "expected `query document grade` or TREC's `query 0 document grade`"


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("q1 d1\n", 1, f"{SHAPES}, found 2 columns"),
        ("q1 Q0 d1 1 0.5 tag\n", 1, f"{SHAPES}, found 6 columns"),
        ("q1 0 d1 1\n\nq1 d2 1\n", 3, f"3 columns where the first line has 4: {SHAPES}"),
        ("q1\td1\t1\nq1\td 2\n", 2, f"2 columns where the first line has 3: {SHAPES}"),
        ("q1 0 d1 1\nq1 0 d2 1.5\n", 2, "the grade '1.5' is not a whole number"),
        ("q1 0 d1 x\n", 1, "the grade 'x' is not a whole number"),
        ("q1 0 d1 1\nq1 0 d2 ١\n", 2, "the grade '١' is not a whole number"),
        ("q1 0 d1 " + "9" * 19, 1, f"the grade '{'9' * 19}' is not a whole number"),
        ("q1\t\t1\n", 1, "the id of the query or the document is empty"),
        (
            "query-id\tcorpus-id\tpoints\n",
            1,
            "unknown columns 'points': expected query-id, corpus-id, score",
        ),
        (
            "query-id\twho\tcorpus-id\tpoints\n",
            1,
            "unknown columns 'who', 'points': expected query-id, corpus-id, score",
        ),
        (
            "query-id\tscore\trel\n",
            1,
            "the header's columns are 'query-id', 'score', 'rel': "
            "expected query-id, corpus-id, score",
        ),
        (
            "q1 0 d0 1\nq1 0 d1 1\nq2 0 d1 2\nq1 0 d1 1\nq1 0 d1 2\n",
            5,
            "grade 2 for query 'q1' and document 'd1', which line 2 gives 1: keep one of the two",
        ),
    ],
)
def test_bad_qrels(file, text, line, expected):
    path = file(text)
    assert refusal(read_qrels, path) == f"{path}:{line}: {expected}"


def test_equal_judgements_may_repeat(file):
    assert read_qrels(file("q1 0 d1 1\nq2 0 d1 1\nq1 0 d1 1\n")) == {
        "q1": {"d1": 1},
        "q2": {"d1": 1},
    }


def test_qrels_as_written(tmp_path):
    write_qrels(tmp_path / "a.tsv", EXPECTED)
    assert (tmp_path / "a.tsv").read_bytes() == (
        b"query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n"
    )
    write_qrels(tmp_path / "a.qrels", EXPECTED)
    assert (tmp_path / "a.qrels").read_bytes() == b"q1 0 d1 2\nq1 0 d2 0\nq2 0 d1 -1\n"


# Runs


@pytest.mark.parametrize(
    "text",
    [
        "q1 Q0 d1 1 2.5 tag\nq2 Q0 d1 1 -1e3 tag\nq1 Q0 d2 7 2.5 tag\n",
        "\ufeffq1\tQ0\td1\t1\t2.5\ttag\r\n\r\nq2 0 d1 x -1000 tag\nq1 Q0 d2 7 +2.50 other",
    ],
)
@pytest.mark.parametrize("name", ["run", "run.trec.gz"])
def test_runs_of_six_columns(file, text, name):
    found = read_run(file(text, name))
    assert found == {"q1": {"d1": 2.5, "d2": 2.5}, "q2": {"d1": -1000.0}}
    assert list(found) == ["q1", "q2"]


def test_runs_of_three_columns_are_scored_by_rank(file):
    path = file("1048585\t7187158\t1\n1048585\t7187157\t2\n2 d 1\n")
    assert read_run(path) == {"1048585": {"7187158": -1.0, "7187157": -2.0}, "2": {"d": -1.0}}


def test_ids_may_hold_unicode_spaces_when_read(file):
    assert read_run(file("q\u3000 Q0 d\xa0x 1 0.5 t\n")) == {"q\u3000": {"d\xa0x": 0.5}}


RUNS = "expected TREC's `query Q0 document rank score tag` or MS MARCO's `query document rank`"


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("q1 0 d1 1\n", 1, f"{RUNS}, found 4 columns"),
        ("q1 Q0 d1 1 0.5 tag\nq1 d1 1\n", 2, f"{RUNS}, found 3 columns"),
        ("q1 Q0 d1 1 0.5 my tag\n", 1, f"{RUNS}, found 7 columns"),
        ("q1 Q0 d1 1 0.5 tag\nq1 Q0 d2 2 nan tag\n", 2, "the score 'nan' is not a number"),
        ("q1 Q0 d1 1 1_0 tag\n", 1, "the score '1_0' is not a number"),
        ("q1 Q0 d1 1 high tag\n", 1, "the score 'high' is not a number"),
        ("q1 d1 1\nq1 d2 1.5\n", 2, "the rank '1.5' is not a whole number"),
        (
            "q1 Q0 d1 1 3 t\nq2 Q0 d2 1 3 t\nq1 Q0 d2 2 2 t\nq1 Q0 d2 3 2 t\n",
            4,
            "document 'd2' again for query 'q1', as on line 3",
        ),
    ],
)
def test_bad_runs(file, text, line, expected):
    path = file(text)
    assert refusal(read_run, path) == f"{path}:{line}: {expected}"


def test_an_empty_run(file, tmp_path):
    assert read_run(file("")) == {}
    write_run(tmp_path / "run", {})
    assert (tmp_path / "run").read_bytes() == b""


def test_runs_as_written(tmp_path):
    run = {
        "q2": {"b": 0.5, "a": 1 / 3, "c": 0.5 + 1e-12, "10": 0.5, "é": -2.0},
        "q1": {"x": 1e30},
    }
    write_run(tmp_path / "run.trec", run, tag="mine")
    assert (tmp_path / "run.trec").read_text(encoding="utf-8") == (
        "q2 Q0 c 1 0.5 mine\n"
        "q2 Q0 b 2 0.5 mine\n"
        "q2 Q0 10 3 0.5 mine\n"
        "q2 Q0 a 4 0.333333343 mine\n"
        "q2 Q0 é 5 -2 mine\n"
        "q1 Q0 x 1 1.00000002e+30 mine\n"
    )
    write_run(tmp_path / "run.trec", {"q": {"d": 1}})
    assert (tmp_path / "run.trec").read_text() == "q Q0 d 1 1 semsearch\n"


@pytest.mark.parametrize("bad", ["a b", "a\tb", "a\u3000", "", "a\n"])
@pytest.mark.parametrize("where", ["query", "document", "tag"])
def test_ids_with_white_space_cannot_be_written(tmp_path, bad, where):
    path = tmp_path / "out"
    path.write_text("before")
    expected = (
        f"{path}: the id {bad!r} is empty or holds white space, which this format cannot hold: "
        "rename the document or query"
    )
    run = {"query": {bad: {"d": 1.0}}, "document": {"q": {bad: 1.0}}, "tag": {"q": {"d": 1.0}}}
    with pytest.raises(InputError) as caught:
        write_run(path, run[where], tag=bad if where == "tag" else "tag")
    assert str(caught.value) == expected
    if where != "tag":
        with pytest.raises(InputError) as caught:
            write_qrels(path, {bad: {"d": 1}} if where == "query" else {"q": {bad: 1}})
        assert str(caught.value) == expected
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("bad", ["a\0", "\ud800", "\ufeffa"])
def test_ids_that_no_text_file_can_hold(tmp_path, bad):
    with pytest.raises(InputError) as caught:
        write_run(tmp_path / "out", {"q": {bad: 1.0}})
    assert str(caught.value) == (
        f"{tmp_path / 'out'}: the id {bad!a} holds characters that no UTF-8 text file can"
    )


def test_a_nan_score_is_not_written(tmp_path):
    with pytest.raises(InputError) as caught:
        write_run(tmp_path / "out", {"q": {"a": 1.0, "d": float("nan"), "z": 2.0}})
    assert str(caught.value) == f"{tmp_path / 'out'}: NaN as score of 'd' for query 'q'"
    assert os.listdir(tmp_path) == []


def test_gzip_output_depends_on_the_content_alone(tmp_path, monkeypatch):
    run = {"q": {"a": 1.0, "b": 2.0}}
    write_run(tmp_path / "one.gz", run)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    write_run(tmp_path / "two.trec.gz", run)
    data = (tmp_path / "one.gz").read_bytes()
    assert data == (tmp_path / "two.trec.gz").read_bytes()
    assert gzip.decompress(data) == b"q Q0 b 1 2 semsearch\nq Q0 a 2 1 semsearch\n"
    assert read_run(tmp_path / "one.gz") == run


def test_targets_that_are_no_plain_file(tmp_path):
    with pytest.raises(InputError) as caught:
        write_run(tmp_path, {})
    expected = f"{tmp_path}: this is a folder, and a file is expected here"
    assert str(caught.value) == expected
    (tmp_path / "link").symlink_to("real")
    write_run(tmp_path / "link", {"q": {"d": 1.0}})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "q Q0 d 1 1 semsearch\n"
    write_run("/dev/null", {"q": {"d": 1.0}})
    assert not os.path.isfile("/dev/null")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="^" + str(tmp_path / "file")):
        write_run(tmp_path / "file" / "run", {})


def test_a_large_run_is_written_in_pieces(tmp_path):
    run = {f"q{q}": {f"document-{d}": float(d) for d in range(1000)} for q in range(50)}
    write_run(tmp_path / "run.gz", run)
    assert read_run(tmp_path / "run.gz") == run


float32 = st.floats(width=32, allow_nan=False)
word = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
).filter(lambda text: not any(map(str.isspace, text)) and not text.startswith("\ufeff"))


def as_float32(ranking):
    return {d: struct.unpack("f", struct.pack("f", score))[0] for d, score in ranking.items()}


rankings = st.dictionaries(word, st.dictionaries(word, float32, min_size=1, max_size=6), max_size=4)


@given(rankings, word, st.sampled_from(["", ".gz"]))
def test_any_run_survives_the_round_trip_in_order(tmp_path_factory, run, tag, suffix):
    path = tmp_path_factory.mktemp("trip") / f"run{suffix}"
    write_run(path, run, tag)
    found = {query: as_float32(ranking) for query, ranking in read_run(path).items()}
    assert found == run
    assert list(found) == list(run)
    for ranking in found.values():
        for better, worse in itertools.pairwise(ranking.items()):
            assert (better[1], better[0]) > (worse[1], worse[0])


@given(st.dictionaries(word, st.floats(-1e30, 1e30), min_size=1, max_size=6))
def test_scores_are_rounded_to_float32_before_ranking(tmp_path_factory, ranking):
    path = tmp_path_factory.mktemp("trip") / "run"
    write_run(path, {"q": ranking})
    rounded = as_float32(ranking)
    found = read_run(path)["q"]
    assert as_float32(found) == rounded
    assert list(found) == sorted(rounded, key=lambda d: (rounded[d], d), reverse=True)


judgements = st.dictionaries(
    word, st.dictionaries(word, st.integers(-(10**9), 10**9), min_size=1, max_size=6), max_size=4
)


@given(judgements, st.sampled_from(["a.tsv", "a.tsv.gz", "a.qrels", "a.txt.gz"]))
def test_any_qrels_survive_the_round_trip(tmp_path_factory, qrels, name):
    path = tmp_path_factory.mktemp("trip") / name
    write_qrels(path, qrels)
    assert read_qrels(path) == qrels


# Queries


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "q.jsonl",
            '{"_id": "q1", "text": "one", "metadata": {"n": [1]}}\n{"_id": 2, "text": null}',
        ),
        ("q.json", '{"id": "q1", "query": "one"}\n{"qid": "2", "question": "", "title": 3}'),
        ("queries", '\n{"query_id": "q1", "query": "one"}\n{"query-id": 2, "query": ""}\n'),
        ("q.tsv", "q1\tone\n2\t\n"),
        ("q.tsv", "qid\tquery\nq1\tone\n2\t\n"),
        ("topics.txt", "\ufeffq1\tone\r\n\r\n2\t\r\n"),
        ("q.csv", 'id,lang,text\nq1,en,"one"\n2,en,\n'),
    ],
)
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_queries_in_every_form(file, name, text, packed):
    assert read_queries(file(text, name + packed)) == [Query("q1", "one"), Query("2", "")]


def test_fields_of_queries_that_are_not_needed_are_not_looked_at(file):
    path = file('{"id": 1, "text": "t", "title": 5, "n": 99999999999999999999, "e": 1e999}\n')
    assert read_queries(path) == [Query("1", "t")]


@pytest.mark.parametrize(
    ("name", "text", "metadata"),
    [
        (
            "q.jsonl",
            '{"_id": "q", "text": "t", "kind": "how", "metadata": {"kind": "what", "n": [1]}}\n',
            {"kind": "how", "n": [1]},
        ),
        ("q.jsonl", '{"_id": "q", "text": "t", "metadata": null}\n', {}),
        ("q.jsonl", '{"_id": "q", "text": "t", "metadata": "one"}\n', {"metadata": "one"}),
        ("q.csv", "id,lang,text\nq,en,t\n", {"lang": "en"}),
        ("q.tsv", "q\tt\n", {}),
    ],
)
def test_the_other_fields_of_a_query_are_its_metadata(file, name, text, metadata):
    [query] = read_queries(file(text, name))
    assert query.metadata == metadata
    assert tuple(query) == ("q", "t")


def test_a_query_may_repeat_but_not_change(file):
    path = file("1\tone\n2\ttwo\n1\tone\n")
    assert read_queries(path) == [Query("1", "one"), Query("2", "two")]
    path = file("1\tone\n2\ttwo\n1\tother\n")
    assert refusal(read_queries, path) == f"{path}:3: another text for query '1' of line 1"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.jsonl", '{"_id": "1", "text": "t"}\n{"_id": "2"', "2: not valid JSON (Expecting ','"),
        (
            "a.jsonl",
            '{"key": 1, "text": "t"}',
            "1: no id: expected a field _id, id, qid, query_id or query-id; there is key, text",
        ),
        (
            "a.jsonl",
            '{"_id": 1, "title": "t"}',
            "1: no text: expected a field text, query, question or query_text; there is _id, title",
        ),
        ("a.jsonl", '{"_id": true, "text": "t"}', "1: the id is true or false: ids are text or"),
        ("a.jsonl", '{"_id": 1, "text": ["t"]}', "1: the field 'text' is a list: expected text"),
        ("a.tsv", "1\tone\n2\ttwo\tthree\n", "2: 3 columns where the header has 2: "),
        ("a.txt", "just a sentence\n", "1: no id: expected a field _id, id, qid"),
        ("a.tsv", "1\tone\n\ttwo\n", "2: the id is empty"),
    ],
)
def test_bad_queries(file, name, text, expected):
    path = file(text, name)
    assert refusal(read_queries, path).startswith(f"{path}:{expected}")


def test_no_queries(file):
    assert read_queries(file("", "a.jsonl")) == read_queries(file("", "a.tsv")) == []


@given(st.dictionaries(word, st.text(st.characters(exclude_categories=["Cc", "Cs"])), max_size=5))
def test_any_queries_survive_the_round_trip(tmp_path_factory, queries):
    path = tmp_path_factory.mktemp("trip") / "queries.tsv"
    rows = ["id\ttext", *(f"{key}\t{text}" for key, text in queries.items())]
    # A field that is wrapped in quotes is unwrapped, so such a text is wrapped once more.
    path.write_text("\n".join(quoted(row) for row in rows) + "\n", encoding="utf-8", newline="")
    assert read_queries(path) == [Query(key, text) for key, text in queries.items()]


def quoted(row):
    double = str.maketrans({'"': '""'})
    return "\t".join(
        f'"{cell.translate(double)}"' if cell.startswith('"') else cell for cell in row.split("\t")
    )

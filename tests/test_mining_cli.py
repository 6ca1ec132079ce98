"""``semsearch mine``: rows that can be read again, whole files or none, refusals of one line."""

import gzip
import json

import pytest
from click.testing import CliRunner

import semsearch.encoders
from semsearch.cli.main import cli
from semsearch.corpus.jsonl import read_objects
from semsearch.training.mining import Mining, mine
from tests.fakes import FakeEncoder, opened
from tests.mining_sets import TRAIN, made_documents, qrels, write_labelled


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    write_labelled(folder / "set", made_documents())
    with opened(folder / "made.idx", FakeEncoder(32, max_length=32)) as index:
        index.add(semsearch.read_corpus(folder / "set"), long_text="chunk")
        yield index


@pytest.fixture
def folder(made):
    return made.folder.parent / "set"


@pytest.fixture
def run(made, monkeypatch):
    """The command line on that index; returns exit code, stdout, stderr."""
    monkeypatch.setattr(semsearch.encoders, "open_encoder", lambda *_, **__: made._encoder)

    def invoke(*arguments, index=made.folder):
        at = () if index is None else ("-i", str(index))
        found = CliRunner().invoke(cli, ["mine", *map(str, arguments), *at])
        return found.exit_code, found.stdout, found.stderr

    return invoke


def test_the_file_holds_the_rows_of_the_library(run, made, folder, tmp_path):
    target = tmp_path / "rows.jsonl"
    code, out, err = run(folder, "-o", target, "--mode", "dense", "--ranks", "2-30")
    assert (code, out) == (0, "")
    expected = list(mine(made, folder, mining=Mining(mode="dense", ranks=(2, 30))))
    assert [record for _, record in read_objects(target)] == expected
    assert err.splitlines()[0] == f"{len(expected)} rows from {TRAIN} queries of split train"
    assert err.splitlines()[1].startswith("mean cosine: positives 0.")
    assert "copies of positives" in err
    assert "1 relevant document is not in the index" in err


def test_options_reach_the_miner(run, made, folder, tmp_path):
    target = tmp_path / "rows.jsonl.gz"
    options = "--mode lexical --ranks 1-50 --per-query 2 --margin 0.01 --relative-margin 0.9"
    more = "--max-score 0.7 --judged --sample random --seed 3 --layout tuples --json"
    code, out, err = run(folder, "-o", target, *options.split(), *more.split())
    assert (code, err) == (0, "")
    mining = Mining(
        mode="lexical",
        ranks=(1, 50),
        per_query=2,
        margin=0.01,
        relative_margin=0.9,
        max_score=0.7,
        sample="random",
        seed=3,
        layout="tuples",
        judged=True,
    )
    expected = list(mine(made, folder, mining=mining))
    lines = gzip.decompress(target.read_bytes()).decode().splitlines()
    assert [json.loads(line) for line in lines] == expected
    report = json.loads(out)
    assert (report["queries"], report["rows"], report["split"]) == (TRAIN, len(expected), "train")
    assert report["dropped"]["relative_margin"] > 0
    assert report["mean_positive_score"] > report["mean_negative_score"]
    assert set(report["queries_without_rows"]) == {
        "no_positive",
        "no_candidates",
        "too_similar",
        "too_few",
    }


def test_rows_stream_to_stdout(run, folder, tmp_path):
    code, out, err = run(folder, "-o", "-")
    run(folder, "-o", tmp_path / "rows.jsonl")
    assert code == 0
    assert out == (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    assert "rows from" in err


def test_the_test_split_is_said_to_be_what_it_is(run, folder, tmp_path):
    code, _, err = run(folder, "-o", tmp_path / "rows.jsonl", "--split", "test")
    assert code == 0
    assert "mining the test split: numbers measured on it are no longer held out" in err


def test_the_index_made_from_a_dataset(run, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(semsearch.encoders, "fingerprint_of", lambda *_, **__: "f" * 64)
    monkeypatch.delenv("SEMSEARCH_INDEX", raising=False)
    code, _, err = run(folder, "-o", tmp_path / "rows.jsonl", index=None)
    assert (code, err.splitlines()[0].split()[0]) == (0, "13")
    assert list((tmp_path / "cache" / "datasets").iterdir())


def test_an_earlier_file_stays_where_nothing_is_left(run, folder, tmp_path):
    target = tmp_path / "rows.jsonl"
    target.write_text("earlier\n")
    code, _, err = run(folder, "-o", target, "--max-score", "-0.9")
    assert code == 1
    assert "no negative left for any of 12 queries" in err
    assert target.read_text() == "earlier\n"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_an_error_on_the_way_leaves_no_file(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("semsearch.training.mining.run._AT_ONCE", 5)
    from semsearch.errors import Corrupt
    from semsearch.training.mining.run import Miner

    chosen, calls = Miner._chosen, []

    def fails(self, queries):
        calls.append(queries)
        if len(calls) == 2:
            raise Corrupt("damaged")
        return chosen(self, queries)

    monkeypatch.setattr(Miner, "_chosen", fails)
    assert run(folder, "-o", tmp_path / "rows.jsonl")[0] == 1
    assert list(tmp_path.iterdir()) == []


WRONG = {
    "no such set": (("nowhere",), 1, "nowhere: no such folder"),
    "no such split": (("SET", "--split", "no"), 1, "no split 'no': there is dev, test, train"),
    "a range that is none": (("SET", "--ranks", "ten"), 2, "give the first and the last"),
    "ranks from 0": (("SET", "--ranks", "0-5"), 2, "ranks 0-5 are no range"),
    "no negatives": (("SET", "--per-query", "0"), 2, "--per-query"),
    "a margin below 0": (("SET", "--margin", "-1"), 2, "from 0 to 2, not -1.0"),
    "a margin for a share": (("SET", "--relative-margin", "0.05"), 2, "from 0.5 to 1"),
    "a cap that is no number": (("SET", "--max-score", "nan"), 2, "from -1 to 1, not nan"),
    "no such cross-encoder": (("SET", "--cross-encoder", "./no"), 1, "no such model folder"),
    "a mode that is none": (("SET", "--mode", "words"), 2, "--mode"),
    "no folder to write into": (("SET", "-o", "no/such/rows.jsonl"), 1, "no such folder"),
    "a folder for a file": (("SET", "-o", "SET"), 1, "this is a folder"),
    "over the corpus": (("SET", "-o", "SET/corpus.jsonl"), 2, "is a file of the dataset"),
    "over judgements": (("SET", "-o", "SET/qrels/dev.tsv"), 2, "is a file of the dataset"),
    "both on stdout": (("SET", "-o", "-", "--json"), 2, "both print on stdout"),
    "tuples too long": (
        ("SET", "--layout", "tuples", "--ranks", "1-2", "--per-query", "3"),
        2,
        "widen the ranks or ask for fewer",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_refused_in_one_line(run, folder, tmp_path, monkeypatch, name):
    arguments, expected, message = WRONG[name]
    monkeypatch.chdir(tmp_path)
    named = [text.replace("SET", str(folder)) for text in arguments]
    before = (folder / "corpus.jsonl").read_bytes()
    code, out, err = run(*named, *(() if "-o" in named else ("-o", "rows.jsonl")))
    assert (code, out) == (expected, "")
    said = err.splitlines()[-1]
    assert said.startswith("Error: ")
    assert message in said
    assert list(tmp_path.iterdir()) == []
    assert (folder / "corpus.jsonl").read_bytes() == before


def test_more_that_cannot_be_mined(run, folder, tmp_path):
    code, _, err = run(folder, "-o", tmp_path / "rows.jsonl", index=tmp_path / "none.idx")
    assert code == 1
    assert "none.idx" in err.splitlines()[-1]
    assert run(folder)[0] == 2, "no -o"
    only = tmp_path / "only"
    write_labelled(only, made_documents())
    for split in ("train", "dev"):
        (only / "qrels" / f"{split}.tsv").unlink()
    code, _, err = run(only, "-o", tmp_path / "rows.jsonl")
    assert code == 2
    assert "no train or dev split to mine, only test" in err
    code, _, err = run(only / "qrels" / "test.tsv", "-o", tmp_path / "rows.jsonl")
    assert code == 2
    assert "name the file of the queries too" in err
    qrels(only, "train", [("q00", "unknown", 1)])
    code, _, err = run(only, "-o", tmp_path / "rows.jsonl")
    assert code == 1
    assert "none of the 1 relevant documents is in" in err
    (only / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq00\td1\tgood\n")
    qrels(only, "train", [("q00", made_documents()[0].id, 1)])
    code, _, err = run(only, "-o", tmp_path / "rows.jsonl")
    assert code == 1
    assert "dev.tsv:2: the grade 'good' is not a whole number" in err, "positives may hide there"
    assert [path.name for path in tmp_path.iterdir()] == ["only"]

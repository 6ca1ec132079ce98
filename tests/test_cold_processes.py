"""What a fresh process loads: no model where nothing is encoded, no writer for a query."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import make_documents

ROOT = Path(__file__).parents[1]
RUNTIMES = {"openvino", "torch", "transformers", "sentence_transformers"}
WRITING = {"semsearch.collection.writer", "semsearch.indexing.run", "sqlite_utils"}

SCRIPT = """
import sys
from semsearch.cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def run(*arguments):
    """What a command printed as JSON, and the modules that it loaded."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), set(done.stderr.splitlines()[-1].split())


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """A corpus of 30 documents, and its index made by the real model."""
    folder = tmp_path_factory.mktemp("cold")
    corpus = folder / "corpus.jsonl"
    documents = make_documents(30)
    corpus.write_text("".join(json.dumps({"_id": d.id, "text": d.text}) + "\n" for d in documents))
    facts, modules = run("index", corpus, "-i", folder / "idx", "-m", "all-MiniLM-L6-v2")
    assert (facts["new"], facts["encoded"]) == (30, 30)
    assert "openvino" in modules
    return corpus, folder / "idx"


def test_an_unchanged_corpus_loads_no_model(indexed):
    corpus, folder = indexed
    facts, modules = run("index", corpus, "-i", folder)
    assert (facts["unchanged"], facts["encoded"], facts["documents"]) == (30, 0, 30)
    assert modules & RUNTIMES == set()


def test_a_query_loads_its_runtime_and_nothing_that_writes(indexed):
    hits, modules = run("query", make_documents(30)[7].text, "-i", indexed[1], "-k", 1)
    assert hits[0]["id"] == "d0007"
    assert modules & RUNTIMES == {"openvino"}
    assert modules & WRITING == set()


def test_a_query_for_words_alone_loads_no_model(indexed):
    text = make_documents(30)[7].text
    hits, modules = run("query", text, "-i", indexed[1], "-k", 1, "--mode", "lexical")
    assert hits[0]["id"] == "d0007"
    assert modules & RUNTIMES == set()

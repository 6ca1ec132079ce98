"""``semsearch train``: what it prints where, how it ends, one line for whatever is wrong."""

import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from semsearch.cli.main import cli
from semsearch.training import run as run_module
from semsearch.training.recipe import Evaluation, Recipe
from semsearch.training.recipe_file import read_recipe, recipe_text
from semsearch.training.run import train
from tests import models
from tests.test_cli_process import environment
from tests.test_evaluate import write_lines
from tests.training_sets import (
    MODEL,
    QUICK,
    easy_rows,
    one_thread,
    small_recipe,
    write_easy,
    write_rows,
)


@pytest.fixture(scope="module", autouse=True)
def threads():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_easy(tmp_path_factory.mktemp("train"))


@pytest.fixture
def file(root, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(recipe_text(small_recipe(**QUICK)), encoding="utf-8")
    return path


@pytest.fixture
def call(root, tmp_path, monkeypatch):
    """Calls the command line in an empty folder with the rows of ``root``."""
    monkeypatch.chdir(tmp_path)

    def of(*arguments, code=0, data=root):
        command = ["train", *map(str, arguments), "--data", str(data)]
        result = CliRunner().invoke(cli, command)
        if result.exit_code != code:
            told = (result.exit_code, result.stdout, result.stderr)
            raise AssertionError(told) from result.exception
        return SimpleNamespace(out=result.stdout, err=result.stderr)

    return of


# What is printed


def test_help_loads_nothing_heavy():
    script = (
        "import sys\nfrom semsearch.cli.main import main\nsys.argv = ['semsearch', 'train', '-h']\n"
        "try:\n    main()\nfinally:\n    heavy = ('numpy', 'torch', 'transformers', 'datasets',"
        " 'sentence_transformers', 'faiss', 'openvino', 'tomllib')\n"
        "    print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", script.replace("'-h'", "'--help'")]
    done = subprocess.run(command, env=environment(), capture_output=True, check=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"
    assert "Fine-tune a model as RECIPE" in done.stdout
    for option in ("--output", "--base", "--sample", "--set", "--print", "--check", "--strict",
                   "--fresh", "--device", "--verdict", "--gate", "--json"):  # fmt: skip
        assert option in done.stdout


def test_the_printed_recipe_is_the_same_recipe(call, file, tmp_path):
    done = call(file, "--print")
    assert done.err == ""
    (tmp_path / "again.toml").write_text(done.out)
    assert read_recipe(tmp_path / "again.toml") == read_recipe(file)
    assert call("again.toml", "--print").out == done.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.toml", "small.toml"]


def test_options_change_what_is_printed(call, file, tmp_path):
    options = ["--base", "some/model", "--sample", 5, "--set", "training.learning_rate=1e-4",
               "--set", "loss.scale=30", "--verdict", "set", "--split", "dev",
               "--measure", "mrr@10"]  # fmt: skip
    (tmp_path / "again.toml").write_text(call(file, "--print", *options).out)
    found = read_recipe(tmp_path / "again.toml")
    assert (found.model.base, found.sample, found.loss.scale) == ("some/model", 5, 30.0)
    assert found.training.learning_rate == 1e-4
    assert found.verdict is not None
    assert (found.verdict.path, found.verdict.split) == (str(tmp_path / "set"), "dev")
    assert found.verdict.measure == "mrr@10"


@pytest.mark.parametrize("base", ["m😀del", 'a"b', "a\\b", "Größe"])
def test_the_name_of_a_base_is_taken_as_it_is(call, file, tmp_path, base):
    (tmp_path / "again.toml").write_text(call(file, "--print", "--base", base).out, "utf-8")
    assert read_recipe(tmp_path / "again.toml").model.base == base


def test_published_recipes_are_known_by_name(call):
    assert 'name = "nli-deberta"' in call("nli-deberta", "--print").out


def test_training_tells_people_what_it_came_to(call, file, tmp_path):
    done = call(file, "-o", "made")
    head, *measures, last = done.out.splitlines()
    assert head.split() == ["measure", "before", "after", "change"]
    facts = json.loads((tmp_path / "made" / "training.json").read_text())
    for line in measures:
        name, before, after, change = line.split()
        assert float(before) == pytest.approx(facts["before"][name], abs=5.1e-5)
        assert float(after) == pytest.approx(facts["after"][name], abs=5.1e-5)
        assert float(change) == pytest.approx(float(after) - float(before), abs=1.1e-4)
    assert "dev_dim_16_cosine_ndcg@10" in done.out
    assert last.startswith("made: 6 steps on 96 rows in ")
    assert last.endswith("semsearch index CORPUS -m made")
    assert all(line.startswith("note: step ") for line in done.err.splitlines())
    again = call(file, "-o", "made")
    assert (
        again.out.splitlines()[-1] == "made: trained before by this recipe on these rows (6 steps)"
    )
    assert again.out.splitlines()[:-1] == done.out.splitlines()[:-1]


def test_the_folder_is_named_after_the_recipe(call, file, tmp_path):
    call(file, "--set", "name=otherwise")
    assert (tmp_path / "models" / "otherwise" / "modules.json").is_file()
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["otherwise"]


def test_json_is_one_object(call, file, tmp_path):
    done = call(file, "-o", "made", "--json")
    found = json.loads(done.out)
    assert done.out.count("\n") == 1
    facts = json.loads((tmp_path / "made" / "training.json").read_text())
    assert found.pop("model") == "made"
    assert found.pop("already") is False
    assert found.pop("verdict") is None
    assert found == {key: value for key, value in facts.items() if key != "identity"}
    assert json.loads(call(file, "-o", "made", "--json").out)["already"] is True


def test_measures_that_cannot_be_computed_are_null_and_shown(call, tmp_path):
    constant = Evaluation("similarity", "dev.jsonl", "flat", label=1.0)
    recipe = replace(small_recipe(**QUICK), evaluation=(constant,))
    (tmp_path / "flat.toml").write_text(recipe_text(recipe))
    found = json.loads(call("flat.toml", "--json").out)
    assert found["after"]["flat_dim_32_spearman_cosine"] is None
    assert "nan" in call("flat.toml").out


# Checks


@pytest.fixture
def flawed(root, tmp_path):
    """Rows with an identical pair, which is allowed, and an empty text, which is not."""
    folder = write_easy(tmp_path / "data")
    rows = easy_rows(96)
    rows[3]["positive"] = rows[3]["anchor"]
    rows[7]["positive"] = " "
    write_rows(folder / "train.jsonl", rows)
    return folder


def test_check_tells_and_writes_nothing(call, file, flawed, tmp_path):
    before = sorted(path.name for path in tmp_path.iterdir())
    done = call(file, "--check", data=flawed)
    empty, identical, total = done.out.splitlines()
    assert empty.endswith("1 of 96 rows: an empty text; they are left out (rows 8)")
    assert "1 of 95 rows: anchor and positive are the same text" in identical
    assert identical.endswith("(rows 4)")
    assert total == "95 rows to train on; 2 findings"
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert call(file, "--check").out == "96 rows to train on; 0 findings\n"


def test_check_in_json(call, file, flawed):
    found = json.loads(call(file, "--check", "--json", data=flawed).out)
    assert [(one["kind"], one["lines"], one["allowed"]) for one in found] == [
        ("empty", [8], False),
        ("identical", [4], True),
    ]


def test_strict_refuses_what_is_not_allowed(call, file, flawed, tmp_path):
    done = call(file, "--check", "--strict", data=flawed, code=1)
    assert done.out.endswith("2 findings\n")
    (line,) = done.err.splitlines()
    assert line.startswith("Error: ")
    assert "an empty text" in line
    assert line.endswith("mend the rows, or leave out --strict")
    done = call(file, "--strict", data=flawed, code=1)
    assert (done.out, done.err.count("\n")) == ("", 1)
    rows = easy_rows(96)
    rows[3]["positive"] = rows[3]["anchor"]
    write_rows(flawed / "train.jsonl", rows)
    assert call(file, "--check", "--strict", data=flawed).out.endswith("; 1 finding\n")


# What is wrong


def recipe_with(recipe: Recipe, **parts) -> str:
    return recipe_text(replace(recipe, **parts))


SMALL = small_recipe(**QUICK)
DATA = SMALL.data[0]
LABELLED = Evaluation("classification", "scored.jsonl", label="score")

# arguments, recipe, exit code, what the line says
WRONG = {
    "no recipe": (["missing.toml"], None, 1, "missing.toml: no such recipe file"),
    "not TOML": ([], "[[[", 1, "r.toml:1: not valid TOML"),
    "unknown key": ([], "trainin = 1\n[[data]]\npath='x'", 1,
                    "r.toml:1: trainin: unknown key: did you mean 'training'?"),
    "unknown change": (["--set", "seeed=1"], None, 1, "seeed: unknown key: did you mean 'seed'?"),
    "no change": (["--set", "seed"], None, 2, "'seed': expected SECTION.KEY=VALUE"),
    "negative sample": (["--sample", "-1"], None, 2, "Invalid value for '--sample'"),
    "no data": (["--data", "nowhere"], None, 2, "Directory 'nowhere' does not exist"),
    "gate without verdict": (["--gate"], None, 2, "--gate needs a verdict"),
    "no rows": ([], recipe_with(SMALL, data=(replace(DATA, path="none.jsonl"),)), 1,
                "none.jsonl: no such file or folder of rows"),
    "no column": ([], recipe_with(SMALL, data=(replace(DATA, columns={"a": "b", "c": "d"}),)), 1,
                  "train.jsonl:1: no 'b' in this row: there are anchor, positive, negative"),
    "no slice": ([], recipe_with(SMALL, data=(replace(DATA, rows="9"),)), 2, "expected a slice"),
    "no label": (["--set", "loss.name=CoSENTLoss"], None, 1, "a label is needed: name its column"),
    "too few texts": (["--set", "loss.name=TripletLoss"], None, 1, "3 columns of text are needed"),
    "no evaluation": ([], recipe_with(SMALL, evaluation=(Evaluation("loss", "no.jsonl"),)), 1,
                      "no.jsonl: no such file or folder of rows"),
    "no classes": ([], recipe_with(SMALL, evaluation=(LABELLED,)), 1, "needs labels that are 0 or"),
    "no model": (["--base", "nobody/nothing"], None, 1, "nobody/nothing"),
    "not a model": (["--base", "."], None, 1, "config.json"),
    "no device": (["--device", "gpu"], None, 2, "'gpu' is no device of this machine"),
    "no cuda": (["--device", "cuda:7"], None, 2, "'cuda:7' is no device of this machine"),
    "no scratch": (["--base", "scratch"], '[[data]]\npath = "train.jsonl"', 1,
                   "'scratch' needs a table [model.scratch]"),
    "not ours": (["-o", "home"], None, 2, "home: exists and was not made by training"),
    "not ours, fresh": (["-o", "home", "--fresh"], None, 2, "home: exists and was not made by"),
    "a file": (["-o", "home/precious"], None, 2, "home/precious"),
    "lora": (["--set", "lora.r=4"], None, 2, "[lora] adapts a trained base"),
    "no metric": (["--set", "training.load_best_model_at_end=true", "--set",
                   "training.eval_strategy=epoch", "--set", "training.save_strategy=epoch", "--set",
                   "training.metric_for_best_model=ndcg"], None, 2, "'ndcg' is not measured: did"),
    "no verdict set": (["--verdict", "nowhere"], None, 1, "nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_line_for_whatever_is_wrong(call, file, tmp_path, name):
    arguments, recipe, code, told = WRONG[name]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious").write_text("mine")
    if recipe is not None:
        (tmp_path / "r.toml").write_text(recipe)
        file = "r.toml"
    arguments = arguments if arguments[:1] == ["missing.toml"] else [file, *arguments]
    if "--data" in arguments:
        done = SimpleNamespace(**vars(run_plain(arguments)))
        assert done.exit_code == code
        done.out, done.err = done.stdout, done.stderr
    else:
        done = call(*arguments, code=code)
    assert done.out == ""
    errors = [line for line in done.err.splitlines() if not line.startswith("note: ")]
    if code == 2 and errors[0].startswith("Usage: "):
        errors = [line for line in errors if line.startswith("Error: ")]
    (line,) = errors
    assert line.startswith("Error: ")
    assert told in line
    assert (tmp_path / "home" / "precious").read_text() == "mine"
    assert not (tmp_path / "models" / "small").exists()


def run_plain(arguments):
    result = CliRunner().invoke(cli, ["train", *map(str, arguments)])
    return SimpleNamespace(exit_code=result.exit_code, stdout=result.stdout, stderr=result.stderr)


def test_another_recipe_in_the_same_folder(call, file, tmp_path):
    call(file, "-o", "made")
    done = call(file, "-o", "made", "--set", "seed=1", code=2)
    assert "made: holds a model of another recipe" in done.err
    assert "made: 6 steps" in call(file, "-o", "made", "--set", "seed=1", "--fresh").out


def test_out_of_memory_is_one_line(call, file, monkeypatch):
    def failing(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run_module, "build_loss", failing)
    done = call(file, code=1)
    (line,) = done.err.splitlines()[-1:]
    assert line.startswith("Error: out of memory on cpu with batches of 16 texts")
    assert done.out == ""


# The verdict


@pytest.fixture(scope="module")
def judged(tmp_path_factory, root):
    """A base, and labelled queries of the same kind as the rows."""
    folder = tmp_path_factory.mktemp("judged")
    rows = easy_rows(60, seed=3)
    write_lines(
        folder / "set" / "corpus.jsonl",
        [{"_id": f"d{n}", "text": row["positive"]} for n, row in enumerate(rows)],
    )
    asked = [{"_id": f"q{n}", "text": row["anchor"]} for n, row in enumerate(rows[:40])]
    write_lines(folder / "set" / "queries.jsonl", asked)
    (folder / "set" / "qrels").mkdir()
    judgements = "".join(f"q{n}\td{n}\t1\n" for n in range(40))
    (folder / "set" / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judgements}")
    good = small_recipe(MODEL, num_train_epochs=8.0, eval_strategy="no", save_strategy="no")
    train(replace(good, evaluation=()), folder / "good", root=root, device="cpu")
    return folder


def test_a_verdict_of_worse_closes_the_gate(call, judged, tmp_path, monkeypatch):
    """A base that is good, and training that ruins it."""
    monkeypatch.setenv("SEMSEARCH_CACHE", str(judged / "cache"))
    settings = QUICK | {"learning_rate": 3.0, "max_grad_norm": 1e6}
    recipe = small_recipe(replace(MODEL, base=str(judged / "good"), scratch=None), **settings)
    (tmp_path / "ruin.toml").write_text(recipe_text(replace(recipe, evaluation=())))
    options = ["ruin.toml", "--verdict", judged / "set"]
    done = call(*options, "--gate", code=3)
    assert "WORSE" in done.out
    assert done.err.splitlines()[-1] == ("gate failed: the fine-tuned model is WORSE than its base")
    told = json.loads(call(*options, "--gate", "--json", code=3).out)
    assert told["already"] is True
    assert {row["verdict"] for row in told["verdict"]["rows"]} >= {"WORSE"}
    assert "WORSE" in call(*options).out, "without --gate it is only said"
    card = (tmp_path / "models" / "small" / "README.md").read_text()
    assert card.count("### Served Pipeline") == 1
    facts = json.loads((tmp_path / "models" / "small" / "training.json").read_text())
    assert facts["verdict"] == told["verdict"]


def test_a_base_that_cannot_be_searched_with_has_no_verdict(call, file, judged, monkeypatch):
    monkeypatch.setenv("SEMSEARCH_CACHE", str(judged / "cache"))
    refused = call(file, "--verdict", judged / "set", "--gate", "-o", "made", code=2)
    assert "--gate compares with the base, and 'scratch' cannot be" in refused.err
    done = call(file, "--verdict", judged / "set", "-o", "made")
    assert "note: no verdict: the base 'scratch' cannot be searched with" in done.err
    assert "made: 6 steps" in done.out


# A process of its own


@pytest.mark.slow
def test_nothing_but_data_is_printed_by_a_process(root, file, tmp_path):
    command = [sys.executable, "-m", "semsearch", "train", str(file), "--data", str(root)]
    done = subprocess.run(
        [*command, "--json", "-o", str(tmp_path / "made")],
        env=environment(), capture_output=True, check=False, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 6
    assert all(line.startswith("note: ") for line in done.stderr.splitlines()), done.stderr


OFFLINE = """
import socket, sys
def refuse(*arguments, **_):
    print("REACHED FOR THE NETWORK", arguments[-1], file=sys.stderr)
    raise OSError("no network")
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.gethostbyname = refuse
from semsearch.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("base", ["scratch", "folder"])
def test_nothing_reaches_for_the_network(root, file, tmp_path, base):
    """Whether a home folder, a cache and an environment forbid it or not."""
    home = tmp_path / "home"
    home.mkdir()
    chosen = "scratch" if base == "scratch" else str(models.build("bert-cls", tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "train", str(file), "--data", str(root), "--base", chosen,
         "--set", "training.batch_sampler=batch_sampler"],
        env=environment(HOME=str(home)), capture_output=True, check=False, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr
    assert all(line.startswith("note: ") for line in done.stderr.splitlines()), done.stderr
    assert not [path for path in home.rglob("*") if path.is_file()], "nothing is left at home"


@pytest.mark.slow
def test_two_processes_train_and_one_tells(root, file, tmp_path):
    base = models.build("bert-cls", tmp_path)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "semsearch", "train", str(file), "--data", str(root),
        "--base", str(base), "--device", "cpu", "--json", "--fresh",
        "--set", "training.eval_strategy=epoch", "--set", "training.save_strategy=epoch",
    ]  # fmt: skip
    env = environment(OMP_NUM_THREADS="1")
    for number in range(2):
        if number:  # there is something to throw away
            unfinished = tmp_path / "made.work"
            (unfinished / "checkpoint-2").mkdir(parents=True)
            (unfinished / "identity.json").write_text('{"identity": "another"}')
        done = subprocess.run(
            [*command, "-o", str(tmp_path / "made")],
            env=env, capture_output=True, check=False, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads(done.stdout)
        assert found["steps"] == 3, "batches of 16 on each of two"
        assert found["already"] is False
        notes = [line for line in done.stderr.splitlines() if line.startswith("note: step ")]
        assert len(notes) == len(set(notes))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("made")) == ["made"]
    assert (tmp_path / "made" / "README.md").is_file()

"""The benchmarks' driver: turns, systems that fail, and a real system among them."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import environments
from benchmarks.driver import System, fleet
from semsearch.encoders.resolve import resolve_model
from tests.fakes import make_documents, real_encoder


def fake(name, **options):
    return System(name, "tests.fake_system", "Fake", {"name": name, **options})


def turns(work: Path, systems, rounds, limit=30.0):
    log = work / "log"
    log.touch()
    with fleet(systems, lambda _: {"log": str(log)}, work, limit=limit) as running:
        found = running.turns(rounds, "timed", lambda name: {"value": len(name)})
    return found, running, log.read_text(encoding="utf-8").split()


def test_systems_take_turns_and_every_round_begins_with_another(tmp_path):
    found, running, order = turns(tmp_path, [fake("a"), fake("bb"), fake("ccc")], 3)
    assert order == ["a", "bb", "ccc", "bb", "ccc", "a", "ccc", "a", "bb"]
    assert {name: [a["twice"] for a in found[name]] for name in found} == {
        "a": [2, 2, 2],
        "bb": [4, 4, 4],
        "ccc": [6, 6, 6],
    }
    assert all(answer["load"] >= 0 for answers in found.values() for answer in answers)
    assert running.failed == {}
    assert running.reasons() == []


@pytest.mark.parametrize("at", [0, 2])
def test_a_system_that_raises_is_out_with_its_reason(tmp_path, at):
    found, running, order = turns(tmp_path, [fake("bad", fault="raise", at=at), fake("good")], 3)
    assert running.failed == {"bad": "ValueError: cannot open log"}
    assert running.reasons() == ["Not measured: bad. ValueError: cannot open log."]
    assert [answer["twice"] for answer in found["good"]] == [8, 8, 8]
    assert set(found) == {"good"}
    assert order.count("bad") == at


def test_a_system_that_dies_is_out_with_its_last_words(tmp_path):
    _, running, _ = turns(tmp_path, [fake("bad", fault="die", at=1), fake("good")], 2)
    assert running.failed == {"bad": "exited with 3: out of luck"}
    assert set(running.running) == {"good"}


def test_a_silent_system_is_out_after_the_limit(tmp_path):
    _, running, order = turns(tmp_path, [fake("bad", fault="sleep", at=1), fake("good")], 1, 3.0)
    assert running.failed == {"bad": "no answer in 3 s"}
    assert order == ["bad", "good"]


def test_no_system_reaches_the_network(tmp_path):
    _, running, _ = turns(tmp_path, [fake("bad", fault="connect", at=1)], 1)
    assert running.failed == {"bad": "OSError: a benchmark's system may not use the network"}


def test_threads_are_the_same_for_all(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found, _, _ = turns(tmp_path, [fake("a")], 1)
    assert found["a"][0]["threads"] == 3


def test_an_environment_that_is_not_there_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "_HOME", tmp_path / "none")
    elsewhere = System("far", "tests.fake_system", "Fake", {"name": "far"}, environment="peers")
    _, running, _ = turns(tmp_path, [elsewhere], 1)
    assert running.failed == {"far": "not installed: python -m benchmarks.environments peers"}


def test_every_package_of_an_environment_is_pinned():
    for name in environments.names():
        lines = (environments.REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8").split("\n")
        wanted = [line for line in lines if line and not line.startswith("#")]
        assert wanted
        assert [line for line in wanted if line.count("==") != 1] == []
        assert not [line for line in wanted if line.startswith(("torch==", "nvidia"))]


def test_our_encoder_and_its_model_alone(tmp_path):
    texts = [document.text for document in make_documents(20)]
    file, kept = tmp_path / "texts.json", tmp_path / "kept.npy"
    file.write_text(json.dumps(texts), encoding="utf-8")
    systems = [
        System("whole", "ours", "Encoder", {"precision": "float32"}),
        System("alone", "ours", "ModelAlone", {"precision": "float32"}),
    ]
    given = {"model": str(resolve_model("all-MiniLM-L6-v2", local_only=True))}
    with fleet(systems, lambda _: given, tmp_path) as running:
        asked = running.turns(2, "timed", lambda _: {"texts": str(file), "keep": str(kept)})
        facts = running.ask("whole", "facts")
    assert running.failed == {}
    assert all(answer["seconds"] > 0 for answers in asked.values() for answer in answers)
    encoded = real_encoder().encode_documents(texts)
    assert facts["lengths"] == encoded.tokens.tolist()
    assert facts["precision"] == "float32"
    assert (np.load(kept) * encoded.vectors).sum(axis=1).min() > 0.999

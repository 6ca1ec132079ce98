"""Several devices, a process each: the vectors and order of one; a dying process ends in one line.

Two CPU "devices" stand in for two GPUs: only the name of the device differs.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from semsearch.encoders.batching import batches, padded
from semsearch.encoders.folder import read_folder
from semsearch.encoders.runtimes import choose, devices
from semsearch.encoders.runtimes.contract import Streaming
from semsearch.encoders.runtimes.devices import DevicesRuntime
from semsearch.encoders.runtimes.torch import TorchRuntime
from semsearch.encoders.tokens import Tokens
from semsearch.errors import ModelError
from tests import models


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return models.build("bert-cls", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def prepared(folder):
    config = read_folder(folder)
    tokens = Tokens(config)
    rows = [row.ids for row in tokens.tokenize(models.TEXTS)]
    groups = batches([len(row) for row in rows], 100, 1)
    one = [
        padded([rows[i] for i in group], tokens.pad_id, 1, config.max_length) for group in groups
    ]
    return [batch for _ in range(3) for batch in one]


@pytest.fixture(scope="module")
def runtime(folder):
    made = DevicesRuntime(read_folder(folder), "float32", ["cpu", "cpu"], patience=0)
    yield made
    made.close()


def vectors(outputs):
    return [output.vectors for output in outputs]


def test_vectors_and_order_are_those_of_one_device(folder, prepared, runtime):
    single = TorchRuntime(read_folder(folder), "float32", "cpu")
    expected = vectors(single.stream(prepared))
    assert len(expected) > 20
    assert not np.allclose(expected[0][:1], expected[1][:1], atol=1e-3)
    for _ in range(2):  # the second stream finds the processes there
        found = vectors(runtime.stream(iter(prepared)))
        assert len(found) == len(expected)
        for ours, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, wanted, atol=1e-6)
    assert len(runtime._workers) == 2
    np.testing.assert_allclose(runtime.run(*prepared[1]).vectors, expected[1], atol=1e-6)
    assert isinstance(runtime, Streaming)


def test_a_short_job_starts_no_process(folder, prepared):
    runtime = DevicesRuntime(read_folder(folder), "float32", ["cpu", "cpu"], patience=600)
    assert len(list(runtime.stream(prepared))) == len(prepared)
    assert list(runtime.stream([])) == []
    assert runtime._workers == []
    assert 0 < runtime._patience < 600


def test_a_long_stream_moves_to_the_processes(folder, prepared, runtime):
    expected = vectors(runtime.stream(prepared))
    long = DevicesRuntime(read_folder(folder), "float32", ["cpu", "cpu"], patience=600)
    found = []
    for number, output in enumerate(long.stream(prepared)):
        found.append(output.vectors)
        if number == 5:
            assert long._workers == []
            long._patience = 0
    assert len(long._workers) == 2
    long.close()
    assert len(found) == len(expected)
    for ours, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-6)


@pytest.mark.slow
def test_a_stream_that_is_left_disturbs_no_other(prepared, runtime):
    expected = vectors(runtime.stream(prepared))
    processes = [worker._process for worker in runtime._workers]
    stream = runtime.stream(prepared)
    next(stream)
    stream.close()
    assert [process.poll() for process in processes] == [-signal.SIGKILL] * 2
    for ours, wanted in zip(vectors(runtime.stream(prepared)), expected, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-6)


def test_a_process_that_dies(prepared, runtime):
    stream = runtime.stream(prepared)
    next(stream)
    runtime._workers[1]._process.kill()
    with pytest.raises(ModelError, match=r"computes on cpu died \(exit code -9\): run again, or"):
        list(stream)
    assert runtime._workers == []


def test_what_fails_in_a_process_is_told_here(folder, prepared):
    config = read_folder(folder)
    runtime = DevicesRuntime(config, "float32", ["cpu", "cpu"], patience=0)
    runtime._devices[1] = "cuda:7"
    with pytest.raises(ModelError, match="^on cuda:7: .*cannot be loaded: "):
        list(runtime.stream(prepared))
    assert runtime._workers == []


def test_every_visible_gpu_is_used(folder, monkeypatch):
    import torch

    class Recorded:
        def __init__(self, config, precision, names):
            self.names = names

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(devices, "DevicesRuntime", Recorded)
    config = read_folder(folder)
    chosen = choose.open_runtime(config, "torch", "float32", None)("")
    assert isinstance(chosen, Recorded)
    assert chosen.names == ["cuda:0", "cuda:1", "cuda:2"]
    assert isinstance(choose.open_runtime(config, "torch", "float32", "cpu")(""), TorchRuntime)


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from semsearch.encoders.folder import read_folder
from semsearch.encoders.runtimes.contract import Batch
from semsearch.encoders.runtimes.devices import DevicesRuntime

folder = read_folder(Path(sys.argv[1]))
runtime = DevicesRuntime(folder, "float32", ["cpu", "cpu"], patience=0)
ids = np.full((4, 8), 9)

def forever():
    while True:
        yield Batch(ids, np.ones_like(ids))

for number, _ in enumerate(runtime.stream(forever())):
    if number == 20:
        print(*[worker._process.pid for worker in runtime._workers], flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_the_processes_end_with_the_one_that_started_them(folder, ending):
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parent.parent,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) == 2
        program.send_signal(ending)
        program.wait(timeout=60)
    limit = time.monotonic() + 60
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < limit, "a process outlives the one that started it"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text(encoding="ascii").rsplit(")", 1)[1][1] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False

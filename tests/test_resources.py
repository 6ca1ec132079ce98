"""Room on disks and in memory: asked for before anything is written, and never more than needed."""

import errno
import json
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from semsearch import resources, stopping
from semsearch.cli.main import cli
from semsearch.collection.layout import Layout
from semsearch.collection.writer import Writer, open_for_writing
from semsearch.encoders import Encoder, open_encoder
from semsearch.encoders import encoder as encoder_module
from semsearch.encoders.folder import read_folder
from semsearch.encoders.runtimes.contract import Output
from semsearch.encoders.runtimes.openvino import OpenVinoRuntime
from semsearch.encoders.runtimes.torch import TorchRuntime
from semsearch.errors import OutOfMemory, StorageError, UsageError
from semsearch.indexing import room, source
from semsearch.indexing.reindex import bring_up_to_date, open_new_beside, what_is_behind
from semsearch.training import watching
from tests import models
from tests.fakes import FakeEncoder, contents, dump, index_into, make_documents
from tests.training_sets import QUICK, one_thread, same, small_recipe, trained, write_easy

MB = 10**6


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made.idx"


@pytest.fixture
def disk(monkeypatch):
    """A disk with as many bytes free as ``disk.free`` says, under the floor of every day."""
    monkeypatch.delenv(resources.MIN_FREE, raising=False)
    made = SimpleNamespace(free=10**12)

    def statvfs(path):
        assert os.path.exists(path)
        # Blocks of another size than fragments, and room that only root may use.
        return SimpleNamespace(
            f_bavail=made.free // 512, f_frsize=512, f_bsize=4096, f_bfree=10**12, f_blocks=10**12
        )

    monkeypatch.setattr(os, "statvfs", statvfs)
    return made


@pytest.fixture
def memory(monkeypatch):
    """A machine with so much memory available as ``memory.available`` says."""
    monkeypatch.delenv(resources.MIN_FREE, raising=False)
    made = SimpleNamespace(available=10**12)
    monkeypatch.setattr(resources, "memory", lambda: resources.Memory(10**12, made.available, None))
    return made


@pytest.fixture
def fake_model(monkeypatch):
    encoder = FakeEncoder()
    monkeypatch.setattr("semsearch.encoders.open_encoder", lambda *_, **__: encoder)
    return encoder


def call(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def write_corpus(path, count, words=8):
    with open(path, "w") as file:
        for d in make_documents(count, words=words):
            file.write(json.dumps({"_id": d.id, "title": d.title, "text": d.text}) + "\n")
    return path


# The setting


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, 256 * MB), ("", 256 * MB), ("0", 0), ("1000", 1000), ("12B", 12), ("3kB", 3000),
        ("256MB", 256 * MB), ("1.5 GB", 1500 * MB), ("2tb", 2 * 10**12),
    ],
)  # fmt: skip
def test_how_much_is_left_free(monkeypatch, text, expected):
    monkeypatch.delenv(resources.MIN_FREE, raising=False)
    if text is not None:
        monkeypatch.setenv(resources.MIN_FREE, text)
    assert resources.min_free() == expected


@pytest.mark.parametrize("text", ["much", "-1", "1 PB", "1,5GB", "0x10", "nan", "1e9", "10%"])
def test_what_is_no_amount_is_refused(monkeypatch, text):
    monkeypatch.setenv(resources.MIN_FREE, text)
    with pytest.raises(UsageError, match=rf"SEMSEARCH_MIN_FREE={text}: an amount such as"):
        resources.min_free()


# The disk


def test_room_is_asked_above_what_is_left_free(disk, tmp_path):
    disk.free = 300 * MB
    resources.require_space(tmp_path, 43.9 * MB, "this")
    resources.require_space(tmp_path / "not" / "there", 43 * MB, "this")
    with pytest.raises(StorageError) as caught:
        resources.require_space(tmp_path, 45 * MB, "a backup")
    assert str(caught.value) == (
        f"{tmp_path}: a backup needs about 45.0 MB and leaves 256.0 MB of the disk free, but"
        " 300.0 MB are free: free some space, or lower SEMSEARCH_MIN_FREE (0: no check)"
    )


def test_a_batch_is_asked_twice_over(disk, tmp_path, monkeypatch):
    disk.free = 256 * MB
    resources.require_batch_space(tmp_path, 128 * MB)
    disk.free -= 512
    with pytest.raises(StorageError, match="256.0 MB of the disk are free") as caught:
        resources.require_batch_space(tmp_path, 1)
    assert "\n" not in str(caught.value)
    assert "lower SEMSEARCH_MIN_FREE (now 256.0 MB; 0: no check)" in str(caught.value)
    disk.free = 300 * MB
    with pytest.raises(StorageError):
        resources.require_batch_space(tmp_path, 151 * MB)
    monkeypatch.setenv(resources.MIN_FREE, "1 GB")
    with pytest.raises(StorageError):
        resources.require_batch_space(tmp_path, 1)
    monkeypatch.setenv(resources.MIN_FREE, "0")
    resources.require_batch_space(tmp_path, 10**15)
    resources.require_space(tmp_path, 10**15, "this")


def test_a_disk_that_says_nothing_is_not_asked(monkeypatch, tmp_path):
    monkeypatch.delenv(resources.MIN_FREE, raising=False)

    def refuse(_):
        raise OSError(errno.ENOSYS, "no such call")

    for answer in (refuse, lambda _: SimpleNamespace(f_bavail=0, f_frsize=512, f_blocks=0)):
        monkeypatch.setattr(os, "statvfs", answer)
        assert resources.free_bytes(tmp_path) is None
        resources.require_space(tmp_path, 10**15, "this")
        resources.require_batch_space(tmp_path, 10**15)


def test_the_real_disk_has_some_room(tmp_path):
    stat = os.statvfs(tmp_path)
    found = resources.free_bytes(tmp_path)
    assert found is not None
    assert abs(found - stat.f_bavail * stat.f_frsize) < 10**9


# Memory


def control_group(folder, limit, used, inactive):
    folder.mkdir()
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\nactive_file 7\n")
    return folder


@pytest.fixture
def meminfo(tmp_path, monkeypatch):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:  8000000 kB\nMemFree: 1 kB\nMemAvailable: 3000000 kB\nHuge: 4\n")
    monkeypatch.setattr(resources, "_MEMINFO", path)
    return path


@pytest.mark.parametrize(
    ("limit", "used", "inactive", "expected"),
    [
        ("max", 0, 0, (8_192_000_000, 3_072_000_000, None)),
        (10**18 * 4, 0, 0, (8_192_000_000, 3_072_000_000, None)),
        (2 * 10**9, 10**9, 3 * 10**8, (8_192_000_000, 1_300_000_000, 2 * 10**9)),
        (5 * 10**9, 10**9, 0, (8_192_000_000, 3_072_000_000, 5 * 10**9)),
        (10**9, 2 * 10**9, 0, (8_192_000_000, 0, 10**9)),
    ],
)
def test_memory_is_what_a_container_may_have(
    tmp_path, monkeypatch, meminfo, limit, used, inactive, expected
):
    group = control_group(tmp_path / "group", limit, used, inactive)
    monkeypatch.setattr(resources, "_CGROUP", group)
    assert resources.memory() == expected


def test_memory_where_the_system_tells_little(tmp_path, monkeypatch):
    monkeypatch.delenv(resources.MIN_FREE, raising=False)
    monkeypatch.setattr(resources, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(resources, "_CGROUP", tmp_path / "none")
    total, available, limit = resources.memory()
    assert total == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert available is limit is None
    resources.require_memory(10**15, "this")


def test_too_little_memory_is_one_line(memory, monkeypatch):
    memory.available = 100 * MB
    resources.require_memory(100 * MB, "my-model")
    with pytest.raises(OutOfMemory) as caught:
        resources.require_memory(101 * MB, "my-model")
    assert str(caught.value) == (
        "my-model needs about 101.0 MB of memory, and 100.0 MB are available: end other programs"
        " or use a smaller model (SEMSEARCH_MIN_FREE=0: no check)"
    )
    monkeypatch.setenv(resources.MIN_FREE, "0")
    resources.require_memory(10**15, "my-model")


# Before a run


def test_a_corpus_that_cannot_fit_is_refused_before_anything_is_read(
    disk, folder, tmp_path, fake_model
):
    corpus = write_corpus(tmp_path / "corpus.jsonl", 3000)
    disk.free = 256 * MB + MB // 2
    result = call("index", corpus, "-i", folder)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {folder}: this corpus needs about ")
    assert result.stderr.count("\n") == 1
    assert fake_model.documents == []
    assert contents(folder) == {}
    disk.free = 256 * MB + 20 * MB
    assert call("index", corpus, "-i", folder).exit_code == 0
    # what is in the index already needs no room again
    disk.free = 256 * MB + 1000
    assert call("index", corpus, "-i", folder).exit_code == 0


def test_what_a_run_needs_is_on_the_low_side(folder, tmp_path):
    documents = make_documents(3000, words=60)
    corpus = write_corpus(tmp_path / "corpus.jsonl", 3000, words=60)
    index_into(folder, FakeEncoder(), documents)
    taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    files = list(room._files(corpus))
    assert room._lines(*files[0]) == 3000
    amount = room.Amount(files[0][1] // 2, 3000, 3000)
    reckoned = room.bytes_on_disk(amount, 32, 4)
    assert 0.3 * taken < reckoned < taken


@pytest.mark.parametrize("name", ["corpus.csv", "corpus.jsonl"])
def test_the_documents_of_a_file_are_reckoned_from_its_beginning(tmp_path, name, monkeypatch):
    monkeypatch.setattr(room, "_LOOKED_AT", 1000)
    path = tmp_path / name
    path.write_bytes(b"123456789\n" * 5000)
    assert room._lines(path, path.stat().st_size) == 5000
    path.write_bytes(b"")
    assert room._lines(path, 0) == 1


def test_a_folder_counts_its_texts_and_no_link_out_of_it(tmp_path):
    (tmp_path / "notes" / "below").mkdir(parents=True)
    (tmp_path / "notes" / "a.md").write_text("a" * 10)
    (tmp_path / "notes" / "below" / "b.txt").write_text("b" * 20)
    (tmp_path / "notes" / "c.png").write_bytes(b"c" * 40)
    (tmp_path / "large.txt").write_text("x" * 1000)
    (tmp_path / "notes" / "link.txt").symlink_to(tmp_path / "large.txt")
    assert sorted(size for _, size in room._files(tmp_path / "notes")) == [10, 20]
    assert list(room._files(tmp_path / "-")) == []


def test_a_model_that_cannot_fit_is_refused(memory, folder, tmp_path, fake_model):
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(1000))
    fake_model.config.weights = (weights,)
    corpus = write_corpus(tmp_path / "corpus.jsonl", 3)
    memory.available = 100 * MB
    result = call("index", corpus, "-i", folder)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: fake needs about 100.0 MB of memory")
    memory.available += 1000
    assert call("index", corpus, "-i", folder).exit_code == 0


def test_compacting_asks_for_room_beside_what_is_there(disk, memory, folder):
    index_into(folder, FakeEncoder(), make_documents(500))
    before = dump(folder)
    catalog = (folder / "catalog.db").stat().st_size
    disk.free = 256 * MB + catalog // 2
    result = call("compact", "-i", folder)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "compacting needs about" in result.stderr
    disk.free, memory.available = 10**12, catalog - 1
    assert "of memory" in call("compact", "-i", folder).stderr
    assert dump(folder) == before
    memory.available = catalog
    assert call("compact", "-i", folder).exit_code == 0


def test_a_second_index_asks_for_room_beside_the_first(disk, folder):
    index_into(folder, FakeEncoder(), make_documents(100))
    new: Any = FakeEncoder(48, "new")
    with open_for_writing(Layout(folder)) as live, open_new_beside(live, new) as beside:
        disk.free = 256 * MB + 1000
        with pytest.raises(StorageError, match="beside: an index by new needs about"):
            bring_up_to_date(live, beside, what_is_behind(live, beside), lambda: new)
    assert new.documents == []
    disk.free = 10**12
    with open_for_writing(Layout(folder)) as live, open_new_beside(live, new) as beside:
        bring_up_to_date(live, beside, what_is_behind(live, beside), lambda: new)
    assert len(new.documents) == 100


# While a run goes on


def test_a_batch_below_the_floor_is_not_begun_and_the_last_generation_stays(
    disk, folder, monkeypatch
):
    monkeypatch.setattr(source, "WINDOW_DOCUMENTS", 20)
    documents = make_documents(100)
    commit, committed = Writer.commit, []

    def watched(self, changes):
        committed.append(commit(self, changes))
        if len(committed) == 2:
            disk.free = 256 * MB - 1  # somebody else fills it
        return committed[-1]

    monkeypatch.setattr(Writer, "commit", watched)
    with pytest.raises(StorageError, match="nothing of this one was; free some space"):
        index_into(folder, FakeEncoder(), documents)
    assert len(committed) == 2
    assert list(contents(folder)) == [d.id for d in documents[:40]]
    assert not list(folder.rglob(".tmp-*"))
    disk.free = 10**12
    index_into(folder, FakeEncoder(), documents)
    whole = folder.with_name("whole.idx")
    index_into(whole, FakeEncoder(), documents)
    assert dump(folder) == dump(whole)


def test_what_changes_nothing_needs_no_room(disk, folder):
    documents = make_documents(30)
    index_into(folder, FakeEncoder(), documents)
    disk.free = 0
    assert index_into(folder, FakeEncoder(), documents).unchanged == 30


def test_a_large_batch_asks_for_twice_its_size(disk, folder):
    disk.free = 300 * MB
    large = make_documents(2)
    index_into(folder, FakeEncoder(), large)
    with open_for_writing(Layout(folder)) as writer:
        huge: list[Any] = [SimpleNamespace(title="", text="x" * (151 * MB), metadata={})]
        with pytest.raises(StorageError, match="a batch is written above 402"):
            room.require_room_for_batch(writer, huge, 1)


def test_the_tokenizer_does_not_run_away_from_the_model(tmp_path, monkeypatch):
    """However slow the device, only a few windows of texts wait for it."""
    folder = models.build("bert-cls", tmp_path)
    config = read_folder(folder)
    monkeypatch.setattr(encoder_module, "_WINDOW", 8)
    ahead = []

    class Slow:
        name, precision, workers, budget, multiple = "torch", "float32", 1, 10**6, 1
        batches = 0

        def run(self, ids, mask, keep=None, *, prompt_length=0, many=False):
            Slow.batches += 1
            ahead.append(tokenized[0] - Slow.batches)
            return Output(np.ones((len(ids), config.dim), np.float32))

    encoder = Encoder("slow", config, lambda _: Slow())
    tokenize, tokenized = encoder.tokens.tokenize, [0]

    def counted(texts):
        tokenized[0] += 1
        return tokenize(texts)

    monkeypatch.setattr(encoder.tokens, "tokenize", counted)
    encoder.encode_documents([f"text {n}" for n in range(8 * 40)])
    assert len(ahead) == 40
    assert max(ahead) <= encoder_module._AHEAD


# A batch that does not fit


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return models.build("bert-cls", tmp_path_factory.mktemp("small"))


TEXTS = [f"{n} sentence of a growing length " * (n % 7 + 1) for n in range(40)]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc")])
def test_openvino_without_memory_gets_halves(small, monkeypatch, error):
    roomy = open_encoder(small, runtime="openvino", precision="float32")
    expected = roomy.encode_documents(TEXTS).vectors
    request = OpenVinoRuntime._request
    sizes: list[int] = []

    def tight(self, *, many):
        real = request(self, many=many)

        def infer(inputs, **options):
            if len(inputs["input_ids"]) > 3:
                raise error
            sizes.append(len(inputs["input_ids"]))
            return real.infer(inputs, **options)

        return SimpleNamespace(infer=infer, get_output_tensor=real.get_output_tensor)

    monkeypatch.setattr(OpenVinoRuntime, "_request", tight)
    found = roomy.encode_documents(TEXTS).vectors
    assert max(sizes) <= 3
    assert sum(sizes) == len(set(TEXTS))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_torch_without_memory_gets_halves(small, monkeypatch):
    encoder = open_encoder(small, runtime="torch", precision="float32")
    expected = encoder.encode_documents(TEXTS).vectors
    computed = TorchRuntime._computed
    sizes: list[int] = []

    def tight(self, features, kept=None):
        size = len(features["input_ids"])
        if size > 3:
            raise MemoryError
        sizes.append(size)
        return computed(self, features, kept)

    monkeypatch.setattr(TorchRuntime, "_computed", tight)
    found = encoder.encode_documents(TEXTS).vectors
    assert max(sizes) <= 3
    assert sum(sizes) == len(set(TEXTS))
    np.testing.assert_allclose(found, expected, atol=1e-5)


# Training


def test_training_asks_for_room_first(disk, memory, tmp_path):
    root = write_easy(tmp_path / "rows", train=32)
    output = tmp_path / "made"
    with one_thread():
        disk.free = 256 * MB + 1000
        with pytest.raises(StorageError, match=r"made\.work: training needs about"):
            trained(small_recipe(**QUICK), root, output)
        disk.free, memory.available = 10**12, 1000
        with pytest.raises(OutOfMemory, match="training needs about"):
            trained(small_recipe(**QUICK), root, output)
        assert not output.exists()
        assert not output.with_name("made.work").exists()
        memory.available = 10**12
        trained(small_recipe(**QUICK), root, output)
    assert output.is_dir()


class SignalAt(watching.NoWatch):
    """A signal that comes in the middle of a step."""

    def __init__(self, at):
        self.at, self.steps = at, []

    def step(self, done, total):
        self.steps.append(done)
        if done == self.at:
            stopping._heed(15, None)


def test_a_signal_makes_training_stop_at_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping._State, "asked", None)
    root = write_easy(tmp_path / "rows")
    recipe = small_recipe(num_train_epochs=2.0)
    with one_thread():
        trained(recipe, root, tmp_path / "whole")
        watch = SignalAt(4)
        with pytest.raises(stopping.Interrupted) as caught:
            trained(recipe, root, tmp_path / "made", watch=watch)
        assert (caught.value.code, watch.steps) == (143, [1, 2, 3, 4])
        assert not (tmp_path / "made").exists()
        assert (tmp_path / "made.work" / "checkpoint-4").is_dir()
        stopping._State.asked = None
        watch = SignalAt(0)
        trained(recipe, root, tmp_path / "made", watch=watch)
    assert watch.steps[0] == 5
    assert same(tmp_path / "made", tmp_path / "whole"), "it ends as if it had not been stopped"

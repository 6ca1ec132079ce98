"""What a GPU gives: documents a second, the share of time it is busy, and searches.

``python -m benchmarks gpu --full`` on a machine with an NVIDIA GPU measures everything; elsewhere
it says in one line that nothing was measured. Ours and ``SentenceTransformer.encode`` in fp16, at
the best of its batch sizes, take turns in one process on the same device and texts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import gpu_search
from benchmarks.results import Goal, Result, Row, Spread
from benchmarks.setting import MODEL, Setting
from benchmarks.texts import checksum, warn
from semsearch.corpus import read_corpus
from semsearch.encoders.batching import batches, padded
from semsearch.encoders.encoder import Encoder
from semsearch.encoders.folder import read_folder
from semsearch.encoders.resolve import resolve_model
from semsearch.encoders.runtimes.torch import TorchRuntime
from semsearch.errors import SemsearchError

if TYPE_CHECKING:
    from semsearch.types import Floats

NOT_MEASURED = "Not measured: there is no CUDA device on this machine."
GOALS = {"MiniLM": 3.0, "large": 1.5}
BUSY = 0.9
_ROUNDS = 3


@dataclass(frozen=True)
class Shape:
    """The size of a BERT made on the spot; width 64 an attention head, 4 times as wide inside."""

    layers: int
    width: int
    longest: int = 512


@dataclass(frozen=True)
class Sizes:
    """How much is measured. ``texts`` by the name of the model."""

    precision: str
    texts: dict[str, int]
    large: Shape
    batch_sizes: Sequence[int]
    rows: Sequence[int]
    queries: int
    compiled: bool


FULL = Sizes(
    "fp16", {"MiniLM": 30_000, "large": 8_000}, Shape(24, 1024), (32, 64, 128, 256, 512, 1024),
    (1_000_000, 4_000_000), 1_000, True,
)  # fmt: skip
SMALL = Sizes(
    "fp16", {"MiniLM": 8_000, "large": 2_000}, Shape(24, 1024), (32, 128, 512), (1_000_000,), 200,
    False,
)  # fmt: skip


def run(setting: Setting) -> Result:
    import torch

    if not torch.cuda.is_available():
        warn(NOT_MEASURED)
        return Result(title="On a GPU", dataset={}, notes=[NOT_MEASURED])
    return measure(setting, "cuda", FULL if setting.full else SMALL)


def measure(setting: Setting, device: str, sizes: Sizes) -> Result:
    """Everything, on ``device``: ``cpu`` exercises the code, its figures mean nothing."""
    dataset = setting.main_dataset()
    documents = [document.content for document in read_corpus(dataset / "corpus.jsonl")]
    result = Result(
        title="On a GPU",
        dataset={"name": dataset.name, "documents": len(documents), "sha256": checksum(documents)},
        notes=[_device_name(device)],
    )
    for name, count in sizes.texts.items():
        # Repeated texts would be encoded once: a number makes each its own.
        texts = [f"{n} {text}" for n, text in enumerate(islice(cycle(documents), count))]
        folder = _folder(name, setting.work, sizes.large, documents, result.notes)
        _Encoding(setting, result, name, folder, device, sizes).measure(texts)
    gpu_search.measure(setting, result, device, sizes.rows, sizes.queries)
    return result


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else f"Exercised on {device}."


def _folder(name: str, work: Path, large: Shape, documents: list[str], notes: list[str]) -> Path:
    if name == "MiniLM":
        try:
            return resolve_model(MODEL, local_only=True)
        except SemsearchError as exc:
            notes.append(f"MiniLM is one of its size, weights random: {exc}")
            return make_model(work / name, Shape(6, 384, 256), documents)
    return make_model(work / name, large, documents)


def make_model(folder: Path, shape: Shape, documents: Sequence[str]) -> Path:
    """A BERT of random weights with a vocabulary of the documents' own, mean pooling."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    if (folder / "modules.json").is_file():
        return folder
    torch.manual_seed(7)
    words = BertWordPieceTokenizer()
    words.train_from_iterator(documents[:5_000], vocab_size=30_000, show_progress=False)
    base = folder.with_name(f"{folder.name}-base")
    base.mkdir(parents=True, exist_ok=True)
    words.save_model(str(base))
    tokenizer = BertTokenizerFast(vocab=str(base / "vocab.txt"))
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=shape.width, num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // 64, intermediate_size=4 * shape.width,
    )  # fmt: skip
    BertModel(config).save_pretrained(str(base))
    tokenizer.save_pretrained(str(base))
    transformer = Transformer(str(base), max_seq_length=shape.longest)
    model = SentenceTransformer(modules=[transformer, Pooling(shape.width)], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


@dataclass
class _Encoding:
    """One model's part of the benchmark."""

    setting: Setting
    result: Result
    name: str
    folder: Path
    device: str
    sizes: Sizes
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, texts: list[str]) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        dtype = {"fp16": torch.float16, "float32": torch.float32}[self.sizes.precision]
        peer = SentenceTransformer(
            str(self.folder), device=self.device, local_files_only=True,
            model_kwargs={"dtype": dtype},
        )  # fmt: skip
        config = read_folder(self.folder)
        runtimes = {
            "semsearch": self._runtime(config, packed=True),
            "semsearch, padded": self._runtime(config, packed=False),
        }
        encoders = {
            system: Encoder(self.name, config, lambda _, runtime=runtime: runtime)
            for system, runtime in runtimes.items()
        }
        best = self._best_batch(peer, texts)
        theirs = f"SentenceTransformer.encode, batches of {best}"
        systems: dict[str, Callable[[], Any]] = {
            theirs: lambda: peer.encode(texts, batch_size=best, show_progress_bar=False),
            **{
                system: lambda encoder=encoder: encoder.encode_documents(texts).vectors
                for system, encoder in encoders.items()
            },
            "semsearch's model alone": self._model_alone(encoders["semsearch"], texts),
            "semsearch's tokenizer alone": lambda: encoders["semsearch"].tokens.tokenize(texts),
        }
        found = {system: call() for system, call in systems.items()}  # warmed up
        for number in range(1, _ROUNDS + 1):
            self.setting.note(f"{self.name}: round {number} of {_ROUNDS}")
            for system, call in systems.items():
                self.seconds.setdefault(system, []).append(self._timed(call))
        self._report(theirs, len(texts), _lowest_cosine(found["semsearch"], found[theirs]))
        self._report_busy(lambda: encoders["semsearch"].encode_documents(texts[: len(texts) // 2]))
        if not runtimes["semsearch"].packs:
            self.result.notes.append(f"{self.name}: THE MODEL WAS NOT PACKED")
        if self.sizes.compiled:
            self._report_compiled(runtimes["semsearch"], systems["semsearch"], len(texts))

    def _runtime(self, config: Any, *, packed: bool) -> TorchRuntime:
        return TorchRuntime(config, self.sizes.precision, self.device, packed=packed)

    def _best_batch(self, peer: Any, texts: list[str]) -> int:
        tried = {}
        for size in self.sizes.batch_sizes:
            self.setting.note(f"{self.name}: SentenceTransformer.encode, batches of {size}")
            peer.encode(texts[:size], batch_size=size, show_progress_bar=False)
            tried[size] = self._timed(
                lambda size=size: peer.encode(texts, batch_size=size, show_progress_bar=False)
            )
        self.result.raw[f"{self.name}, batch sizes"] = tried
        return min(tried, key=lambda size: tried[size])

    def _model_alone(self, encoder: Encoder, texts: list[str]) -> Callable[[], Any]:
        """The same batches as the encoder's, made beforehand."""
        runtime = encoder._running()
        assert isinstance(runtime, TorchRuntime)
        made = []
        for start in range(0, len(texts), 2_048):
            rows = [row.ids for row in encoder.tokens.tokenize(texts[start : start + 2_048])]
            for group in batches([len(row) for row in rows], runtime.budget, runtime.multiple):
                some = [rows[i] for i in group]
                made.append(padded(some, encoder.tokens.pad_id, runtime.multiple, 10**6))
        return lambda: list(runtime.stream(made))

    def _timed(self, call: Callable[[], Any]) -> float:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    def _report(self, theirs: str, count: int, lowest: float) -> None:
        for system, seconds in self.seconds.items():
            pairs = zip(self.seconds[theirs], seconds, strict=True)
            ratio = str(Spread.of([a / b for a, b in pairs])) if system != theirs else "1"
            rate = str(Spread.of([count / one for one in seconds]))
            row: Row = {"model": self.name, "what": system, "documents/s": rate, "ratio": ratio}
            self.result.rows.append(row)
        pairs = zip(self.seconds[theirs], self.seconds["semsearch"], strict=True)
        ratio = Spread.of([a / b for a, b in pairs]).median
        wanted = GOALS[self.name]
        what = f"{self.name}: documents/s, times SentenceTransformer.encode at its best"
        self.result.goals.append(Goal(what, f">= {wanted}", ratio, ratio >= wanted))
        what = f"{self.name}: lowest cosine between its vectors and ours"
        self.result.goals.append(Goal(what, ">= 0.999", lowest, lowest >= 0.999))
        self.result.raw[self.name] = self.seconds

    def _report_busy(self, call: Callable[[], Any]) -> None:
        share = busy_share(call, self.device)
        what = f"{self.name}: share of the time the device is busy"
        if self.name == "large":
            self.result.goals.append(Goal(what, f">= {BUSY}", share, share >= BUSY))
        else:
            self.result.notes.append(f"{what}: {share:.2f}.")

    def _report_compiled(self, runtime: TorchRuntime, call: Callable[[], Any], count: int) -> None:
        """What ``torch.compile`` would bring: not in the product, here to be judged."""
        try:
            runtime._model[0].auto_model.compile(dynamic=True)
            first = self._timed(call)
            seconds = [self._timed(call) for _ in range(_ROUNDS)]
        except Exception as exc:  # many kinds: a compiler may be missing
            reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
            self.result.notes.append(f"{self.name}: torch.compile failed: {reason}")
            return
        rate = Spread.of([count / one for one in seconds])
        self.result.notes.append(
            f"{self.name}: with torch.compile {rate} documents/s, after {first:.0f} s for the first"
            " run."
        )


def busy_share(call: Callable[[], Any], device: str) -> float:
    """The part of the time from first to last in which the device ran a kernel (the profiler's)."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    on_cuda = device == "cuda"
    activity = ProfilerActivity.CUDA if on_cuda else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiled:
        call()
    wanted = DeviceType.CUDA if on_cuda else DeviceType.CPU
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiled.events()
        if event.device_type == wanted
    )
    busy, until = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy / (until - spans[0][0])


def _lowest_cosine(ours: Floats, theirs: Any) -> float:
    rows = np.asarray(theirs, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return float((ours * rows).sum(axis=1).min())

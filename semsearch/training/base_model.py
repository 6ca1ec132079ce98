"""What training starts from: a model that is there, or one made anew, as a chain of modules."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsearch.encoders.folder import read_folder
from semsearch.encoders.readjson import read_object
from semsearch.encoders.refuse import refuse_code_in, weight_files
from semsearch.encoders.resolve import resolve_base
from semsearch.encoders.runtimes.torch import quiet
from semsearch.errors import ModelError, UsageError
from semsearch.training.recipe import SCRATCH, Model
from semsearch.training.rows import Rows
from semsearch.training.scratch import build_scratch
from semsearch.vectors import fit_rotation

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer
    from torch import nn

log = logging.getLogger("semsearch")

_LENGTH = 128
"""Tokens that a model made anew reads where the recipe does not say."""

_TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model")
"""Files of which one holds the tokens; without any the library makes up an empty tokenizer."""

_ROTATION_TEXTS = 10_000
_BLOCK = 512


def open_base(
    model: Model, rows: Sequence[Rows], seed: int, device: str | None
) -> SentenceTransformer:
    """The model that the recipe starts from, on ``device`` (None: the best there is).

    Only safetensors are read and no code of a model folder runs. Raises NotFound, ModelError (a
    folder that cannot be used), UsageError (a length or layer that it cannot have).
    """
    import torch

    check_device(device)
    with quiet():
        torch.manual_seed(seed)
        if model.base == SCRATCH:
            found = _from_scratch(model, rows, device)
        else:
            found = _from_folder(model, resolve_base(model.base), device)
        if model.max_length:
            _set_length(found, model.max_length)
        return _rotated(found, rows) if model.rotate else found


def check_device(device: str | None) -> None:
    """Raise UsageError for a device that torch does not know, or that is not there."""
    import torch

    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as exc:
        raise UsageError(f"{device!r} is no device of this machine (cpu, cuda, cuda:1 ..)") from exc


def base_folder(model: Model) -> Path | None:
    """The folder of the base if it is a sentence-transformers model, which can be searched with."""
    if model.base == SCRATCH:
        return None
    folder = resolve_base(model.base)
    return folder if (folder / "modules.json").is_file() else None


def _from_folder(model: Model, folder: Path, device: str | None) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    if not (folder / "modules.json").is_file():
        read_object(folder / "config.json")
        refuse_code_in([folder])
        weight_files(folder)
        _require_tokenizer(folder)
        return _chained(model, folder, device)
    read_folder(folder)
    _require_tokenizer(folder)
    with _loading(folder):
        found = SentenceTransformer(str(folder), device=device, local_files_only=True)
    if model.dense or model.normalize:
        chain = " -> ".join(type(module).__name__ for module in found)
        log.warning("%s has modules of its own, which are kept: %s", model.base, chain)
    return found


def _require_tokenizer(folder: Path) -> None:
    homes = (folder, *(path for path in folder.iterdir() if path.is_dir()))
    if not any(next(home.glob(name), None) for home in homes for name in _TOKENIZERS):
        raise ModelError(f"{folder / _TOKENIZERS[0]}: missing; the model folder is incomplete")


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """Raise ModelError for whatever the library finds wrong with the files of a base."""
    try:
        yield
    except Exception as exc:  # many kinds, from the library and from what it builds on
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise ModelError(f"{folder}: cannot be loaded to be trained: {reason}") from exc


def _from_scratch(model: Model, rows: Sequence[Rows], device: str | None) -> SentenceTransformer:
    if model.scratch is None:
        raise UsageError("model.base = 'scratch' needs a table [model.scratch]")
    with tempfile.TemporaryDirectory() as folder:
        texts = (text for source in rows for row in source.texts for text in row)
        build_scratch(model.scratch, texts, model.max_length or _LENGTH, Path(folder))
        return _chained(model, Path(folder), device)


def _chained(model: Model, folder: Path, device: str | None) -> SentenceTransformer:
    """A plain transformer with the modules that the recipe names behind it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from torch import nn

    length = {"max_seq_length": model.max_length} if model.max_length else {}
    with _loading(folder):
        transformer = Transformer(str(folder), **length)
    width = transformer.get_embedding_dimension()
    chain: list[nn.Module] = [transformer, Pooling(width, pooling_mode=model.pooling)]
    if model.dense:
        chain.append(Dense(width, model.dense, activation_function=nn.Identity()))
    if model.normalize:
        chain.append(Normalize())
    return SentenceTransformer(modules=chain, device=device, similarity_fn_name="cosine")


def _set_length(found: SentenceTransformer, length: int) -> None:
    """Cut at so many tokens. Raises UsageError where the transformer has fewer positions."""
    transformer = found[0].auto_model
    positions = getattr(transformer.config, "max_position_embeddings", None)
    absolute = getattr(transformer.config, "position_biased_input", True)
    table = getattr(getattr(transformer, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    if positions and padding is not None:  # XLM-R and MPNet count from behind that of padding
        positions -= padding + 1
    if positions and absolute and length > positions:
        raise UsageError(f"model.max_length = {length}: the model has {positions} positions")
    found.max_seq_length = length


def _rotated(found: SentenceTransformer, rows: Sequence[Rows]) -> SentenceTransformer:
    """The model with a layer that turns its vectors onto the principal axes of the texts.

    It is orthogonal, so whole vectors compare as before; it stands before ``Normalize``.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize

    width = found.get_embedding_dimension()
    matrix = fit_rotation(_vectors(found, _documents(rows)), width)
    weight = torch.from_numpy(matrix.T.copy())
    turn = Dense(
        width, width, bias=False, activation_function=torch.nn.Identity(), init_weight=weight
    )
    chain = list(found)
    last = len(chain) - 1 if isinstance(chain[-1], Normalize) else len(chain)
    return SentenceTransformer(
        modules=[*chain[:last], turn, *chain[last:]],
        device=str(found.device),
        prompts=found.prompts,
        default_prompt_name=found.default_prompt_name,
        similarity_fn_name=found.similarity_fn_name,
    )


def _documents(rows: Sequence[Rows]) -> list[str]:
    """Texts that are not anchors, each once, a bounded number of them."""
    texts = dict.fromkeys(text for source in rows for row in source.texts for text in row[1:])
    step = max(1, len(texts) // _ROTATION_TEXTS)
    return list(texts)[::step][:_ROTATION_TEXTS]


def _vectors(found: SentenceTransformer, texts: Sequence[str]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(texts), _BLOCK):
        some = list(texts[start : start + _BLOCK])
        yield found.encode_document(some, normalize_embeddings=True, show_progress_bar=False)

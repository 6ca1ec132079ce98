"""A sentence-transformers model folder, old or new generation, read into one frozen record.

The reading rules are those of sentence-transformers 6: ``modules.json`` names the chain, each
module's folder holds its settings, ``config_sentence_transformers.json`` the prompts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semsearch.encoders.readjson import read_json, read_object
from semsearch.encoders.refuse import (
    CROSS_ENCODER,
    check_activation,
    module_kind,
    refuse_code,
    refuse_code_in,
    refuse_settings,
    subfolder,
    weight_files,
)
from semsearch.errors import ModelError

_TRANSFORMER_SETTINGS = [
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SUPPORTED = ("Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")
_MATRYOSHKA = re.compile(r'"?matryoshka_dim(?:ension)?s"?\s*:\s*\[([\d,\s]+)\]')
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "longformer")
_ABSOLUTE_POSITIONS = ("bert", "distilbert", "electra", "albert", "ernie", *_OFFSET_POSITIONS)


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the chain: its kind (``Pooling``), folder and settings."""

    kind: str
    folder: Path
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a model folder says about itself.

    ``max_length`` counts tokens, special ones included; ``query_prompt`` and ``document_prompt``
    are put before each text; ``dim`` is the width of the vectors, ``token_dim`` of the tokens';
    ``weights`` are the safetensors files of the whole chain; ``matryoshka_dims`` the declared
    widths, widest first, or empty.
    """

    folder: Path
    modules: tuple[Module, ...]
    transformer: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    max_length: int
    lower_case: bool
    include_prompt: bool
    dim: int
    token_dim: int
    truncate_dim: int | None
    prompts: Mapping[str, str]
    query_prompt: str
    document_prompt: str
    matryoshka_dims: tuple[int, ...]
    weights: tuple[Path, ...]

    @property
    def token_folder(self) -> Path:
        """The folder with the tokenizer's files."""
        return self.modules[0].folder


def read_folder(folder: Path) -> ModelConfig:
    """Read and check a model folder. Raises ModelError in one line that names the file at fault."""
    modules = _modules(folder)
    first = modules[0].folder
    config_file = first / "config.json"
    transformer = read_object(config_file)
    tokenizer = read_object(first / "tokenizer_config.json", optional=True)
    refuse_code_in([folder, *(module.folder for module in modules)])
    shared_file = folder / "config_sentence_transformers.json"
    shared = read_object(shared_file, optional=True)
    _check_similarity(shared, shared_file)
    prompts = _prompts(shared, shared_file)
    width = _width(modules, transformer, folder)
    cut = shared.get("truncate_dim")
    dim = min(width, cut) if isinstance(cut, int) and cut > 0 else width
    return ModelConfig(
        folder=folder,
        modules=modules,
        transformer=transformer,
        tokenizer=tokenizer,
        max_length=longest_input(modules[0].settings, tokenizer, transformer, first),
        lower_case=bool(modules[0].settings.get("do_lower_case", False)),
        include_prompt=all(m.settings.get("include_prompt", True) for m in modules),
        dim=dim,
        token_dim=_token_width(modules),
        truncate_dim=dim if dim < width else None,
        prompts=prompts,
        query_prompt=prompts.get("query", ""),
        document_prompt=_document_prompt(prompts),
        matryoshka_dims=_matryoshka(folder, shared, transformer, dim),
        weights=_weights(modules),
    )


def _modules(folder: Path) -> tuple[Module, ...]:
    path = folder / "modules.json"
    if not path.is_file():
        names = read_object(folder / "config.json", optional=True).get("architectures") or ()
        if any(str(name).endswith("ForSequenceClassification") for name in names):
            raise ModelError(f"{folder}: {CROSS_ENCODER}")
        raise ModelError(
            f"{folder}: not a sentence-transformers model folder (modules.json is missing)"
        )
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise ModelError(f"{path}: an array of modules is expected")
    modules = tuple(read_module(folder, entry, path) for entry in entries)
    kinds = [module.kind for module in modules]
    for kind in kinds:
        if kind not in _SUPPORTED:
            raise ModelError(
                f"{path}: module {kind} is not supported ({', '.join(_SUPPORTED)} are)"
            )
    if kinds[:1] != ["Transformer"] or kinds.count("Transformer") != 1 or "Pooling" not in kinds:
        raise ModelError(f"{path}: a Transformer, then a Pooling module are expected: {kinds}")
    return modules


def read_module(folder: Path, entry: object, path: Path, *, pairs: bool = False) -> Module:
    """One entry of ``modules.json``, with its settings; ``pairs`` in a cross-encoder's.

    Raises ModelError.
    """
    if not isinstance(entry, dict):
        raise ModelError(f"{path}: a module is not an object")
    kind = module_kind(entry.get("type"), path)
    home = subfolder(folder, entry.get("path"), path)
    names = _TRANSFORMER_SETTINGS if kind == "Transformer" else ["config.json"]
    file = next((home / name for name in names if (home / name).is_file()), home / names[0])
    settings = read_object(file, optional=kind in ("Transformer", "Normalize"))
    refuse_code(settings, file)
    if kind == "Transformer":
        refuse_settings(settings, file, pairs=pairs)
    if kind == "Dense":
        check_activation(settings, file)
    if kind == "Pooling":
        settings = _pooling(settings, file)
    return Module(kind, home, settings)


def _pooling(settings: dict[str, Any], file: Path) -> dict[str, Any]:
    """One form for both generations: ``pooling_mode`` as a list, ``embedding_dimension``."""
    modes = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _POOLING.items() if settings.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else list(modes)
    width = settings.get("embedding_dimension", settings.get("word_embedding_dimension"))
    if not isinstance(width, int) or not set(modes) <= set(_POOLING.values()):
        raise ModelError(f"{file}: unknown pooling {modes} over {width!r} dimensions")
    include = bool(settings.get("include_prompt", True))
    return {"pooling_mode": modes, "embedding_dimension": width, "include_prompt": include}


def _check_similarity(shared: Mapping[str, Any], path: Path) -> None:
    name = shared.get("similarity_fn_name") or "cosine"
    if name != "cosine":
        raise ModelError(f"{path}: this model compares by {name!r}; only cosine is supported")


def _prompts(shared: Mapping[str, Any], path: Path) -> dict[str, str]:
    prompts = shared.get("prompts") or {}
    if not isinstance(prompts, dict):
        raise ModelError(f"{path}: 'prompts' is not an object")
    for name, prompt in prompts.items():
        if prompt is not None and not isinstance(prompt, str):
            raise ModelError(f"{path}: prompt {name!r} is not a text")
    return {name: prompt or "" for name, prompt in prompts.items()}


def _document_prompt(prompts: Mapping[str, str]) -> str:
    """The first prompt of those names that says something.

    ``SentenceTransformer.encode_document`` asks for the same names in this order, but version 6
    stops at an empty ``document`` even where the folder only names ``passage``: those models were
    trained with their prompt, so it is used. The default prompt serves ``encode`` alone.
    """
    named = (prompts.get(name, "") for name in ("document", "passage", "corpus"))
    return next((prompt for prompt in named if prompt), "")


def longest_input(
    settings: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    transformer: Mapping[str, Any],
    first: Path,
) -> int:
    """The model's maximum length in tokens, special ones included. Raises ModelError."""
    given = settings.get("processor_kwargs") or settings.get("tokenizer_args") or {}
    declared = given.get("model_max_length", settings.get("max_seq_length"))
    positions = transformer.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        positions = None
    elif transformer.get("model_type") in _OFFSET_POSITIONS:
        positions -= 2  # positions start after the padding's own
    if declared is None:
        lengths = [positions, tokenizer.get("model_max_length")]
    elif transformer.get("model_type") in _ABSOLUTE_POSITIONS:
        lengths = [positions, declared]
    else:
        lengths = [declared]
    finite = [x for x in lengths if isinstance(x, int | float) and 0 < x < float("inf")]
    known = [int(length) for length in finite]
    if not known:
        raise ModelError(f"{first}: no maximum length is declared (max_seq_length)")
    return min(known)


def _width(modules: tuple[Module, ...], transformer: Mapping[str, Any], folder: Path) -> int:
    width: object = None
    for module in modules:
        if module.kind == "Pooling":
            width = module.settings["embedding_dimension"] * len(module.settings["pooling_mode"])
        elif module.kind == "Dense":
            width = module.settings.get("out_features")
    if not isinstance(width, int) or width <= 0:
        raise ModelError(f"{folder}: the width of the vectors is not declared")
    return width


def _token_width(modules: tuple[Module, ...]) -> int:
    """The width of ``token_embeddings`` after the whole chain."""
    width = 0
    for module in modules:
        if module.kind == "Pooling":
            width = module.settings["embedding_dimension"]
        elif module.kind == "Dense":
            read = module.settings.get("module_input_name", "sentence_embedding")
            if module.settings.get("module_output_name", read) == "token_embeddings":
                width = module.settings["out_features"]
    return width


def _matryoshka(
    folder: Path, shared: Mapping[str, Any], transformer: Mapping[str, Any], dim: int
) -> tuple[int, ...]:
    """Declared in a configuration, or in the card that MatryoshkaLoss leaves in README.md."""
    for settings in (shared, transformer):
        for key in ("matryoshka_dims", "matryoshka_dimensions"):
            declared = settings.get(key)
            if isinstance(declared, list):
                return _widths(declared, dim)
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = _MATRYOSHKA.search(text)
    return _widths([int(n) for n in found[1].split(",") if n.strip()], dim) if found else ()


def _widths(declared: list[Any], dim: int) -> tuple[int, ...]:
    return tuple(sorted({n for n in declared if isinstance(n, int) and 0 < n <= dim}, reverse=True))


def _weights(modules: tuple[Module, ...]) -> tuple[Path, ...]:
    weighty = ("Transformer", "Dense", "LayerNorm")
    return tuple(
        file for module in modules if module.kind in weighty for file in weight_files(module.folder)
    )

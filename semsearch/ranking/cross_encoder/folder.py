"""A cross-encoder's folder, of any generation, read into the same record as an encoder's.

Until sentence-transformers 6 a cross-encoder was a transformers folder with a classification head;
since then ``modules.json`` names a chain, as for encoders. A decoder that answers "yes" or "no" and
a model that gets its pairs as a chat are cross-encoders too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semsearch.encoders.folder import ModelConfig, Module, longest_input, read_module
from semsearch.encoders.readjson import read_json, read_object
from semsearch.encoders.refuse import refuse_code_in, weight_files
from semsearch.errors import ModelError

_CHAIN = ("Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout", "LogitScore")
_WEIGHTY = ("Transformer", "Dense", "LayerNorm")
_LONGEST = 32_768
"""Tokens. Folders that declare no limit say so with numbers beyond any."""

_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")


@dataclass(frozen=True, slots=True)
class CrossConfig:
    """What a cross-encoder's folder says about itself.

    ``model`` is its chain and its tokenizer; ``max_length`` counts the tokens of a pair, special
    ones included; ``prompt`` goes before every query. ``plain`` models read query and passage
    between special tokens: any runtime serves them, the others need torch.
    """

    model: ModelConfig
    max_length: int
    prompt: str
    plain: bool


def read_cross_folder(folder: Path) -> CrossConfig:
    """Read and check a cross-encoder's folder. Raises ModelError in one line."""
    shared_file = folder / "config_sentence_transformers.json"
    shared: Mapping[str, Any] = {}
    modules: tuple[Module, ...] = (Module("Transformer", folder, {}),)
    modular = (folder / "modules.json").is_file()
    if modular:
        shared = read_object(shared_file, optional=True)
        if shared.get("model_type") != "CrossEncoder":
            raise ModelError(f"{folder}: encodes single texts (a bi-encoder): it cannot rerank")
        modules = _modules(folder)
    first = modules[0].folder
    transformer = read_object(first / "config.json")
    tokenizer = read_object(first / "tokenizer_config.json", optional=True)
    refuse_code_in([folder, *(module.folder for module in modules)])
    generates = _check_scores(modules, transformer, first / "config.json", modular=modular)
    prompts = shared.get("prompts") or {}
    prompt = prompts.get(shared.get("default_prompt_name")) if isinstance(prompts, dict) else None
    settings = modules[0].settings
    # A folder without a chain is asked in the form of a chat wherever there is a template for one.
    kinds = settings.get("modality_config") or {"text": {}}
    chat = "message" in kinds if modular else _has_template(first, tokenizer)
    model = ModelConfig(
        folder=folder,
        modules=modules,
        transformer=transformer,
        tokenizer=tokenizer,
        max_length=longest_input(settings, tokenizer, transformer, first),
        lower_case=bool(settings.get("do_lower_case", False)),
        include_prompt=True,
        dim=1,
        token_dim=0,
        truncate_dim=None,
        prompts={},
        query_prompt="",
        document_prompt="",
        matryoshka_dims=(),
        weights=tuple(f for m in modules if m.kind in _WEIGHTY for f in weight_files(m.folder)),
    )
    plain = not (generates or chat or settings.get("processing_kwargs"))
    prompt = prompt if isinstance(prompt, str) else ""
    return CrossConfig(model, min(model.max_length, _LONGEST), prompt, plain)


def _modules(folder: Path) -> tuple[Module, ...]:
    path = folder / "modules.json"
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise ModelError(f"{path}: an array of modules is expected")
    modules = tuple(read_module(folder, entry, path, pairs=True) for entry in entries)
    kinds = [module.kind for module in modules]
    for kind in kinds:
        if kind not in _CHAIN:
            raise ModelError(f"{path}: module {kind} is not supported ({', '.join(_CHAIN)} are)")
    if kinds[0] != "Transformer" or kinds.count("Transformer") != 1:
        raise ModelError(f"{path}: a Transformer, then what makes its score are expected: {kinds}")
    return modules


def _check_scores(
    modules: tuple[Module, ...], transformer: Mapping[str, Any], path: Path, *, modular: bool
) -> bool:
    """Whether the score is that of a generated word. Raises ModelError if there is no one score."""
    last = modules[-1]
    if last.kind == "LogitScore":
        return True
    if last.kind == "Dense" and last.settings.get("module_output_name") == "scores":
        if last.settings.get("out_features") != 1:
            many = last.settings.get("out_features")
            raise ModelError(f"{last.folder}: gives {many} scores to a pair: it cannot rerank")
        return False
    if len(modules) > 1:
        raise ModelError(f"{path}: its chain ends in {last.kind}, which gives no score to a pair")
    architectures = [str(name) for name in transformer.get("architectures") or ()]
    if not modular and architectures and architectures[0].endswith("ForCausalLM"):
        return True
    if not any(name.endswith("ForSequenceClassification") for name in architectures):
        what = ", ".join(architectures) or "no architecture is named"
        raise ModelError(f"{path}: not a cross-encoder: it has no head for one score ({what})")
    labels = _labels(transformer)
    if len(labels) != 1:
        names = ", ".join(labels[:4])
        raise ModelError(f"{path}: a classifier of {len(labels)} labels ({names}): cannot rerank")
    return False


def _labels(transformer: Mapping[str, Any]) -> list[str]:
    """The labels of a classification head; transformers' default is two."""
    names = transformer.get("id2label")
    if isinstance(names, dict) and names:
        return [str(name) for name in names.values()]
    count = transformer.get("num_labels", 2)
    return [f"LABEL_{n}" for n in range(count if isinstance(count, int) else 2)]


def _has_template(first: Path, tokenizer: Mapping[str, Any]) -> bool:
    here = any((first / name).exists() for name in _TEMPLATES)
    return here or bool(tokenizer.get("chat_template"))

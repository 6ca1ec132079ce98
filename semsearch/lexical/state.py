"""What a lexical folder holds at one moment: all that is needed to trust it and to return to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from unicodedata import unidata_version

from semsearch.errors import Corrupt, Mismatch, MissingExtra
from semsearch.lexical.engine import version
from semsearch.lexical.languages import ENGLISH, LANGUAGES, NONE
from semsearch.lexical.tokens import TOKENS_VERSION

_NAME = re.compile(r"[0-9a-f]{32}\.[0-9a-z.]{1,32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_REPAIR = "run `semsearch compact` to build it anew"


@dataclass(frozen=True)
class LexicalState:
    """One committed snapshot; the catalog keeps it as JSON.

    ``meta`` is the text of tantivy's ``meta.json``, ``files`` the SHA-256 of every file by name,
    ``passages`` their number. It covers the vids ``first_vid`` to ``last_vid``, both included
    (-1 and -1 where there are none). ``engine`` is the tantivy that wrote the files,
    ``unicode`` the version of the tables that letters were folded by, ``language`` the one whose
    words it holds: English in records that name none, made before there were others.
    """

    meta: str
    files: Mapping[str, str] = field(hash=False)
    first_vid: int
    last_vid: int
    passages: int
    engine: str
    tokens_version: int = TOKENS_VERSION
    unicode: str = unidata_version
    language: str = ENGLISH

    def to_json(self) -> dict[str, Any]:
        """JSON values, equal for equal states."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: str | Mapping[str, Any]) -> LexicalState:
        """From ``to_json`` or its text. Raises Corrupt for anything that no writer made."""
        try:
            values = json.loads(stored) if isinstance(stored, str) else stored
            state = cls(**values)
            _check(values)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
            raise Corrupt(f"the record of the lexical index cannot be read: {_REPAIR}") from exc
        return state

    def is_current(self) -> bool:
        """Whether this semsearch and this tantivy (if there is one) still use such files."""
        try:
            self.require_current()
        except Mismatch:
            return False
        except MissingExtra:
            return True
        return True

    def require_current(self) -> None:
        """Raises Mismatch where words are cut or stored differently now, MissingExtra."""
        if self.tokens_version != TOKENS_VERSION:
            raise Mismatch(
                f"the lexical index was made with version {self.tokens_version} of the word rules,"
                f" this is version {TOKENS_VERSION}: {_REPAIR}"
            )
        if self.unicode != unidata_version:
            raise Mismatch(
                f"the lexical index was made with Unicode {self.unicode}, this Python has"
                f" {unidata_version}: {_REPAIR}"
            )
        if self.engine != version():
            raise Mismatch(
                f"the lexical index was written by {self.engine}, this is {version()}: {_REPAIR}"
            )


def _check(values: Mapping[str, Any]) -> None:
    """Raises one of the errors that ``from_json`` translates."""
    files = values["files"]
    for name in ("first_vid", "last_vid", "passages", "tokens_version"):
        if type(values[name]) is not int:
            raise TypeError(name)
    if not isinstance(values["engine"], str) or not isinstance(values["unicode"], str):
        raise TypeError("engine")
    if values.get("language", ENGLISH) not in (NONE, *LANGUAGES):
        raise ValueError("language")
    for name, digest in files.items():
        # Names are joined to a folder, so they must not lead anywhere else.
        if not _NAME.fullmatch(name) or not _DIGEST.fullmatch(digest):
            raise ValueError(name)
    if segments_of(values["meta"]) != {name.split(".")[0] for name in files}:
        raise ValueError("meta")


def segments_of(meta: str) -> set[str]:
    """The prefixes of the files that a ``meta.json`` refers to.

    Raises ValueError, TypeError, KeyError or AttributeError for any other text.
    """
    return {part["segment_id"].replace("-", "") for part in json.loads(meta)["segments"]}

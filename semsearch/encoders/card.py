"""The languages that a model was made for, as its card says."""

from __future__ import annotations

import re
from pathlib import Path

CARD = "README.md"

_CODE = re.compile(r"([a-z]{2})(?:[-_].*)?", re.IGNORECASE)


def card_languages(folder: Path) -> tuple[str, ...]:
    """The codes of ISO 639-1 in the front matter of a model's card, lower case, ``("en",)``.

    Empty where that says nothing for sure: no card, one that cannot be read, or one that names none
    or anything that is no such code, as "multilingual" and the three letters of "sin" are not.
    """
    from huggingface_hub import metadata_load
    from yaml import YAMLError  # type: ignore[import-untyped,unused-ignore]

    try:
        found = (metadata_load(folder / CARD) or {}).get("language")
    except (OSError, ValueError, YAMLError):
        return ()
    named = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    codes = [_CODE.fullmatch(str(name)) for name in named]
    return tuple(code[1].lower() for code in codes if code) if all(codes) else ()

"""The languages that a model was made for, as its card says."""

from __future__ import annotations

from pathlib import Path

CARD = "README.md"


def card_languages(folder: Path) -> tuple[str, ...]:
    """The language codes in the front matter of a model's card, lower case, ``("en",)``.

    Empty where there is no card, or it names none, or cannot be read: that says nothing.
    """
    from huggingface_hub import metadata_load
    from yaml import YAMLError  # type: ignore[import-untyped,unused-ignore]

    try:
        found = (metadata_load(folder / CARD) or {}).get("language")
    except (OSError, ValueError, YAMLError):
        return ()
    named = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return tuple(str(code).lower().split("-")[0] for code in named)

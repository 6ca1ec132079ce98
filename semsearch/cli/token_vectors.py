"""The choice whether to keep token vectors, and making those of what is stored without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.cli.output import count, note, progress_bar

if TYPE_CHECKING:
    from semsearch.collection.writer import Writer
    from semsearch.search.facade import Index


def choose(writer: Writer, index: Index, wanted: bool | None) -> None:
    """Keep token vectors from now on, or none; None leaves it as it is."""
    from semsearch.indexing import choose_token_vectors, refuse_token_vectors

    if wanted:
        choose_token_vectors(writer, index.encoder_for(writer.snapshot))
    elif wanted is not None:
        refuse_token_vectors(writer)


def complete(writer: Writer, index: Index) -> None:
    """Make the token vectors that stored passages lack."""
    from semsearch.indexing import complete_tokens

    missing = len(writer.snapshot.tokens.missing())
    if missing:
        with progress_bar(missing, "token vectors", "passages") as advance:
            done = complete_tokens(writer, index.encoder_for(writer.snapshot), advance)
        note(f"made the token vectors of {count(done, 'passage')} stored without them")

"""``semsearch backup`` and ``semsearch restore``: whole copies of an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.output import count, index_option, json_option, note, print_json, size

if TYPE_CHECKING:
    from semsearch.collection.backup import Backup

_path = click.Path(file_okay=False)


@click.command(epilog="Example: semsearch backup backups/monday")
@click.argument("target", type=_path)
@index_option
@json_option
def backup(target: str, folder: str, as_json: bool) -> None:
    """Copy an index into the new folder TARGET and check the copy, while others may use it.

    A backup is an index: `semsearch query -i TARGET` searches it.
    """
    from semsearch.collection.backup import back_up

    made = back_up(folder, target)
    if as_json:
        print_json({"index": folder, "backup": target, **_facts(made)})
    else:
        click.echo(
            f"{target}: a copy of generation {made.generation}, {_held(made)}, checked: `semsearch"
            f" restore {target} -i {folder}` puts it back"
        )


@click.command(epilog="Example: semsearch restore backups/monday --replace")
@click.argument("backup", type=_path)
@index_option
@click.option(
    "--replace",
    is_flag=True,
    help="Take the place of an index that is there, damaged or not; it is kept inside it.",
)
@json_option
def restore(backup: str, folder: str, replace: bool, as_json: bool) -> None:
    """Check BACKUP and copy it to where the index is to be."""
    from semsearch.collection import backup as backups

    made = backups.restore(backup, folder, replace=replace)
    if as_json:
        print_json({"index": folder, "backup": backup, **_facts(made)})
        return
    click.echo(f"{folder}: generation {made.generation} is back, {_held(made)}, checked")
    if made.kept is not None:
        note(f"what was there is kept in {made.kept}: delete it when nothing is missed")


def _held(made: Backup) -> str:
    return f"{count(made.documents, 'document')}, {size(made.bytes)}"


def _facts(made: Backup) -> dict[str, Any]:
    return {
        "generation": made.generation,
        "documents": made.documents,
        "bytes": made.bytes,
        "kept": str(made.kept) if made.kept else None,
    }

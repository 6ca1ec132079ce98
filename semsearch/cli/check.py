"""``semsearch check``: what is damaged, what still answers, and making it whole again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.maintenance import beside_facts
from semsearch.cli.output import (
    count,
    index_option,
    json_option,
    note,
    one_line,
    print_json,
    progress_bar,
    size,
)
from semsearch.errors import SemsearchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from semsearch.collection.check import Finding
    from semsearch.encoders import Encoder
    from semsearch.indexing.repair import Repair
    from semsearch.store.catalog import EncoderRow

_SHOWN = 20


@click.command(epilog="Example: semsearch check && echo sound   |   semsearch check --repair")
@index_option
@click.option(
    "--repair",
    "wanted",
    is_flag=True,
    help="Make a damaged index whole again, as far as it can be read; what was there is kept.",
)
@click.option("-m", "--model", help="With --repair: the model, where the index's is not found.")
@json_option
def check(folder: str, wanted: bool, model: str | None, as_json: bool) -> None:
    """Read everything and report damage, what still answers, and what a repair would lose.

    Exit code 1 if there is damage that was not repaired.
    """
    if model is not None and not wanted:
        raise click.UsageError("-m goes with --repair")
    findings = _findings(folder)
    damage = [finding for finding in findings if not finding.is_note]
    if not as_json:
        for finding in findings:
            if finding.is_note:
                note(str(finding))
            else:
                click.echo(one_line(str(finding)), err=wanted)
    if wanted and damage:
        _repair(folder, damage, model, as_json)
    elif damage:
        _report(folder, findings, as_json)
    else:
        _sound(folder, findings, as_json)


def _findings(folder: str) -> list[Finding]:
    """What a check finds; an index that cannot even be opened is one finding."""
    from semsearch.collection.check import Finding, check_index
    from semsearch.collection.reader import Reader
    from semsearch.errors import Corrupt

    try:
        with Reader(folder) as reader:
            return list(check_index(reader))
    except Corrupt as exc:
        return [Finding(str(exc))]


def _sound(folder: str, notes: Sequence[Finding], as_json: bool) -> None:
    from semsearch.collection.reader import Reader

    with Reader(folder) as reader:
        documents = reader.snapshot().generation.n_document
        beside = beside_facts(reader)
    if as_json:
        print_json(_facts(folder, notes) | {"documents": documents})
        return
    click.echo(f"{folder}: sound ({count(documents, 'document')})")
    if beside:
        note(
            f"beside it is an index by {beside['model']}, {size(beside['bytes'])}, not looked at:"
            f" `semsearch check -i {Path(folder) / 'beside'}`"
        )


def _facts(folder: str, findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "index": folder,
        "sound": all(finding.is_note for finding in findings),
        "findings": [
            {"part": finding.part, "damage": not finding.is_note, "text": str(finding)}
            for finding in findings
        ],
    }


def _report(folder: str, findings: Sequence[Finding], as_json: bool) -> None:
    """Say what still works and what a repair would do; exit with 1."""
    from semsearch.collection.health import answers
    from semsearch.indexing.repair import survey

    damage = [finding for finding in findings if not finding.is_note]
    working = answers(folder)
    repair: Repair | None = None
    hopeless = ""
    if not _only_derived(damage):
        try:
            repair = survey(folder)
        except SemsearchError as exc:
            hopeless = str(exc)
    if as_json:
        print_json(_facts(folder, findings) | {"answers": working, "repair": _repair_facts(repair)})
    else:
        for what, state in working.items():
            click.echo(f"{what}: {state}")
    if hopeless:
        raise click.ClickException(one_line(hopeless))
    problems = count(len(damage), "problem")
    raise click.ClickException(one_line(f"{folder}: {problems}: {_advice(repair)}"))


def _only_derived(damage: Sequence[Finding]) -> bool:
    """Whether everything that is damaged is made from what is not."""
    return all(finding.part in ("derived", "tokens") for finding in damage)


def _advice(repair: Repair | None) -> str:
    if repair is None:
        return (
            "nothing is lost: `semsearch check --repair` (or `semsearch compact`, with"
            " --token-vectors) makes these files again"
        )
    kept = f"keeps {count(repair.documents, 'document')}"
    if repair.computed:
        kept += f" and encodes {count(repair.computed, 'passage')} of them again"
    lost = "nothing" if not repair.lost_documents else count(repair.lost_documents, "document")
    return (
        f"`semsearch check --repair` {kept}; {lost} would be lost{_named(repair)}; a backup put"
        " back by `semsearch restore` loses what is newer than it"
    )


def _named(repair: Repair) -> str:
    if not repair.lost:
        return ""
    more = len(repair.lost) - _SHOWN
    names = ", ".join(repair.lost[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f" ({names})"


def _repair_facts(repair: Repair | None) -> dict[str, Any] | None:
    if repair is None:
        return None
    return {
        "documents": repair.documents,
        "passages": repair.passages,
        "encoded_again": repair.computed,
        "lost_documents": repair.lost_documents,
        "lost": repair.lost,
        "kept": str(repair.kept) if repair.kept else None,
    }


def _repair(folder: str, damage: Sequence[Finding], model: str | None, as_json: bool) -> None:
    from semsearch.indexing.repair import remake_derived, repair

    if _only_derived(damage):
        without = remake_derived(folder)
        if as_json:
            print_json({"index": folder, "repaired": True, "lost_token_vectors": without})
            return
        click.echo(f"{folder}: repaired: the damaged files were made again; nothing was lost")
        if without:
            note(
                f"{count(without, 'passage')} have no token vectors now: they are computed when"
                " needed; `semsearch compact --token-vectors` stores them again"
            )
        return

    def load(recorded: EncoderRow | None) -> Encoder:
        return _encoder(folder, recorded, model)

    with progress_bar(None, "repairing", "docs") as advance:
        done = repair(folder, load, advance)
    if as_json:
        print_json({"index": folder, "repaired": True, **(_repair_facts(done) or {})})
        return
    again = f", {count(done.computed, 'passage')} encoded again" if done.computed else ""
    click.echo(f"{folder}: repaired: {count(done.documents, 'document')}{again}")
    if done.lost_documents:
        click.echo(f"{count(done.lost_documents, 'document')} could not be read{_named(done)}")
    note(f"what was there is kept in {done.kept}: delete it when nothing is missed")


def _encoder(folder: str, recorded: EncoderRow | None, model: str | None) -> Encoder:
    """The model that made the vectors, from this machine alone; or ``model``."""
    from semsearch.encoders import open_encoder
    from semsearch.errors import UsageError

    name = model or (recorded.name if recorded else None)
    if name is None:
        raise UsageError(
            f"{folder}: which model made its vectors is lost: name it with -m; all are computed"
            " again"
        )
    in_int8 = recorded is not None and recorded.precision == "int8"
    return open_encoder(
        name, precision="int8" if in_int8 else "auto", local_only=True, or_auto=True
    )

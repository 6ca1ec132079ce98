"""``semsearch doctor``: what is wrong with this machine, its libraries, the model or an index."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semsearch.cli.output import bold, count, index_option, json_option, one_line, print_json

if TYPE_CHECKING:
    from semsearch.cli.health.finding import Finding, Findings

_MARKS = {"ok": "ok", "note": "note", "problem": "PROBLEM"}


@click.command(epilog="Examples: semsearch doctor   |   semsearch doctor -i my.idx --deep")
@index_option
@click.option("-m", "--model", help="Look at this model.  [default: the index's, or the default]")
@click.option(
    "--deep", is_flag=True, help="Import the libraries and encode a sentence, too: some seconds."
)
@json_option
def doctor(folder: str, model: str | None, deep: bool, as_json: bool) -> None:
    """Look at this machine, the libraries, the model and an index, and say what to mend.

    Reads little and changes nothing; exit code 1 if there is a problem. `semsearch check` reads
    all of an index.
    """
    findings = list(_examine(Path(folder), model, deep))
    problems = [finding for finding in findings if finding.level == "problem"]
    if as_json:
        print_json({"healthy": not problems, "findings": [asdict(f) for f in findings]})
    else:
        _print(findings)
    if problems:
        raise click.ClickException(f"{count(len(problems), 'problem')} found: see what to do above")


def _examine(folder: Path, model: str | None, deep: bool) -> Findings:
    """Each topic in turn, whatever became of those before."""
    from semsearch.cli.health.finding import careful

    def software() -> Findings:
        from semsearch.cli.health.software import look_at_software

        return look_at_software(deep)

    def machine() -> Findings:
        from semsearch.cli.health.machine import look_at_machine

        return look_at_machine()

    def used_model() -> Findings:
        from semsearch.cli.health.index import recorded_encoder
        from semsearch.cli.health.model import look_at_model

        return look_at_model(model, recorded_encoder(folder), deep)

    def disks() -> Findings:
        from semsearch.cli.health.disk import look_at_disks

        return look_at_disks(folder)

    def index() -> Findings:
        from semsearch.cli.health.index import look_at_index

        return look_at_index(folder)

    topics = {
        "software": software, "machine": machine, "model": used_model, "disk": disks,
        "index": index,
    }  # fmt: skip
    for topic, look in topics.items():
        yield from careful(topic, look)


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    topic = ""
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            click.echo(bold(topic))
        mark = _MARKS[finding.level]
        shown = bold(f"{mark:<7}") if finding.level == "problem" else f"{mark:<7}"
        click.echo(f"  {shown}  {finding.name:<{width}}  {one_line(finding.value)}")
        if finding.advice:
            click.echo(f"  {'':<7}  {'':<{width}}  -> {one_line(finding.advice)}")

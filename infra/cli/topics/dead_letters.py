"""The dead letters of a case: dead-letters list, show, retry, export and tail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from driftline.infra.cli.cases import selected_case, settings
from driftline.infra.cli.console import print_json, say
from driftline.infra.cli.parameters import AsJson, Case, TopicKind
from driftline.infra.cli.topics.tail import group

if TYPE_CHECKING:
    from driftline.infra.topics.dead_letter_retries import Retry
    from driftline.infra.topics.dead_letters import DeadLetter
    from driftline.streams.declare.usecase import UseCase

Ids = Annotated[
    list[str] | None, typer.Argument(help="partition:offset of letters, as `list` and `tail` show them")
]
StageOption = Annotated[
    str | None, typer.Option("--stage", help="Only letters of this stage, such as decode")
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Only letters whose reason contains this text")
]

commands = group(TopicKind.DEAD_LETTERS, "The dead letters of a case: what was refused, and why.")


def _letters(
    case: UseCase, ids: list[str] | None, stage: str | None, reason: str | None
) -> Iterator[DeadLetter]:
    from driftline.infra.local.bootstrap import bootstrap_of
    from driftline.infra.topics.dead_letters import LetterId, LetterSelection, selected_letters

    now = settings()
    selection = LetterSelection(frozenset(map(LetterId.parse, ids or ())), stage, reason)
    return selected_letters(bootstrap_of(now), case.topics(now.namespace), selection)


@commands.command("list")
def list_letters(
    case: Case, stage: StageOption = None, reason: ReasonOption = None, as_json: AsJson = False
) -> None:
    """How many there are by stage and reason, the most frequent first, and an example of each."""
    from driftline.infra.report.figures import in_units
    from driftline.infra.topics.dead_letters import grouped
    from driftline.streams.declare.event_codec import advice

    declared = selected_case(case)
    groups = grouped(_letters(declared, None, stage, reason))
    if as_json:
        print_json({"groups": [each.as_object() for each in groups]})
        return
    if not groups:
        say("no dead letters")
    for each in groups:
        retry = "" if each.can_be_retried else ", cannot be retried"
        print(f"{each.count:,} {each.stage}{retry}: {each.pattern}")
        print(f"    from {each.first:%Y-%m-%d %H:%M:%S} to {each.example.at:%Y-%m-%d %H:%M:%S} UTC")
        example = each.example
        hint = advice(example.reason, declared.events)
        print(f"    such as {example.id}: {in_units(example.reason)}{hint}")


@commands.command()
def show(case: Case, ids: Ids = None, as_json: AsJson = False) -> None:
    """Whole dead letters: stage, reason, the record as it was, and what a retry would send."""
    if not ids:
        raise typer.BadParameter("name letters: partition:offset, as `list` shows them", param_hint="IDS")
    declared = selected_case(case)
    shown = []
    for retry in _planned(declared, _letters(declared, ids, None, None)):
        shown_letter = retry.as_object()
        shown.append(retry.letter.as_object() | {"retry": shown_letter.get("problem", "possible")})
    if as_json:
        print_json({"letters": shown})
    else:
        for letter in shown:
            print(json.dumps(letter, indent=2, ensure_ascii=False))


def _planned(case: UseCase, letters: Iterator[DeadLetter]) -> Iterator[Retry]:
    from driftline.infra.local.bootstrap import bootstrap_of
    from driftline.infra.topics.dead_letter_retries import Retries

    now = settings()
    retries = Retries(case, bootstrap_of(now), case.topics(now.namespace), *_taken_over(case))
    return map(retries.plan, letters)


def _taken_over(case: UseCase) -> tuple[dict[int, int], set[str]]:
    """From which offset of each partition of the log on the newest code has taken records in as they came,
    and which requests of a chain it takes for new ones although they came before. Says so if that is not the
    code here."""
    from driftline.infra.serving.deploy import stage_places
    from driftline.infra.serving.serve import open_history
    from driftline.streams.archive.log_reader import SHORT_SILENCE
    from driftline.streams.owner.deployment import code_of
    from driftline.streams.proof.stage_refold import stage_epochs

    now, code = settings(), code_of(case)
    places = stage_places(case, now)
    with open_history(case, now, SHORT_SILENCE) as history:
        known = {at.partition: stage_epochs(places, history, at) for at in places.targets_of(0)}
        last = [stage_epochs(places, history, at)[-1:] for at in places.targets_of(places.count - 1)]
    newest = {partition: epochs[-1] for partition, epochs in known.items() if epochs}
    differences = [code.difference(epoch.code) for epoch in newest.values()]
    if other := next(filter(None, differences), None):
        say(f"the workers run other code than this, and judge what is sent: {other}")
    unanswered = {event_id for epochs in last for epoch in epochs for event_id in epoch.unanswered}
    return {partition: epoch.from_offset for partition, epoch in newest.items()}, unanswered


@commands.command()
def retry(
    case: Case,
    ids: Ids = None,
    stage: StageOption = None,
    reason: ReasonOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Send the events of dead letters again: those named, or all of a stage or reason.

    Each is a new record of the log under its old id; the header retry-of names its letter.
    An id that was accepted meanwhile is dropped as a repeat. What cannot be accepted is named and not sent.
    Ends with exit code 1 where something was not sent, or was refused again.
    """
    from driftline.infra.local.bootstrap import bootstrap_of
    from driftline.infra.topics.dead_letter_retries import send_retries
    from driftline.infra.topics.produce_result import DeadLetters, SentOffsets
    from driftline.streams.clients.producer import EventProducer

    if not (ids or stage or reason):
        raise typer.BadParameter("say which: letters by partition:offset, --stage or --reason")
    now, declared = settings(), selected_case(case)
    retries = list(_planned(declared, _letters(declared, ids, stage, reason)))
    sendable = [each for each in retries if not each.problem]
    if as_json:
        print_json({"retries": [each.as_object() for each in retries], "sent": not dry_run})
    else:
        for each in retries:
            print(f"{each.letter.id} {each.letter.stage}: {each.problem or f'to partition {each.partition}'}")
    say(f"{len(sendable):,} of {len(retries):,} can be sent")
    failed = len(sendable) < len(retries)
    if sendable and not dry_run:
        bootstrap, topics = bootstrap_of(now), declared.topics(now.namespace)
        verdicts, sent = DeadLetters(bootstrap, topics), SentOffsets()
        with EventProducer(declared, bootstrap, namespace=now.namespace, on_sent=sent.add) as producer:
            say(f"{send_retries(producer, sendable):,} events sent to {topics.log}")
        refusals = verdicts.of(sent)
        for line in refusals.lines(case):
            say(line)
        failed = failed or refusals.refused > 0
    if failed:
        raise typer.Exit(1)


@commands.command()
def export(
    case: Case,
    path: Annotated[Path, typer.Argument(help="File for JSON lines; it must not exist")],
    stage: StageOption = None,
    reason: ReasonOption = None,
    events: Annotated[
        bool, typer.Option("--events", help="Only the records' values, for `produce` once they are corrected")
    ] = False,
) -> None:
    """Write dead letters to a file, a JSON object a line."""
    letters = _letters(selected_case(case), None, stage, reason)
    count = cut = 0
    try:
        written = path.open("xb")
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}") from None
    with written as file:
        for letter in letters:
            count += 1
            cut += letter.is_cut
            if events:
                file.write(letter.value.rstrip(b"\r\n") + b"\n")
            else:
                file.write(json.dumps(letter.as_object(), ensure_ascii=False).encode() + b"\n")
    say(f"{count:,} dead letters written to {path}")
    if cut:
        say(f"{cut:,} of them hold only the beginning of a record that is too large for the topic")

"""The command `driftline`. What a command needs is imported inside it, so that help comes at once."""

from __future__ import annotations

import enum
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from features.registry import OnlineStoreRepo

app = typer.Typer(
    name="driftline",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
features_app = typer.Typer(help="The features: online, their history, training sets.", no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"driftline {version('driftline')}")
        raise typer.Exit


@app.callback()
def driftline(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Online machine learning on event streams: Kafka in, Feast features, River models, predictions out."""


app.add_typer(features_app, name="features")
data_app = typer.Typer(
    help="Feature values as served: statistics, what is expected of them, anomalies.", no_args_is_help=True
)
app.add_typer(data_app, name="data")

DEMO_CASE = "examples.flights:flights"
SHIPPED_CASES = {"flights": DEMO_CASE}
PACKAGES = ("driftline", "streams", "features", "online_models", "infra")
Case = Annotated[str, typer.Argument(help="module:attribute, or a name from [tool.driftline.cases]")]
Source = Annotated[
    str | None,
    typer.Argument(help="module:function, a .jsonl, .csv, .tsv or .parquet file, or - for JSON lines"),
]
Zone = Annotated[
    str | None, typer.Option("--zone", help="SOURCE: time zone of times without one, such as Europe/Paris")
]
Encoding = Annotated[
    str | None, typer.Option("--encoding", help="SOURCE: of delimited text, where it is not detected")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only so many events")]
Partitions = Annotated[int | None, typer.Option("--partitions", min=1, help="Instead of the case's own")]
BOUND = (
    "Where to begin, in every partition: an offset, or an RFC 3339 time. A time is the broker's append time "
    "and is looked up in Kafka alone: one before Kafka's first record means that record"
)


REQUEST_TIME = "Only requests from this time on (their own: RFC 3339 with a zone)"


class TopicKind(enum.StrEnum):
    """A topic of a case, as the command line names it."""

    LOG = "log"
    PREDICTIONS = "predictions"
    OUTCOMES = "outcomes"
    DRIFT = "drift"
    MODELS = "models"
    DEAD_LETTERS = "dead-letters"
    STATISTICS = "statistics"
    ANOMALIES = "anomalies"

    def of(self, topics: Any) -> str:
        """The topic's name."""
        return str(getattr(topics, self.name.lower()))


ARCHIVED = [TopicKind.LOG, TopicKind.PREDICTIONS, TopicKind.OUTCOMES, TopicKind.MODELS]


def _settings() -> Any:
    from infra.settings import Settings

    return Settings.from_environment()


def _named_cases() -> dict[str, str]:
    """module:attribute by short name: the shipped cases, and those that ./pyproject.toml names."""
    import tomllib

    from infra.errors import InfraError

    project = Path("pyproject.toml")
    try:
        declared = tomllib.loads(project.read_text()) if project.exists() else {}
    except (OSError, ValueError) as error:
        raise InfraError(
            f"./pyproject.toml, where short names of cases are, cannot be read: {error}"
        ) from None
    named = declared.get("tool", {}).get("driftline", {}).get("cases", {})
    return SHIPPED_CASES | {name: str(path) for name, path in named.items()}


def _only_case() -> str:
    """The case meant where none is named: the only one there is, or that the project has of its own."""
    from infra.errors import InfraError

    cases = _named_cases()
    own = [name for name, path in cases.items() if SHIPPED_CASES.get(name) != path] or list(cases)
    if len(own) == 1:
        return own[0]
    raise InfraError(f"name the case: {', '.join(own)}")


def _case_path(name: str) -> str:
    """module:attribute of a case, from its short name where one is given."""
    if ":" in name:
        return name
    cases = _named_cases()
    if name not in cases:
        from infra.errors import InfraError

        raise InfraError(
            f"{name!r} is neither module:attribute nor named under [tool.driftline.cases] in ./pyproject.toml"
        )
    return cases[name]


def _case(name: str, partitions: int | None = None) -> Any:
    from dataclasses import replace

    from streams.usecase import load_case

    case = load_case(_case_path(name))
    return case if partitions is None else replace(case, partitions=partitions)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _print(value: Any) -> None:
    print(json.dumps(value, default=str))


@app.command()
def up(
    port: Annotated[int | None, typer.Option(help="Port of the broker (default: a free one)")] = None,
    as_json: AsJson = False,
) -> None:
    """Start the local Kafka, or find the one that runs."""
    from infra.kafka import LocalStack

    broker = LocalStack(_settings().home, port).up()
    if as_json:
        _print({"bootstrap": broker.bootstrap, "pid": broker.pid})
    else:
        _say(f"Kafka answers at {broker.bootstrap} (process {broker.pid})")


@app.command()
def down(
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove its data and the checkpoints too")] = False,
) -> None:
    """Stop the local Kafka; its data stays."""
    import shutil

    from infra.kafka import LocalStack

    home = _settings().home
    stopped = LocalStack(home).down(wipe=wipe)
    if wipe:  # they are of the topics that are gone
        shutil.rmtree(home / "checkpoints", ignore_errors=True)
    _say(("Kafka stopped" if stopped else "no Kafka was running") + (", data removed" if wipe else ""))


@app.command()
def status(as_json: AsJson = False) -> None:
    """What runs, and how far each worker has come. Exit code 1 when no broker runs."""
    from infra.status import collect, render

    found = collect(_settings())
    if as_json:
        _print(found)
    else:
        _say(render(found))
    if not found["broker"]["running"]:
        raise typer.Exit(1)


@app.command()
def worker(
    case: Case,
    partitions: Partitions = None,
    mend_topics: Annotated[
        bool,
        typer.Option("--mend-topics", help="Give topics made by others the settings they have to have"),
    ] = False,
) -> None:
    """Serve a case: fold its log, answer, learn, until SIGTERM."""
    from infra.serve import run_worker

    run_worker(_case(case, partitions), _settings(), mend_topics=mend_topics)


@app.command()
def upgrade(
    case: Case,
    partitions: Partitions = None,
    plan: Annotated[bool, typer.Option("--plan", help="Tell what would change, and end")] = False,
    accept_refused: Annotated[
        bool,
        typer.Option("--accept-refused", help="Go on without past records that only the new code refuses"),
    ] = False,
) -> None:
    """Take a case over from other code that serves it, without an outage, and serve it until SIGTERM.

    Folds the log beside the workers that serve, each partition in a process of its own, and tells what would
    change: records of the past that the new code refuses, predictions that it would have answered otherwise.
    When it is close behind, it fences the workers out, and they end.

    Exit code 3: the new code refuses records that the code before had accepted, such as those with a field
    that was deleted, and nothing was taken over.
    """
    from infra.serve import run_worker
    from infra.upgrade import UpgradeStopped, planned

    declared, path = _case(case, partitions), _case_path(case)
    if plan:
        found = planned(path, declared, _settings())
        print(found)
        if found.newly_refused:
            raise typer.Exit(3)
        return
    try:
        run_worker(declared, _settings(), upgrade_path=path, accept_refused=accept_refused)
    except UpgradeStopped as error:
        _say(f"driftline: {error}")
        raise typer.Exit(3) from None


@app.command()
def produce(
    case: Case,
    source: Source = None,
    limit: Limit = None,
    partitions: Partitions = None,
    close: Annotated[
        bool,
        typer.Option(
            "--close",
            help="End with a clock event: what waits for a label expires, and what is sent later is late",
        ),
    ] = False,
    warm_up: Annotated[
        bool,
        typer.Option(
            "--warm-up",
            help="History, for the log's start: learned from, not answered. Resumes one that was cut short",
        ),
    ] = False,
    end_warm_up: Annotated[
        bool, typer.Option("--end-warm-up", help="Send nothing but the end of a warm-up that was cut short")
    ] = False,
    zone: Zone = None,
    encoding: Encoding = None,
) -> None:
    """Send a source's events to the case's log.

    Where workers serve, waits for them to come to the end of it and tells what they refused: exit code 1 when
    there is such. Where none serves, that is told.
    """
    from infra.produced import DeadLetters, SentOffsets
    from infra.serve import bootstrap_of
    from infra.topics_admin import ensure_topics
    from infra.warm_up import send_end, send_history
    from streams.sdk import EventProducer
    from streams.sources import open_source, with_closing_clock
    from streams.tables import Reading

    settings = _settings()
    declared = _case(case, partitions)
    if close and declared.clock == "wall":
        raise typer.BadParameter(
            f"--close: {declared.name} is live (clock='wall'), its time goes on by itself"
        )
    if warm_up and end_warm_up:
        raise typer.BadParameter("--end-warm-up sends no history: give it or --warm-up, not both")
    bootstrap = bootstrap_of(settings)
    ensure_topics(bootstrap, declared.topics(settings.namespace).all())
    topics = declared.topics(settings.namespace)
    dead_letters, sent = DeadLetters(bootstrap, topics), SentOffsets()
    count = 0
    with EventProducer(declared, bootstrap, namespace=settings.namespace, on_sent=sent.add) as producer:
        if end_warm_up:
            count = send_end(producer, declared, bootstrap, topics.log)
        else:
            events = open_source(declared, source, limit, Reading(zone, encoding))
            if warm_up:
                count = send_history(producer, declared, bootstrap, topics.log, events)
            else:
                for event in with_closing_clock(declared, events) if close else events:
                    producer.send(event)
                    count += 1
    _say(f"{count:,} {'records' if warm_up or end_warm_up else 'events'} sent to {topics.log}")
    refusals = dead_letters.of(sent)
    for line in refusals.lines(case):
        _say(line)
    if refusals.refused:
        raise typer.Exit(1)


@app.command()
def bridge(
    bridge: Annotated[str, typer.Argument(metavar="BRIDGE", help="module:attribute of a Bridge")],
    foreign: Annotated[
        str | None, typer.Option("--from", help="host:port of the Kafka that has the topic, if another")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End where the topic ends now")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a foreign topic's records into a case's log as its events, until SIGTERM.

    Fields that the bridge declares are read from online stores on the way. Records that cannot be mapped go,
    as they are, to the bridge's dead letters. Several processes share the topic's partitions.
    """
    from infra.serve import run_bridge
    from streams.bridge import load_bridge

    report = run_bridge(load_bridge(bridge), _settings(), foreign, once=once)
    if as_json:
        import msgspec

        _print(msgspec.to_builtins(report))
    else:
        _say(str(report))


@app.command()
def simulate(
    case: Case,
    source: Source = None,
    limit: Limit = None,
    partitions: Partitions = None,
    chunk: Annotated[int, typer.Option(min=1, help="Records a step; the result is the same for any")] = 500,
    warm_up: Annotated[
        str | None, typer.Option("--warm-up", help="A source to learn from first, answering nothing")
    ] = None,
    zone: Zone = None,
    encoding: Encoding = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the predictions here: .jsonl, or .parquet with labels")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The same fold over a file or the case's own source, without Kafka."""
    from infra.simulated import Published
    from infra.summary import table
    from streams.simulate import simulate as run
    from streams.tables import Reading

    declared = _case(case, partitions)
    with Published(declared, out) as published:
        found = run(
            declared,
            source,
            limit=limit,
            chunk=chunk,
            warm_up=warm_up,
            reading=Reading(zone, encoding),
            on_outputs=published.take,
        )
    found["refused"] = published.as_json()
    if out is not None:
        _say(f"written: {out}")
    if as_json:
        _print(found)
    else:
        table(found)


class TaskKind(enum.StrEnum):
    """A kind of task, as the command line names it."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


@app.command()
def evaluate(
    what: Annotated[
        str,
        typer.Argument(metavar="CASE|FILE", help="A case, or a .csv, .jsonl or .parquet file with a header"),
    ],
    label: Annotated[str | None, typer.Option("--label", help="FILE: the column to predict")] = None,
    task: Annotated[TaskKind | None, typer.Option(help="FILE: instead of what the labels look like")] = None,
    models: Annotated[
        str | None,
        typer.Option(help="Names of members with commas, the first the champion; else default ones"),
    ] = None,
    delay: Annotated[int, typer.Option(min=0, help="FILE, STREAM: a label is known so many rows later")] = 0,
    limit: Limit = None,
    encoding: Encoding = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with tables and curves here")] = None,
    as_json: AsJson = False,
) -> None:
    """How good models, and what serves, would have been: each row is answered, then learned from.

    FILE is any table: numbers, text and missing values, in the order in which the rows came. CASE is run over
    its own source, its pools as in service. STREAM is one of docs/evaluation.md, such as rbf-recurring. What
    is printed: figures of every member, of what was served, and scores of detectors where changes are known.
    """
    from infra import evaluate as evaluation
    from infra.evaluation_page import render
    from infra.evaluation_table import table

    path = evaluation.stream_path(what)
    names = tuple(name.strip() for name in models.split(",")) if models else ()
    if path is None and (label is not None or task is not None):
        raise typer.BadParameter(f"{what} is no file: it has a label and a task of its own")
    if path is None and evaluation.is_stream(what):
        found = evaluation.evaluate_named(what, models=names, delay=delay, limit=limit)
    elif path is None:
        if delay:
            raise typer.BadParameter(f"{what} is a case, whose labels have delays of their own")
        found = evaluation.evaluate_case(_case(what), limit=limit, models=names)
    elif label is None:
        raise typer.BadParameter("name the column to predict: --label COLUMN")
    else:
        kind = None if task is None else task.value
        found = evaluation.evaluate_file(
            path, label, kind=kind, models=names, delay=delay, limit=limit, encoding=encoding
        )
    if html is not None:
        html.write_text(render(found), "utf-8")
        _say(f"written: {html}")
    if as_json:
        _print(found)
    else:
        table(found)


@app.command()
def archive(
    case: Case,
    once: Annotated[bool, typer.Option("--once", help="Archive what is complete now, and end")] = False,
    part_size: Annotated[
        int | None, typer.Option(min=1, help="Offsets a part, for what is not archived yet (default: 50,000)")
    ] = None,
    topics: Annotated[
        list[TopicKind], typer.Option("--topic", help="Which topics; may be given several times")
    ] = ARCHIVED,
) -> None:
    """Copy a case's topics to DRIFTLINE_ARCHIVE (a folder or URI), as Parquet, until SIGTERM.

    A part holds a fixed range of offsets and is written once all of it is there; the newest records,
    short of a part, are in Kafka alone.
    """
    from infra.serve import run_archiver

    declared = _case(case)
    settings = _settings()
    named = [kind.of(declared.topics(settings.namespace)) for kind in topics]
    parts = run_archiver(declared, settings, named, part_size, once=once)
    _say(f"{parts} parts written")


@app.command()
def replay(
    case: Case,
    topic: Annotated[TopicKind, typer.Option(help="Which topic")] = TopicKind.LOG,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this one")] = None,
    start: Annotated[str | None, typer.Option("--from", help=BOUND)] = None,
    stop: Annotated[str | None, typer.Option("--to", help="Where to end, itself not included")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a record")] = False,
    values: Annotated[
        bool, typer.Option("--values", help="The log's events alone, for: driftline simulate CASE -")
    ] = False,
) -> None:
    """Print what a topic held, from Kafka and, before that, from the archive."""
    from infra import replay as printing
    from infra.serve import open_history

    if values and (as_json or topic is not TopicKind.LOG):
        raise typer.BadParameter("--values prints the log's events: it goes with neither --json nor --topic")
    try:
        begin, end = (None if text is None else printing.bound(text) for text in (start, stop))
    except ValueError as error:
        raise typer.BadParameter(f"neither an offset nor an RFC 3339 time: {error}") from None
    declared = _case(case)
    settings = _settings()
    if partition is not None and partition >= declared.partitions:
        raise typer.BadParameter(f"{declared.name} has partitions 0 to {declared.partitions - 1}")
    name = topic.of(declared.topics(settings.namespace))
    numbers = range(declared.partitions) if partition is None else (partition,)
    write = sys.stdout.buffer.write
    with open_history(declared, settings) as history:
        stretches = {n: printing.stretch(history, name, n, begin, end) for n in numbers}
        if values:
            refused = 0

            def count(*_: Any) -> None:
                nonlocal refused
                refused += 1

            lines_of = printing.as_recorded if declared.is_live else printing.as_source
            for line in lines_of(stretches, declared.codec(), count):
                write(line + b"\n")
            if refused:
                _say(f"{refused:,} records that are no events of {declared.name} were left out")
            return
        shown = printing.as_json if as_json else printing.as_text
        for number, records in stretches.items():
            for record in records:
                write(shown(number, record) + b"\n")


def _cannot(error: Exception) -> typer.Exit:
    """Exit code 2, so that 1 says one thing alone: what is published is not what the log gives."""
    if not _is_told(error):
        raise error
    _say(f"driftline: {error}")
    return typer.Exit(2)


@app.command()
def audit(
    case: Case,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this one")] = None,
    start: Annotated[
        int, typer.Option("--from", min=0, help="Compare what this offset of the log caused, and later ones")
    ] = 0,
    stop: Annotated[int | None, typer.Option("--to", min=0, help="Where to end, itself not included")] = None,
    prediction: Annotated[
        str | None, typer.Option(help="Compare this prediction alone, by its id, and its outcomes")
    ] = None,
    partitions: Partitions = None,
    as_json: AsJson = False,
) -> None:
    """Compare what is published with what the log gives, byte by byte.

    Folds the log from its start once more, out of Kafka and the archive, and holds each output against the
    published record: key, value, headers. What other code or other arithmetic published is not compared:
    it is counted as unchecked, with the reason.

    Exit code 0: all that was compared is equal. 1: a difference, told with its place and field, or records
    in partitions of the log that the case does not declare. 2: nothing could be compared, or a part of the
    log is missing.
    """
    from infra.audit import audit as run
    from streams.audit import Selection

    try:
        declared = _case(case, partitions)
        if partition is not None and partition >= declared.partitions:
            raise typer.BadParameter(f"{declared.name} has partitions 0 to {declared.partitions - 1}")
        selection = Selection(start, stop, prediction)
        found = run(_case_path(case), declared, _settings(), partition, selection, _say)
    except Exception as error:
        raise _cannot(error) from None
    print(found.as_json() if as_json else found)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


@app.command()
def check(
    case: Case,
    source: Source = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Fold so many of the first events")] = 5_000,
    partitions: Partitions = None,
    as_json: AsJson = False,
) -> None:
    """Whether a case repeats itself: folds a sample twice, and says what comes out differently and why.

    The second time in processes with another hash seed, in other chunks, and with a restart in the middle
    from what a checkpoint holds. Where outputs or states differ, the first difference is told, the
    circumstance that makes it (the clock, random numbers, the order of a set, state outside of the fold),
    and the functions of the declaration to look at. No Kafka is needed.

    Exit code 0: all is equal. 1: a difference. 2: nothing could be compared.
    """
    from infra.check import check as run

    try:
        found = run(_case_path(case), _case(case, partitions), source, limit, _say)
    except Exception as error:
        raise _cannot(error) from None
    print(found.as_json() if as_json else found)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


@app.command()
def lineage(
    prediction: Annotated[str, typer.Argument(help="The prediction's id: event id, colon, task name")],
    case: Annotated[
        str | None, typer.Argument(help="As elsewhere; may be left out where only one case is known")
    ] = None,
    events: Annotated[int, typer.Option(min=0, help="List so many events behind each value")] = 5,
    partitions: Partitions = None,
    as_json: AsJson = False,
) -> None:
    """All that a prediction rests on: request, features and the events behind them, model, code, outcome.

    Each feature value is computed again from the events behind it, apart from the fold. Exit code 1 when
    one is not what was used, or when there is no such prediction.
    """
    from infra.lineage import as_json as to_json
    from infra.lineage import as_text
    from infra.serve import open_history
    from streams.deployment import code_of
    from streams.lineage import lineage as trace

    declared = _case(_only_case() if case is None else case, partitions)
    settings = _settings()
    with open_history(declared, settings) as history:
        topics = declared.topics(settings.namespace)
        found = trace(history, declared, topics, code_of(declared), prediction, events)
    print(to_json(found) if as_json else as_text(found))
    if not found.agrees:
        raise typer.Exit(1)


@app.command()
def demo(
    case: Annotated[str, typer.Argument(help="The case to show")] = DEMO_CASE,
    limit: Limit = None,
    partitions: Partitions = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete what the case's log on the local Kafka holds")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Everything at once: Kafka, Feast, a worker, a year of flights, a report."""
    from infra.demo import run

    found = run(_case_path(case), _settings(), limit=limit, partitions=partitions, fresh=fresh)
    if as_json:
        _print(found)


class _SchemaGroup(TyperGroup):
    """`schema CASE` is `schema print CASE`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["print", *args]
        return super().resolve_command(ctx, args)


schema_app = typer.Typer(
    help="JSON Schema of every topic of a case: `schema CASE` prints it.",
    cls=_SchemaGroup,
    no_args_is_help=True,
)
app.add_typer(schema_app, name="schema")


@schema_app.command("print")
def schema_print(case: Case) -> None:
    """JSON Schema of every topic of a case."""
    from streams.schema import topic_schemas

    print(json.dumps(topic_schemas(_case(case), _settings().namespace), indent=2))


@schema_app.command("check")
def schema_check(
    case: Case,
    against: Annotated[
        str,
        typer.Option("--against", metavar="OLD", help="What `schema CASE` printed, or another CASE"),
    ],
    as_json: AsJson = False,
) -> None:
    """What the case breaks: events of the log that it refuses, features that readers of predictions miss.

    Exit code 1 when there is any; 2 when they cannot be compared.
    """
    from infra.schema import broken

    try:
        found = broken(_case(case), against, _case_path)
    except Exception as error:
        raise _cannot(error) from None
    if as_json:
        _print(found)
    else:
        for line in found:
            print(line)
    if found:
        raise typer.Exit(1)


@app.command()
def bench(
    limit: Annotated[int, typer.Option(min=1000, help="Events a run")] = 60_000, as_json: AsJson = False
) -> None:
    """Measure against bare River and other frameworks, on this machine."""
    from bench.run import main as run

    found = run(_settings(), limit=limit)
    if as_json:
        _print(found)


def _tail_command(kind: TopicKind) -> typer.Typer:
    group = typer.Typer(help=f"The {kind.value} topic.", no_args_is_help=True)

    @group.callback()
    def of() -> None: ...

    @group.command()
    def tail(
        case: Case,
        max_records: Annotated[int, typer.Option("--max", min=1, help="How many of the newest")] = 10,
        as_json: AsJson = False,
    ) -> None:
        """The newest records."""
        from infra.serve import bootstrap_of
        from infra.tail import newest

        settings = _settings()
        topics = _case(case).topics(settings.namespace)
        records = newest(bootstrap_of(settings), kind.of(topics), max_records)
        if as_json:
            _print(records)
        else:
            for record in records:
                print(json.dumps(record))

    app.add_typer(group, name=kind.value)
    return group


_groups = {kind: _tail_command(kind) for kind in TopicKind if kind is not TopicKind.LOG}
models_app = _groups[TopicKind.MODELS]
models_app.info.help = "The models topic, and commands to the models of a case."
KeyFile = Annotated[Path, typer.Option("--key", help="File with the operator's private key")]
Operator = Annotated[str, typer.Option("--operator", help="Name that the case declares the public key under")]
PoolKey = Annotated[str, typer.Option("--pool", help="Key of the one pool meant; all without it")]
MemberName = Annotated[str, typer.Argument(help="Name of the member")]


@models_app.command("key")
def models_key(
    path: Annotated[Path, typer.Argument(help="File for the private key; it must not exist")],
    as_json: AsJson = False,
) -> None:
    """Make an operator's key pair: the private key goes to a file, the public one is for the declaration."""
    from infra.operator import make_key

    public = make_key(path)
    if as_json:
        _print({"public_key": public})
    else:
        print(public)


@models_app.command("list")
def models_list(case: Case, as_json: AsJson = False) -> None:
    """The declared members, and what every pool serves as far as the models topic tells."""
    from infra.operator import members, serving
    from infra.serve import bootstrap_of

    settings = _settings()
    declared = _case(case)
    topic = declared.topics(settings.namespace).models
    pools = serving(bootstrap_of(settings), topic)
    if as_json:
        _print({"members": members(declared), "serving": pools})
        return
    for member in members(declared):
        print("\t".join(str(value) for value in member.values()))
    for key, change in pools.items():
        print(f"{key}: {change['serving']} ({change['kind']} {change['member']}, {change['at']})")


def _send_command(case: str, operator: str, key: Path, **command: Any) -> None:
    from infra.operator import send
    from infra.serve import bootstrap_of

    settings = _settings()
    sent = send(_case(case), bootstrap_of(settings), settings.namespace, operator, key, **command)
    _say(f"sent {sent.action} as {sent.id}: `driftline models tail {case}` shows what comes of it")


def _member_command(action: str, text: str) -> None:
    @models_app.command(action, help=text)
    def command(case: Case, member: MemberName, operator: Operator, key: KeyFile, pool: PoolKey = "") -> None:
        _send_command(case, operator, key, action=action, member=member, pool=pool)


def _pool_command(action: str, text: str) -> None:
    @models_app.command(action, help=text)
    def command(case: Case, operator: Operator, key: KeyFile, pool: PoolKey = "") -> None:
        _send_command(case, operator, key, action=action, pool=pool)


_member_command("promote", "Let a member serve.")
_member_command("add", "Start a member that is in reserve, removed or in quarantine, anew.")
_member_command("remove", "Stop a challenger.")
_pool_command("rollback", "Undo the last promotion.")
_pool_command("freeze", "Promote nothing by evidence any more.")
_pool_command("unfreeze", "Promote by evidence again.")


@models_app.command("budget")
def models_budget(
    case: Case,
    operator: Operator,
    key: KeyFile,
    budget: Annotated[float | None, typer.Argument(help="None without it: no bound")] = None,
    pool: PoolKey = "",
) -> None:
    """Bound what the members that do not serve may cost."""
    _send_command(case, operator, key, action="budget", budget=budget, pool=pool)


@features_app.command("get")
def features_get(
    case: Case,
    view: Annotated[str, typer.Argument(help="Name of the feature view")],
    keys: Annotated[list[str], typer.Argument(help="key=value ...")],
    as_json: AsJson = False,
) -> None:
    """The newest online feature values of one key."""
    wrong = [pair for pair in keys if "=" not in pair]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not of the form key=value")
    import msgspec

    from features.client import FeatureClient
    from infra.figures import lasting

    declared = _case(case)
    with FeatureClient(declared, _settings().features(declared.name)) as client:
        found = client.get(view, dict(pair.split("=", 1) for pair in keys))
    if as_json:
        _print(msgspec.to_builtins(found))
    else:
        for name, value in found.features.items():
            shown = "" if value.value is None else value.value
            print(
                f"{name}\t{shown}\t{value.status}"
                + ("" if value.age is None else f"\t{lasting(value.age)} old")
            )


def _feature_repo(case: str) -> OnlineStoreRepo:
    from features.registry import OnlineStoreRepo

    declared = _case(case)
    return OnlineStoreRepo(_settings().features(declared.name), declared.views(), declared.on_demand_views())


def _print_changes(changes: list[Any], as_json: bool) -> None:
    import msgspec

    if as_json:
        _print(msgspec.to_builtins(changes))
    else:
        for change in changes:
            print(change)


@features_app.command("describe")
def features_describe(case: Case, as_json: AsJson = False) -> None:
    """What the features of a case are: how each is computed, its unit, valid range, owner, and its view."""
    import msgspec

    from features.catalogue import catalogue

    declared = _case(case)
    found = catalogue(declared.features, declared.task.ask, declared.views(), declared.on_demand_views())
    if as_json:
        _print(msgspec.to_builtins(found))
    else:
        for entry in found:
            print(entry)


@features_app.command("plan")
def features_plan(case: Case, as_json: AsJson = False) -> None:
    """What `apply` would do to the feature registry: each object with create, change or keep."""
    _print_changes(_feature_repo(case).plan(), as_json)


@features_app.command("apply")
def features_apply(case: Case, as_json: AsJson = False) -> None:
    """Register a case's features with Feast, as every worker does at its start; nothing is deleted."""
    _print_changes(_feature_repo(case).apply(), as_json)


@features_app.command("history")
def features_history(
    case: Case,
    start: Annotated[
        int,
        typer.Option("--from", min=0, help="Write the rows that this offset of the log caused, and later"),
    ] = 0,
    stop: Annotated[int | None, typer.Option("--to", min=0, help="Where to end, itself not included")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to (default: where Feast's views read it)")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the rows of the feature views, as they changed, from the archived log.

    Folds the archive from its start with the features' own code, every partition in a process of its own,
    and writes Parquet parts by fixed ranges of the log's offsets. What is there is left, what is missing is
    added, what other code wrote is written anew. Joins need the rows before the first request too: leave out
    --from unless they are of no interest.
    """
    from infra.feature_history import write

    report = write(_case_path(case), _case(case), _settings(), start, stop, out)
    print(report.as_json() if as_json else report)


@features_app.command("training-set")
def features_training_set(
    case: Case,
    out: Annotated[Path, typer.Option(help="The Parquet file to write")],
    start: Annotated[str | None, typer.Option("--from", help=REQUEST_TIME)] = None,
    stop: Annotated[str | None, typer.Option("--to", help="Where to end, itself not included")] = None,
    as_json: AsJson = False,
) -> None:
    """Features from the history, as of each archived prediction's request, with its label.

    Joined by Feast's get_historical_features and compared, value by value, with what the predictions
    published. Exit code 1 when one differs; the file is written all the same. 2 when nothing was compared.
    """
    from infra.training_set import write_training_set

    report = write_training_set(_case(case), _settings(), *_times(start, stop), out)
    print(report.as_json() if as_json else report)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


@features_app.command("served")
def features_served(
    case: Case,
    out: Annotated[Path, typer.Option(help="The Parquet file to write")],
    start: Annotated[str | None, typer.Option("--from", help=REQUEST_TIME)] = None,
    stop: Annotated[str | None, typer.Option("--to", help="Where to end, itself not included")] = None,
) -> None:
    """The training log: features as they were served, from the archived predictions, with their labels."""
    from infra.training_set import write_training_log

    rows = write_training_log(_case(case), _settings(), *_times(start, stop), out)
    _say(f"{rows:,} predictions written to {out}")


SchemaFile = Annotated[
    Path | None,
    typer.Option("--schema", help="The schema's file (default: CASE.schema.json beside the declaration)"),
]
WindowFrom = Annotated[str | None, typer.Option("--from", help="Only windows from this time on (RFC 3339)")]
WindowTo = Annotated[str | None, typer.Option("--to", help="Where to end, itself not included")]
Skew = Annotated[
    bool, typer.Option("--skew", help="Compare with the feature history too, which must be there")
]
Page = Annotated[Path | None, typer.Option("--html", help="Write a page with histograms here")]


@data_app.command("schema")
def data_schema(
    case: Case,
    start: Annotated[str | None, typer.Option("--from", help=REQUEST_TIME)] = None,
    stop: Annotated[str | None, typer.Option("--to", help="Where to end, itself not included")] = None,
    window: Annotated[float, typer.Option(help="Hours that statistics are told of together")] = 24.0,
    freeze: Annotated[bool, typer.Option("--freeze", help="Write it to its file, once")] = False,
    schema: SchemaFile = None,
) -> None:
    """Infer what features are expected to be from requests that were in order, and print it.

    Types, the share that may be missing, ranges, domains and bins, as JSON: with --freeze in a file of the
    project, to be read, edited and kept with it. What it was inferred from is what drift is measured from.
    """
    from infra import data

    declared = _case(case)
    found = data.infer_schema(declared, _settings(), window * 3600.0, *_times(start, stop))
    if freeze:
        path = schema or data.schema_path(_case_path(case), declared)
        data.freeze(found, path)
        _say(f"written: {path}")
    else:
        sys.stdout.buffer.write(found.encode())


def _expected(case: str, schema: Path | None) -> tuple[Any, Any, Any]:
    """The case, the settings, and the frozen schema."""
    from infra import data

    declared = _case(case)
    path = schema or data.schema_path(_case_path(case), declared)
    return declared, _settings(), data.read_schema(path, declared)


def _report(expected: tuple[Any, Any, Any], times: tuple[Any, Any], html: Path | None) -> Any:
    from infra import data
    from infra.data_page import render

    found = data.report(*expected, *times)
    if html is not None:
        html.write_text(render(found), "utf-8")
        _say(f"written: {html}")
    return found


@data_app.command("statistics")
def data_statistics(
    case: Case,
    start: WindowFrom = None,
    stop: WindowTo = None,
    schema: SchemaFile = None,
    html: Page = None,
    as_json: AsJson = False,
) -> None:
    """Statistics of every feature as it was served, and how far they are from the reference.

    Counts the predictions in the archive, and in Kafka beyond it. What an archived part comes to is kept
    beside the archive as Parquet.
    """
    from infra.data import statistics_text

    found = _report(_expected(case, schema), _times(start, stop), html)
    print(found.as_json() if as_json else statistics_text(found))


@data_app.command("anomalies")
def data_anomalies(
    case: Case,
    start: WindowFrom = None,
    stop: WindowTo = None,
    schema: SchemaFile = None,
    skew: Skew = False,
    html: Page = None,
    as_json: AsJson = False,
) -> None:
    """Windows that are not what the schema expects: presence, type, domain, range, cardinality, drift, skew.

    Exit code 1 when there are any.
    """
    import msgspec

    from infra import data

    expected, times = _expected(case, schema), _times(start, stop)
    found = _report(expected, times, html)
    if skew:
        differing = data.skew_of(*expected, *times)
        found = msgspec.structs.replace(found, anomalies=(*found.anomalies, *differing))
    print(found.as_json() if as_json else data.anomalies_text(found))
    if found.exit_code:
        raise typer.Exit(found.exit_code)


@data_app.command("publish")
def data_publish(
    case: Case,
    schema: SchemaFile = None,
    skew: Skew = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as windows close, until SIGTERM")] = False,
) -> None:
    """Write closed windows and their anomalies to the case's compacted topics; what is there is left."""
    import signal

    from infra import data

    declared, settings, expected = _expected(case, schema)
    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    data.publish(
        declared,
        settings,
        expected,
        data.skew_of(declared, settings, expected, None, None) if skew else None,
        lambda told: _say(f"{told.statistics:,} windows and {told.anomalies:,} anomalies written"),
        lambda: follow and not stopped,
    )


def _times(start: str | None, stop: str | None) -> tuple[Any, Any]:
    """RFC 3339 times with their zone; None where there is none."""
    from datetime import datetime

    times = []
    for text in (start, stop):
        try:
            moment = None if text is None else datetime.fromisoformat(text)
        except ValueError as error:
            raise typer.BadParameter(f"no RFC 3339 time: {error}") from None
        if moment is not None and moment.tzinfo is None:
            raise typer.BadParameter(f"{text!r} has no zone: write {text}Z for UTC")
        times.append(moment)
    return times[0], times[1]


def _hidden_by(folder: Path) -> Path | None:
    """A module in `folder` that Python would take for one of ours, None when there is none."""
    if folder.resolve() == Path(__file__).resolve().parents[1]:
        return None
    for name in PACKAGES:
        for own in (folder / name / "__init__.py", folder / f"{name}.py"):
            if own.exists():
                return own
    return None


def _is_told(error: Exception) -> bool:
    """Whether the message says enough: our own errors, and a broker that is out of reach."""
    from driftline.errors import DriftlineError

    if isinstance(error, DriftlineError):
        return True
    if "kafka" not in sys.modules:
        return False
    from kafka.errors import KafkaConnectionError, KafkaTimeoutError

    return isinstance(error, (KafkaConnectionError, KafkaTimeoutError))


INTERRUPTED = 130
"""Exit code of a command that Ctrl-C has ended."""


def main() -> None:
    """Entry point; an error whose message says enough is one line and exit code 1, without a traceback."""
    own = _hidden_by(Path.cwd())
    if own is not None:
        _say(
            f"driftline: {own} would be taken for the package of that name which driftline needs: rename it, "
            "or run driftline in another folder"
        )
        sys.exit(1)
    from streams.hash_seed import pin

    pin()
    try:
        app()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            from infra.interruption import still_running

            for line in still_running(_settings()):
                _say(line)
        raise
    except Exception as error:
        if not _is_told(error):
            raise
        _say(f"driftline: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()

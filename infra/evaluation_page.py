"""An evaluation as one HTML page that loads nothing: the table of models, their course, the detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from infra.charts import Line, Mark, count_ticks, time_chart
from infra.figures import figure
from infra.page import framed

FIGURES = {
    "accuracy": "accuracy", "kappa": "kappa", "kappa_temporal": "kappa temporal", "log_loss": "log loss",
    "roc_auc": "ROC AUC", "rmse": "RMSE", "mae": "MAE",
}  # fmt: skip
SERVED, BEST, DEFAULT, OTHER = "champion", "challenger1", "frozen", "prior"
"""Style classes of the lines: what was served, the best member, the default single model, any other."""


def render(result: Mapping[str, Any]) -> str:
    """The page of what `evaluate --json` prints."""
    title = f"Evaluation: {result['stream']}"
    sections = [_tiles(result), _course(result), _models(result)]
    if result.get("detectors"):
        sections.append(_detectors(result["detectors"]))
    if result.get("table"):
        sections.append(_table(result["table"]))
    delay = result["delay"]
    late = "as it came" if isinstance(delay, str) else f"{delay:,} requests later" if delay else "at once"
    introduction = (
        "<p class=lead>Every request was answered before its label was learned.</p>"
        f"<p class=quiet>{escape(result['task'])} task &middot; {result['requests']:,} requests, "
        f"{result['labels']:,} labels, each known {late}</p>"
    )
    return framed(title, introduction, sections)


def _tiles(result: Mapping[str, Any]) -> str:
    score, models = result["score"], result["models"]
    name = FIGURES[score]
    tiles = (
        (f"{name}, served", result["served"].get(score), "whichever member answered"),
        (f"{name}, best member", models[result["best"]].get(score), result["best"]),
        (f"{name}, default single model", models[result["default"]].get(score), result["default"]),
    )
    parts = [
        f"<div class=tile><span>{escape(what)}</span><b>{figure(value, 4)}</b><i>{escape(note)}</i></div>"
        for what, value, note in tiles
    ]
    return f"<section class=tiles>{''.join(parts)}</section>"


def _style(name: str, result: Mapping[str, Any]) -> str:
    if name == "served":
        return SERVED
    if name == result["best"]:
        return BEST
    return DEFAULT if name == result["default"] else OTHER


def _course(result: Mapping[str, Any]) -> str:
    window = result["window"]
    lines = []
    for name, points in result["curves"].items():
        placed = [((i + 1) * window, y) for i, y in enumerate(points) if y is not None]
        lines.append(Line(name, _style(name, result), placed, dashed=False))
    lines.sort(key=lambda line: (OTHER, DEFAULT, BEST, SERVED).index(line.style))  # what matters is on top
    marks = [
        Mark(change["start"], f"{change['kind']} change of {change['subject']}", "of-loss", 0)
        for change in result.get("changes", ())
    ]
    marks += [
        Mark(told["request"], f"{told['kind']}: {told['subject']} {told['reason']}".strip(), "of-feature", 1)
        for told in result["told"]
    ]
    label = f"{FIGURES[result['score']]} in windows of {window:,} labels"
    span = (0.0, float(max(result["labels"], 1)))
    chart = time_chart(lines, span, label=label, marks=marks, height=340, ticks_of=count_ticks)
    if not chart:
        return ""
    keys = [("served", SERVED), (f"best member: {result['best']}", BEST)]
    if result["default"] != result["best"]:
        keys.append((f"default: {result['default']}", DEFAULT))
    keys.append(("other members", OTHER))
    legend = [f'<span><i class="key {style}"></i>{escape(name)}</span>' for name, style in keys]
    if result.get("changes"):
        legend.append('<span><i class="key tickmark of-loss"></i>known change</span>')
    if result["told"]:
        legend.append('<span><i class="key tickmark of-feature"></i>told by the pool</span>')
    return (
        f"<section><h2>{escape(label)}</h2><p class=quiet>over the number of labels; point at a line for its "
        f"name</p><div class=legend>{''.join(legend)}</div>{chart}</section>"
    )


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=scroll><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"


def _models(result: Mapping[str, Any]) -> str:
    shown = [name for name in FIGURES if name in result["served"]]
    head = ["model", "role", *(FIGURES[name] for name in shown), "seconds", "kB"]
    rows = []
    for name, entry in {"served": result["served"], **result["models"]}.items():
        kb = entry["bytes"]
        key = f'<i class="key {_style(name, result)}"></i>'
        rows.append(
            [
                key + escape(name),
                escape(entry["role"]) + ("" if entry["live"] else ", quarantined"),
                *(figure(entry.get(name), 4) for name in shown),
                figure(entry["seconds"], 2),
                "&ndash;" if kb is None else f"{kb / 1024:,.0f}",
            ]
        )
    return (
        f"<section><h2>Models</h2><p class=quiet>seconds are CPU time of the member's own calls, kB its "
        f"memory at the end</p>{_rows(head, rows)}</section>"
    )


def _detectors(detectors: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            escape(name), f"{score['alarms']:,}", f"{score['false_alarms']:,}", figure(score["mtfa"], 0),
            figure(score["mtd"], 0), figure(score["mdr"], 2), figure(score["mtr"], 1),
        ]
        for name, score in detectors.items()
    ]  # fmt: skip
    head = ["detector", "alarms", "false", "MTFA", "MTD", "MDR", "MTR"]
    return (
        "<section><h2>Detectors on the default model's errors</h2><p class=quiet>labels between false "
        "alarms (MTFA), labels to detection (MTD), share of changes missed (MDR), MTFA / MTD &times; "
        "(1 &minus; MDR) (MTR); a dummy that always fires and one that never does beside them</p>"
        f"{_rows(head, rows)}</section>"
    )


def _table(table: Mapping[str, Any]) -> str:
    left_out = ", ".join(f"{name} ({why})" for name, why in table["left_out"].items()) or "none"
    missing = ", ".join(f"{name} ({count:,})" for name, count in table["missing"].items()) or "none"
    positive = "" if table["positive"] is None else f", true where it is {table['positive']}"
    facts = (
        ("rows", f"{table['rows']:,}, {table['unlabelled']:,} of them without a label"),
        ("label", f"{table['label']}{positive}"),
        ("features", ", ".join(table["features"])),
        ("columns left out", left_out),
        ("missing values", missing),
    )
    body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts)
    return f"<section><h2>The table</h2><dl>{body}</dl></section>"

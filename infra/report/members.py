"""The members of a run in tables, and what adaptation gained over those that do not adapt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from driftline.infra.report.figures import figure, role_of
from driftline.infra.report.page import Tile

MemberReports = Mapping[str, Mapping[str, Any]]

ALONE = "never replaced"
"""What the declared champion is called where it is scored as if nothing had ever replaced it."""

ROLES = ("champion", "challenger", "frozen", "prior")
MAIN = {"roc_auc": "ROC AUC", "log_loss": "log loss", "rmse": "RMSE", "mae": "MAE", "accuracy": "accuracy"}
"""The first of these that any member has heads the page."""
COLUMNS = {
    "roc_auc": "ROC AUC", "pr_auc": "PR AUC", "log_loss": "log loss", "brier": "Brier", "mae": "MAE",
    "rmse": "RMSE", "r2": "R²", "accuracy": "accuracy", "kappa": "kappa", "kappa_temporal": "kappa temporal",
    "cost": "cost", "n": "labels",
}  # fmt: skip
GAINED = {
    "roc_auc": "ROC AUC", "log_loss": "log loss", "rmse": "RMSE", "accuracy": "accuracy", "n": "labels",
}  # fmt: skip


def member_styles(models: MemberReports) -> dict[str, str]:
    """CSS class of each member, champion first, then challengers, frozen and prior."""

    def rank(name: str) -> int:
        role = role_of(name, models[name])
        return ROLES.index(role) if role in ROLES else len(ROLES)

    styles = {}
    challengers = 0
    for name in sorted(models, key=rank):
        role = role_of(name, models[name])
        if role == "challenger":
            challengers += 1
            role = f"challenger{min(challengers, 3)}"
        styles[name] = role
    return styles


def tiles(result: Mapping[str, Any]) -> list[Tile]:
    """The figures at the head of the page."""
    models = result["models"]
    key = next(
        (key for key in MAIN if any(state.get(key) is not None for state in models.values())), "accuracy"
    )
    by_role = {role_of(member, state): state.get(key) for member, state in models.items()}
    by_role[ALONE] = by_role.get("champion")
    beside = ", ".join(
        f"{role} {figure(by_role[role])}"
        for role in (ALONE, "frozen", "prior")
        if by_role.get(role) is not None
    )
    labels = f"{result['labelled']:,} labelled, {result['pending']:,} pending"
    speed = f"{result['events']:,} events in {result['seconds']:,.0f} s"
    return [
        Tile(figure(result["served"].get(key)), f"{MAIN[key]} of what served", beside),
        Tile(figure(result["predictions"]), "predictions", labels),
        Tile(figure(result.get("events_per_second"), 0), "events a second", speed),
        Tile(figure(result.get("cpu_us_per_event"), 0), "CPU an event, worker", unit="µs"),
        Tile(figure(result["drift_events"]), "drift events", f"{result['dead_letters']:,} dead letters"),
    ]


class MemberRow(NamedTuple):
    """A member, its style and its figures."""

    name: str
    style: str
    role: str
    figures: list[Any]


class MemberTable(NamedTuple):
    """Names of the figures that any member has, and a row for each member."""

    columns: list[str]
    rows: list[MemberRow]


def member_table(models: MemberReports, styles: Mapping[str, str]) -> MemberTable:
    """Every member with its figures."""
    keys = [key for key in COLUMNS if any(state.get(key) is not None for state in models.values())]
    rows = [
        MemberRow(name, style, role_of(name, models[name]), [models[name].get(key) for key in keys])
        for name, style in styles.items()
    ]
    return MemberTable([COLUMNS[key] for key in keys], rows)


class GainRow(NamedTuple):
    """Figures of something that was served or could have been; `gain` in percent of its loss."""

    name: str
    figures: list[Any]
    gain: float | None


class Gains(NamedTuple):
    """What was served, compared with what does not adapt."""

    columns: list[str]
    rows: list[GainRow]


def gains(models: MemberReports, served: Mapping[str, Any]) -> Gains | None:
    """What was served beside the champion as declared, never replaced, and the baselines."""
    champion = next((name for name in models if role_of(name, models[name]) == "champion"), None)
    loss = next((name for name in ("log_loss", "rmse") if served.get(name) is not None), None)
    if champion is None or loss is None:
        return None
    compared: dict[str, Mapping[str, Any]] = {
        "as served": served,
        f"{champion}, {ALONE}": models[champion],
        **{name: models[name] for name in ("frozen", "prior") if name in models},
    }
    keys = [key for key in GAINED if served.get(key) is not None]
    rows = [
        GainRow(name, [state.get(key) for key in keys], _less(served[loss], state.get(loss)))
        for name, state in compared.items()
    ]
    return Gains([GAINED[key] for key in keys], rows)


def _less(served: float, other: float | None) -> float | None:
    """By how much less was lost than `other`, in percent of it; None where it is the same."""
    return None if not other or served == other else (other - served) / other * 100

"""Features by several keys, one model for all, labels that know their payment alone: in one partition."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from parcels import Share
from pyarrow import parquet

from driftline import DAY, Event, Member, PerKey, Promotion, Shared, UseCase, new_command
from driftline.examples.payments import payments
from driftline.examples.payments.events import Disputed, Payment, Reported
from driftline.examples.payments.models import logistic
from driftline.examples.payments.source import COUNTRIES, events
from driftline.infra.offline.evaluate import evaluate_case
from driftline.infra.settings import Settings
from driftline.streams.declare.commands import new_key
from driftline.streams.errors import DeclarationError
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import layout, with_closing_clock
from tests.commands.forked_command import completed
from tests.streams.archive.archived import archive_of

LIMIT = 9_000
PRIVATE, PUBLIC = new_key()


def declared(models: PerKey, **changes: Any) -> UseCase:
    return replace(payments, models=models, operators={"ann": PUBLIC}, **changes)


def by_country(**changes: Any) -> UseCase:
    models = PerKey(
        Member("logistic", logistic), [Member("share", Share)], by="country", promotion=Promotion()
    )
    return declared(models, **changes)


def fold(case: UseCase, entries: Iterator[Event]) -> tuple[PartitionProcessor, Outputs]:
    processor = PartitionProcessor(case, 0, rows=True)
    return processor, processor.step([record for _, record in layout(case, entries, 1)])


def decoded(outputs: list[Any]) -> list[dict[str, Any]]:
    return [json.loads(output.value) for output in outputs]


def test_the_events_are_the_same_ones_at_every_call_and_in_the_order_of_time() -> None:
    first, again = list(events(500)), list(events(500))
    assert first == again
    assert [e.at for e in first] == sorted(e.at for e in first)
    assert len({(type(e), e.id) for e in first}) == len(first)
    kinds = Counter(type(e) for e in events(2_000))
    assert kinds[Payment] == 2_000
    assert min(kinds[Disputed], kinds[Reported]) > 0


def test_any_chunking_gives_one_digest_and_one_model_for_all() -> None:
    found = [simulate(payments, limit=LIMIT, chunk=chunk) for chunk in (7, 7_919)]
    assert len({one["digest"] for one in found}) == 1
    assert found[0]["dead_letters"] == found[0]["unmatched"] == 0
    assert found[0]["models"]["logistic"]["fading"]["roc_auc"] > 0.75
    processor, out = fold(payments, with_closing_clock(payments, iter(list(events(2_000)))))
    assert set(processor.learner.pools) == {""}
    assert processor.learner.pools[""].state().labels == processor.learner.results.labelled
    assert len({one["keys"]["card"] for one in decoded(out.predictions)}) > 100


def test_rows_of_every_entity_are_kept_whichever_event_brings_it() -> None:
    _, out = fold(payments, events(2_000))
    views = {view for view, _ in out.rows}
    assert views == {"payments_by_card", "payments_by_merchant", "payments_by_device"}
    rows = {key: values for (view, key), (_, values) in out.rows.items() if view == "payments_by_merchant"}
    assert any(values.get("merchant_reports_7d", 0) > 0 for values in rows.values())


def test_without_a_key_answers_are_the_same_and_records_are_under_the_payment() -> None:
    keyless = replace(payments, key=None)
    _, keyed = fold(payments, events(500))
    _, out = fold(keyless, events(500))
    answers = [
        [(p["event_id"], p["probabilities"], p["features"]) for p in decoded(one.predictions)]
        for one in (keyed, out)
    ]
    assert answers[0] == answers[1]
    assert [o.key.decode() for o in out.predictions] == [
        p["keys"]["payment"] for p in decoded(out.predictions)
    ]
    assert all("card" not in p["keys"] for p in decoded(out.predictions))


def test_a_countrys_models_are_those_of_a_case_that_has_this_country_alone() -> None:
    # else a long step of time waits for the event after it, which in the other case is another one
    case = by_country(features={name: payments.features[name] for name in ("amount", "hour")}, clock_skew=DAY)
    processor, together = fold(case, events(6_000))
    assert set(processor.learner.pools) == set(COUNTRIES)
    shared = replace(case, models=Shared(case.models.champion, case.models.challengers))
    asked = {e.payment for e in events(6_000) if isinstance(e, Payment) and e.country == "DE"}
    _, alone = fold(shared, (e for e in events(6_000) if getattr(e, "payment", None) in asked))
    wanted = [(p["id"], p["probabilities"]) for p in decoded(alone.predictions)]
    found = [
        (p["id"], p["probabilities"]) for p in decoded(together.predictions) if p["keys"]["country"] == "DE"
    ]
    assert found == wanted
    assert len({str(answer) for _, answer in found[-100:]}) > 50  # it has learned


def test_a_command_reaches_the_pool_of_its_country_alone() -> None:
    case = by_country()
    orders = [
        new_command("payments", "ann", PRIVATE, "promote", member="share", pool=pool)
        for pool in ("DE", "XX", "")
    ]
    history = list(events(1_000))
    entries = [*history[:500], orders[0], *history[500:700], orders[1], *history[700:], orders[2]]
    _, out = fold(case, iter(entries))
    changes = [(c["key"], c["kind"], c["serving"]) for c in decoded(out.models)]
    assert changes[0] == ("DE", "promotion", "share")
    assert changes[1][:2] == ("XX", "refused")
    assert {key for key, _, _ in changes[2:]} == set(COUNTRIES)
    after = [p for p in decoded(out.predictions) if p["event_id"] in {e.id for e in history[500:]}]
    assert {(p["keys"]["country"] == "DE", p["model"]["name"]) for p in after} == {
        (True, "share"), (False, "logistic")
    }  # fmt: skip


def test_an_evaluation_has_the_pools_of_the_case() -> None:
    for case in (payments, by_country()):
        simulated = simulate(case, limit=2_000)["models"]["logistic"]
        evaluated = evaluate_case(case, limit=2_000)["models"]["logistic"]
        assert evaluated["roc_auc"] == pytest.approx(simulated["roc_auc"], abs=1e-4)


def test_several_partitions_are_a_chain_and_refused_with_what_works_where_labels_find_no_way() -> None:
    assert [stage.topic for stage in replace(payments, partitions=3).plan.stages][-1] == "questions"
    with pytest.raises(DeclarationError, match="partitions=1"):
        replace(payments, partitions=3, models=PerKey(Member("logistic", logistic)))


def test_a_training_set_has_the_features_of_every_entity_as_they_were_served(tmp_path: Path) -> None:
    history = with_closing_clock(payments, events(600))
    archive_of(payments, history, Settings(home=tmp_path).archive_uri("payments"), 500)
    case = "driftline.examples.payments:payments"
    for arguments in (
        ["history", case],
        ["training-set", case, "--out", str(tmp_path / "set.parquet"), "--json"],
    ):
        done = completed("features", *arguments, environment=os.environ | {"DRIFTLINE_HOME": str(tmp_path)})
        assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["rows"], made["share"]) == (600, 1.0)
    table = parquet.read_table(tmp_path / "set.parquet")
    assert {"key_card", "key_payment", "key_country", *payments.features} <= set(table.column_names)

"""The ratios that the bench is for: driftline against its peers, and against itself with less."""

from __future__ import annotations

from typing import Any


def ratios(
    fold: dict[str, Any],
    peers: dict[str, Any],
    delays: dict[str, Any],
    over_http: dict[str, Any],
    recovered: dict[str, Any],
) -> dict[str, float | None]:
    """Every ratio by its name; None where one of its figures was not measured."""

    def cpu(above: str, below: str) -> float | None:
        one, other = peers[above]["cpu_us_per_event"], peers[below]["cpu_us_per_event"]
        return None if one is None or not other else float(one / other)

    def p99(rate: int, other: str = "aiokafka", of: str = "driftline") -> float | None:
        ours, theirs = (delays.get(name, {}).get(str(rate)) for name in (of, other))
        return None if ours is None or theirs is None else float(ours["p99_ms"] / theirs["p99_ms"])

    def http(cut: str) -> float | None:
        return None if "failure" in over_http else over_http["gateway"][cut] / over_http["topics"][cut]

    flight, stages = fold["us_per_flight"], fold["stages_us_per_flight"]
    managed = stages["drift manager and promotion, with them"]
    return {
        "core_fold_vs_river": flight["champion_alone"] / flight["river"],
        "fold_vs_river": flight["everything"] / flight["river"],
        "adaptation_vs_champion": 1.0 + managed / flight["champion_alone"],
        "kafka_vs_simulate_cpu": cpu("simulate", "driftline"),
        "faust_vs_driftline_cpu": cpu("faust", "driftline_champion"),
        "quix_vs_driftline_cpu": cpu("quix", "driftline_champion"),
        "bytewax_vs_driftline_cpu": cpu("bytewax", "driftline_champion"),
        "pathway_memory_vs_driftline_cpu": cpu("pathway_memory", "driftline_champion"),
        "latency_p99_vs_aiokafka_200": p99(200),
        "latency_p99_vs_aiokafka_1000": p99(1000),
        "exactness_cpu": cpu("driftline", "driftline_inexact"),
        "exactness_latency_p99_200": p99(200, "driftline_inexact"),
        "exactness_latency_p99_1000": p99(1000, "driftline_inexact"),
        "scrape_latency_p99_200": p99(200, "driftline", of="driftline_scraped"),
        "scrape_latency_p99_1000": p99(1000, "driftline", of="driftline_scraped"),
        "gateway_latency_p50": http("p50_ms"),
        "gateway_latency_p99": http("p99_ms"),
        "silent_fold_vs_simulate_speed": recovered.get("silent_fold_speed"),
        "faust_memory_vs_driftline_cpu": cpu("faust_memory", "driftline_champion"),
        "quix_memory_vs_driftline_cpu": cpu("quix_memory", "driftline_champion"),
        "kafka_with_feast_vs_simulate_cpu": cpu("simulate", "driftline_feast"),
    }

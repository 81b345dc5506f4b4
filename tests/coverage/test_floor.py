"""Coverage is summed up by package, and a package that falls by more than a point is named."""

from __future__ import annotations

import json

from tests.coverage.__main__ import RECORD, fallen, shares


def file(covered: int, lines: int, taken: int, branches: int) -> dict[str, object]:
    summary = {
        "covered_lines": covered, "num_statements": lines, "percent_covered": 12.5,
        "covered_branches": taken, "num_branches": branches,
    }  # fmt: skip
    return {"summary": summary}


def test_the_files_of_a_package_are_added_up() -> None:
    report = {
        "files": {
            "streams/fold/a.py": file(8, 10, 1, 4),
            "streams/b.py": file(30, 30, 3, 4),
            "infra/__init__.py": file(1, 1, 0, 0),
        }
    }
    assert shares(report) == {
        "infra": {"lines": 100.0, "branches": 100.0},
        "streams": {"lines": 95.0, "branches": 50.0},
    }


def test_a_package_that_falls_by_more_than_a_point_is_named() -> None:
    floor = {"infra": {"lines": 80.0, "branches": 60.0}, "streams": {"lines": 95.0, "branches": 90.0}}
    found = {"infra": {"lines": 79.0, "branches": 58.9}}
    assert [line.split(" %")[0] for line in fallen(found, floor)] == [
        "infra: 58.9", "streams: 0.0", "streams: 0.0",
    ]  # fmt: skip


def test_every_package_has_a_recorded_share() -> None:
    floor = json.loads(RECORD.read_text())
    assert set(floor) == {"driftline", "features", "infra", "online_models", "streams"}

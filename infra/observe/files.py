"""Writes the dashboard and the alert rules as files, for Grafana and Prometheus to read."""

from __future__ import annotations

import json
from pathlib import Path

from driftline.atomic_file import replacing
from driftline.infra.observe.alerts import rules
from driftline.infra.observe.dashboard import dashboard

DASHBOARD = "driftline-dashboard.json"
RULES = "driftline-rules.yml"


def contents() -> dict[str, str]:
    """The files by name."""
    return {
        DASHBOARD: json.dumps(dashboard(), indent=1) + "\n",
        RULES: json.dumps(rules(), indent=1) + "\n",  # JSON is YAML
    }


def write_files(folder: Path) -> list[Path]:
    """Write them to a folder, which is made if need be; returns where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in contents().items():
        with replacing(folder / name) as file:
            file.write(text.encode())
        written.append(folder / name)
    return written

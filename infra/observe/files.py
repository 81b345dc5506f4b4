"""Writes the dashboard and the alert rules as files for Grafana and Prometheus."""

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
    """Write the files to a folder, which is created if it does not exist. Returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in contents().items():
        with replacing(folder / name) as file:
            file.write(text.encode())
        written.append(folder / name)
    return written

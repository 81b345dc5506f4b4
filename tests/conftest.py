"""Fixtures for tests on a real Kafka, on this machine or in containers."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from infra.kafka import LocalStack, answers

settings.register_profile("soak", max_examples=5_000, deadline=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack", choices=("local", "docker"), default="local", help="where the tests' Kafka runs"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses a broker is an integration test."""
    for item in items:
        if {"bootstrap", "stack"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.integration)


def engine_missing() -> str | None:
    """Why no containers can be run, None when they can."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    for question in (["docker", "compose", "version"], ["docker", "info"]):
        asked = subprocess.run(question, capture_output=True, text=True, check=False)
        if asked.returncode:
            return f"{' '.join(question)}: {(asked.stderr.strip() or 'fails').splitlines()[0]}"
    return None


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    """The broker alone: the worker's image takes minutes to build, and the tests bring their own."""
    return ["up --wait kafka"]


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(Path(__file__).parents[1] / "docker-compose.yml")


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Kafka of these tests' own."""
    if request.config.getoption("--stack") == "docker":
        reason = engine_missing()
        if reason is not None:
            pytest.skip(f"--stack docker: {reason}")
        services: Any = request.getfixturevalue("docker_services")
        address = f"127.0.0.1:{services.port_for('kafka', 9092)}"
        services.wait_until_responsive(timeout=90, pause=0.5, check=lambda: answers(address))
        yield address
        return
    stack = LocalStack(tmp_path_factory.mktemp("stack"))
    try:
        yield stack.up().bootstrap
    finally:
        stack.down(wipe=True)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any], float], Any]:
    """Waits until a condition gives something true, and returns that; fails at the deadline (seconds)."""

    def wait(condition: Callable[[], Any], within: float = 60.0) -> Any:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.05)
        pytest.fail(f"the condition did not come true within {within:g} s")

    return wait


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees or touches the developer's own stack."""
    for name in [name for name in os.environ if name.startswith("DRIFTLINE_") and name != "DRIFTLINE_JARS"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path / "home"))

"""The files of a deployment say what the programs, the settings and the tree have."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from driftline.infra.cli.entry import app
from driftline.infra.errors import InfraError
from driftline.infra.local import deployment_secrets
from driftline.infra.observe.alerts import ALERTS
from driftline.infra.observe.measures import ALL_MEASURES
from driftline.streams.connection.roles import Role
from tests.infra.deploy.deployment import OURS, RESET, ROOT, filled, plain, read, secured

SCHEMA = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
"""Of https://github.com/compose-spec/compose-spec, commit 170098b."""
DEPLOY = ROOT / "infra/deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def without_resets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_resets(one) for name, one in value.items() if one is not RESET}
    return value


def parses(arguments: list[str]) -> None:
    """Raises for what the command line would refuse."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(command.name, arguments)


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.secured.yml"])
def test_a_compose_file_is_one_by_the_specification(name: str) -> None:
    jsonschema.validate(without_resets(read(name)), SCHEMA)


def test_compose_reads_the_files() -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], check=False).returncode
    ):
        pytest.skip("there is no docker compose")
    for files in (["docker-compose.yml"], ["docker-compose.yml", "docker-compose.secured.yml"]):
        named = [part for file in files for part in ("--file", str(ROOT / file))]
        subprocess.run(["docker", "compose", *named, "--profile", "observe", "config", "--quiet"], check=True)


@pytest.mark.parametrize("service", OURS)
def test_the_command_of_a_service_is_one_of_the_command_line(service: str) -> None:
    parses([filled(part) for part in plain()["services"][service]["command"]])


def test_compose_builds_no_image_under_the_name_of_the_users() -> None:
    """A missing image is an error: built here, it would be driftline's own, without the case."""
    for services in (plain()["services"], secured()["services"]):
        for name in {*OURS, "rights"} & services.keys():
            assert services[name]["image"] == "${IMAGE:-driftline}"
            assert "build" not in services[name]


def test_variables_of_services_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    from driftline.setting_sources import unknown_variables

    for compose in (plain(), secured()):
        for name in {*OURS, "rights"} & compose["services"].keys():
            for variable in compose["services"][name]["environment"]:
                monkeypatch.setenv(variable, "set")
    assert unknown_variables() == []


def test_every_secret_is_one_that_is_made_and_every_file_that_is_mounted_is_there(tmp_path: Path) -> None:
    made = {path.name for path in deployment_secrets.make(tmp_path / "secrets")}
    compose = secured()
    for name, secret in compose["secrets"].items():
        assert name in made
        assert filled(secret["file"]) == f"./secrets/{name}"
    for service in compose["services"].values():
        assert set(service.get("secrets", ())) <= compose["secrets"].keys()
        named = re.findall(
            r"/run/secrets/([\w.]+)", json.dumps([service.get("environment"), service.get("command")])
        )
        assert set(named) <= set(service.get("secrets", ()))
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists()


def test_nobody_but_its_owner_gets_at_the_secrets_and_they_are_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    made = deployment_secrets.make(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in made} == {0o644}, "containers' users read what is mounted"
    with pytest.raises(InfraError, match="not empty"):
        deployment_secrets.make(folder)
    assert f"{folder}" not in "".join(path.read_text() for path in made), "containers know it by another name"


def test_no_secret_is_in_the_compose_files() -> None:
    for name in ("docker-compose.yml", "docker-compose.secured.yml"):
        for service in read(name)["services"].values():
            for variable in service.get("environment", {}):
                assert "PASSWORD" not in variable or variable.endswith("_FILE")


def test_rights_are_given_to_each_role_that_a_service_has() -> None:
    services = secured()["services"]
    given = set(re.search(r"for role in ([\w ]+);", services["rights"]["command"][0])[1].split())  # type: ignore[index]
    assert given <= {str(role) for role in Role}
    assert {services[name]["environment"]["DRIFTLINE_SASL_USERNAME"] for name in OURS} <= given


def test_prometheus_asks_where_metrics_are_served_and_grafana_shows_what_is_generated() -> None:
    services = plain()["services"]
    jobs = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    asked = {one["names"][0]: one["port"] for job in jobs for one in job["dns_sd_configs"]}
    worker = services["worker"]["environment"]["DRIFTLINE_METRICS"].rpartition(":")[2]
    gateway, audit = (services[name]["command"][-1].rpartition(":")[2] for name in ("gateway", "audit"))
    assert asked == {"worker": int(worker), "gateway": int(gateway), "audit": int(audit)}
    assert {services[name]["expose"][0] for name in asked} == {worker, gateway, audit}
    (provider,) = yaml.safe_load((DEPLOY / "grafana/dashboards/driftline.yml").read_text())["providers"]
    assert any(provider["options"]["path"] in volume for volume in services["grafana"]["volumes"])


def test_the_images_user_and_folders_are_those_that_compose_relies_on() -> None:
    image = (ROOT / "Dockerfile").read_text()
    assert "USER driftline" in image
    assert "DRIFTLINE_HOME=/data" in image
    assert {
        volume.rpartition(":")[2] for name in OURS for volume in plain()["services"][name]["volumes"]
    } == {"/data"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_runs_a_command_of_the_command_line(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    command = re.search(r"^ExecStart=/opt/driftline/bin/driftline (.+)$", text, re.M)
    assert command
    parses(command[1].replace("%i", "shop:orders").split())
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    installed = tmp_path / unit.name
    installed.write_text(text.replace("/opt/driftline/bin/driftline", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(installed)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_workers_are_scaled_by_a_metric_that_there_is() -> None:
    scaled = yaml.safe_load((DEPLOY / "keda.yml").read_text())
    (query,) = [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]
    assert set(re.findall(r"driftline_\w+", query)) <= {measure.series for measure in ALL_MEASURES.values()}


OPERATING = (ROOT / "docs/operating.md").read_text("utf-8")
SHELL = re.findall(r"^```sh\n(.*?)^```", OPERATING, re.M | re.S)


@pytest.mark.parametrize(
    "line", [line for block in SHELL for line in block.splitlines() if line.startswith("driftline ")]
)
def test_a_command_of_the_operators_page_is_one_of_the_command_line(line: str) -> None:
    parses(shlex.split(line.partition(" > ")[0])[1:])


def test_the_operators_page_says_what_to_do_for_each_alert() -> None:
    assert re.findall(r"^\| `(Driftline\w+)` \|", OPERATING, re.M) == [alert.name for alert in ALERTS]

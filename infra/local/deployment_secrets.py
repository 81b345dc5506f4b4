"""The secrets of the containers in docker-compose.yml: made once, each in a file that is mounted into the
containers that need it."""

from __future__ import annotations

import secrets
from pathlib import Path

from driftline.infra.errors import InfraError
from driftline.infra.local.kafka import STORAGE
from driftline.infra.local.secured import SecuredBroker

MOUNTED_AT = Path("/run/secrets")
KAFKA, KAFKA_PORT, CONTROLLER_PORT = "kafka", 29092, 9093
KAFKA_DATA = Path("/var/lib/kafka/data")
REDIS = "redis:6379"


def make(folder: Path) -> list[Path]:
    """Make all of them, in a folder that its owner alone may enter; returns the files.

    Raises InfraError for a folder that holds anything: a second key could not open what the first has sealed.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InfraError(
            f"{folder} is not empty: secrets that are in use are not replaced; name another folder"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    password = secrets.token_urlsafe(32)
    _write(folder / "checkpoint_key", secrets.token_hex(32))
    _write(folder / "redis_password", password)
    _write(folder / "online_store", f"redis://:{password}@{REDIS}/0")
    _write(folder / "grafana_password", secrets.token_urlsafe(32))
    broker = SecuredBroker(folder, MOUNTED_AT)
    broker.make(KAFKA)
    broker.arguments()
    properties = broker.properties(KAFKA, KAFKA_PORT, CONTROLLER_PORT) + STORAGE.format(data=KAFKA_DATA)
    _write(folder / "server.properties", properties)
    return sorted(folder.iterdir())


def _write(path: Path, content: str) -> None:
    """A file that a container's user can read; nobody else gets into its folder."""
    path.write_text(content)
    path.chmod(0o644)  # whatever the umask is

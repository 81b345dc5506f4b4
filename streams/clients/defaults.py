"""The broker and the namespace that a client uses when it is given neither: those of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driftline.streams.errors import NoBroker

if TYPE_CHECKING:
    from driftline.settings import SettingValues


def default_bootstrap() -> str:
    """The address in the settings, else that of the local broker; raises NoBroker without one."""
    import json

    settings = _settings()
    if settings.bootstrap:
        return settings.bootstrap
    try:
        return str(json.loads((settings.home / "kafka" / "broker.json").read_text())["bootstrap"])
    except (OSError, ValueError, KeyError):
        raise NoBroker(
            "no Kafka: pass bootstrap=, set DRIFTLINE_BOOTSTRAP, or run `driftline up` in this folder"
        ) from None


def default_namespace() -> str:
    """The namespace in the settings, as workers read it; empty without one."""
    return _settings().namespace


def _settings() -> SettingValues:
    from driftline.setting_sources import read  # imported only when a default is needed
    from driftline.settings import SettingValues

    return read(SettingValues)

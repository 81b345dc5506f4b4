"""The exit code of an audit beside workers says whether there was a difference, and nothing else is 1."""

from __future__ import annotations

import signal

import pytest
import typer
from shop import orders

from driftline import logs
from driftline.infra.cli import proof
from driftline.infra.proof import follow as followed
from driftline.streams.errors import Unauthentic


def exit_code(found: int | Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    """What the command ends with when the audit finds so many differences, or raises."""

    def follow(*_: object) -> int:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(followed, "follow", follow)
    monkeypatch.setattr(logs, "begin", lambda **_: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    try:
        proof._follow(orders, None)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def test_a_difference_is_distinguished_from_an_audit_that_cannot_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [exit_code(found, monkeypatch) for found in (0, 3)] == [0, 1]
    assert exit_code(Unauthentic("sealed with another key"), monkeypatch) == 2
    assert "sealed with another key" in capsys.readouterr().err
    with pytest.raises(KeyError):
        exit_code(KeyError("a bug"), monkeypatch)

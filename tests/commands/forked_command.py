"""Commands of driftline as processes that are forked: a worker is up in a second instead of five.

A server, one for each process of pytest, imports once whatever a worker imports: Feast alone takes two
seconds of CPU. What is forked then runs the command as `python -m driftline` does, with an environment, a
working folder and outputs of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PRELOADED = "tests.commands.preloaded"


def forking() -> Any:
    """The context of multiprocessing whose processes are forked from the server."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([PRELOADED])
    return processes


def begin(command: Sequence[str], environment: Mapping[str, str], outputs: Sequence[Path]) -> None:
    """Make a forked process one that was started by `command`: the files of its outputs, its environment, and
    what a restart executes."""
    files = [path.open("wb", buffering=0) for path in outputs]
    for file, descriptor in zip((files[0], files[-1]), (1, 2), strict=True):
        os.dup2(file.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.orig_argv = [sys.executable, *command]


def _run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: str, outputs: Sequence[Path]
) -> None:
    begin(["-m", "driftline", *arguments], environment, outputs)
    os.chdir(folder)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = ["driftline", *arguments]
    if arguments[0] not in ("worker", "upgrade"):
        asyncio.set_event_loop_policy(None)  # uvloop's is what Faust has set, which no other command imports
    from driftline.infra.cli.entry import main

    main()


class ForkedCommand:
    """`python -m driftline ARGUMENTS` with this environment; used as a `subprocess.Popen` is.

    What it prints goes to the first of the files, and what it logs to the last.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], *outputs: Path) -> None:
        self.args = [*arguments]
        given = (self.args, dict(environment), os.getcwd(), outputs)
        for path in outputs:
            path.touch()  # to be read before the process has begun
        self._process = forking().Process(target=_run, args=given)
        self._process.start()

    @property
    def pid(self) -> int:
        number: int = self._process.pid
        return number

    @property
    def returncode(self) -> int | None:
        """Exit code, or the number of the signal that killed it, negative; None while it runs."""
        code: int | None = self._process.exitcode
        return code

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; raises TimeoutExpired when it has none after `timeout` seconds."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def cold_command(
    arguments: Sequence[str], environment: Mapping[str, str], said: Path
) -> subprocess.Popen[bytes]:
    """The same command in a new Python."""
    with said.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "driftline", *arguments], env=environment, stdout=file, stderr=file
        )


def completed(
    *arguments: object, environment: Mapping[str, str] | None = None, within: float = 300.0
) -> subprocess.CompletedProcess[str]:
    """Run `driftline ARGUMENTS` to its end, which must come within so many seconds; with the environment of
    the test if none is given."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        given = os.environ if environment is None else environment
        command = ForkedCommand([*map(str, arguments)], given, out, err)
        try:
            code = command.wait(within)
        finally:
            command.kill()
        return subprocess.CompletedProcess(command.args, code, out.read_text(), err.read_text())


def completed_anew(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As `completed`, in a new Python, with the environment of the test and these variables."""
    return subprocess.run(
        [sys.executable, "-m", "driftline", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | environment,
    )


Command = ForkedCommand | subprocess.Popen[bytes]

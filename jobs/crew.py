"""The workers of a batch, as processes of this machine. Each holds its model; one that dies is replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

from ..editing.job import Setup
from ..errors import BatchError, InlayError


@dataclass(frozen=True)
class Died:
    """The answer of a worker that ended while it was asked something."""

    how: str


class Crew(Protocol):
    """Workers by number, each of which is asked one thing at a time: methods of `inlay.jobs.worker.Worker`."""

    size: int
    together: int
    """Rows that go through a worker's loop at once."""

    def ask(self, worker: int, what: str, *arguments: Any) -> None: ...
    def answers(self) -> list[tuple[int, Any]]:
        """Wait until a worker has answered, or died, in which case another one takes its number."""
        ...

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        ...


def asked(crew: Crew, worker: int, what: str, *arguments: Any) -> Any:
    """A worker's answer, waited for, when no other is at work.

    Raises:
        InlayError: what the worker raises; it died.
    """
    crew.ask(worker, what, *arguments)
    ((_, answer),) = crew.answers()
    if isinstance(answer, Died):
        raise BatchError(f"The worker cannot start: {answer.how}; inlay doctor says what this machine lacks.")
    if isinstance(answer, InlayError):
        raise answer
    return answer


class Processes:
    """Workers as child processes, `count` of them or one per device."""

    def __init__(self, setup: Setup, output: Path, count: int | None) -> None:
        self.setup, self.output = setup, output
        self.threads = max(1, (os.cpu_count() or 1) // count) if count and count > 1 else None
        self.devices, self.size = 1, 1
        self.workers = [self._start(0)]
        try:
            self.devices, self.together = asked(self, 0, "ready")
            self.size = count or self.devices
            self.workers += [self._start(number) for number in range(1, self.size)]
        except BaseException:
            self.close()
            raise

    def _start(self, number: int) -> _Process:
        spread = self.devices > 1 and self.setup.device in ("auto", "cuda")
        device = f"cuda:{number % self.devices}" if spread else self.setup.device
        setup = self.setup.model_copy(update={"device": device})
        return _Process(self.threads, setup, self.output)

    def ask(self, worker: int, what: str, *arguments: Any) -> None:
        self.workers[worker].send(what, *arguments)

    def answers(self) -> list[tuple[int, Any]]:
        busy: dict[Any, int] = {process.pipe: number for number, process in enumerate(self.workers) if process.busy}
        return [(number, self._answer(number)) for number in sorted(busy[pipe] for pipe in wait(list(busy)))]

    def _answer(self, number: int) -> Any:
        process = self.workers[number]
        try:
            process.busy = False
            return process.pipe.recv()
        except (EOFError, ConnectionError):
            died = Died(process.ended())
            if number < self.size:
                self.workers[number] = self._start(number)
            return died

    def close(self) -> None:
        for process in self.workers:
            process.kill()


class _Process:
    """A child process and the pipe to it."""

    def __init__(self, threads: int | None, *arguments: Any) -> None:
        self.pipe, theirs = Pipe()
        environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        # -P: the folder where the batch was started is no place to import modules from
        command = [sys.executable, "-P", "-m", "inlay.jobs.worker", str(theirs.fileno())]
        # a session of its own: Ctrl-C on the terminal is the driver's to answer, however young the worker is
        self.child = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=2,
            start_new_session=True,
        )
        theirs.close()
        self.busy = False
        self._tell(arguments)

    def send(self, what: str, *arguments: Any) -> None:
        self.busy = True
        self._tell((what, arguments))

    def _tell(self, message: tuple[Any, ...]) -> None:
        with suppress(ConnectionError):  # it has died; when it is waited for, the answer says so
            self.pipe.send(message)

    def ended(self) -> str:
        """How it ended."""
        self.pipe.close()
        code = self.child.wait()
        if code >= 0:
            return f"its process ended with code {code}"
        return f"its process was ended by {signal.Signals(-code).name}"

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()
        self.pipe.close()

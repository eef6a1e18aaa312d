"""The workers of a batch as actors of a Ray cluster, which share the output folder with the driver.

Ray Core's actors, not Ray Data: that drops a whole block of rows when one raises, and hangs on a row that ends its
worker. An actor that dies is started anew by Ray; what it was asked is not asked again but by the driver.
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

from ..editing.job import Setup
from ..errors import BatchError, UsageError, extra
from .crew import Died, asked


class Actors:
    """`count` workers, or one per GPU, or one per machine where there are none."""

    def __init__(self, setup: Setup, output: Path, count: int | None, address: str | None) -> None:
        with extra("ray"):
            import ray
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.ray, self.ours = ray, not ray.is_initialized()
        self.workers: list[Any] = []
        self.waiting: dict[Any, int] = {}
        if self.ours:
            self._join(address)
        try:
            self._hire(setup, output, count)
        except BaseException:
            self.close()
            raise

    def _join(self, address: str | None) -> None:
        before = signal.getsignal(signal.SIGTERM)
        local: dict[str, Any] = {} if address else {"include_dashboard": False}
        try:
            self.ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BatchError(f"The Ray cluster cannot be reached: {str(error).splitlines()[0]}") from error
        if signal.getsignal(signal.SIGTERM) is not before:  # Ray's would end with another exit code
            signal.signal(signal.SIGTERM, before)

    def _hire(self, setup: Setup, output: Path, count: int | None) -> None:
        gpus, cpus = (int(self.ray.cluster_resources().get(kind, 0)) for kind in ("GPU", "CPU"))
        self.size = count or gpus or sum(node["Alive"] for node in self.ray.nodes())
        if not gpus and self.size > cpus:
            raise UsageError(f"The Ray cluster has {cpus} processors for {self.size} workers; ask for fewer --workers.")
        needs = {"num_gpus": min(1, gpus / self.size)} if gpus else {"num_cpus": 1}
        actor: Any = self.ray.remote(max_restarts=-1, max_task_retries=0, **needs)(_actor())
        self.workers += [actor.remote(setup, output) for _ in range(self.size)]
        _, self.together = asked(self, 0, "ready")

    def ask(self, worker: int, what: str, *arguments: Any) -> None:
        self.waiting[self.workers[worker].answer.remote(what, *arguments)] = worker

    def answers(self) -> list[tuple[int, Any]]:
        ready, _ = self.ray.wait(list(self.waiting), num_returns=1)
        return [(self.waiting.pop(one), self._answer(one)) for one in ready]

    def _answer(self, one: Any) -> Any:
        try:
            return self.ray.get(one)
        except self.ray.exceptions.RayActorError:
            return Died("its actor died")

    def close(self) -> None:
        for worker in self.workers:
            self.ray.kill(worker)
        if self.ours:
            self.ray.shutdown()


def _actor() -> type:
    """The class of the actors; PyTorch is imported where they run."""

    class Actor:
        def __init__(self, setup: Setup, output: Path) -> None:
            from .worker import Worker

            self.worker = Worker(setup, output)

        def answer(self, what: str, *arguments: Any) -> Any:
            return self.worker.answer(what, *arguments)

    return Actor

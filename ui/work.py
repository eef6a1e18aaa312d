"""One thread that does what the pages ask for, in the order in which they ask."""

from __future__ import annotations

import io
import json
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import UInt8

from ..editing.job import GenerateJob, Job, Setup
from ..errors import InlayError
from .events import Events
from .history import History, Result

if TYPE_CHECKING:
    from ..editing.editor import Glimpse

State = Literal["waiting", "loading", "working", "done", "failed", "cancelled"]
REMEMBERED = 50
"""Runs that are over, of which a page that opens is told beside all others."""
SHARE = 4
"""Looking at the forming picture may take one part in so many of a run's time."""
SMALL = 240
"""The longer side of a small picture, in pixels."""


class Cancelled(Exception):  # noqa: N818 - a wish, not an error
    """Raised in the step after a run was cancelled."""


@dataclass(frozen=True)
class Preview:
    """A JPEG of the forming picture, and in an edit its window on the photo: left, top, right, bottom."""

    number: int
    jpeg: bytes
    crop: tuple[int, int, int, int] | None


@dataclass
class Run:
    """A job on its way; `attention_of` has it write the attention pictures of a result in place of a new one."""

    number: int
    job: Job
    ending: str
    attention_of: tuple[Result, int] | None = None
    state: State = "waiting"
    done: int = 0
    total: int = 0
    message: str = ""
    result: str | None = None
    preview: Preview | None = None
    look_again: float = 0.0
    """When, on the monotonic clock, the next preview is due."""
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    def news(self) -> dict[str, Any]:
        """What pages are told."""
        return {
            "run": self.number,
            "action": "attention" if self.attention_of else self.job.action,
            "prompt": self.job.prompt,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "message": self.message,
            "result": self.result,
            "preview": self.preview and {"number": self.preview.number, "crop": self.preview.crop},
        }


class Work:
    """The queue and its thread; `start` begins it, `close` cancels what is under way."""

    def __init__(self, history: History, setup: Setup, events: Events) -> None:
        self.history, self.setup, self.events = history, setup, events
        self.runs: list[Run] = []
        self._waiting: deque[Run] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._count = 0

    def start(self) -> None:
        threading.Thread(target=self._forever, name="worker", daemon=True).start()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            for run in self.runs:
                run.stop.set()
            self._changed.notify()

    def ask(self, job: Job, ending: str = ".png", attention_of: tuple[Result, int] | None = None) -> Run:
        """Put a job at the end of the queue."""
        with self._changed:
            self._count += 1
            run = Run(self._count, job, ending, attention_of)
            forgotten = [one.number for one in self.runs if one.over][:-REMEMBERED]
            self.runs = [*(one for one in self.runs if one.number not in forgotten), run]
            self._waiting.append(run)
            self._changed.notify()
        self.events.publish("run", run.news())
        return run

    def next_seed(self, job: Job) -> int:
        """The seed after those of a job, and of the runs under way that differ from it by their seed alone."""
        alike = [run.job for run in self.runs if not (run.over or run.attention_of)]
        alike = [one for one in alike if one.model_copy(update={"seed": job.seed}) == job]
        return max(one.seed + one.num_images for one in (job, *alike))

    def cancel(self, number: int) -> None:
        """Stop a run at its next step, or before it begins; one that is over stays as it is."""
        with self._changed:
            for run in self.runs:
                if run.number == number:
                    run.stop.set()
                    if run in self._waiting:
                        self._waiting.remove(run)
                        self._tell(run, "cancelled")

    def _forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                run = self._waiting.popleft()
            self._do(run)

    def _do(self, run: Run) -> None:
        try:
            self._tell(run, "loading")
            if run.attention_of:
                self._look(run, *run.attention_of)
            else:
                self._make(run)
            self._tell(run, "done")
        except Cancelled:
            self._tell(run, "cancelled")
        except InlayError as error:
            self._tell(run, "failed", str(error))
        except Exception as error:  # the next run must not suffer from this one
            traceback.print_exc()
            self._tell(run, "failed", f"Unexpected {type(error).__name__}: {error}")

    def _make(self, run: Run) -> None:
        """Perform a job and write its pictures as the command line does, each with its settings."""
        from ..jobs.outputs import Outputs
        from ..jobs.perform import perform

        performed = perform(
            self._sized(run.job),
            self.setup,
            on_step=lambda done, total: self._step(run, done, total),
            on_glimpse=lambda glimpse: self._glimpse(run, glimpse),
        )
        folder = self.history.new_result(run.job.prompt)
        name = f"{self.history.called(run.job)}{run.ending}"
        written = Outputs(folder / name, run.job).save(performed)
        for one, k in zip(written, performed.result.ranking, strict=True):
            small_file(one.path).write_bytes(as_jpeg(shrunk(performed.result.images[k].pixels)))
        notes = dict.fromkeys([*performed.notes, *(note for one in written for note in one.warnings)])
        self.history.close_result(folder, [json.loads(one.record()) for one in written], list(notes))
        run.result = folder.name

    def _sized(self, job: Job) -> Job:
        """A picture whose layout was drawn larger than it, at the model's own size where none is asked for."""
        from ..jobs.perform import editor_for

        if not isinstance(job, GenerateJob) or job.layout is None or job.size is not None:
            return job
        return job.model_copy(update={"size": editor_for(job.model, self.setup, job.adapters).model.native_size})

    def _look(self, run: Run, result: Result, number: int) -> None:
        """Make one picture of a result again, and write where its words looked."""
        from ..guidance.attention_pictures import save_pictures
        from ..jobs.outputs import painted
        from ..jobs.perform import perform

        step = lambda done, total: self._step(run, done, total)  # noqa: E731
        made = perform(run.job, self.setup, attention=True, on_step=step).result
        if made.attention:
            save_pictures(made.attention, painted(made), result.attention(number), overwrite=True)
        run.result = result.name

    def _step(self, run: Run, done: int, total: int) -> None:
        if run.stop.is_set():
            raise Cancelled
        run.done, run.total = done, total
        self._tell(run, "working")

    def _glimpse(self, run: Run, glimpse: Glimpse) -> None:
        """Decode the forming picture, unless that would slow the run down too much."""
        begun = time.monotonic()
        if begun < run.look_again:
            return
        number = run.preview.number + 1 if run.preview else 1
        run.preview = Preview(number, as_jpeg(glimpse.picture()), glimpse.crop)
        ended = time.monotonic()
        run.look_again = ended + SHARE * (ended - begun)

    def _tell(self, run: Run, state: State, message: str = "") -> None:
        run.state, run.message = state, message
        if run.over:
            run.preview = None
        self.events.publish("run", run.news())


def small_file(picture: Path) -> Path:
    """Where the small picture of a result's picture lies."""
    return picture.with_name(f".{picture.stem}.small.jpg")


def shrunk(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture at `SMALL`; one that is no larger stays."""
    import cv2

    scale = SMALL / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def as_jpeg(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=85)
    return stream.getvalue()

"""A served page, requests to it, and a browser that looks at it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from inlay import Photo
from inlay.editing.job import Job, Setup
from inlay.ui.history import History
from inlay.ui.serve import Page, page
from inlay.ui.work import small_file

CHROMIUM = Path("/usr/bin/chromium")


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class Served:
    """A page under way, and requests to it from who has its cookie."""

    page: Page
    folder: Path

    @property
    def port(self) -> int:
        port = urlsplit(self.page.address).port
        assert port is not None
        return port

    @property
    def token(self) -> str:
        return urlsplit(self.page.address).query.removeprefix("token=")

    def ask(self, method: str, path: str, body: Any = None, cookie: str | None = None, **headers: str) -> Answer:
        """A request as its owner's page would make it; underscores in headers' names are hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given["Cookie"] = f"inlay-{self.port}={self.token}" if cookie is None else cookie
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        made = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        connection.close()
        return made


Serve = Callable[..., Served]


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory, model_folder: Any) -> Iterator[Serve]:
    """Serves a page of a tiny random model, masks by GrabCut: photo, folder, setup -> Served. All end together."""
    threads: list[tuple[Page, threading.Thread]] = []

    def start(photo: Path | None = None, folder: Path | None = None, setup: Setup = Setup()) -> Served:
        folder = folder or tmp_path_factory.mktemp("history")
        made = page(photo, model=str(model_folder("sd1")), segmenter="grabcut", folder=folder, setup=setup)
        thread = threading.Thread(target=made.serve)
        thread.start()
        threads.append((made, thread))
        return Served(made, folder)

    yield start
    for made, _ in threads:
        made.server.should_exit = True
    for _, thread in threads:
        thread.join()


@pytest.fixture(scope="session")
def served(serve: Serve) -> Served:
    """A page that tests share."""
    return serve()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's chromium, driven by playwright."""
    if not CHROMIUM.exists():
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--force-color-profile=srgb", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield browser
        browser.close()


def keep(history: History, job: Job, name: str = "a.png") -> str:
    """A result of a grey picture, as a run of the job would have left it. Returns its name."""
    folder = history.new_result(job.prompt)
    grey = Photo.from_image(np.full((8, 8, 3), 128, np.uint8))
    for file in (folder / name, small_file(folder / name)):
        grey.save(file)
    made_by = dict.fromkeys(("inlay", "torch", "diffusers", "weights", "device", "dtype"), "")
    settings = {"job": job.model_dump(mode="json"), "facts": made_by | {"image_seed": job.seed, "size": (8, 8)}}
    history.close_result(folder, [{"path": name, "settings": settings}], [])
    return folder.name


def numbered(width: int, height: int) -> Photo:
    """A photo each pixel of which says where it is; see `whereabouts`."""
    y, x = np.mgrid[:height, :width]
    return Photo.from_image(np.dstack([x % 256, y % 256, x // 256 * 16 + y // 256]).astype(np.uint8))


def whereabouts(colour: Any) -> tuple[int, int]:
    """The x and y of a pixel of `numbered`."""
    red, green, blue = (int(value) for value in colour[:3])
    return blue // 16 * 256 + red, blue % 16 * 256 + green

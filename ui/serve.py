"""Start the page: bind, say where it is, serve until told to stop."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..editing.job import Setup
from ..errors import PhotoError, UsageError, extra
from .history import History

FOLDER = "inlay-history"


@dataclass(frozen=True)
class Started:
    """Where a page is: its address, token included, and a warning where others than this machine's users reach it."""

    address: str
    warning: str | None = None


def serve(
    photo: Path | None = None,
    *,
    model: str = "toybox",
    segmenter: str = "auto",
    host: str = "127.0.0.1",
    port: int = 0,
    folder: Path | None = None,
    browser: bool = True,
    setup: Setup = Setup(),
    on_start: Callable[[Started], None] = lambda started: print(started.address, flush=True),
) -> None:
    """Serve the page until a signal ends it.

    Args:
        photo: opened at once.
        port: 0 takes a free one.
        folder: where photos, masks and results are kept; default `inlay-history` beside the photo, else here.
        browser: open the page in the user's browser.
        on_start: told where the page is, once it can be opened.

    Raises:
        InlayError: the extra `ui` is not installed.
        UsageError: a port that is taken, or a host that is none of this machine.
        PhotoError: the photo cannot be read, the folder not written to.
    """
    with extra("ui"):
        import uvicorn

        from .guard import is_local
        from .server import Server
    history = History((folder or (photo.parent if photo else Path()) / FOLDER).absolute())
    server = Server(history, setup, model, segmenter, opened=kept(history, photo, setup) if photo else None)
    bound = listening(host, port)
    port = bound.getsockname()[1]
    token = secrets.token_urlsafe(24)
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{port}/?token={token}"
    warning = None
    if not is_local(host):
        warning = (
            f"Everyone who reaches {host}:{port} and learns this address can use this machine's models and see the "
            "photos in the history; the connection is not encrypted."
        )
    on_start(Started(address, warning))
    if browser and can_show():
        webbrowser.open(address)
    config = uvicorn.Config(
        server.application(token, host, port),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[bound])


def kept(history: History, photo: Path, setup: Setup) -> str:
    """The id under which a photo is kept; it is read first, so that what is wrong with it is said at once."""
    from ..photos.photo import Photo

    Photo.open(photo, max_pixels=setup.max_pixels)
    try:
        copy = history.incoming()
        shutil.copyfile(photo, copy)
        return history.take_photo(copy, photo.name)
    except OSError as error:
        raise PhotoError(f"{history.folder} cannot be written to ({error.strerror}); name another --folder.") from error


def listening(host: str, port: int) -> socket.socket:
    """A socket of this machine; what connects before the server runs has to wait, but is not refused."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"The page cannot be served at {host}:{port} ({reason}); choose another --port or --host."
        ) from error


def can_show() -> bool:
    """Whether a browser with windows can open: without a display only ones for the terminal would."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

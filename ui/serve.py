"""Start the page: bind, say where it is, serve until told to stop."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..editing.job import Setup
from ..errors import PhotoError, UsageError, extra
from ..jobs.manifest import HISTORY
from .history import History, readable

if TYPE_CHECKING:
    import uvicorn


@dataclass(frozen=True)
class Page:
    """A page that is bound to its address and waits to be served."""

    address: str
    """Token included."""
    warning: str | None
    """What it means that others than this machine's users reach it."""
    server: uvicorn.Server
    bound: socket.socket

    def serve(self) -> None:
        """Serve until a signal comes, or `server.should_exit` is set."""
        self.server.run(sockets=[self.bound])


def page(
    photo: Path | None = None,
    *,
    model: str = "toybox",
    segmenter: str = "auto",
    adapter: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    folder: Path | None = None,
    setup: Setup = Setup(),
) -> Page:
    """A page, ready to be served.

    Args:
        photo: opened at once.
        adapter: LoRAs, embeddings, autoencoders, controls and IP-Adapters that pages may load beside those on this
            machine.
        port: 0 takes a free one.
        folder: where photos, masks and results are kept; default `inlay-history` beside the photo, else here.

    Raises:
        InlayError: the extra `ui` is not installed.
        UsageError: a port that is taken, or a host that is none of this machine.
        PhotoError: the photo cannot be read, the folder not written to.
    """
    with extra("ui"):
        import uvicorn

        from .events import Serving
        from .guard import is_local
        from .server import Server
    history = History((folder or (photo.parent if photo else Path()) / HISTORY).absolute())
    server = Server(
        history, setup, model, segmenter, tuple(adapter), opened=kept(history, photo, setup) if photo else None
    )
    bound = listening(host, port)
    port = bound.getsockname()[1]
    token = secrets.token_urlsafe(24)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/?token={token}"
    warning = None
    if not is_local(host):
        warning = (
            f"Everyone who reaches {host}:{port} and learns this address can use this machine's models and see the "
            "photos in the history; the connection is not encrypted."
        )
    config = uvicorn.Config(
        server.application(token, host, port),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    return Page(address, warning, Serving(config, server.events), bound)


def show(page: Page) -> None:
    """Open a page in the user's browser, if it has windows: without a display only ones for the terminal would come."""
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page.address)


def kept(history: History, photo: Path, setup: Setup) -> str:
    """The id under which a photo is kept; it is read first, so that what is wrong with it is said at once."""
    readable(photo, str(photo), setup.max_pixels)
    try:
        copy = history.incoming(photo.name)
        shutil.copyfile(photo, copy)
        return history.take_photo(copy, photo.name)
    except OSError as error:
        raise PhotoError(f"{history.folder} cannot be written to ({error.strerror}); name another --folder.") from error


def listening(host: str, port: int) -> socket.socket:
    """A socket of this machine; what connects before the server runs has to wait, but is not refused."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"The page cannot be served at {host}:{port} ({reason}); choose another --port or --host."
        ) from error
    # asyncio sends at once (TCP_NODELAY) only where the protocol is named; else each answer's body waits 40 ms
    return socket.socket(bound.family, bound.type, socket.IPPROTO_TCP, fileno=bound.detach())

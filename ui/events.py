"""News from the working thread to every open page, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

QUIET = 15.0
"""Seconds after which a comment keeps the connection open."""


class Events:
    """Publishes from any thread; each listener gets what is published while it listens."""

    def __init__(self) -> None:
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Queue[str | None]]] = set()

    def publish(self, kind: str, news: Any) -> None:
        """Send `news`, which JSON can hold, to every listener."""
        self._send(f"event: {kind}\ndata: {json.dumps(news)}\n\n")

    def close(self) -> None:
        """End every listener's stream."""
        self._send(None)

    def _send(self, text: str | None) -> None:
        for loop, queue in tuple(self._listeners):
            if not loop.is_closed():
                loop.call_soon_threadsafe(queue.put_nowait, text)

    async def listen(self, first: str, news: Any) -> AsyncIterator[str]:
        """The stream of one page, which begins with an event `first`."""
        listener = asyncio.get_running_loop(), asyncio.Queue[str | None]()
        self._listeners.add(listener)
        try:
            yield f"event: {first}\ndata: {json.dumps(news)}\n\n"
            while True:
                try:
                    text = await asyncio.wait_for(listener[1].get(), QUIET)
                except TimeoutError:
                    text = ": still here\n\n"
                if text is None:
                    return
                yield text
        finally:
            self._listeners.discard(listener)


class Serving(uvicorn.Server):
    """A server that ends the open streams of news before it waits for whoever still listens."""

    def __init__(self, config: uvicorn.Config, events: Events) -> None:
        super().__init__(config)
        self.events = events

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.events.close()
        await super().shutdown(sockets)

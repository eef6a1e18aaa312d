"""Who may speak to the page: whoever has the start token, from this page itself, under a name of this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_local(host: str) -> bool:
    """Whether only this machine reaches a server that is bound to `host`."""
    return host in LOCAL


@dataclass(frozen=True)
class Guard:
    """ASGI middleware that refuses, in words, every request which does not come from the page's own user.

    `token` stands in the address that starts the page; a same-site cookie of the `port` carries it from then on. The
    `Host` header must name this machine, so that no foreign name can be pointed at it (DNS rebinding): a loopback name,
    and where the server is bound to another `host`, that one, the machine's own name and any numeric address too. An
    `Origin` header must be the page's own.
    """

    app: ASGIApp
    token: str
    host: str
    port: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        answer = self._refusal(headers) or self._welcome(scope, headers)
        try:
            await (answer or self.app)(scope, receive, send_guarded)
        except asyncio.CancelledError:  # the server stops, and this would have taken longer than it waits
            if begun:
                raise
            await PlainTextResponse("The server was stopped.", 503)(scope, receive, send_guarded)

    def _refusal(self, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._is_mine(host):
            return PlainTextResponse(
                f"The name {host!r} is not this machine's; open the address that inlay ui printed.", 403
            )
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse(
                f"The page {origin} may not use inlay; open the address that inlay ui printed.", 403
            )
        return None

    def _welcome(self, scope: Scope, headers: Headers) -> Response | None:
        """A redirect to the bare address for who brings the token, a refusal for who has none, None for who has it."""
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and self._is_token(asked):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            return answer
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            cookie = None
        if cookie is not None and self._is_token(cookie.value):
            return None
        return PlainTextResponse(
            "This page opens with the address that inlay ui printed, token included; a server that was started anew "
            "has a new one.",
            403,
        )

    @property
    def cookie(self) -> str:
        """Browsers share cookies between all ports of a host."""
        return f"inlay-{self.port}"

    def _is_token(self, offered: str) -> bool:
        return secrets.compare_digest(offered.encode(), self.token.encode())

    def _is_mine(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        name = name.strip("[]").lower()
        if name in LOCAL:
            return True
        if is_local(self.host):
            return False
        return name in {self.host.lower(), socket.gethostname().lower()} or is_address(name)


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

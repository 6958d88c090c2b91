"""OCSP over HTTP (RFC 6960 appendix A, RFC 5019 5 and 6), as an ASGI application.

``GET /BASE64`` and ``POST`` with ``application/ocsp-request``. An answer that anybody may have tells caches how long
they may keep it; an answer with a nonce, or a failure, tells them not to. What is no request at all is refused by
HTTP's own means before it is read: 404, 405, 413, 415. Who asks too often, or while the token has too much to do, gets
503 and is told when to ask again.
"""

import asyncio
import base64
import binascii
import datetime as dt
import functools
import hashlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from hsm.ocsp.admission import Admission
from hsm.ocsp.presigned import SignedAnswer
from hsm.ocsp.request import MAX_REQUEST
from hsm.ocsp.responder import KEPT, OcspResponder
from hsm.ocsp.response import Window

MAX_PATH: Final = 2 * MAX_REQUEST
"""Characters of a GET's path: Base64 with some of it percent-encoded."""

BODY_SECONDS: Final = 10.0
"""How long a body may take."""

BUSY_SECONDS: Final = 1
"""When to ask again while too many answers wait for the token."""

DEFAULT_MAX_AGE: Final = dt.timedelta(hours=1)
"""How long a cache may keep an answer, and so how late it may learn of a revocation."""

_TYPE: Final = b"application/ocsp-response"
_UNCACHED: Final = ((b"cache-control", b"no-store"),)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]
Headers = Iterable[Header]


class _Refused(Exception):
    """An HTTP error."""

    def __init__(self, status: int, *headers: Header) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers


class OcspApplication:
    """The responder behind HTTP; run it with any ASGI server."""

    def __init__(
        self,
        responder: OcspResponder,
        *,
        path: str = "/",
        max_age: dt.timedelta = DEFAULT_MAX_AGE,
        admission: Admission | None = None,
    ) -> None:
        """Put a responder behind HTTP.

        Args:
            responder: answers.
            path: where it is found, as in the certificates' AIA URL: ``/`` or ``/acme``.
            max_age: how long a cache may keep an answer, if it is valid that long.
            admission: how often one client may ask; as by default when left out.
        """
        self._responder = responder
        self._admission = Admission() if admission is None else admission
        self._path = f"/{path.strip('/')}".rstrip("/").encode()
        self._max_age = max_age

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return  # an ASGI server may ask for a lifespan, which we have none of
        try:
            self._admit(scope.get("client"))
            answer = await self._responder.answer(await self._request(scope, receive))
        except _Refused as refused:
            await _send(send, refused.status, b"", refused.headers)
            return
        if answer.busy:
            await _send(send, 503, answer.der, ((b"content-type", _TYPE), *_UNCACHED, _retry_after(BUSY_SECONDS)))
            return
        if answer.signed is None:
            await _send(send, 200, answer.der, ((b"content-type", _TYPE), *_UNCACHED))
            return
        lasting = _lasting(answer.der, answer.signed.window)
        headers = (self._cache_control(answer.signed), *lasting)
        (_, tag), *_ = lasting
        if scope["method"] == "GET" and tag in dict(scope["headers"]).get(b"if-none-match", b""):
            await _send(send, 304, None, headers)
            return
        await _send(send, 200, answer.der, ((b"content-type", _TYPE), *headers))

    def _admit(self, client: tuple[str, int] | None) -> None:
        if client is not None and (seconds := self._admission.wait(client[0])):
            raise _Refused(503, *_UNCACHED, _retry_after(seconds))

    async def _request(self, scope: Scope, receive: Receive) -> bytes:
        path = scope.get("raw_path") or scope["path"].encode()
        if not path.startswith(self._path + b"/") and path != self._path:
            raise _Refused(404)
        match scope["method"]:
            case "GET":
                return _from_path(path[len(self._path) :])
            case "POST":
                if path.strip(b"/") != self._path.strip(b"/"):
                    raise _Refused(404)
                return await _from_body(dict(scope["headers"]), receive)
            case _:
                raise _Refused(405, (b"allow", b"GET, POST"))

    def _cache_control(self, answer: SignedAnswer) -> Header:
        """Return how long caches may keep an answer (RFC 5019 6.2)."""
        left = max(0, int((answer.window.next_update - self._responder.clock()).total_seconds()))
        age = min(left, int(self._max_age.total_seconds()))
        return b"cache-control", f"max-age={age}, public, no-transform, must-revalidate".encode()


@functools.lru_cache(maxsize=KEPT)  # as long as the answer itself is kept: they cost more than all else here
def _lasting(der: bytes, window: Window) -> tuple[Header, ...]:
    """Return what caches are told of an answer, the same each time it is handed out; the entity tag first."""
    return (
        (b"etag", b'"' + hashlib.sha256(der).hexdigest().encode() + b'"'),
        (b"last-modified", format_datetime(window.this_update, usegmt=True).encode()),
        (b"expires", format_datetime(window.next_update, usegmt=True).encode()),
    )


async def turn_away(scope: Scope, _: Receive, send: Send) -> None:
    """Answer as an ASGI application that is too busy for another connection."""
    if scope["type"] == "http":
        await _send(send, 503, b"", (*_UNCACHED, _retry_after(BUSY_SECONDS), (b"connection", b"close")))


def _retry_after(seconds: int) -> Header:
    return b"retry-after", str(seconds).encode()


def _from_path(path: bytes) -> bytes:
    """Return the request in a GET's path; what is no Base64 is no request, and the responder will say so."""
    if len(path) > MAX_PATH:
        raise _Refused(414)
    # Some clients don't encode "+", and some proxies turn that into a space.
    text = unquote_to_bytes(path).lstrip(b"/").replace(b" ", b"+")
    if not text:
        raise _Refused(404)
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return b""


async def _from_body(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/ocsp-request":
        raise _Refused(415)
    if _length(headers) > MAX_REQUEST:
        raise _Refused(413)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Refused(400)
                body += message.get("body", b"")
                if len(body) > MAX_REQUEST:
                    raise _Refused(413)
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise _Refused(408) from None


def _length(headers: dict[bytes, bytes]) -> int:
    try:
        return int(headers.get(b"content-length", b"0"))
    except ValueError:
        raise _Refused(400) from None


async def _send(send: Send, status: int, content: bytes | None, headers: Headers) -> None:
    length = () if content is None else ((b"content-length", str(len(content)).encode()),)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": content or b""})

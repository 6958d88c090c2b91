"""uvicorn's HTTP on httptools, with an end to what a client may send and to how long it may take.

uvicorn bounds neither the head of a request nor the time for it. A responder is open to everybody, so both are bounded
here; the body is bounded by the application (``http.py``).
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hsm.ocsp.http import turn_away

MAX_CONNECTIONS: Final = 1000
"""Open at once; each further one is told 503, whatever it asks. (uvicorn's own limit would tell all of them.)"""

MAX_HEAD: Final = 32 * 1024
"""Bytes of request line and headers, of all that came since the last head was complete."""

HEAD_SECONDS: Final = 15.0
"""From the connection, or from the last answer, to the end of the next head."""

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    _unfinished = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - asyncio's own type is wider than uvicorn's
        """Begin to wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self.app = turn_away
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some bytes, unless a head gets too long."""
        self._unfinished += len(data)
        super().data_received(data)
        # Whatever follows the last head counts, the body too: it is smaller than this, or refused.
        if self._unfinished > MAX_HEAD and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Begin with a request."""
        self._unfinished = 0
        self._cancel()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._await_head()

    def _await_head(self) -> None:
        self._cancel()
        if not self.transport.is_closing():
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

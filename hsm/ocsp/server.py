"""Running the application with uvicorn and httptools, which come with the extra ``[console]``."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from hsm.errors import OcspError
from hsm.ocsp.http import OcspApplication

IDLE_SECONDS: Final = 15
"""How long a connection may stay open for the next request."""


def listen(host: str, port: int) -> socket.socket:
    """Open the port.

    Raises:
        OcspError: ``ocsp.listen``.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.create_server((host, port), family=family, backlog=1024)
        # Head and body are two writes; connections inherit this, and would wait 40 ms for each other's ACK without it.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise OcspError(
            f"can't listen at {host} port {port}: {error.strerror}; give another --listen", code="ocsp.listen"
        ) from error
    return opened


async def serve(
    application: OcspApplication, opened: socket.socket, *, ready: Callable[[], None] = lambda: None
) -> int:
    """Answer until SIGINT or SIGTERM; requests that came are answered first.

    Args:
        application: answers.
        opened: from ``listen``; closed at the end.
        ready: called when the first request can come.

    Returns:
        The signal that ended it.

    Raises:
        OcspError: ``ocsp.no_server``: the extra is not installed.
    """
    try:
        import uvicorn  # noqa: PLC0415 - an extra

        from hsm.ocsp.protocol import BoundedHttp  # noqa: PLC0415 - needs it
    except ImportError:
        raise OcspError(
            "the responder needs uvicorn and httptools: pip install 'provisioning-station[console]'; static hosting "
            "('station ca ocsp presign') needs neither",
            code="ocsp.no_server",
        ) from None
    config = uvicorn.Config(
        application,
        http=BoundedHttp,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=5,
    )

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Leave signals to us: uvicorn would send itself the signal again, and nothing of ours would be closed."""
            yield

    server = Server(config)
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        server.should_exit = True
        server.force_exit = len(received) > 1

    with _signals(loop, stop):
        loop.call_soon(ready)
        try:
            await server.serve(sockets=[opened])
        finally:
            opened.close()
    return received[0] if received else 0


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stop: Callable[[int], None]) -> Iterator[None]:
    """Handle SIGTERM and ctrl-C; outside the main thread nobody sends us signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)

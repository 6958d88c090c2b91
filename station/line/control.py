"""Asking a station that runs: the manifest has one writer, so what changes it while the line works goes through it.

``<manifest>.sock``, a Unix socket beside the manifest that its owner alone may use (0600). A request is one line with a
JSON object, the answer another, and that is the end of it::

    {"do": "act", "act": "scrap", "unit": "SN000017", "reason": "fell", "actor": "alice"}   -> {"act": {…}}
    {"do": "release", "slot": null}                                                         -> {"released": ["1"]}
    {"do": "close", "order": "WO-1001", "reason": "delivered", "actor": "alice"}            -> {"closed": true}
    exports, receipts and lists                              -> see ``asked_book.py``
    what can't be done                                       -> {"error": {"code": …, "text": …, "operator": …}}

Who asks is what the kernel says (``SO_PEERCRED``), not what the request says. The socket is removed when the line ends;
one that was left by a crash is replaced, since the manifest's lock is held by then.
"""

import asyncio
import json
import logging
import os
import pwd
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from hsm import HsmError
from station.errors import StationError
from station.manifest import Act, LifeRequest

LOG = logging.getLogger(__name__)

LINE_LIMIT: Final = 1024 * 1024
"""Bytes of a request or an answer: the statement of an export names each of its files."""

PATIENCE: Final = 30.0
"""Seconds for a request and its answer: a disk may be slow, a person waits."""

NOBODY: Final = "line.not_running"
"""Code of what is said where no station runs that could be asked."""

Request = Mapping[str, object]
Answer = Mapping[str, object]
Handler = Callable[[Request, str], Awaitable[Answer]]
"""Gets a request and the name of the user who asks."""

_CREDENTIALS: Final = struct.Struct("3i")
"""``struct ucred`` of unix(7): process, user, group."""


def socket_of(manifest: Path) -> Path:
    """Return where the station that writes to a manifest listens."""
    real = manifest.resolve()
    return real.with_name(real.name + ".sock")


def user_name(number: int | None = None) -> str:
    """Return the name of a user; of who runs this process, if none is given. The environment has no say in it."""
    user = os.getuid() if number is None else number
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def text_in(request: Request, name: str) -> str:
    """Return a text of a request.

    Raises:
        KeyError, TypeError: it is missing, or no text.
    """
    value = request[name]
    if not isinstance(value, str):
        raise TypeError(f"'{name}' is no text")
    return value


def life_request(request: Request, user: str) -> LifeRequest:
    """Read the request to ``act``.

    Args:
        request: with ``act``, ``unit``, ``reason``, ``actor``; for a replacement alone, ``by``.
        user: who asks, as the kernel says.

    Raises:
        KeyError, TypeError, ValueError: something is missing, no text, or does not belong there.
    """
    act, unit, reason, actor = (text_in(request, name) for name in ("act", "unit", "reason", "actor"))
    by = None if request.get("by") is None else text_in(request, "by")
    act = Act(act)
    if (by is not None) is not (act is Act.REPLACE):
        raise ValueError(f"'by' names the unit that replaces another one, and the act is '{act}'")
    return LifeRequest(act, unit, reason, actor, user, by)


@asynccontextmanager
async def answering(manifest: Path, handler: Handler) -> AsyncIterator[None]:
    """Answer requests inside the block. A place that takes no socket is told in the log, and the line goes on."""
    path = socket_of(manifest)
    try:
        listener = _bound(path)
    except OSError as error:
        LOG.warning("%s: no socket there (%s); commands that change the manifest wait for the line's end", path, error)
        yield
        return
    tasks = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for mypy: asyncio runs this as a task
        tasks.add(task)
        try:
            await _serve(reader, writer, handler)
        finally:
            tasks.discard(task)

    server = await asyncio.start_unix_server(serve, sock=listener, limit=LINE_LIMIT)
    try:
        yield
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(FileNotFoundError):
            path.unlink()


def ask(manifest: Path, request: Request) -> dict[str, Any]:
    """Ask the station that writes to a manifest. Blocks.

    Raises:
        StationError: nobody is there (``line.not_running``), or nobody who answers us (``line.no_socket``), or what the
            station says.
    """
    path = socket_of(manifest)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, _short(path) as short:
            connection.settimeout(PATIENCE)
            connection.connect(short)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as file:
                line = file.readline(LINE_LIMIT)
        answer = json.loads(line)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise StationError(
            f"no station runs with {manifest}, so there is none to ask; if another command has the manifest, wait for "
            "its end",
            code=NOBODY,
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no answer"
        raise StationError(
            f"the station that runs here can't be asked ({path}: {reason}); run this as its user, or stop it first",
            code="line.no_socket",
        ) from error
    if "error" in answer:
        told = answer["error"]
        raise StationError(told["text"], code=told["code"], operator=told["operator"])
    return dict(answer)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    answer: Answer
    try:
        async with asyncio.timeout(PATIENCE):
            line = await reader.readline()
            answer = await _answer(line, _asker(writer), handler)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
    except (TimeoutError, OSError, ValueError):  # who asks is gone, or says no line
        LOG.debug("a request was not finished", exc_info=True)
    finally:
        writer.close()


async def _answer(line: bytes, user: str, handler: Handler) -> Answer:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        return _refusal("control.malformed", "a request is one line with a JSON object", "")
    try:
        return await handler(request, user)
    except (StationError, HsmError) as error:
        return _refusal(error.code, str(error), error.operator)
    except (KeyError, TypeError, ValueError) as error:
        return _refusal("control.malformed", f"the request lacks something, or has it wrong: {error}", "")
    except Exception as bug:
        LOG.exception("a bug in the station, at the request of %s", user)
        return _refusal("station.bug", repr(bug), "Call the line engineer.")


def _refusal(code: str, text: str, operator: str) -> Answer:
    return {"error": {"code": code, "text": text, "operator": operator}}


def _asker(writer: asyncio.StreamWriter) -> str:
    peer = writer.get_extra_info("socket")
    _, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return user_name(user)


def _bound(path: Path) -> socket.socket:
    """Return a socket that stands there and does not listen yet: nobody can connect before its mode is set."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            path.unlink()
        with _short(path) as short:
            listener.bind(short)
            path.chmod(0o600)
    except BaseException:
        listener.close()
        raise
    return listener


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a name of a socket that is short enough: ``sun_path`` of unix(7) has 108 bytes, a folder may have more."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

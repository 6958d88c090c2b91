"""The moments of a unit's way at which a station can be hit, by name, and how one is hit exactly there.

A boundary is a step and a side of it: ``reserve: before commit`` is inside the transaction, when all of it is done and
nothing is durable; ``reserve: after commit`` is when it is durable and nobody acted on it. ``sign: before the token``
is when the signature is counted and the token was not asked; ``sign: after the token`` is when it answered and nobody
heard. For what the board does, ``before`` and ``after`` stand around the driver's verb: it was not asked, or it did it
and the station forgot. ``FLASHING`` has those that a line crosses besides which flashes its boards: ``flash: half`` is
when half of the bytes are on the board.

``strike`` puts hooks around the station's own methods, in the process that is to be hit. The hooks do nothing else.
"""

import contextvars
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final

COMMITS: Final = ("begin", "reserve", "attempt", "record", "void", "passed", "failed")
"""What the manifest is asked for, as its methods are called."""

VERBS: Final = ("identify", "make_key", "install", "read_back", "prove", "lock", "lock_state")
"""What a board is asked for, as the driver's methods are called."""

BOUNDARIES: Final = (
    *(f"{name}: {side}" for name in COMMITS for side in ("before commit", "after commit")),
    *(f"sign: {side}" for side in ("before the token", "after the token")),
    *(f"{name}: {side}" for name in VERBS for side in ("before", "after")),
)

FLASHING: Final = (
    *(f"take_up: {side}" for side in ("before commit", "after commit")),
    *(f"{name}: {side}" for name in ("look", "flash") for side in ("before", "after")),
    "flash: half",
)

_asking: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("asking", default="")
"""Which of the manifest's methods the task is in."""


class _Strike:
    """Acts once, when its boundary is crossed for the nth time."""

    def __init__(self, boundary: str, act: Callable[[], None], nth: int) -> None:
        self.boundary = boundary
        self._act = act
        self._left = nth
        self._to_sign = 0

    def cross(self, boundary: str) -> None:
        if boundary in {"reserve: after commit", "attempt: after commit"}:
            self._to_sign += 1
        if boundary == self.boundary:
            self._left -= 1
            if self._left == 0:
                self._act()

    def cross_signing(self, side: str) -> None:
        """Cross ``sign``, unless what is signed is no unit's: a probe at the start, a checkpoint of the ledger."""
        if self._to_sign:
            self.cross(f"sign: {side}")


def strike(boundary: str, act: Callable[[], None], *, nth: int = 1) -> None:
    """Let ``act`` be called in this process when the boundary is crossed for the nth time.

    Args:
        boundary: one of ``BOUNDARIES`` or ``FLASHING``.
        act: kills the process, or harms what it stands on; called in whatever thread crosses the boundary.
        nth: 1 or more.

    Raises:
        ValueError: there is no such boundary.
    """
    from hsm.pkcs11_token import Pkcs11Token  # noqa: PLC0415 - whoever only wants the names needs none of these
    from station.devices.smp import SmpDriver  # noqa: PLC0415
    from station.line.flashing import Flashing  # noqa: PLC0415
    from station.manifest import Manifest  # noqa: PLC0415

    if boundary not in (*BOUNDARIES, *FLASHING):
        raise ValueError(f"there is no boundary {boundary!r}")
    hit = _Strike(boundary, act, nth)
    for name in (*COMMITS, "take_up"):
        setattr(Manifest, name, _commit(name, getattr(Manifest, name), hit))
    _wrap_writer(hit)
    for name in VERBS:
        setattr(SmpDriver, name, _verb(name, getattr(SmpDriver, name), hit))
    for name in ("look", "flash"):
        setattr(Flashing, name, _verb(name, getattr(Flashing, name), hit))
    _wrap_progress(Flashing, hit)
    asked = Pkcs11Token.sign

    def sign(token: Any, found: Any, request: Any) -> bytes:
        hit.cross_signing("before the token")
        signature = asked(token, found, request)
        hit.cross_signing("after the token")
        return signature

    Pkcs11Token.sign = sign  # type: ignore[method-assign]


def _commit(name: str, method: Callable[..., Awaitable[Any]], hit: _Strike) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def asked(*arguments: Any, **named: Any) -> Any:
        token = _asking.set(name)
        try:
            result = await method(*arguments, **named)
        finally:
            _asking.reset(token)
        hit.cross(f"{name}: after commit")
        return result

    return asked


def _wrap_writer(hit: _Strike) -> None:
    """Cross ``before commit`` inside the transaction, once the operation has written its rows."""
    from hsm.durable.writer import Writer  # noqa: PLC0415

    perform = Writer.perform

    async def performed(writer: Any, operation: Callable[..., Any]) -> Any:
        name = _asking.get()

        def operated(connection: Any, at: str) -> Any:
            result = operation(connection, at)
            hit.cross(f"{name}: before commit")
            return result

        return await perform(writer, operated)

    Writer.perform = performed  # type: ignore[method-assign]


def _wrap_progress(flashing: Any, hit: _Strike) -> None:
    """Cross ``flash: half`` when the flasher tells of it, whether anybody wants to hear it or not."""
    told = flashing._progress

    def progress(self: Any, now: Any) -> None:
        if now.total and now.done * 2 >= now.total:
            hit.cross("flash: half")
        told(self, now)

    flashing._progress = progress


def _verb(name: str, method: Callable[..., Awaitable[Any]], hit: _Strike) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def asked(*arguments: Any, **named: Any) -> Any:
        hit.cross(f"{name}: before")
        result = await method(*arguments, **named)
        hit.cross(f"{name}: after")
        return result

    return asked

"""How much is on the way to a board at once: how many requests, and how large. Pure; knows no clock and no wire.

A server takes one request after the other; what comes meanwhile waits in its buffers, and is lost when they are full.
``params`` tells buffers, where a server has that command, but one of them may be needed for the response, and the
UART's own may be smaller. So both numbers are tried with care: up after a row of good answers, down when something was
lost, and never again to where it was lost at once. A wire that turns bits loses things too, at any window; there it is
the size that helps.
"""

from typing import Final

__all__ = ["LARGEST_GUESS", "MOST_REQUESTS", "MessageSize", "Window"]

MOST_REQUESTS: Final = 4
"""Requests on the way at once. Two fill the wire while the station is never late; more let it be late."""

_ROUNDING: Final = 2
"""Bytes by which a request may miss the size: CBOR's length of the data takes one to three."""

_GROW_WINDOW_AFTER: Final = 4
_GROW_SIZE_AFTER: Final = 12
_TRY_SIZE_AFTER: Final = 3
"""Answers in a row before more is tried: requests, a size that was good before, a size that nobody knows."""

LARGEST_GUESS: Final = 1020
"""Bytes of the largest message that is tried on a server that does not tell its buffer: MCUboot's default, less the
length and the CRC."""

SMALLEST: Final = 88
"""Bytes of the smallest message that a bad wire brings us to, or the server's buffer if that is smaller."""


class Window:
    """How many requests may be on the way at once."""

    def __init__(self, told: int | None) -> None:
        """Begin.

        Args:
            told: how many buffers the server says it has; None: it does not say.
        """
        self.size = 1
        told_size = max(1, (told or 1) - 1)  # one for the response
        self.limit = min(MOST_REQUESTS, max(2, told_size)) if told is not None else MOST_REQUESTS
        self._quick = min(MOST_REQUESTS, told_size)
        """Up to here the server itself says that it can."""
        self._good = 0

    def taken(self) -> None:
        """An answer came, and the server took what was sent."""
        self._good += 1
        if self.size < self._quick <= self.limit:
            self.size, self._good = self._quick, 0
        elif self.size < self.limit and self._good >= _GROW_WINDOW_AFTER * self.size:
            self.size, self._good = self.size + 1, 0

    def stay_alone(self) -> None:
        """Send one request at a time from now on."""
        self.size = self.limit = 1

    def lost(self) -> None:
        """Something that was on the way is lost."""
        if self.size > 1 and self._good < 2 * self.size:  # at once: the server can't do it
            self.limit = self.size - 1
        self.size, self._good = 1, 0


class MessageSize:
    """How many bytes a request may have, header included."""

    def __init__(self, told: int | None, start: int) -> None:
        """Begin.

        Args:
            told: the largest message that the server says it takes; None: it does not say.
            start: for a server that does not say.
        """
        self.size = start if told is None else told
        self.is_settled = told is not None
        """Whether the largest size is known; the window is not tried before."""
        self._limit = max(start, LARGEST_GUESS) if told is None else told
        self._smallest = min(SMALLEST, self.size)
        self.proven = 0
        """The largest that the server took."""
        self._good = self._bad = 0

    def taken(self, size: int) -> None:
        """The server took a request of ``size`` bytes, which may be the answer to one of before."""
        self._bad = 0
        if size < self.size - _ROUNDING:
            return
        self.proven = max(self.proven, self.size)
        self._good += 1
        if self.size >= self._limit:
            self.is_settled = True
        elif self._good >= (_GROW_SIZE_AFTER if self.is_settled else _TRY_SIZE_AFTER):
            self.size, self._good = min(self.size * 2, self._limit), 0

    def lost(self) -> None:
        """A request of this size is lost, or came damaged."""
        self._good, self._bad = 0, self._bad + 1
        if self.size > self.proven > 0:
            self.size = self._limit = self.proven
            self.is_settled, self._bad = True, 0
        elif self._bad >= 2:  # noqa: PLR2004 - twice in a row is no accident
            self.size, self._bad = max(self._smallest, self.size // 2), 0

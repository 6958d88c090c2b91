"""The credentials in one security tag of a modem: listed, written, deleted (``AT%CMNG``).

A modem hands no credential out. It lists which types stand in a tag, each with a SHA-256, in lines without checksums:
so a list in which another tag stands, or one type twice, is asked for again, and what is to go on record has to come
twice.
"""

import re
from typing import Final

from station.devices.nordic_at_wire import AtWire
from station.errors import Garbled

CLIENT_CERTIFICATE: Final = 1
CLIENT_KEY: Final = 2

SAME: Final = 5
"""How often a modem may be asked until the same answer came twice."""

_ENTRY: Final = re.compile(r'%CMNG: (\d{1,10}),(\d{1,3})(?:,"([0-9A-Fa-f]{64})")?')


class Credentials:
    """What stands in one tag."""

    def __init__(self, wire: AtWire, tag: int, *, seconds: float) -> None:
        """Use a wire; ``seconds`` is how long writing and deleting may take, beside the time on the wire."""
        self._wire, self._tag, self._seconds = wire, tag, seconds

    async def listed(self, kind: int | None = None) -> dict[int, str]:
        """Return the digests (hex, upper case) by type; of one type, to spare the wire, or of all.

        Raises:
            Garbled: the list is of another tag, or names a type twice, however often it is asked for.
        """
        command = f"AT%CMNG=1,{self._tag}" if kind is None else f"AT%CMNG=1,{self._tag},{kind}"
        for _ in range(SAME):
            matches = await self._wire.query(command, _ENTRY, count=None)
            entries = {int(match[2]): (match[3] or "").upper() for match in matches}
            if len(entries) == len(matches) and {int(match[1]) for match in matches} <= {self._tag}:
                return entries
        raise Garbled(f"{command} is answered with other places than that, or with one of them twice")

    async def listed_twice(self, kind: int | None = None) -> dict[int, str]:
        """Return ``listed``, once it was the same twice in a row: nothing else tells a harmed digit of a digest.

        Raises:
            Garbled: it never is.
        """
        before = await self.listed(kind)
        for _ in range(SAME):
            entries = await self.listed(kind)
            if entries == before:
                return entries
            before = entries
        raise Garbled("the modem lists its credentials in another way each time")

    async def write(self, kind: int, text: str) -> None:
        """Write a credential into a place that is free."""
        await self._wire.do(f'AT%CMNG=0,{self._tag},{kind},"{text}"', seconds=self._seconds)

    async def delete(self, kind: int) -> None:
        """Delete a credential that is there."""
        await self._wire.do(f"AT%CMNG=3,{self._tag},{kind}", seconds=self._seconds)

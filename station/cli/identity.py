"""How a unit is named on a command line."""

import re
from typing import Final

import click

from hsm.serials import copied, serial_text

_MARKED: Final = re.compile(r"0x|serial\s*=", re.IGNORECASE)
"""What stands before a certificate's serial and before nothing else."""


class _Identity(click.ParamType[str]):
    """Any of a unit's identities; a certificate's serial may be written as others' tools write it."""

    name = "identity"

    def convert(self, value: str, _param: click.Parameter | None, _ctx: click.Context | None) -> str:
        """Return the identity as the manifest looks it up."""
        text = value.strip()
        serial = copied(text) if _MARKED.match(text) else None
        return text if serial is None else serial_text(serial)


IDENTITY: Final = _Identity()

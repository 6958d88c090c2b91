# ruff: noqa: INP001 - Python finds it by this name, in a folder of its path
"""Mends pyserial in the child that runs stm32loader, in three points; knows nothing of stm32loader itself.

Python loads this file by its name when it starts, because ``flashers/stm32.py`` puts this folder on the child's path.

stm32loader opens its port with ``serial.Serial``, which takes no URL, so a port behind a serial server
(``rfc2217://...``) could not be used. And it sets DTR and RTS on every port, which raises where there are none, as on a
pseudo-terminal or a board whose boot pin is strapped. A pseudo-terminal ignores parity, too, and glibc reports a change
of settings that changes nothing else as an error.
"""

import errno
import os
import termios
from typing import Any

import serial

_Native = serial.Serial


class _Tolerant(_Native):
    """A port of this machine, which may lack modem lines."""

    def _reconfigure_port(self, force_update: bool = False) -> None:  # noqa: FBT001, FBT002 - pyserial's own signature
        try:
            super()._reconfigure_port(force_update)  # type: ignore[misc] # the types of pyserial don't list it
        except termios.error:
            if not os.path.realpath(str(self.port)).startswith("/dev/pts/"):
                raise

    def _update_dtr_state(self) -> None:
        try:
            super()._update_dtr_state()  # type: ignore[misc] # the same
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EINVAL):
                raise

    def _update_rts_state(self) -> None:
        try:
            super()._update_rts_state()  # type: ignore[misc] # the same
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EINVAL):
                raise


def _open(port: str | None = None, *arguments: Any, **settings: Any) -> serial.SerialBase:  # noqa: ANN401 - passed on
    if port is not None and "://" in port:
        return serial.serial_for_url(port, *arguments, **settings)
    return _Tolerant(port, *arguments, **settings)


serial.Serial = _open  # type: ignore[assignment, misc] # on purpose

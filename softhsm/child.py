"""The child process of ``make_tokens``: ``python child.py MODULE``, PINs as JSON on standard input.

It calls the module through ctypes, because python-pkcs11 can't initialise tokens and ``softhsm2-util`` takes PINs as
arguments. Standard output stays empty; a failure is one line on standard error and exit status 1. Calls and numbers are
those of PKCS#11 2.40, sections 5.4 to 5.6.
"""

import ctypes
import json
import sys
from collections.abc import Mapping
from typing import Any, Final

_OK: Final = 0
_TOKEN_INITIALIZED: Final = 0x400
_USER_PIN_INITIALIZED: Final = 0x8
_SERIAL_SESSION: Final = 0x4
_RW_SESSION: Final = 0x2
_SECURITY_OFFICER: Final = 0
_LABEL_SIZE: Final = 32


NOTHING_MADE: Final = 3
"""Exit status when tokens and PIN files don't go together; no token was touched."""


class ModuleRefusedError(Exception):
    """The module answered with an error code."""


class PinLostError(Exception):
    """There is a token whose PIN nobody knows."""


class TokenInfo(ctypes.Structure):
    """``CK_TOKEN_INFO``."""

    _fields_ = (
        ("label", ctypes.c_char * 32),
        ("manufacturer", ctypes.c_char * 32),
        ("model", ctypes.c_char * 16),
        ("serial", ctypes.c_char * 16),
        ("flags", ctypes.c_ulong),
        ("limits", ctypes.c_ulong * 10),
        ("versions", ctypes.c_ubyte * 4),
        ("utc_time", ctypes.c_char * 16),
    )


class Module:
    """The loaded module; slots are numbers, as in PKCS#11."""

    def __init__(self, path: str) -> None:
        """Load and initialise."""
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise ModuleRefusedError(f"the module can't be loaded: {error}") from error
        self._call("C_Initialize", None)

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != _OK:
            raise ModuleRefusedError(f"{name} answered 0x{code:08x}")

    def slots(self) -> list[int]:
        """Return all slots; SoftHSM always has one more that is not initialised."""
        count = ctypes.c_ulong()
        self._call("C_GetSlotList", ctypes.c_ubyte(1), None, ctypes.byref(count))
        found = (ctypes.c_ulong * count.value)()
        self._call("C_GetSlotList", ctypes.c_ubyte(1), found, ctypes.byref(count))
        return list(found[: count.value])

    def token(self, slot: int) -> TokenInfo:
        """Return what the token in a slot says about itself."""
        found = TokenInfo()
        self._call("C_GetTokenInfo", ctypes.c_ulong(slot), ctypes.byref(found))
        return found

    def initialise(self, slot: int, label: str, pin: str) -> None:
        """Make an empty token with this security officer's PIN."""
        padded = label.encode().ljust(_LABEL_SIZE)
        self._call("C_InitToken", ctypes.c_ulong(slot), pin.encode(), ctypes.c_ulong(len(pin)), padded)

    def set_user_pin(self, slot: int, so_pin: str, pin: str) -> None:
        """Set the user's PIN, as the security officer."""
        session = ctypes.c_ulong()
        flags = ctypes.c_ulong(_SERIAL_SESSION | _RW_SESSION)
        self._call("C_OpenSession", ctypes.c_ulong(slot), flags, None, None, ctypes.byref(session))
        officer = ctypes.c_ulong(_SECURITY_OFFICER)
        self._call("C_Login", session, officer, so_pin.encode(), ctypes.c_ulong(len(so_pin)))
        self._call("C_InitPIN", session, pin.encode(), ctypes.c_ulong(len(pin)))
        self._call("C_CloseSession", session)


def make(module: Module, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Make tokens, finish those that were left half made, and leave whole ones alone.

    Args:
        module: the loaded module.
        wanted: by label, the PINs ``user`` and ``so``, and whether the user's PIN was ``known`` before this run.
    """
    tokens = {module.token(slot).label.decode().rstrip(): slot for slot in module.slots()}
    for label, pins in wanted.items():
        if label in tokens and not pins["known"]:
            raise PinLostError(f"token {label!r} is there, but its PIN file is lost: restore it or remove the folder")
    for label, pins in wanted.items():
        slot = tokens.get(label)
        if slot is None:
            slot = next(free for free in module.slots() if not module.token(free).flags & _TOKEN_INITIALIZED)
            module.initialise(slot, label, pins["so"])
        if not module.token(slot).flags & _USER_PIN_INITIALIZED:
            module.set_user_pin(slot, pins["so"], pins["user"])


def main() -> int:
    """Do what standard input asks for."""
    wanted = json.load(sys.stdin)
    try:
        make(Module(sys.argv[1]), wanted)
    except (ModuleRefusedError, PinLostError) as error:
        sys.stderr.write(f"{error}\n")
        return NOTHING_MADE if isinstance(error, PinLostError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

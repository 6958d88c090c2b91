"""Where a PIN comes from, and how it is kept out of everything that is printed.

=====================  ===============================================================================================
source                 meaning
=====================  ===============================================================================================
``file:/etc/pin``      first line of a file that others can't read; a plain path and ``file:///etc/pin`` mean the same
``env:STATION_PIN``    environment variable
``credential:pin``     systemd credential: a file in ``$CREDENTIALS_DIRECTORY`` (``LoadCredential=pin:/etc/pin``)
``prompt:``            asked for on the terminal
=====================  ===============================================================================================
"""

import getpass
import os
import re
import stat
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from typing import Final, NoReturn, Self

from hsm.errors import PinError, UriError

MAX_PIN: Final = 255
"""Bytes in a PIN; PKCS#11 sets no limit, tokens stay below."""

_OPEN_TO_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP
"""Access bits a PIN file must not have; a service's group may read it."""


class Pin:
    """A PIN. It shows itself to nobody but ``reveal``."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Keep ``text``."""
        self._text = text

    def reveal(self) -> str:
        """Return the PIN; call it only inside the call that hands it to the token, so that no variable holds it."""
        return self._text

    def digest(self, key: bytes) -> bytes:
        """Return a keyed digest (16 bytes), to recognise a PIN that was refused without keeping it."""
        return blake2b(self._text.encode(), key=key, digest_size=16).digest()

    def __repr__(self) -> str:
        """Hide the PIN."""
        return "<Pin>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise TypeError("a Pin stays in its process")


class PinKind(Enum):
    """The kinds of source."""

    FILE = "file"
    ENVIRONMENT = "env"
    CREDENTIAL = "credential"
    PROMPT = "prompt"


@dataclass(frozen=True, slots=True)
class PinSource:
    """Where a PIN comes from; it holds no PIN itself."""

    kind: PinKind
    where: str
    """Path, name of the variable, name of the credential, or nothing for the prompt."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse what stands in ``pin-source=``.

        Raises:
            UriError: it is none of the forms in the module docstring.
        """
        if text.startswith("/"):
            return cls(PinKind.FILE, text)
        scheme, colon, where = text.partition(":")
        match scheme if colon else None:
            case "file":
                path = where.removeprefix("//")
                if not path.startswith("/"):
                    raise UriError("pin-source=file: needs an absolute path", code="uri.pin_source")
                return cls(PinKind.FILE, path)
            case "env" if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", where):
                return cls(PinKind.ENVIRONMENT, where)
            case "credential" if re.fullmatch(r"[0-9A-Za-z@_-][0-9A-Za-z@._-]*", where):
                return cls(PinKind.CREDENTIAL, where)
            case "prompt" if not where:
                return cls(PinKind.PROMPT, "")
        raise UriError(
            # what was written is not repeated: it may be the PIN itself
            "pin-source is file:/path, env:NAME, credential:NAME or prompt:",
            code="uri.pin_source",
        )

    @property
    def attended(self) -> bool:
        """Whether a human types the PIN each time."""
        return self.kind is PinKind.PROMPT

    def __str__(self) -> str:
        """Return the text that ``parse`` takes."""
        return f"{self.kind.value}:{self.where}"

    def read(
        self,
        *,
        token: str = "the token",  # noqa: S107 - a label for the prompt
        ask: Callable[[str], str] = getpass.getpass,
        environment: Mapping[str, str] | None = None,
    ) -> Pin:
        """Fetch the PIN.

        Args:
            token: name of the token, for the prompt.
            ask: asks a human, without echo.
            environment: variables of the process; ``os.environ`` when left out.

        Raises:
            PinError: the source is missing, empty, or others can read it.
        """
        variables = os.environ if environment is None else environment
        match self.kind:
            case PinKind.FILE:
                text = _read_file(Path(self.where))
            case PinKind.ENVIRONMENT:
                text = variables.get(self.where, "")
            case PinKind.CREDENTIAL:
                folder = variables.get("CREDENTIALS_DIRECTORY")
                if folder is None:
                    raise PinError(
                        f"pin-source={self} needs systemd: add LoadCredential={self.where}:/path to the unit",
                        code="pin.source",
                    )
                text = _read_file(Path(folder) / self.where)
            case PinKind.PROMPT:
                try:
                    with warnings.catch_warnings():  # without a terminal getpass warns, and would read an echoed PIN
                        warnings.simplefilter("error", getpass.GetPassWarning)
                        text = ask(f"PIN of {token}: ")
                except (EOFError, getpass.GetPassWarning):
                    raise PinError("pin-source=prompt: needs a terminal to ask on", code="pin.source") from None
        if not text or len(text.encode()) > MAX_PIN:
            raise PinError(f"pin-source={self} gives no PIN of 1 to {MAX_PIN} bytes", code="pin.source")
        return Pin(text)


def _read_file(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & _OPEN_TO_OTHERS:
                raise PinError(
                    f"the PIN file {path} is open to others (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}",
                    code="pin.file_mode",
                )
            return file.readline(MAX_PIN + 2).rstrip("\r\n")
    except OSError as error:
        raise PinError(f"the PIN file {path} can't be read: {error.strerror}", code="pin.source") from error
    except UnicodeDecodeError:
        # the error underneath holds the file's bytes
        raise PinError(f"the PIN file {path} is not text", code="pin.source") from None

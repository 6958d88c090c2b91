"""Tokens in a folder.

::

    DIR/softhsm2.conf      what SOFTHSM2_CONF points to
    DIR/tokens/            SoftHSM's own files, 0700
    DIR/pins/<label>       the user's PIN, 0600: what a station is given
    DIR/so-pins/<label>    the security officer's PIN, 0600: needed only to set a new user PIN

PINs are random, are written before the token is made, and reach the module through the standard input of a child
process: never through arguments or the environment, which other users of the machine can read.
"""

import fcntl
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from softhsm import child as child_program
from softhsm import spare

MODULES: Final = (
    "/usr/lib/softhsm/libsofthsm2.so",  # Debian, Ubuntu
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/arm-linux-gnueabihf/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",  # Fedora, RHEL
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",  # built from source
)
"""Where distributions put the module."""

_LABEL: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z ._-]{0,30}[0-9A-Za-z]|[0-9A-Za-z]")
_URI_SAFE: Final = "/:[]@!$'()*+,="
_CHILD_SECONDS: Final = 60


class SoftHsmError(Exception):
    """A SoftHSM folder can't be made or used; the only error of this package."""

    code: str = "softhsm.error"
    operator: str = "Call the line engineer."

    def __init__(self, message: str, *, code: str | None = None, **facts: object) -> None:
        """Make the error.

        Args:
            message: one sentence for the engineer, ending with what to do.
            code: dotted code, more exact than the class's.
            **facts: where it happened, what came.
        """
        super().__init__(message)
        if code is not None:
            self.code = code
        self.facts: Mapping[str, str] = MappingProxyType({name: str(value) for name, value in facts.items()})


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """A folder with tokens in it."""

    directory: Path
    conf: Path
    """What the environment variable ``SOFTHSM2_CONF`` has to point to."""
    module: Path
    """The PKCS#11 module, ``libsofthsm2.so``."""
    labels: tuple[str, ...]
    """The tokens that were asked for."""

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment before it loads the module."""
        return {"SOFTHSM2_CONF": str(self.conf)}

    def pin_file(self, label: str) -> Path:
        """Return the file (0600) that holds the user's PIN of a token."""
        if label not in self.labels:
            raise SoftHsmError(f"no token {label!r} was made in {self.directory}; there are {', '.join(self.labels)}")
        return self.directory / "pins" / label

    def uri(self, label: str) -> str:
        """Return the RFC 7512 URI of a token, with module path and PIN source."""
        pin_file = self.pin_file(label)
        return (
            f"pkcs11:token={quote(label, safe='')}"
            f"?module-path={quote(str(self.module), safe=_URI_SAFE)}"
            f"&pin-source={quote(f'file:{pin_file}', safe=_URI_SAFE)}"
        )


def find_module() -> Path:
    """Return the path of ``libsofthsm2.so``.

    Raises:
        SoftHsmError: it is not installed.
    """
    for candidate in MODULES:
        if Path(candidate).is_file():
            return Path(candidate)
    raise SoftHsmError(
        "SoftHSM is not installed: sudo apt-get install softhsm2 (Fedora: sudo dnf install softhsm)",
        code="softhsm.not_installed",
    )


def make_tokens(directory: Path, labels: Sequence[str], *, module: Path | None = None) -> SoftHsm:
    """Make tokens in a folder; what is there already stays as it is.

    Args:
        directory: made if it is missing.
        labels: one token each; 1 to 32 letters, digits, spaces, ``.``, ``_`` and ``-``.
        module: path of ``libsofthsm2.so``; found by itself when left out.

    Raises:
        SoftHsmError: SoftHSM is not installed, the folder can't be written, or a token and its PIN file don't go
            together.
    """
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise SoftHsmError(
                f"token label {label!r} can't be used: take 1 to 32 letters, digits, spaces, '.', '_' or '-'",
                code="softhsm.label",
            )
    library = module or find_module()
    home = directory.absolute()
    if re.search(r"[\n#]", str(home)):
        raise SoftHsmError(f"softhsm2.conf can't hold the path {str(home)!r}: choose one without '#'")
    made = SoftHsm(home, home / "softhsm2.conf", library, tuple(dict.fromkeys(labels)))
    try:
        _prepare(made)
        with _one_at_a_time(home):
            pins = {label: _pins(home, label) for label in made.labels}
            spare.mend_tokens(made.environment)
            _run_child(made, pins)
            spare.keep_spare(made.environment)
    except OSError as error:
        raise SoftHsmError(
            f"{home} can't hold tokens: {error.strerror} ({error.filename}); choose a folder that you can write",
            code="softhsm.folder",
        ) from error
    return made


def _prepare(made: SoftHsm) -> None:
    made.directory.mkdir(parents=True, exist_ok=True)
    for folder in ("tokens", "pins", "so-pins", spare.FOLDER):
        path = made.directory / folder
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
    text = (
        "# Written by softhsm.make_tokens.\n"
        f"directories.tokendir = {made.directory / 'tokens'}\n"
        "objectstore.backend = file\n"
        "log.level = ERROR\n"
        "slots.removable = false\n"
    )
    if not made.conf.exists() or made.conf.read_text() != text:
        made.conf.write_text(text)


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Two runs at once would make two tokens with one label."""
    with (home / "tokens" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _pins(home: Path, label: str) -> dict[str, str | bool]:
    """Read or make the PINs of one token."""
    user = home / "pins" / label
    known = user.exists()
    return {"user": _pin(user), "so": _pin(home / "so-pins" / label), "known": known}


def _pin(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pin = path.read_text().strip()
        if not pin:
            raise SoftHsmError(f"{path} is empty: remove {path.parent.parent} and make the tokens again") from None
        return pin
    pin = secrets.token_hex(16)
    with os.fdopen(descriptor, "w") as file:
        file.write(pin + "\n")
        file.flush()
        os.fsync(file.fileno())
    return pin


def _run_child(made: SoftHsm, pins: Mapping[str, Mapping[str, str | bool]]) -> None:
    """Talk to the module in a child: the parent may hold the same module, with another folder, already."""
    command = [sys.executable, "-I", child_program.__file__, str(made.module)]
    environment = {**os.environ, **made.environment}
    try:
        child = subprocess.run(  # noqa: PLW1510 - its exit status is read below
            command, input=json.dumps(pins), env=environment, capture_output=True, text=True, timeout=_CHILD_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise SoftHsmError(
            f"{made.module} did not answer within {_CHILD_SECONDS} s", code="softhsm.module"
        ) from None  # the exception underneath would carry the child's input
    if child.returncode:
        if child.returncode == child_program.NOTHING_MADE:
            for label in (label for label, pin in pins.items() if not pin["known"]):
                (made.directory / "pins" / label).unlink()
        reason = (child.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SoftHsmError(f"{made.module} made no tokens in {made.directory}: {reason}", code="softhsm.module")

"""A spare copy of what SoftHSM writes anew at every login.

SoftHSM 2.6 empties a token's ``token.object`` and writes it again whenever somebody logs in, to note whether the PIN
was right. A process that is killed in between leaves the file empty, and the token is gone, keys and all, as far as the
module can see. The keys are in files of their own and unharmed: putting the small file back heals it.

Only tokens that ``make_tokens`` made have spare copies, in ``spare/`` beside ``tokens/``. Any other token, of SoftHSM
or not, is left alone.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import sleep
from typing import Final

FOLDER: Final = "spare"

_PATIENCE: Final = 0.05
"""Seconds in which a login that is under way has written the file."""


def keep_spare(environment: Mapping[str, str]) -> None:
    """Keep a copy of each whole token, after a login that went well.

    Args:
        environment: of the module; without a ``SOFTHSM2_CONF`` of ours nothing happens.
    """
    for token, spare in _pairs(environment):
        content = token.read_bytes()
        if content and (not spare.exists() or spare.read_bytes() != content):
            _write(spare, content)


def mend_tokens(environment: Mapping[str, str]) -> list[Path]:
    """Put the spare copy back where a token's file is empty; nothing else is changed. Before the module is loaded.

    Args:
        environment: of the module; without a ``SOFTHSM2_CONF`` of ours nothing happens.

    Returns:
        The files that were put back.
    """
    mended = []
    for token, spare in _pairs(environment):
        if token.stat().st_size or not spare.exists():
            continue
        sleep(_PATIENCE)
        if token.stat().st_size == 0:
            _write(token, spare.read_bytes())
            mended.append(token)
    return mended


def _pairs(environment: Mapping[str, str]) -> Iterator[tuple[Path, Path]]:
    """Iterate over the tokens' files and where their spare copies are."""
    home = Path(environment.get("SOFTHSM2_CONF", "/nowhere/softhsm2.conf")).parent
    if not (home / FOLDER).is_dir():
        return
    for token in sorted((home / "tokens").glob("*/token.object")):
        yield token, home / FOLDER / f"{token.parent.name}.object"


def _write(path: Path, content: bytes) -> None:
    """Write a private file, whole or not at all."""
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)

"""Running the signing tools of others: imgtool and espsecure, as child processes with a deadline."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from firmware_tools.errors import SigningError

_DEADLINE_S: Final = 120
_SAID: Final = 300
"""Characters of what a tool says that are repeated."""


def run_imgtool(arguments: Sequence[str]) -> None:
    """Run imgtool, as this Python has it.

    Raises:
        SigningError: it is missing, or it refuses.
    """
    if find_spec("imgtool") is None:
        raise SigningError(
            "imgtool is not installed, and MCUboot images need it; install 'provisioning-station[mcuboot]'",
            code="signing.tool_missing",
        )
    _run("imgtool", [sys.executable, "-I", "-m", "imgtool.main", *arguments])


def run_espsecure(arguments: Sequence[str]) -> None:
    """Run espsecure: beside this Python, or on PATH. It is GPL: a program, never a module here.

    Raises:
        SigningError: it is missing, or it refuses.
    """
    beside = Path(sys.executable).parent
    found = shutil.which("espsecure", path=str(beside)) or shutil.which("espsecure")
    if found is None:
        raise SigningError(
            "espsecure is not installed, and images for ESP secure boot need it; install "
            "'provisioning-station[esp]', or esptool 5",
            code="signing.tool_missing",
        )
    _run("espsecure", [found, *arguments])


def _run(name: str, command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise SigningError(f"{name} did not end in {_DEADLINE_S} s and was killed", code="signing.options") from None
    if done.returncode == 0:
        return
    lines = (done.stderr or done.stdout).strip().splitlines()
    if "Traceback (most recent call last):" in lines:
        said = lines[-1]
    else:
        said = " ".join(" ".join(lines).split()).rpartition("Error: ")[2]
    told = "".join(letter for letter in said if letter.isprintable())[-_SAID:]
    raise SigningError(f"{name} refuses: {told or 'without a word'}", code="signing.options")

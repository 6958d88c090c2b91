"""The security officer's walk-through works when it is typed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hsm import PinSource, TokenUri

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "security-officer.md").read_text()


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_rehearsal_makes_a_ca_and_a_second_one_is_refused(tmp_path):
    (script,) = blocks(PAGE, "sh")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "ca/intermediate.pem: OK" in done.stdout
    assert "Rehearsal Acme Intermediate CA 1" in done.stdout
    again = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        check=False,
        capture_output=True,
        text=True,
    )
    assert again.returncode != 0
    assert "is there already" in again.stderr


@pytest.mark.parametrize("source", re.findall(r"^\| `((?:prompt|file|env|credential):[^`]*)`", PAGE, re.MULTILINE))
def test_every_pin_source_of_the_page_is_known(source):
    assert str(PinSource.parse(source)) == source


def test_every_code_of_the_page_is_one_of_ours():
    """A code that a reader looks up has to be raised somewhere."""
    rows = re.findall(r"^\| (`[a-z]+\.[a-z_]+`(?:, `[a-z]+\.[a-z_]+`)*) \|", PAGE, re.MULTILINE)
    codes = {code for row in rows for code in re.findall(r"`([^`]+)`", row)}
    source = "".join(path.read_text() for path in (DOCS.parent / "hsm").rglob("*.py"))
    derived = {"pin.incorrect"}  # made from the token's answer, PinIncorrect
    assert len(codes) >= 8
    assert {code for code in codes if f'"{code}"' not in source} <= derived


@pytest.mark.parametrize("uri", re.findall(r'token = "(pkcs11:[^"]+)"', (DOCS / "real-hsm.md").read_text()))
def test_every_uri_of_the_page_can_be_parsed(uri):
    assert TokenUri.parse(uri).module_path

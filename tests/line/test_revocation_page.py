"""The page on revocation: its walk-through is typed, its tables are true."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hsm.ocsp.request import MAX_CERTIFICATES, MAX_NONCE, MAX_REQUEST
from hsm.revocation import FINAL

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "revocation.md").read_text()
PORT = "8765"


def test_walk_through_works_when_it_is_typed(tmp_path):
    (script,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = str(taken.getsockname()[1])
    assert PORT in script
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace(PORT, free)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "issued/alice.pem: OK" in said
    assert said.count("certificate revoked") == 2
    assert re.findall(r"issued/(\w+)\.pem: (good|revoked)", said) == [
        ("bob", "revoked"),
        ("carol", "revoked"),
        ("carol", "good"),
    ]
    assert said.count("Response verify OK") == 3
    assert "signed 4, left 0" in said


def rows(heading):
    """Return what stands in the first column of the table below a heading."""
    table = PAGE[PAGE.index(heading) :] + "\n"
    return re.findall(r"^\| (`.*?) \|", table[: table.index("\n\n", table.index("| --- |"))], re.MULTILINE)


def test_every_reason_is_explained():
    told = {text for row in rows("| `--reason` |") for text in re.findall(r"`(\w+)`", row)}
    assert told == {reason.text for reason in FINAL}


def test_every_code_of_the_page_is_raised_somewhere():
    codes = {code for row in rows("| code |") for code in re.findall(r"`([^`]+)`", row)}
    source = "".join(path.read_text() for floor in ("hsm", "station") for path in (ROOT / floor).rglob("*.py"))
    assert len(codes) >= 15
    assert {code for code in codes if f'"{code}"' not in source} == set()


@pytest.mark.parametrize("words", re.findall(r"`station (ca (?:revoke|crl|ocsp)\b[a-z ]*)", PAGE))
def test_every_command_of_the_page_is_one(words):
    done = subprocess.run(
        [Path(sys.executable).with_name("station"), *words.split()[:3], "--help"], capture_output=True, check=False
    )
    assert done.returncode == 0, words


def test_limits_of_the_page_are_those_of_the_responder():
    assert f"over {MAX_REQUEST} bytes, over {MAX_CERTIFICATES} certificates" in PAGE
    assert f"more than {MAX_NONCE} octets" in PAGE

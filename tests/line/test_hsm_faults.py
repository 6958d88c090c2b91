"""The station with a real token whose module fails under it: it dies with the process, goes mad, or signs wrongly."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from softhsm import find_module
from station.manifest import ManifestReader

SOURCE = Path(__file__).parents[1] / "hsm" / "watched_module.c"
DIED = 9


@pytest.fixture(scope="session")
def watched_module(tmp_path_factory):
    """SoftHSM behind ``watched_module.c``, which does harm on demand."""
    module = tmp_path_factory.mktemp("watched") / "watched.so"
    compiler = shutil.which("cc")
    assert compiler, "no C compiler: apt-get install gcc"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", module, SOURCE, "-ldl"], check=True)
    return module


@pytest.fixture
def harmed(line, watched_module, monkeypatch):
    """Let the line's token be reached through the module that does harm."""
    text = line.config.read_text()
    line.config.write_text(re.sub(r"module-path=[^&\"?]*", f"module-path={watched_module}", text))
    assert str(watched_module) in line.config.read_text()
    monkeypatch.setenv("WATCHED_MODULE", str(find_module()))
    monkeypatch.setenv("WATCHED_LOG", os.devnull)

    def harm(what="", at=0):
        monkeypatch.setenv("WATCHED_HARM", what)
        monkeypatch.setenv("WATCHED_AT", str(at))

    harm()
    return harm


def recover(line, harm):
    """Run again with a sound token; hold boards, record and the token's count against each other."""
    harm()
    done = line.station("run", "--once", seconds=100)
    assert done.returncode == 0, done.stdout + done.stderr
    line.judge()
    audit = line.station("ca", "audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_a_module_that_takes_the_process_with_it_at_a_signature_costs_no_identity(line, harmed, number):
    harmed("die", number)
    died = line.station("run", "--once", seconds=100)
    assert died.returncode == DIED, died.stdout + died.stderr
    recover(line, harmed)


@pytest.mark.slow
def test_a_module_that_fails_in_the_middle_of_the_line_is_opened_anew(line, harmed):
    harmed("sticky", 6)
    done = line.station("run", "--once", seconds=100)
    assert done.returncode == 0, done.stdout + done.stderr
    recover(line, harmed)


@pytest.mark.slow
def test_a_token_that_signs_wrongly_is_refused_before_any_board_is_begun(line, harmed):
    harmed("signature")
    refused = line.station("run", "--once", seconds=100)
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
    assert "does not sign for the issuer's certificate" in refused.stderr
    with ManifestReader(line.manifest) as reader:
        assert list(reader.units()) == []
    recover(line, harmed)

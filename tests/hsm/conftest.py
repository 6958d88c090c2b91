"""One folder with tokens for each test session (and xdist worker); each test logs in anew."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm import Signer
from hsm.testing import INTERMEDIATE_TOKEN, TemporaryCa, open_signer, temporary_ca
from softhsm import SoftHsm, find_module, make_tokens

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def made_ca(tmp_path_factory) -> TemporaryCa:
    """A CA on SoftHSM; its signer is closed."""
    with temporary_ca(tmp_path_factory.mktemp("ca")) as ca:
        pass
    return ca


@pytest.fixture
def ca(made_ca) -> Iterator[TemporaryCa]:
    """The CA, with its signer open."""
    with open_signer(made_ca.softhsm, INTERMEDIATE_TOKEN) as signer:
        yield TemporaryCa(made_ca.softhsm, signer, made_ca.issuer, made_ca.root, made_ca.folder)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory) -> SoftHsm:
    """Tokens to make and break keys in."""
    return make_tokens(tmp_path_factory.mktemp("scratch"), ["scratch", "other"])


@pytest.fixture
def signer(scratch) -> Iterator[Signer]:
    """A writable signer on a token that may hold keys of other tests."""
    with open_signer(scratch, "scratch", writable=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def watched_module(tmp_path_factory) -> Path:
    """SoftHSM behind ``watched_module.c``, which counts logins and does harm on demand."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: apt-get install gcc")
    module = tmp_path_factory.mktemp("watched") / "watched.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run([*command, "-o", module, HERE / "watched_module.c", "-ldl"], check=True)
    return module


@pytest.fixture
def watched(watched_module, tmp_path) -> dict[str, str]:
    """Environment for the watched module; the log is in ``WATCHED_LOG``."""
    log = tmp_path / "watched.log"
    log.touch()
    return {
        "WATCHED_MODULE": str(find_module()),
        "WATCHED_LOG": str(log),
        "WATCHED_HARM": "",
        "WATCHED_SO": str(watched_module),
    }

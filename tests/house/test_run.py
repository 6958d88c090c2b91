"""``./run`` on a machine that lacks things."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "run"
NOBODY = 65534

FAKES = {
    # Debian's tools on a machine without a compiler, whose Python came without venv
    "dpkg-query": 'case "$*" in *gcc|*python3-venv) exit 1;; esac; printf installed',
    "python3": 'case "$*" in *ensurepip*) exit 1;; *version_info*) exit 0;; esac; exit 9',
}


@pytest.fixture
def checkout():
    """Give a folder with ``run`` and the fake tools, that any user may read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(RUN, folder)
        tools = folder / "tools"
        tools.mkdir(mode=0o755)
        for tool, script in FAKES.items():
            (tools / tool).write_text(f"#!/bin/sh\n{script}\n")
            (tools / tool).chmod(0o755)
        yield folder


@pytest.mark.parametrize("verb", ["demo", "test", "setup", "bench"])
def test_who_is_not_root_gets_one_line_with_all_that_is_missing(checkout, verb):
    done = subprocess.run(
        [checkout / "run", verb],
        env={"PATH": f"{checkout}/tools:{os.environ['PATH']}"},
        user=NOBODY if os.getuid() == 0 else None,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "run: system packages are missing; type:  sudo apt-get update && sudo apt-get install -y gcc python3-venv\n"
    )

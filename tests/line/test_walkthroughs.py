"""The walk-throughs of the docs, typed as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
pytestmark = pytest.mark.usefixtures("quick_compiler")


def console_block(page: str, after: str) -> str:
    """Return the commands of the first ``console`` or ``sh`` block below a heading."""
    text = (ROOT / page).read_text()
    text = text[text.index(f"{after}\n") :]
    language, block = re.search(r"^```(console|sh)\n(.*?)^```", text, re.DOTALL | re.MULTILINE).groups()
    if language == "sh":
        return block
    commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE)
    assert commands
    return "\n".join(commands)


def type_it(script: str, folder: Path) -> str:
    """Type commands into bash; the first one that fails ends it."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_the_engineers_line_on_a_desk(tmp_path):
    said = type_it(console_block("docs/engineer.md", "## A line on your desk, in five minutes"), tmp_path)
    assert "4 passed, 0 failed" in said
    assert "OK" in said
    assert (tmp_path / "line-1" / "units.csv").read_text().count("SN0000") == 4


def test_the_security_officers_rehearsal(tmp_path):
    said = type_it(console_block("docs/security-officer.md", "## Rehearse it"), tmp_path)
    assert "intermediate.pem: OK" in said


def test_a_line_of_modems_without_a_modem(tmp_path):
    said = type_it(console_block("docs/drivers.md", "### Try it without a modem"), tmp_path)
    assert "4 passed, 0 failed" in said
    assert "by attestation" in said


def test_the_firmware_engineers_driver_file(tmp_path):
    said = type_it(console_block("docs/drivers.md", "## A driver file, for a shell of your own"), tmp_path)
    assert "widget.toml: nothing is wrong" in said


def test_the_readers_look_around_after_the_demo(tmp_path):
    demo = subprocess.run([TOOLS / "station", "demo", "--boards", "2"], cwd=tmp_path, capture_output=True, check=False)
    assert demo.returncode == 0, demo.stderr
    readme = (ROOT / "README.md").read_text()
    commands = [line.removeprefix("$ ") for line in readme.splitlines() if line.startswith("$ station ")]
    looks = [command for command in commands if "demo/station.toml" in command]
    assert len(looks) >= 5
    said = type_it("\n".join(looks), tmp_path)
    assert said.count("SN000001") >= 3


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_every_page_that_a_page_names_is_there(page):
    text = (ROOT / "docs" / page).read_text()
    for name in re.findall(r"docs/([a-z-]+\.md)", text):
        assert (ROOT / "docs" / name).exists(), name


def test_the_cloud_teams_export_and_receipt(tmp_path):
    said = type_it(console_block("docs/cloud.md", "## Once through, with virtual boards"), tmp_path)
    page = (ROOT / "docs" / "cloud.md").read_text()
    block = page[page.index("## Once through") :].split("```")[1]
    for line in block.splitlines():
        told = re.match(r"(\S+: \d+ units, signed; export \d to \S+|nothing for .*|errors\.json: .*)", line)
        assert told is None or told[0] in said
    assert "aws-0001: signed, and whole: 4 units in 3 files for acme-prod" in said
    assert re.search(r"^2 +nrfcloud +nrf-team +\S+ +4 +3 +1$", said, re.MULTILINE)

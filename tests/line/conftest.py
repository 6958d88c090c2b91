"""A whole line in a folder: the station as a child process, boards as the compiled firmware on ttys."""

import asyncio
import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from cryptography import x509

from firmware_tools.build import build_device
from firmware_tools.virtual_line.line import VirtualLine
from station.cli.root import root
from station.devices.smp import SmpDriver
from station.manifest import ManifestReader, UnitState
from station.ports.link import open_link

STATION = Path(sys.executable).with_name("station")
BUILD = Path(__file__).resolve().parents[2] / "build"


@dataclass(frozen=True)
class LineFolder:
    """A line's folder and what a person at its terminal can do."""

    folder: Path
    program: Path
    boards: int

    @property
    def config(self) -> Path:
        return self.folder / "station.toml"

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.db"

    @property
    def slots(self) -> Path:
        return self.folder / "boards"

    def station(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Type a command in this folder."""
        return subprocess.run(
            [STATION, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=seconds, check=False
        )

    def typed(self, *arguments: str) -> SimpleNamespace:
        """Type a command that powers no board; it runs in this process, which saves most of a second each."""
        stdout, stderr = io.StringIO(), io.StringIO()
        environment = {"SOFTHSM2_CONF": str(self.folder / "tokens" / "softhsm2.conf")}
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, environment),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            pytest.raises(SystemExit) as left,
        ):
            root.main(arguments, prog_name="station")
        return SimpleNamespace(returncode=left.value.code, stdout=stdout.getvalue(), stderr=stderr.getvalue())

    def moved(self, folder: Path) -> "LineFolder":
        """Copy the whole line into another folder: manifest, tokens and boards."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("*.sock", "slot?"))  # and ttys
        for path in (folder / "station.toml", folder / "tokens" / "softhsm2.conf"):  # they name their folder
            path.write_text(path.read_text().replace(str(self.folder), str(folder)))
        return replace(self, folder=folder)

    def set_boards(self, boards: int) -> None:
        """Power so many boards from the next start on."""
        self.config.write_text(re.sub(r"boards = \d+", f"boards = {boards}", self.config.read_text()))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and go on; its output is a pipe."""
        return subprocess.Popen(
            [STATION, *arguments], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @staticmethod
    def events(process: subprocess.Popen[str]) -> Iterator[dict]:
        """Iterate over the JSON lines of ``station run --json`` as they come."""
        for line in process.stdout:
            yield json.loads(line)

    @staticmethod
    def finish(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> tuple[int, str]:
        """Send a signal, wait for the end, and return exit status and stderr."""
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        return process.returncode, stderr

    def name_slots(self, ports, **keys: str) -> None:
        """Put [[slot]] sections for these ports in the place of the rehearsal, or of other slots."""
        text = self.config.read_text()
        more = "".join(f"{name} = {value}\n" for name, value in keys.items())
        slots = "".join(
            f'[[slot]]\nname = "{number}"\nport = "{port}"\n{more}\n' for number, port in enumerate(ports, start=1)
        )
        self.config.write_text(
            re.split(r"^\[rehearsal\]|^\[\[slot\]\]", text, maxsplit=1, flags=re.MULTILINE)[0] + slots
        )

    def flashes(self, bundle: Path, release_key: Path, **keys: str) -> None:
        """Let the line flash its boards with a bundle; what was there before is replaced."""
        ours = r"^(?:# )?(firmware|release_key|dry_run_locks|allow_rollback) = .*\n"
        text = re.sub(ours, "", self.config.read_text(), flags=re.MULTILINE)
        more = "".join(f"{name} = {value}\n" for name, value in keys.items())
        said = f'[product]\nfirmware = "{bundle}"\nrelease_key = "{release_key}"\n{more}'
        self.config.write_text(text.replace("[product]\n", said))

    def virtual_line(self, **options) -> VirtualLine:
        """Return the boards of this folder, to be powered by the test."""
        return VirtualLine(self.program, self.slots, self.boards, **options)

    def certificates_on_boards(self) -> dict[str, bytes | None]:
        """Power each board up and read its leaf certificate: what the boards themselves say, by hardware id."""
        return asyncio.run(self.read_boards())

    async def read_boards(self) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        async with self.virtual_line() as line:
            for board in line.boards:
                link = await open_link(str(board.port), 115200)
                try:
                    driver = SmpDriver(link)
                    identity = await driver.identify()
                    found[identity.hardware_id] = await driver.read_back(None) if identity.leaf_sha256 else None
                finally:
                    link.close()
        return found

    def judge(self) -> None:
        """Hold the boards against the manifest: each holds its one recorded certificate, and nothing else is live."""
        held = self.certificates_on_boards()
        with ManifestReader(self.manifest) as reader:
            units = {unit.hardware_id: reader.unit(unit.hardware_id) for unit in reader.units()}
            (order,) = reader.orders()
        assert held.keys() == units.keys()
        for hardware_id, leaf in held.items():
            unit = units[hardware_id]
            assert unit.unit.state is UnitState.PASSED, hardware_id
            live = [issuance for issuance in unit.issuances if issuance.state.value != "void"]
            assert [sha256(issuance.certificate).hexdigest() for issuance in live] == [sha256(leaf).hexdigest()]
        serials = [x509.load_der_x509_certificate(leaf).serial_number for leaf in held.values()]
        assert len(set(serials)) == len(serials)
        assert order.reserved == len(units)


@pytest.fixture(scope="session")
def device_build(tmp_path_factory) -> Path:
    """Return a folder with a build of the device, and nothing else."""
    directory = tmp_path_factory.mktemp("build")
    variant = build_device(BUILD).parents[1]
    shutil.copytree(variant, directory / variant.relative_to(BUILD), symlinks=True)
    return directory


@pytest.fixture(scope="session")
def pristine(tmp_path_factory, device_build) -> Path:
    """A line that was just initialised; tests get copies of it."""
    folder = tmp_path_factory.mktemp("line") / "line"
    subprocess.run([STATION, "init", "--softhsm", "--rehearsal", "4", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def line_folder() -> type[LineFolder]:
    """For tests that share a line among them."""
    return LineFolder


@pytest.fixture
def line(tmp_path, pristine, device_build) -> LineFolder:
    """A fresh line of four boards."""
    return fresh_line(tmp_path / "line", pristine, device_build)


@pytest.fixture(scope="module")
def shared_line(tmp_path_factory, pristine, device_build) -> LineFolder:
    """A fresh line of four boards, for all tests of a module that don't stand in each other's way."""
    return fresh_line(tmp_path_factory.mktemp("shared") / "line", pristine, device_build)


def fresh_line(folder: Path, pristine: Path, device_build: Path) -> LineFolder:
    """Copy a line that was just initialised."""
    shutil.copytree(pristine, folder)
    shutil.copytree(device_build, folder / "boards" / "build")
    for path in (folder / "station.toml", folder / "tokens" / "softhsm2.conf"):  # they name their folder
        path.write_text(path.read_text().replace(str(pristine), str(folder)))
    program = build_device(folder / "boards" / "build")
    return LineFolder(folder, program, 4)


@pytest.fixture(autouse=True)
def no_board_is_left_behind():
    """Fail when a test leaves a device process running."""
    yield
    mine = str(os.getpid())
    left = subprocess.run(
        ["pgrep", "-P", mine, "-x", "reference-devic"], capture_output=True, text=True, check=False
    ).stdout
    assert not left

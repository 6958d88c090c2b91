"""Lines of boards with a shell, from the configuration to the manifest: Zephyr's, and one that a file describes."""

import json
import re

import pytest
from cryptography import x509

from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire
from station.config.languages import EXAMPLES
from station.manifest import ManifestReader, ProofKind, UnitState
from station.testing.orders import reorder

MODEL = "widget"
PERSONAS = {
    "zephyr-shell": '"zephyr_shell"',
    "zephyr-shell-noisy": '"zephyr_shell"',
    "home-made": f'"{EXAMPLES / "home-made.toml"}"',
}


@pytest.fixture
def shells(line):
    """Make a fresh line one of boards with a shell: ``shells(persona)``."""

    def prepare(persona, locks="[]"):
        text = line.config.read_text()
        text = re.sub(r"(?m)^model = .*$", f'model = "{MODEL}"', text)
        text = re.sub(r"(?m)^locks = .*$", f"locks = {locks}", text)
        text = text.replace("[rehearsal]\n", f'[rehearsal]\npersona = "{persona}"\n')
        line.config.write_text(text)
        reorder(line.config, "WO-2")
        return line

    return prepare


@pytest.mark.parametrize("persona", PERSONAS)
def test_boards_with_a_shell_are_provisioned_and_come_back_as_done(shells, persona):
    line = shells(persona)
    first = line.station("run", "--once")
    assert "4 passed, 0 failed" in first.stdout, first.stdout + first.stderr
    second = line.station("run", "--once")
    assert "4 done before" in second.stdout, second.stdout
    with ManifestReader(line.manifest) as reader:
        for unit in list(reader.units()):
            assert unit.state is UnitState.PASSED
            assert reader.unit(unit.hardware_id).proof.kind is ProofKind.CHALLENGE


def test_the_locks_of_a_described_board_are_closed_and_observed(shells):
    line = shells("home-made", locks='["debug", "credentials"]')
    assert "4 passed" in line.station("run", "--once").stdout
    shown = json.loads(line.station("unit", "show", "WO-2-000001", "--json").stdout)
    assert set(shown["proof"]["locks"]) == {"debug", "credentials"}


def test_a_product_that_wants_locks_gets_no_board_that_has_none(shells):
    done = shells("zephyr-shell", locks='["debug"]').station("run", "--once", "--json")
    assert "unit.device_incapable" in {json.loads(text).get("code") for text in done.stdout.splitlines()}


def test_a_proof_by_csr_can_be_checked_with_the_manifest_alone(shells):
    line = shells("zephyr-shell")
    line.station("run", "--once")
    with ManifestReader(line.manifest) as reader:
        history = reader.unit(next(reader.units()).hardware_id)
    (issued,) = history.issuances
    certificate = x509.load_der_x509_certificate(issued.certificate)
    message, signature = history.proof.message, history.proof.signature
    # the signature algorithm of the station's certificates is the board's too: ECDSA with SHA-256
    certificate.public_key().verify(signature, message, certificate.signature_algorithm_parameters)


@pytest.mark.parametrize(
    ("persona", "after"), [("zephyr-shell", 900), ("zephyr-shell-noisy", 2400), ("home-made", 1900)]
)
def test_a_board_cut_off_on_its_way_ends_with_one_live_certificate(shells, persona, after):
    line = shells(persona)
    cut = Wire(cut=Cut(kind=CutKind.UNPLUG, direction=Direction.TO_DEVICE, after=after))
    with line.virtual_line(persona=persona, model=MODEL, wire={"slot1": cut}) as boards:
        line.name_slots([board.port for board in boards.boards], driver=PERSONAS[persona])
        first = line.station("run", "--once")
        assert "passed" in first.stdout, first.stdout + first.stderr
        for board in boards.boards:
            board.plug()
        last = line.station("run", "--once")
    assert last.returncode == 0, first.stdout + last.stdout
    with ManifestReader(line.manifest) as reader:
        assert reader.counts()[UnitState.PASSED] == 4
        for unit in list(reader.units()):
            issuances = reader.unit(unit.hardware_id).issuances
            assert [issuance.state.value for issuance in issuances].count("recorded") == 1


def test_a_driver_file_that_is_wrong_stops_the_line_before_the_first_board(shells):
    line = shells("home-made")
    (line.folder / "widget.toml").write_text('about = "half of one"\n')
    line.name_slots([line.folder / "tty"], driver='"widget.toml"')
    done = line.station("run", "--once")
    assert done.returncode == 1
    assert "widget.toml:1: " in done.stderr
    assert "driver widget.toml" in line.station("check").stdout

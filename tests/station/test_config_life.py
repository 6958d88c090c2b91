"""``[quarantine]`` and ``[life]`` of ``station.toml``."""

import pytest

from station.config import LifeSection, QuarantineSection, load, problems
from station.config.folder import configuration

SLOTS = '[[slot]]\nname = "1"\nport = "/dev/ttyUSB0"\n'


@pytest.fixture
def write(tmp_path):
    def write_text(more=""):
        path = tmp_path / "station.toml"
        path.write_text(configuration(name="line", slots=SLOTS) + more)
        return path

    return write_text


def test_both_may_be_left_out(write):
    config = load(write())
    assert (config.quarantine, config.life) == (QuarantineSection(4, 3, 4), LifeSection(()))


def test_both_are_read(write):
    config = load(write('[quarantine]\nboards = 0\nslots = 5\n[life]\nactors = ["alice"]\n'))
    assert (config.quarantine, config.life) == (QuarantineSection(0, 5, 4), LifeSection(("alice",)))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[quarantine]\nboards = -1\n", "boards"),
        ("[quarantine]\nboard = 3\n", "board"),
        ("[life]\n", "actors"),
        ('[life]\nactors = "alice"\n', "actors"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(write, more, says):
    (problem,) = problems(write(more))
    assert says in str(problem)

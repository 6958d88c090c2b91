"""``docs/real-hsm.md`` tells what the code does."""

from pathlib import Path

import pytest

from hsm import health, quirks
from hsm.errors import PinError
from hsm.timing import Timing

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "real-hsm.md").read_text()
FLAT = " ".join(PAGE.split())


@pytest.mark.parametrize("row", [row for row in quirks.KNOWN if row.ran], ids=lambda row: row.name)
def test_libraries_that_were_run_are_listed_with_their_version(row):
    assert f"{row.name} {row.ran}" in PAGE


@pytest.mark.parametrize(
    "sentence",
    [health.ASLEEP_OPERATOR.split(" Check")[0], health.HUNG_OPERATOR, PinError.operator],
)
def test_operator_sees_the_sentences_of_the_page(sentence):
    assert sentence in FLAT


def test_times_are_those_of_the_signer():
    timing = Timing()
    assert f"nothing is signed for {timing.keepalive:g} s" in FLAT
    assert f"tries again every {timing.reload:g} seconds" in FLAT
    assert f"does not come back within {timing.answer:g} s" in FLAT
    assert timing.reload * health.SLOWEST == 300
    assert "at last every five minutes" in FLAT


@pytest.mark.parametrize("field", ["library", "model", *quirks.Quirks.__dataclass_fields__])
def test_every_field_of_a_quirk_is_explained(field):
    assert field in {"name", "note"} or f"`{field}`" in PAGE

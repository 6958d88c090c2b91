"""Versions of firmware are ordered as Semantic Versioning orders them, and builds count."""

from itertools import pairwise

import pytest

from firmware_tools.version import Version

OLD_TO_NEW = (
    *("0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"),
    *("1.0.0-rc.1", "1.0.0", "1.0.0+1", "1.0.0+2", "1.0.0+10", "1.0.1", "1.0.10", "1.2.0", "1.10.0", "2024.11.3"),
)


@pytest.mark.parametrize(("older", "newer"), list(pairwise(OLD_TO_NEW)))
def test_each_is_older_than_the_next(older, newer):
    assert Version.parse(older) < Version.parse(newer)


@pytest.mark.parametrize("text", OLD_TO_NEW)
def test_a_version_is_written_as_it_was_read(text):
    assert str(Version.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.2", "v1.2.3", "1.2.3 ", "01.2.3", "1.2.3-01", "1.2.3-", "1.2.3+x", "1.2.3.4", "1.2.३", "1." * 40],
)
def test_what_is_no_version_is_refused(text):
    with pytest.raises(ValueError, match="written like"):
        Version.parse(text)

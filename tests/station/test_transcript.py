import errno
import os
import stat
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.errors import ConfigError
from station.ports.transcript import FLUSH_SECONDS, NullTranscript, Transcript, _escape
from station.testing import FakeClock


def test_each_line_has_time_direction_and_bytes(tmp_path):
    clock = FakeClock(100.0)
    transcript = Transcript(tmp_path, "unit", title="slot 3", clock=clock)
    transcript.sent(b"\x06\tAB\n")
    clock.advance(0.25)
    transcript.received(b'\x1b[2J"\\\xff')
    transcript.close()
    assert transcript.path.read_text() == ('# slot 3\n0.000000 > "\\x06\\tAB\\n"\n0.250000 < "\\x1b[2J\\"\\\\\\xff"\n')


@given(data=st.binary())
def test_any_bytes_are_one_line_of_printable_ascii(data):
    escaped = _escape(data)
    assert escaped.isascii()
    assert escaped.isprintable()


@given(data=st.binary())
def test_the_bytes_can_be_had_back(data):
    assert _escape(data).encode().decode("unicode_escape").encode("latin-1") == data


def test_a_transcript_is_private(tmp_path):
    transcript = Transcript(tmp_path / "new folder", "unit")
    transcript.sent(b"x")
    transcript.close()
    assert stat.S_IMODE(transcript.path.stat().st_mode) == 0o600


def test_a_port_that_never_speaks_leaves_no_file(tmp_path):
    Transcript(tmp_path, "unit", title="slot 3").close()
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_of_the_same_name_keeps_the_first(tmp_path):
    for text in (b"first", b"second"):
        transcript = Transcript(tmp_path, "unit")
        transcript.sent(text)
        transcript.close()
    assert "first" in (tmp_path / "unit.wire").read_text()
    assert "second" in (tmp_path / "unit-2.wire").read_text()


def test_a_symlink_in_the_way_is_not_followed(tmp_path):
    (tmp_path / "unit.wire").symlink_to(tmp_path / "elsewhere")
    transcript = Transcript(tmp_path, "unit")
    transcript.sent(b"x")
    transcript.close()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a\x1b[2J", "a" * 101, "a\n", "-x"])
def test_a_name_that_is_no_safe_file_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError) as refused:
        Transcript(tmp_path, name)
    assert refused.value.code == "transcript.name"


def test_a_slots_name_never_leaves_the_folder(tmp_path):
    transcript = Transcript.begin(tmp_path, "../../Fixture 1", datetime(2025, 11, 24, 9, 12, 33, tzinfo=UTC))
    transcript.sent(b"x")
    transcript.close()
    assert transcript.path == tmp_path / "20251124T091233-______Fixture_1.wire"


def test_a_board_that_talks_without_end_is_cut_and_the_file_says_so(tmp_path):
    transcript = Transcript(tmp_path, "unit", limit=10_000)
    for _ in range(1000):
        transcript.received(b"x" * 100)
    transcript.close()
    assert transcript.path.stat().st_size <= 10_000 + 100
    assert transcript.path.read_text().endswith("# cut: the wire was longer than a transcript may be\n")


def test_one_endless_read_is_cut_as_well(tmp_path):
    transcript = Transcript(tmp_path, "unit", limit=1000)
    transcript.received(bytes(1 << 20))
    transcript.close()
    assert transcript.path.stat().st_size < 1000


def test_a_crash_loses_about_a_second(tmp_path):
    clock = FakeClock()
    transcript = Transcript(tmp_path, "unit", clock=clock)
    transcript.sent(b"first")
    clock.advance(FLUSH_SECONDS)
    transcript.sent(b"second")
    assert "first" in transcript.path.read_text()
    transcript.close()


def test_a_folder_that_can_not_be_written_does_not_stop_the_unit(tmp_path):
    (tmp_path / "file").write_text("")
    transcript = Transcript(tmp_path / "file", "unit")
    transcript.sent(b"x")
    transcript.close()
    assert transcript.failure


def test_a_full_disk_does_not_stop_the_unit(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    transcript = Transcript(tmp_path, "unit")
    monkeypatch.setattr(os, "write", full)
    transcript.sent(bytes(100_000))
    transcript.sent(b"more")
    transcript.close()
    assert "No space left" in transcript.failure


def test_after_close_nothing_is_written_and_nothing_fails(tmp_path):
    transcript = Transcript(tmp_path, "unit")
    transcript.sent(b"x")
    transcript.close()
    transcript.received(b"late")
    transcript.close()
    assert "late" not in transcript.path.read_text()


def test_no_transcript_keeps_nothing():
    transcript = NullTranscript()
    transcript.sent(b"x")
    transcript.received(b"x")
    transcript.close()

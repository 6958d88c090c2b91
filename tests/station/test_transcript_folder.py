"""A folder of transcripts that does not outgrow its limit, and a tape with a file a unit."""

import os

from station.ports.transcript import Transcript
from station.ports.transcript_folder import SlotTape, TranscriptFolder

KILOBYTE = 1000


def old(folder, name, *, age, size=KILOBYTE):
    """Write a file that was changed ``age`` seconds ago."""
    path = folder / name
    path.write_bytes(bytes(size))
    os.utime(path, (1_000_000_000 - age,) * 2)
    return path


def tended(folder, limit):
    transcripts = TranscriptFolder(folder, limit)
    transcripts._tending.join(5)
    return transcripts


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_the_oldest_go_first_and_nine_tenths_stay(tmp_path):
    for number in range(20):
        old(tmp_path, f"{number:02d}.wire", age=number)
    tended(tmp_path, 10 * KILOBYTE)
    assert names(tmp_path) == {f"{number:02d}.wire" for number in range(9)}


def test_a_folder_within_its_limit_is_left_alone(tmp_path):
    for number in range(10):
        old(tmp_path, f"{number:02d}.wire", age=number)
    tended(tmp_path, 10 * KILOBYTE)
    assert len(names(tmp_path)) == 10


def test_what_is_no_transcript_stays(tmp_path):
    old(tmp_path, "notes.txt", age=100, size=50 * KILOBYTE)
    old(tmp_path, "a.wire", age=1, size=20 * KILOBYTE)
    tended(tmp_path, 10 * KILOBYTE)
    assert names(tmp_path) == {"notes.txt"}


def test_what_is_written_meanwhile_counts(tmp_path):
    first = old(tmp_path, "first.wire", age=1000)
    transcripts = tended(tmp_path, 10 * KILOBYTE)
    looks = [transcripts._tending]
    for _ in range(12):
        unit = transcripts.begin("1")
        unit.sent(b"x" * KILOBYTE)
        unit.close()
        if transcripts._tending not in looks:
            looks.append(transcripts._tending)
            transcripts._tending.join(5)
    assert not first.exists()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 12 * KILOBYTE
    assert len(looks) <= 4, "the folder is looked through when it is full, not for every unit"


def test_a_folder_that_can_not_be_read_stops_nobody(tmp_path):
    transcripts = tended(tmp_path / "new", 10)
    (tmp_path / "new").rmdir()
    transcripts._look()
    assert transcripts._found == 0


def test_each_unit_on_a_tape_has_a_file_and_the_time_between_has_none(tmp_path):
    tape = SlotTape(lambda: Transcript(tmp_path, "unit"))
    for text in (b"one", b"two"):
        tape.next_unit()
        tape.sent(text)
        tape.rest()
        tape.received(b"is anybody there")
    tape.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["unit-2.wire", "unit.wire"]
    assert '"two"' in files[0].read_text()
    assert not any("anybody" in file.read_text() for file in files)

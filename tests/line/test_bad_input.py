"""What people and machines do wrong: one clear line, a non-zero exit, and nothing lost."""

import json
import os
import pty
import select
import shutil
import sqlite3
import subprocess
import threading
import tty
from contextlib import contextmanager

import pytest


def refused(done) -> str:
    """Return the one line that a command failed with."""
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("station: ")
    assert "Traceback" not in done.stdout + done.stderr
    return lines[0]


@contextmanager
def device_that(says):
    """A tty on which something answers each write with ``says(bytes)``; None is silence."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)  # nobody may wait for a station that has gone
    over = threading.Event()

    def talk() -> None:
        unsaid = b""
        while not over.is_set():
            hears, takes, _ = select.select([master], [master] if unsaid else [], [], 0.1)
            if hears:
                unsaid += says(os.read(master, 4096)) or b""
            if takes:
                unsaid = unsaid[os.write(master, unsaid) :]

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        yield os.ttyname(slave)
    finally:
        over.set()
        talker.join()
        os.close(slave)
        os.close(master)


def test_a_wrong_pin_is_tried_once_and_said_clearly(line):
    pin = line.folder / "tokens" / "pins" / "intermediate"
    right = pin.read_text()
    pin.write_text("0000wrong")
    said = refused(line.station("run", "--once"))
    assert "PIN" in said
    assert "0000wrong" not in said
    pin.write_text(right)
    done = line.station("run", "--once")
    assert done.returncode == 0, done.stderr  # one wrong try locks no token


def test_a_missing_token_is_named(line):
    line.config.write_text(line.config.read_text().replace("pkcs11:token=intermediate", "pkcs11:token=elsewhere"))
    assert "elsewhere" in refused(line.station("run", "--once"))


def test_a_missing_module_is_named(line):
    line.config.write_text(line.config.read_text().replace("libsofthsm2.so", "libnothing.so"))
    assert "libnothing.so" in refused(line.station("run", "--once"))


def test_a_token_without_the_key_is_refused(line):
    shutil.rmtree(line.folder / "tokens")
    shutil.rmtree(line.folder / "ca")
    other = line.folder / "other"
    assert line.station("init", "--softhsm", str(other)).returncode == 0
    shutil.move(other / "tokens", line.folder / "tokens")
    third = line.folder / "third"
    assert line.station("init", "--softhsm", str(third)).returncode == 0
    shutil.move(third / "ca", line.folder / "ca")
    conf = line.folder / "tokens" / "softhsm2.conf"
    conf.write_text(conf.read_text().replace(str(other), str(line.folder)))
    said = refused(line.station("run", "--once"))
    assert "key" in said
    assert not list((line.folder / "boards").glob("slot*"))  # no board was powered


def test_an_issuer_certificate_that_is_none_is_refused(line):
    (line.folder / "ca" / "intermediate.pem").write_text(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )
    assert "intermediate.pem" in refused(line.station("run", "--once"))


def test_a_manifest_of_a_newer_version_is_left_alone(line):
    assert line.station("run", "--once").returncode == 0
    with sqlite3.connect(line.manifest) as db:
        newer = db.execute("PRAGMA user_version").fetchone()[0] + 1
        db.execute(f"PRAGMA user_version = {newer}")
    db.close()
    before = line.manifest.read_bytes()
    assert "newer" in refused(line.station("run", "--once"))
    assert line.manifest.read_bytes() == before


def test_two_stations_on_one_manifest_are_refused(line):
    process = line.start("run", "--json")
    for _ in line.events(process):
        break
    said = refused(line.station("run", "--once"))
    line.finish(process)
    assert str(process.pid) in said


def test_an_unknown_key_is_named_with_its_line(line):
    line.config.write_text(line.config.read_text().replace("[order]", "[order]\naprovals = 7"))
    said = refused(line.station("run"))
    number = line.config.read_text().splitlines().index("aprovals = 7") + 1
    assert f"station.toml:{number}: " in said
    assert "did you mean 'approvals'?" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system read-only")
def test_a_read_only_folder_is_said_and_nothing_is_begun(line, tmp_path):
    folder = tmp_path / "frozen"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        line.config.write_text(line.config.read_text().replace('"manifest.db"', f'"{folder}/manifest.db"'))
        said = refused(line.station("run", "--once"))
        assert str(folder) in said
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def bad_devices(shared_line):
    """One run with three devices, each bad in its way: the line, and how each slot ended."""
    with (
        device_that(lambda _heard: None) as silent,
        device_that(lambda _heard: bytes(range(256)) * 4) as garbage,
        device_that(lambda _heard: b"x" * 65536) as endless,
    ):
        shared_line.name_slots([silent, garbage, endless])
        done = shared_line.station("run", "--once", "--json")
    assert done.returncode == 1
    told = [json.loads(event) for event in done.stdout.splitlines()]
    return shared_line, {event["slot"]: event for event in told if event.get("state") == "failed"}


def test_a_device_that_never_answers_fails_with_its_sentence(bad_devices):
    _, ended = bad_devices
    assert ended["1"]["code"] == "link.no_answer"
    assert "does not answer" in ended["1"]["sentence"]


def test_a_device_that_talks_garbage_fails_with_its_sentence(bad_devices):
    _, ended = bad_devices
    assert ended["2"]["code"] == "link.garbled"


def test_a_device_that_never_stops_talking_is_cut_off(bad_devices):
    line, ended = bad_devices
    assert "3" in ended
    transcripts = list((line.folder / "transcripts").iterdir())
    assert len(transcripts) >= 3
    assert all(path.stat().st_size < 2 << 20 for path in transcripts)


def test_a_port_that_is_not_there_is_an_empty_slot_and_no_success(line):
    line.name_slots([line.folder / "no-such-tty"])
    done = line.station("run", "--once")
    assert done.returncode == 1
    assert "no board" in done.stderr


def test_a_file_is_not_a_port(line):
    line.name_slots([line.config])
    done = line.station("run", "--once")
    assert done.returncode == 1
    assert "link.not_a_port" in done.stdout


def test_no_pin_stands_in_anything_that_was_written(line):
    pin = (line.folder / "tokens" / "pins" / "intermediate").read_bytes().strip()
    done = line.station("--debug", "run", "--once")
    assert pin.decode() not in done.stdout + done.stderr
    for path in line.folder.rglob("*"):
        if path.is_file() and "pins" not in path.parts:
            assert pin not in path.read_bytes(), path

"""Tokens in a folder, made by the real SoftHSM."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from softhsm import SoftHsmError, find_module, make_tokens


def labels_in(conf: Path) -> list[str]:
    shown = subprocess.run(
        ["softhsm2-util", "--show-slots"],
        env={**os.environ, "SOFTHSM2_CONF": str(conf)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = (line.partition(":")[2].strip() for line in shown.splitlines() if line.strip().startswith("Label:"))
    return sorted(label for label in found if label)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_softhsm_itself_sees_the_tokens(tmp_path):
    made = make_tokens(tmp_path / "hsm", ["root", "inter mediate"])
    assert labels_in(made.conf) == ["inter mediate", "root"]


def test_second_run_makes_nothing_new(tmp_path):
    made = make_tokens(tmp_path, ["a"])
    pin = made.pin_file("a").read_text()
    again = make_tokens(tmp_path, ["a", "b"])
    assert labels_in(again.conf) == ["a", "b"]
    assert again.pin_file("a").read_text() == pin


def test_two_runs_at_once_make_one_token(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: make_tokens(tmp_path, ["a"]), range(3)))
    assert labels_in(made[0].conf) == ["a"]


def test_only_the_owner_reads_pins_and_tokens(tmp_path):
    made = make_tokens(tmp_path, ["a"])
    assert mode(made.pin_file("a")) == 0o600
    assert mode(tmp_path / "so-pins" / "a") == 0o600
    assert mode(tmp_path / "tokens") == 0o700


def test_each_token_has_its_own_random_pin(tmp_path):
    made = make_tokens(tmp_path, ["a", "b"])
    pins = {made.pin_file(label).read_text().strip() for label in "ab"}
    assert len(pins) == 2
    assert all(len(pin) >= 16 for pin in pins)


def test_configuration_of_the_user_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "mine.conf"))
    made = make_tokens(tmp_path / "hsm", ["a"])
    assert made.environment == {"SOFTHSM2_CONF": str(tmp_path / "hsm" / "softhsm2.conf")}
    assert not (tmp_path / "mine.conf").exists()


def test_uri_names_module_and_pin_source(tmp_path):
    made = make_tokens(tmp_path / "a b", ["inter mediate"])
    uri = made.uri("inter mediate")
    assert uri.startswith("pkcs11:token=inter%20mediate?module-path=/")
    assert uri.endswith("&pin-source=file:" + str(made.pin_file("inter mediate")).replace(" ", "%20"))


def test_unfinished_token_gets_its_pin_in_the_next_run(tmp_path):
    made = make_tokens(tmp_path, ["a"])
    so_pin = (tmp_path / "so-pins" / "a").read_text().strip()
    for token in (tmp_path / "tokens").iterdir():
        if token.is_dir():
            for file in token.iterdir():
                file.unlink()
            token.rmdir()
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from softhsm.child import Module\n"
        "module = Module(sys.argv[2]); module.initialise(module.slots()[0], 'a', sys.argv[3])\n"
    )
    root = str(Path(__file__).parents[2])
    subprocess.run(
        [sys.executable, "-c", script, root, str(made.module), so_pin],
        env={**os.environ, **made.environment},
        check=True,
    )
    make_tokens(tmp_path, ["a"])
    shown = subprocess.run(
        ["softhsm2-util", "--show-slots"],
        env={**os.environ, **made.environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert shown.count("User PIN init.:   yes") == 1


@pytest.mark.parametrize("label", ["", " a", "a/b", "../a", "x" * 33, "a\nb", "é"])
def test_label_that_is_no_file_name_is_refused(tmp_path, label):
    with pytest.raises(SoftHsmError, match="token label") as caught:
        make_tokens(tmp_path, [label])
    assert caught.value.code == "softhsm.label"


def test_lost_pin_file_is_said_and_stays_lost(tmp_path):
    made = make_tokens(tmp_path, ["a", "b"])
    made.pin_file("b").unlink()
    for _ in range(2):
        with pytest.raises(SoftHsmError, match="'b' is there, but its PIN file is lost"):
            make_tokens(tmp_path, ["a", "b"])
    assert made.pin_file("a").exists()
    assert not made.pin_file("b").exists()


def test_folder_that_cannot_be_made_is_one_line():
    with pytest.raises(
        SoftHsmError, match=r"^/proc/none can't hold tokens: .*choose a folder that you can write$"
    ) as told:
        make_tokens(Path("/proc/none"), ["a"])  # nobody, not even root, makes folders there
    assert told.value.code == "softhsm.folder"


def test_missing_softhsm_names_the_package(monkeypatch):
    monkeypatch.setattr("softhsm.tokens.MODULES", ("/nowhere/libsofthsm2.so",))
    with pytest.raises(SoftHsmError, match="apt-get install softhsm2"):
        find_module()


def test_module_that_is_none_is_one_line(tmp_path):
    module = tmp_path / "libsofthsm2.so"
    module.write_text("no library")
    with pytest.raises(SoftHsmError, match="can't be loaded") as caught:
        make_tokens(tmp_path / "hsm", ["a"], module=module)
    assert "\n" not in str(caught.value)


def test_command_prints_environment_and_uris(tmp_path):
    told = subprocess.run(
        [sys.executable, "-m", "softhsm", str(tmp_path), "a", "b"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert told[0] == f"export SOFTHSM2_CONF={tmp_path}/softhsm2.conf"
    assert [line.partition("?")[0] for line in told[1:]] == ["pkcs11:token=a", "pkcs11:token=b"]


def test_command_without_label_shows_an_example(tmp_path):
    told = subprocess.run([sys.executable, "-m", "softhsm", str(tmp_path)], check=False, capture_output=True, text=True)
    assert told.returncode == 2
    assert "example: python -m softhsm" in told.stderr


def test_pin_is_in_nobodys_arguments(tmp_path):
    """A stand-in for the module records what the child process was started with."""
    made = make_tokens(tmp_path / "first", ["a"])
    log = tmp_path / "log"
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {log}\nenv >> {log}\nexec {sys.executable} "$@"\n')
    fake.chmod(0o755)
    code = (
        "import sys, pathlib; sys.executable = sys.argv[1]\n"
        "from softhsm import make_tokens; make_tokens(pathlib.Path(sys.argv[2]), ['a'])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(fake), str(made.directory)], check=True)
    seen = log.read_text()
    assert "child.py" in seen
    assert made.pin_file("a").read_text().strip() not in seen
    assert (made.directory / "so-pins" / "a").read_text().strip() not in seen

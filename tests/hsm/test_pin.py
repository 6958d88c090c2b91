"""PIN sources, and what never shows a PIN."""

import copy
import pickle
import subprocess
import sys

import pytest

from hsm import PinError, PinSource
from hsm.pin import Pin


def test_pin_shows_itself_to_nobody():
    pin = Pin("1234")
    assert "1234" not in f"{pin} {pin!r} {[pin]}"
    assert not hasattr(pin, "__dict__")


@pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy])
def test_pin_stays_in_its_process(carry):
    with pytest.raises(TypeError, match="stays in its process"):
        carry(Pin("1234"))


def test_file_gives_its_first_line(tmp_path):
    path = tmp_path / "pin"
    path.write_text("1234\r\nnot this\n")
    path.chmod(0o600)
    assert PinSource.parse(str(path)).read().reveal() == "1234"


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o666])
def test_file_that_others_reach_is_refused(tmp_path, mode):
    path = tmp_path / "pin"
    path.write_text("1234")
    path.chmod(mode)
    with pytest.raises(PinError, match=f"mode {mode:04o}.*chmod 600") as caught:
        PinSource.parse(f"file:{path}").read()
    assert caught.value.code == "pin.file_mode"


def test_service_group_may_read_the_file(tmp_path):
    path = tmp_path / "pin"
    path.write_text("1234")
    path.chmod(0o640)
    assert PinSource.parse(f"file:{path}").read().reveal() == "1234"


def test_missing_file_is_one_line(tmp_path):
    with pytest.raises(PinError, match="can't be read: No such file"):
        PinSource.parse(f"file:{tmp_path}/none").read()


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 300, b"\xff\xfe"])
def test_file_without_a_pin_is_refused(tmp_path, content):
    path = tmp_path / "pin"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(PinError):
        PinSource.parse(f"file:{path}").read()


def test_environment_gives_a_pin():
    assert PinSource.parse("env:P").read(environment={"P": "1234"}).reveal() == "1234"


def test_unset_variable_is_refused():
    with pytest.raises(PinError, match="pin-source=env:P gives no PIN"):
        PinSource.parse("env:P").read(environment={})


def test_systemd_credential_gives_a_pin(tmp_path):
    (tmp_path / "pin").write_text("1234")
    (tmp_path / "pin").chmod(0o400)
    source = PinSource.parse("credential:pin")
    assert source.read(environment={"CREDENTIALS_DIRECTORY": str(tmp_path)}).reveal() == "1234"


def test_credential_without_systemd_says_what_to_add():
    with pytest.raises(PinError, match="LoadCredential=pin:/path"):
        PinSource.parse("credential:pin").read(environment={})


def test_prompt_names_the_token():
    asked = []
    source = PinSource.parse("prompt:")
    assert source.read(token="root", ask=lambda text: asked.append(text) or "1234").reveal() == "1234"  # noqa: S106 - a label
    assert asked == ["PIN of root: "]
    assert source.attended


def test_prompt_reads_no_pin_that_would_be_echoed():
    script = "from hsm import PinSource; PinSource.parse('prompt:').read()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="1234\n",
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    assert done.stderr.strip().endswith("pin-source=prompt: needs a terminal to ask on")
    assert "GetPassWarning" not in done.stderr


def test_prompt_without_a_terminal_is_said():
    def closed(_):
        raise EOFError

    with pytest.raises(PinError, match="needs a terminal"):
        PinSource.parse("prompt:").read(ask=closed)

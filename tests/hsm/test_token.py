"""Modules, tokens and logins, on SoftHSM and on SoftHSM behind a module that counts and harms."""

import os
import re
import subprocess
import sys
import textwrap
import traceback
from dataclasses import replace
from pathlib import Path

import pytest

from hsm import ModuleError, PinError, PinSource, Recovery, Signer, TokenError, TokenUri
from hsm.testing import open_signer

WRONG_PIN = "0000-not-the-pin"


def uri_of(softhsm, label, watched=None):
    uri = TokenUri.parse(softhsm.uri(label))
    return replace(uri, module_path=watched["WATCHED_SO"]) if watched else uri


def environment(softhsm, watched, harm=""):
    return {**softhsm.environment, **watched, "WATCHED_HARM": harm}


def logins(watched):
    return Path(watched["WATCHED_LOG"]).read_text().count("login")


def test_token_says_who_it_is(scratch):
    with open_signer(scratch, "scratch") as signer:
        assert signer.token.label == "scratch"
        assert signer.token.model == "SoftHSM v2"
        assert len(signer.token.serial) == 16
        assert signer.token.login_required
        flags = (signer.token.pin_count_low, signer.token.pin_final_try, signer.token.pin_locked)
        assert flags == (False, False, False)


def test_token_is_found_by_serial_too(scratch):
    with open_signer(scratch, "scratch") as signer:
        serial = signer.token.serial
    uri = replace(uri_of(scratch, "scratch"), serial=serial, token=None)
    with Signer.open(uri, environment=scratch.environment) as signer:
        assert signer.token.label == "scratch"


@pytest.mark.parametrize(
    "wanted",
    [
        {"token": "nobody"},
        {"serial": "00"},
        {"model": "Luna"},
        {"manufacturer": "x"},
        {"slot_id": 99},
        {"slot_manufacturer": "x"},
        {"slot_description": "x"},
        {"library_manufacturer": "x"},
        {"library_description": "x"},
        {"library_version": "99"},
    ],
)
def test_token_that_does_not_fit_is_missing(scratch, wanted):
    uri = replace(uri_of(scratch, "scratch"), **wanted)
    with pytest.raises(TokenError, match=r"is not there; the module shows: .*'scratch'") as caught:
        Signer.open(uri, environment=scratch.environment)
    assert caught.value.code == "token.missing"
    assert caught.value.recovery is Recovery.TOKEN_GONE


def test_uri_that_fits_two_tokens_asks_for_more(scratch):
    uri = replace(uri_of(scratch, "scratch"), token=None)
    with pytest.raises(TokenError, match="2 tokens fit the URI; add serial=") as caught:
        Signer.open(uri, environment=scratch.environment)
    assert caught.value.code == "token.ambiguous"


def test_bad_slot_does_not_hide_the_others(scratch, watched):
    """One of the two tokens is in the slot that answers with an error; the other one has to be found."""
    found, missing = [], []
    for label in ("scratch", "other"):
        try:
            with Signer.open(
                uri_of(scratch, label, watched), environment=environment(scratch, watched, "slot")
            ) as signer:
                found.append(signer.token.label)
        except TokenError as error:
            missing.append(str(error))
    assert len(found) == 1
    assert "answers GeneralError" in missing[0]


def test_login_is_done_once(scratch, watched):
    with Signer.open(uri_of(scratch, "scratch", watched), environment=environment(scratch, watched)) as signer:
        for _ in range(3):
            signer.call_blocking(lambda session: session.generate_random(64))
    assert logins(watched) == 1


def test_wrong_pin_is_tried_once(scratch, watched, monkeypatch):
    monkeypatch.setenv("WRONG_PIN", WRONG_PIN)
    uri = replace(uri_of(scratch, "other", watched), pin_source=PinSource.parse("env:WRONG_PIN"))
    with pytest.raises(PinError, match="PinIncorrect") as first:
        Signer.open(uri, environment=environment(scratch, watched))
    with pytest.raises(PinError, match="not tried again") as second:
        Signer.open(uri, environment=environment(scratch, watched))
    assert first.value.code == "pin.incorrect"
    assert second.value.code == "pin.refused_before"
    assert first.value.recovery is second.value.recovery is Recovery.PIN
    assert logins(watched) == 1


def test_token_tells_that_a_wrong_pin_was_given(scratch, watched, monkeypatch):
    monkeypatch.setenv("WRONG_PIN", WRONG_PIN + "2")
    with pytest.raises(PinError):
        Signer.open(uri_of(scratch, "other"), pin=PinSource.parse("env:WRONG_PIN"), environment=scratch.environment)
    with open_signer(scratch, "other") as signer:
        assert signer.token.pin_count_low
    with open_signer(scratch, "other") as signer:
        assert not signer.token.pin_count_low


def test_pin_is_in_no_traceback(scratch, monkeypatch):
    secret = "s3cret-pin"  # noqa: S105 - it is wrong
    monkeypatch.setenv("WRONG_PIN", secret)
    caught = None
    try:
        Signer.open(uri_of(scratch, "other"), pin=PinSource.parse("env:WRONG_PIN"), environment=scratch.environment)
    except PinError as error:
        caught = error
    monkeypatch.delenv("WRONG_PIN")
    with open_signer(scratch, "other"):
        pass  # a right PIN sets the token's counter back
    frames = caught.__traceback__.tb_next  # the first one is this test, which knows the PIN
    told = "".join(traceback.TracebackException(type(caught), caught, frames, capture_locals=True).format()) + repr(
        (caught.args, caught.facts, caught.__cause__, caught.__context__)
    )
    assert "log_in" in told
    assert secret not in told


def test_token_with_one_try_left_is_left_alone(scratch, watched):
    with pytest.raises(PinError, match=r"one try left.*by hand with pin-source=prompt:") as caught:
        Signer.open(uri_of(scratch, "scratch", watched), environment=environment(scratch, watched, "final-try"))
    assert caught.value.code == "pin.final_try"
    assert logins(watched) == 0


def test_human_may_use_the_last_try(scratch, watched):
    pin = scratch.pin_file("scratch").read_text().strip()
    with Signer.open(
        uri_of(scratch, "scratch", watched),
        pin=PinSource.parse("prompt:"),
        ask=lambda _: pin,
        environment=environment(scratch, watched, "final-try"),
    ) as signer:
        assert signer.token.pin_final_try


def test_locked_token_gets_no_login(scratch, watched):
    with pytest.raises(PinError, match="security officer has to set a new one") as caught:
        Signer.open(uri_of(scratch, "scratch", watched), environment=environment(scratch, watched, "locked"))
    assert caught.value.code == "pin.locked"
    assert logins(watched) == 0


def test_token_without_pin_source_says_what_to_add(scratch):
    uri = replace(uri_of(scratch, "scratch"), pin_source=None)
    with pytest.raises(PinError, match="add &pin-source=file:/path") as caught:
        Signer.open(uri, environment=scratch.environment)
    assert caught.value.code == "pin.missing"


def test_token_with_a_pin_pad_needs_no_pin_source(scratch, watched):
    uri = replace(uri_of(scratch, "scratch", watched), pin_source=None)
    typed = {**environment(scratch, watched, "pin-pad"), "WATCHED_PIN": scratch.pin_file("scratch").read_text().strip()}
    with Signer.open(uri, environment=typed) as signer:
        assert signer.token.pin_pad
        assert len(signer.call_blocking(lambda session: session.generate_random(64))) == 8
    assert logins(watched) == 1


def test_second_signer_on_one_token_is_refused(scratch):
    with (
        open_signer(scratch, "scratch"),
        pytest.raises(TokenError, match="share it") as caught,
    ):
        open_signer(scratch, "scratch")
    assert caught.value.code == "token.in_use"


def test_two_tokens_of_one_module_are_used_at_once(scratch):
    with open_signer(scratch, "scratch") as one, open_signer(scratch, "other") as two:
        assert {one.token.label, two.token.label} == {"scratch", "other"}


def test_module_cannot_serve_two_environments_at_once(scratch, made_ca):
    with open_signer(scratch, "scratch"), pytest.raises(ModuleError, match="close the other signers") as caught:
        open_signer(made_ca.softhsm, "intermediate")
    assert caught.value.code == "module.environment"


def test_module_serves_another_environment_when_it_is_free(scratch, made_ca):
    with open_signer(scratch, "scratch"):
        pass
    with open_signer(made_ca.softhsm, "intermediate") as signer:
        assert signer.token.label == "intermediate"


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("pkcs11:token=a?module-path=/nowhere/x.so", "/nowhere/x.so does not exist"),
        ("pkcs11:token=a?module-name=none-such", "no PKCS#11 module is called 'none-such'"),
        ("pkcs11:token=a", r"add \?module-path="),
    ],
)
def test_missing_module_is_said(uri, told):
    with pytest.raises(ModuleError, match=told) as caught:
        Signer.open(TokenUri.parse(uri))
    assert caught.value.code == "module.missing"


def test_file_that_is_no_module_is_said(tmp_path):
    path = tmp_path / "x.so"
    path.write_text("text")
    with pytest.raises(ModuleError, match="can't be used as a PKCS#11 module") as caught:
        Signer.open(TokenUri.parse(f"pkcs11:token=a?module-path={path}"))
    assert caught.value.code == "module.load"
    assert "\n" not in str(caught.value)


def test_softhsm_without_its_tokens_is_said_with_what_to_look_at(tmp_path):
    configuration = tmp_path / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tmp_path}/moved-away\n")
    script = (
        "from hsm import Signer, TokenUri; "
        "Signer.open(TokenUri.parse('pkcs11:token=a?module-name=softhsm2'), environment={'SOFTHSM2_CONF': "
        f"{str(configuration)!r}}})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert re.search(r"can't be initialised: .*; check SOFTHSM2_CONF, and directories\.tokendir", done.stderr)


def test_library_that_is_no_pkcs11_module_is_said():
    library = next(Path("/usr/lib").rglob("libsqlite3.so*"))
    with pytest.raises(ModuleError, match="can't be used as a PKCS#11 module"):
        Signer.open(TokenUri.parse(f"pkcs11:token=a?module-path={library}"))


def test_module_is_found_by_name(scratch):
    uri = replace(uri_of(scratch, "scratch"), module_path=None, module_name="softhsm2")
    with Signer.open(uri, environment=scratch.environment) as signer:
        assert signer.token.label == "scratch"


def test_forked_child_is_refused(scratch):
    """In a process of its own: fork copies whatever else a test process does."""
    code = """
        import os, sys
        from hsm import Signer, SignerError, TokenUri
        signer = Signer.open(TokenUri.parse(sys.argv[1]))
        child = os.fork()
        if child == 0:
            told = []
            for attempt in (
                lambda: signer.call_blocking(lambda session: session.generate_random(64)),
                lambda: Signer.open(TokenUri.parse(sys.argv[1])),
            ):
                try:
                    attempt()
                except SignerError as error:
                    told.append(error.code)
            signer.close()
            os._exit(0 if told == ["signer.forked"] * 2 else 1)
        status = os.waitpid(child, 0)[1]
        alive = len(signer.call_blocking(lambda session: session.generate_random(64)))
        signer.close()
        sys.exit(status or alive != 8)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), scratch.uri("scratch")],
        env={**os.environ, **scratch.environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")

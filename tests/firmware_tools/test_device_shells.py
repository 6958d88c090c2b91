"""The personas with a shell: what they answer and keep, and that no input hurts them."""

import base64
import random
import re
import select
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

QUIET = ("--model", "widget", "--quiet")
LOG = re.compile(r"\x1b\[0m\[[0-9:.,]+\] <inf> [^\n]*\n")


def ask(board, command, last):
    """Send a command and return its lines without echo, prompt and logs, up to the one that matches ``last``."""
    board.wire.sendall(command.encode() + b"\r")
    text = ""
    while True:
        text += board.line().decode()
        clean = re.sub(r"\x1b\[[0-9;]*m", "", LOG.sub("", text)).replace("uart:~$ ", "").replace("> ", "")
        lines = [line.strip() for line in clean.splitlines() if line.strip() not in {"", command}]
        if lines and re.fullmatch(last, lines[-1]):
            return lines


@pytest.fixture(params=["zephyr-shell", "zephyr-shell-noisy"])
def shell(request, plain, power_on):
    return power_on(plain, "--persona", request.param, "--model", "widget")


@pytest.fixture
def widget(plain, power_on):
    return power_on(plain, "--persona", "home-made", *QUIET)


def test_a_csr_is_by_the_key_that_the_shell_shows(shell):
    ask(shell, "nrf_cloud_cred keygen 42", "Generated.*")
    said = ask(shell, 'nrf_cloud_cred csr 42 "CN=dev1,O=Acme"', "CSR generation complete")
    csr = x509.load_der_x509_csr(base64.b64decode(said[0].removeprefix("CSR: ")))
    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() == "O=Acme,CN=dev1"
    point = ask(shell, "nrf_cloud_cred pubkey 42", "Public key export complete")[0].removeprefix("PUBKEY: ")
    assert base64.b64decode(point) == csr.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def test_a_key_is_made_once_and_deleted_on_demand(shell):
    ask(shell, "nrf_cloud_cred keygen 42", "Generated.*")
    ask(shell, "nrf_cloud_cred keygen 42", r"Key already exists in sec tag 42\..*")
    ask(shell, "nrf_cloud_cred delete 42", "Deleted.*")
    ask(shell, "nrf_cloud_cred pubkey 42", "Public key export failed: -2")


def test_what_is_longer_than_a_line_is_cut_off_and_the_shell_says_where(shell):
    assert ask(shell, f"cred buf {'A' * 400}", "Stored .*")[-1] == "Stored 246 bytes."


def test_a_credential_is_listed_by_its_digest_and_read_out_in_rows(shell):
    text = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    ask(shell, f"cred buf {base64.b64encode(text).decode()}", "Stored .*")
    ask(shell, "cred add 42 SERV DEFAULT bint", "Credential buffer cleared.")
    digest = base64.b64encode(sha256(text + b"\0").digest()).decode()
    assert ask(shell, "cred list 42 SERV", ".*found.") == [f"42,SERV,{digest},0", "1 credentials found."]
    *rows, _ = ask(shell, "cred get 42 SERV bint", "Credential buffer cleared.")
    assert base64.b64decode("".join(rows)) == text
    ask(shell, "cred add 42 SERV DEFAULT bin", "Please provide a credential to add.")


def test_a_reboot_forgets_the_buffer_and_keeps_the_key(shell):
    ask(shell, "nrf_cloud_cred keygen 42", "Generated.*")
    ask(shell, "cred buf QUJD", "Stored .*")
    ask(shell, "kernel reboot", ".*Booting.*")
    ask(shell, "cred add 42 SERV DEFAULT bin", "Please provide a credential to add.")
    ask(shell, "nrf_cloud_cred keygen 42", "Key already exists.*")


def test_a_new_shell_loads_what_is_typed_up_to_ctrl_c(plain, power_on):
    board = power_on(plain, "--persona", "zephyr-shell", *QUIET)
    ask(board, "cred buf load", "Input credential, finish with CTRL.C.")
    ask(board, "one\ntwo\n\x03", "Stored 8 bytes.")
    ask(board, "cred add 42 CA DEFAULT strt", "Added .* length 9 bytes.")


def test_the_home_made_shell_refuses_by_number(widget):
    assert ask(widget, "make coffee", "error .*") == ["error 1"]
    assert ask(widget, "sign 00", "error .*") == ["error 2"]
    assert ask(widget, f"sign {'00' * 32}", "error .*")[-1] == "error 3"


def test_the_home_made_csr_is_the_same_each_time(widget):
    first, second = ([line for line in ask(widget, "csr", "ok") if not line.startswith("*")] for _ in range(2))
    assert first == second
    csr = x509.load_pem_x509_csr("\n".join(first[:-1]).encode())
    assert csr.is_signature_valid


@pytest.mark.parametrize("persona", ["zephyr-shell", "zephyr-shell-noisy", "home-made"])
def test_noise_and_endless_lines_end_as_errors(sanitized, power_on, persona):
    """Under the sanitizers: the device ends by itself and without a word on stderr, or the fixture fails."""
    noise = random.Random(1)  # noqa: S311  # the same noise each time
    board = power_on(sanitized, "--persona", persona, *QUIET)
    pieces = [
        "cred ",
        "buf ",
        "add ",
        "get ",
        "list ",
        "del ",
        "load",
        "clear",
        "42 ",
        "SERV ",
        "DEFAULT ",
        "BINT ",
        "BIN ",
    ]
    pieces += [
        "nrf_cloud_cred ",
        "keygen ",
        "csr ",
        "pubkey ",
        "CN=a ",
        "CN=",
        '"',
        "\r",
        "\x03",
        "\r",
        "QUJD ",
        "é",
        "=",
    ]
    pieces += ["cert ", "begin ", "show ", "sign ", "00" * 32, " 99999 ", "lock ", "debug ", "locks ", "-1 ", "A" * 300]
    for _ in range(300):
        board.wire.sendall("".join(noise.choices(pieces, k=noise.randrange(1, 12))).encode() + b"\r")
        while select.select([board.wire], [], [], 0)[0]:  # a board whose words nobody reads stops listening
            board.wire.recv(65536)
    board.wire.sendall(b"\x03\r" + b"A" * 20000 + b"\r\x03\r")
    board.wire.sendall(b"hwinfo devid\r" if "zephyr" in persona else b"id\r")
    wanted = b"ID: 0x" if "zephyr" in persona else b"id="
    while wanted not in board.line():
        pass

"""The exchange in docs/protocol.md is what a device does, byte by byte; and its tables are those of the code.

``UPDATE_PROTOCOL_PAGE=1`` writes the exchange into the page anew.
"""

import os
import re
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from smp import packet

from firmware_tools.build import build_device, fetch_mbedtls
from firmware_tools.provisioning import Locks
from firmware_tools.provisioning_group import (
    ChainRead,
    ChainWrite,
    CsrWrite,
    IdentRead,
    LockRead,
    LockWrite,
    ProveWrite,
    ProvisioningError,
)

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
MARK = re.compile(r"(?<=<!-- exchange: ).*?-->\n(.*)\Z", re.DOTALL)
NONCE = bytes(range(32))
WIDTH = 56


def block(title, *lines):
    return f"\n**{title}**\n\n```\n" + "\n".join(lines) + "\n```\n"


def hexadecimal(direction, message):
    header, body = message[:8].hex(" "), message[8:].hex()
    rows = [body[start : start + 2 * WIDTH] for start in range(0, len(body), 2 * WIDTH)]
    return [f"{direction} {header}", *(f"  {row}" for row in rows)]


def framed(direction, message):
    return [
        f"{direction} {line[:2].hex(' ')} {line[2:-1].decode()} {line[-1:].hex()}" for line in packet.encode(message)
    ]


def tell(board, ca):
    """Go through the exchange with a board; return the section of the page."""
    page = ""
    counter = iter(range(256))

    def step(title, request, *, with_frames=False):
        nonlocal page
        answer = board.exchange(request.BYTES)
        frames = [*framed(">", request.BYTES), *framed("<", answer), ""] if with_frames else []
        page += block(title, *frames, *hexadecimal(">", request.BYTES), *hexadecimal("<", answer))
        return request._Response.loads(answer)

    step("ident, framed and unframed", IdentRead(sequence=next(counter)), with_frames=True)
    csr = step("csr", CsrWrite(off=0, sequence=next(counter)))
    leaf = ca.leaf(x509.load_der_x509_csr(csr.data).public_key())
    chain = leaf + ca.intermediate
    whole = {"len": len(chain), "sha": sha256(chain).digest()}
    step("chain, written in one piece", ChainWrite(off=0, data=chain, **whole, sequence=next(counter)))
    step("chain, the leaf read back", ChainRead(off=0, max=len(leaf), sequence=next(counter)))
    step("prove", ProveWrite(nonce=NONCE, sequence=next(counter)))
    step("lock", LockWrite(locks=Locks.DEBUG | Locks.CREDENTIALS, sequence=next(counter)))
    step("lock, observed", LockRead(sequence=next(counter)))
    step("ident, at the end", IdentRead(sequence=next(counter)))
    return page


@pytest.fixture
def told(power_on, build_folder, ca):
    return tell(power_on(build_device(build_folder, test_entropy=True)), ca)


def test_the_exchange_on_the_page_is_what_a_device_does(told):
    page = PAGE.read_text()
    written = MARK.search(page)
    if os.environ.get("UPDATE_PROTOCOL_PAGE"):
        PAGE.write_text(page[: written.start(1)] + told)
        return
    assert written[1] == told


def test_the_exchange_is_the_same_with_either_mbedtls(told, power_on, build_folder, ca):
    if os.environ.get("WITHOUT_MBEDTLS_3_6"):
        pytest.skip("WITHOUT_MBEDTLS_3_6 is set")
    other = build_device(build_folder, mbedtls_source=fetch_mbedtls(build_folder), test_entropy=True)
    assert tell(power_on(other, storage="other"), ca) == told


def test_the_page_has_each_error_code():
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", PAGE.read_text(), re.MULTILINE)
    assert {name: int(code) for code, name in rows} == {
        error.name: error.value for error in ProvisioningError if error is not ProvisioningError.OK
    }

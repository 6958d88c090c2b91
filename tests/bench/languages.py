"""The languages that an assault is made in: for each its hostile board, its driver, and what proves a pass.

``smp`` speaks in frames (``station.testing.hostile_board``); the others in lines, with ``HostileConsole`` between an
honest board in memory and the wire. What a judge has to know of a board is the same for all: its name, the keys that it
ever had, the leaf that it holds, and whether the record of a pass, taken alone, proves that it was right.
"""

import base64
import re
import secrets
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from random import Random
from typing import Any, Final, Protocol
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.shop import PRODUCT
from bench.text_boards import DOMAIN, Widget, ZephyrBoard, csr_of
from firmware_tools.provisioning import PROOF_DOMAIN, Locks
from station.config import ProductSection
from station.config.languages import EXAMPLES
from station.devices import Capability, Driver
from station.devices.csr_proof import DOMAIN as CSR_DOMAIN
from station.devices.described import DescribedDriver
from station.devices.description_file import load
from station.devices.nordic_at import NordicAtDriver
from station.devices.smp import SmpDriver
from station.devices.zephyr_shell import ZephyrShellDriver
from station.line.evidence import ATTESTATION_DOMAIN
from station.manifest import UnitHistory
from station.ports.link import Link
from station.testing import MemoryLink, ScriptedModem
from station.testing.hostile_board import HostileBoard
from station.testing.hostile_console import HostileConsole, Lie
from station.testing.scripted_modem import sign1, statement

ALL_LOCKS: Final = Locks.DEBUG | Locks.CREDENTIALS


class Hostile(Protocol):
    """What an assault does with a board, and a judge with it."""

    dice: Random
    twisted: int

    @property
    def hardware_id(self) -> str: ...
    @property
    def spki_sha256(self) -> bytes:
        """Of the key that it has now; of nothing as long as it has none."""

    @property
    def leaf(self) -> bytes | None:
        """The certificate that it holds (DER)."""

    def plug(self) -> MemoryLink: ...
    def attack(self) -> None: ...
    def behave(self) -> None: ...


@dataclass(frozen=True)
class Language:
    """One of them."""

    name: str
    product: ProductSection
    make: Callable[[int, Random, list[Any], set[bytes]], Hostile]
    """Makes a blank board: its number, its dice, what all boards said before, the keys that all boards showed."""
    driver: Callable[[Link], Driver]
    is_proven: Callable[[UnitHistory], bool]
    """Whether a pass is right, by its record alone."""
    ends: frozenset[str] = frozenset()
    """How an honest visit may end besides: what a board in bad faith can do to its own unit for good."""


def spki_of(key: ec.EllipticCurvePrivateKey | None) -> bytes:
    """Return the SHA-256 of a key's SubjectPublicKeyInfo."""
    if key is None:
        return b""
    return sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _verifies(key: object, signature: bytes, message: bytes) -> bool:
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _signed_by_leaf(history: UnitHistory, locks: Locks, bound: Callable[[bytes, bytes], bytes]) -> bool:
    """Verify the proof with the certificate on record; ``bound`` gives what has to stand in the message."""
    proof, live = history.proof, history.unit.issuance
    if proof is None or live is None or live.certificate is None or proof.locks != locks:
        return False
    wanted = bound(proof.challenge, sha256(live.certificate).digest())
    key = x509.load_der_x509_certificate(live.certificate).public_key()
    return wanted in proof.message and _verifies(key, proof.signature, proof.message)


# SMP.


def _smp(number: int, dice: Random, past: list[Any], shown: set[bytes]) -> Hostile:
    return HostileBoard(f"HOSTILE-{number}", dice, past=past, shown=shown)


def _smp_proven(history: UnitHistory) -> bool:
    return _signed_by_leaf(history, ALL_LOCKS, lambda challenge, leaf: PROOF_DOMAIN + challenge + leaf)


# Lines.


class TextHostile(HostileConsole):
    """A hostile console, and what a judge asks about the board behind it."""

    lies: Sequence[Lie] = ()

    def __init__(self, board: Any, hardware_id: str, dice: Random, past: list[Any], kinds: Sequence[str]) -> None:
        super().__init__(board, dice, past=past, kinds=kinds)
        self._hardware_id = hardware_id

    @property
    def hardware_id(self) -> str:
        return self._hardware_id

    @property
    def spki_sha256(self) -> bytes:
        return spki_of(self.board.key)  # type: ignore[attr-defined]  # a board of this file

    def attack(self, lies: Sequence[Lie] = ()) -> None:
        super().attack(lies or self.lies)

    @property
    def leaf(self) -> bytes | None:
        raise NotImplementedError


def _first_pem(text: bytes) -> bytes | None:
    return x509.load_pem_x509_certificate(text).public_bytes(Encoding.DER) if text.startswith(b"-----BEGIN") else None


# Nordic modems.

IDENTITY_KEYS: Final[list[object]] = []
"""Public halves of all modems' identity keys."""

_TAG: Final = 16842753


class HostileModem(TextHostile):
    """A modem. Its key statements may be well-formed and wrong."""

    def __init__(self, number: int, dice: Random, past: list[Any], shown: set[bytes]) -> None:
        uuid = str(UUID(int=(0x4E39 << 64) + number))
        modem = _ShowingModem(uuid, shown)
        super().__init__(modem, uuid, dice, past, _AT_KINDS)
        IDENTITY_KEYS.append(modem.identity_key.public_key())
        self.modem = modem
        self.lies = tuple(_for_modem(self, lie) for lie in MODEM_LIES.values())

    @property
    def leaf(self) -> bytes | None:
        return _first_pem(self.modem.credentials.get((_TAG, 1), b""))


class _ShowingModem(ScriptedModem):
    """Notes each key that it showed."""

    def __init__(self, uuid: str, shown: set[bytes]) -> None:
        super().__init__(uuid)
        self._shown = shown

    def csr(self) -> bytes:
        self._shown.add(spki_of(self.key))
        return super().csr()


_AT_KINDS: Final = (
    *("AT+CMEE", "AT%ATTESTTOKEN", "AT%DEVICEUUID", "AT+CGMM", "AT+CGMR", "AT%SHORTSWVER", "AT+CGSN", "AT%CMNG=1"),
    *("AT%CMNG=0", "AT%CMNG=3", "AT+CFUN", "AT%KEYGEN"),
)

ModemLie = Callable[[HostileModem, str, bytes], bytes | None]


def _for_modem(modem: HostileModem, lie: ModemLie) -> Lie:
    return lambda command, right: lie(modem, command, right)


def _keygen(command: str, right: bytes) -> bool:
    return command.startswith("AT%KEYGEN") and b"%KEYGEN: " in right


def _stated(csr: bytes, signed: bytes) -> bytes:
    return f'%KEYGEN: "{statement(csr, signed)}"\r\nOK\r\n'.encode()


def _other_csr(modem: HostileModem, command: str, right: bytes) -> bytes | None:
    """A sound CSR of a key from elsewhere, beside the statement about the one that was made."""
    if not _keygen(command, right):
        return None
    ours = base64.urlsafe_b64decode(right.split(b'"')[1].split(b".")[0] + b"==")
    other = csr_of(ec.generate_private_key(ec.SECP256R1()), modem.hardware_id, Encoding.DER)
    return _stated(other, sign1(modem.modem.identity_key, modem.modem.key_statement(ours, _TAG)))


def _foreign_statement(modem: HostileModem, command: str, right: bytes) -> bytes | None:
    """The right CSR, stated by another key than the one that signs the tokens."""
    if not _keygen(command, right):
        return None
    csr = ScriptedModem.csr(modem.modem)
    return _stated(csr, sign1(ec.generate_private_key(ec.SECP256R1()), modem.modem.key_statement(csr, _TAG)))


def _forged(modem: HostileModem, command: str, right: bytes) -> bytes | None:
    """A CSR that the modem vouches for, of a key that nobody holds."""
    if not _keygen(command, right):
        return None
    csr = bytearray(csr_of(ec.generate_private_key(ec.SECP256R1()), modem.hardware_id, Encoding.DER))
    csr[-1] ^= 1
    return _stated(bytes(csr), sign1(modem.modem.identity_key, modem.modem.key_statement(bytes(csr), _TAG)))


def _other_tag(modem: HostileModem, command: str, right: bytes) -> bytes | None:
    if not _keygen(command, right):
        return None
    csr = ScriptedModem.csr(modem.modem)
    return _stated(csr, sign1(modem.modem.identity_key, modem.modem.key_statement(csr, _TAG + (1 << 32) + 1)))


def _old_token(modem: HostileModem, command: str, right: bytes) -> bytes | None:
    """A token of another day."""
    if not command.startswith("AT%ATTESTTOKEN") or modem.dice.randrange(3):
        return None
    return f'%ATTESTTOKEN: "{modem.modem.token(bytes(16))}"\r\nOK\r\n'.encode()


def _digests(modem: HostileModem, command: str, right: bytes) -> bytes | None:
    """A list that shows what the station wants to see, and something else beside it; or digests of other lengths."""
    if not command.startswith("AT%CMNG=1") or b"%CMNG" not in right:
        return None
    lines = right.splitlines(keepends=True)
    first = lines[0]
    match modem.dice.randrange(4):
        case 0:
            other = re.sub(rb'"[0-9A-F]+"', b'"%s"' % (b"AB" * 32), first)
            return b"".join([other, *lines] if modem.dice.randrange(2) else [first, other, *lines[1:]])
        case 1:
            return right.replace(b'"\r\n', b'00"\r\n')
        case 2:
            return re.sub(rb"[0-9A-F]{2}\"", b'"', right)
        case _:
            return re.sub(rb',"[0-9A-F]+"', b"", right)


def _other_name(modem: HostileModem, command: str, right: bytes) -> bytes | None:
    """Another UUID each time."""
    return re.sub(rb"[0-9a-f]{12}\r", secrets.token_hex(6).encode() + b"\r", right) if "UUID" in command else None


def _no_imei(_modem: HostileModem, command: str, right: bytes) -> bytes | None:
    return right.replace(b"350457790000002", b"350457790000003") if command.startswith("AT+CGSN") else None


MODEM_LIES: Final[dict[str, ModemLie]] = {
    "CSR of another key": _other_csr,
    "statement by another key": _foreign_statement,
    "forged CSR": _forged,
    "other tag": _other_tag,
    "old token": _old_token,
    "digests": _digests,
    "other name": _other_name,
    "no IMEI": _no_imei,
}


def _attested(history: UnitHistory) -> bool:
    proof, live = history.proof, history.unit.issuance
    if proof is None or live is None or live.certificate is None:
        return False
    bound = ATTESTATION_DOMAIN + proof.challenge + sha256(live.certificate).digest()
    if sha256(bound).digest()[:16] not in proof.message:
        return False
    return any(_verifies(key, proof.signature, proof.message) for key in IDENTITY_KEYS)


# Zephyr's shell.


class HostileZephyr(TextHostile):
    """A Zephyr board."""

    def __init__(self, number: int, dice: Random, past: list[Any], shown: set[bytes]) -> None:
        hardware_id = f"{number:016x}"
        self.zephyr = ZephyrBoard(hardware_id, loads=number % 2 == 0)
        shown.add(spki_of(self.zephyr.key))
        super().__init__(self.zephyr, hardware_id, dice, past, _SHELL_KINDS)
        self.lies = (self._other_csr, self._forged_csr, self._other_digest, self._strange_certificate)

    @property
    def leaf(self) -> bytes | None:
        stored = self.zephyr.stored
        return None if stored is None else _first_pem(stored)

    def _other_csr(self, command: str, right: bytes) -> bytes | None:
        """Its CSR for the certificate, another key's for the proof."""
        if b"CSR: " not in right or self.zephyr.stored is None:
            return None
        name = command.partition("CN=")[2]
        csr = base64.b64encode(csr_of(ec.generate_private_key(ec.SECP256R1()), name, Encoding.DER))
        return b"CSR: " + csr + b"\r\n"

    def _forged_csr(self, command: str, right: bytes) -> bytes | None:
        if b"CSR: " not in right:
            return None
        csr = bytearray(csr_of(ec.generate_private_key(ec.SECP256R1()), "x", Encoding.DER))
        csr[-1] ^= 1
        return b"CSR: " + base64.b64encode(csr) + b"\r\n"

    def _other_digest(self, command: str, right: bytes) -> bytes | None:
        if b",SERV," not in right:
            return None
        return re.sub(rb"SERV,.*,0", b"SERV," + base64.b64encode(self.dice.randbytes(32)) + b",0", right)

    def _strange_certificate(self, command: str, right: bytes) -> bytes | None:
        """It says that it holds a certificate already, one that breaks parsers."""
        text = _as_pem(self.dice.choice(STRANGE)) + b"\0"
        if command.startswith("cred list") and b"credentials found" in right:
            digest = base64.b64encode(sha256(text).digest()).decode()
            return f"42,SERV,{digest},0\r\n1 credentials found.\r\n".encode()
        return base64.b64encode(text[:-1]) + b"\r\n" if command.startswith("cred get") else None


def _strange() -> tuple[bytes, ...]:
    """Return certificates (DER) that a parser may choke on: another version, negative serials, empty ones."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "strange")])
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2046, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 5, start, end).sign(key, hashes.SHA256())
    der = made.public_bytes(Encoding.DER)
    return (
        der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1),
        der.replace(b"\x02\x01\x05", b"\x02\x01\x85", 1),
        b"",
        b"\x30\x80\x00\x00",
        der + der,
        der[:-1],
    )


def _as_pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()


_SHELL_KINDS: Final = (
    *("hwinfo", "posix", "app", "nrf_cloud_cred pubkey", "nrf_cloud_cred keygen", "nrf_cloud_cred csr", "cred list"),
    *("cred get", "cred del", "cred buf", "cred add", "q"),
)


def _by_csr(history: UnitHistory) -> bool:
    return _signed_by_leaf(
        history, Locks.NONE, lambda challenge, leaf: sha256(CSR_DOMAIN + challenge + leaf).hexdigest().encode()
    )


STRANGE: Final = _strange()


# A driver file.


class HostileWidget(TextHostile):
    """The board of ``home-made.toml``."""

    def __init__(self, number: int, dice: Random, past: list[Any], shown: set[bytes]) -> None:
        hardware_id = f"E8-{number:08X}"
        self.widget = Widget(hardware_id)
        shown.add(spki_of(self.widget.key))
        super().__init__(self.widget, hardware_id, dice, past, _WIDGET_KINDS)
        self.lies = (self._other_proof, self._open_lock, self._other_chain, self._other_leaf)

    @property
    def leaf(self) -> bytes | None:
        chain = self.widget.chain
        return chain[: 4 + int.from_bytes(chain[2:4])] if chain else None

    def _other_proof(self, command: str, right: bytes) -> bytes | None:
        if not right.startswith(b"sig="):
            return None
        message = DOMAIN + bytes.fromhex(command.split(" ")[1]) + bytes(32)
        key = self.widget.key if self.dice.randrange(2) else ec.generate_private_key(ec.SECP256R1())
        return f"sig={key.sign(message, ec.ECDSA(hashes.SHA256())).hex()}\r\nok\r\n".encode()

    def _open_lock(self, command: str, right: bytes) -> bytes | None:
        return right.replace(b"debug", b"usb") if command == "locks" else None

    def _other_chain(self, command: str, right: bytes) -> bytes | None:
        if command != "cert show" or not self.widget.chain:
            return None
        text = self.dice.choice(
            (b"30", b"3080", b"3084ffffffff00", b"30820004", b"0000", *(one.hex().encode() for one in STRANGE))
        )
        return b"\r\n".join(text[at : at + 64] for at in range(0, len(text), 64)) + b"\r\nok\r\n"

    def _other_leaf(self, command: str, right: bytes) -> bytes | None:
        return re.sub(rb"leaf=\w+", b"leaf=" + b"ab" * 32, right) if command == "state" else None


_WIDGET_KINDS: Final = ("id", "state", "csr", "cert begin", "cert add", "cert show", "sign", "lock", "locks")


def _signed_challenge(history: UnitHistory) -> bool:
    return _signed_by_leaf(history, ALL_LOCKS, lambda challenge, leaf: DOMAIN + challenge + leaf)


_PLAIN: Final = replace(PRODUCT, locks=Locks.NONE)
_DESCRIPTION: Final = load(EXAMPLES / "home-made.toml")

LANGUAGES: Final = {
    "smp": Language("smp", PRODUCT, _smp, SmpDriver, _smp_proven),
    "nordic_at": Language(
        "nordic_at",
        replace(_PLAIN, model="nRF9151-LACA", accepts=Capability.COMPARE | Capability.ATTEST),
        HostileModem,
        NordicAtDriver,
        _attested,
        ends=frozenset({"unit.too_many_certificates"}),
    ),
    "zephyr_shell": Language(
        "zephyr_shell",
        replace(_PLAIN, model="widget"),
        HostileZephyr,
        lambda link: ZephyrShellDriver(link, sec_tag=42),
        _by_csr,
    ),
    "described": Language(
        "described",
        replace(PRODUCT, model="widget"),
        HostileWidget,
        lambda link: DescribedDriver(link, _DESCRIPTION),
        _signed_challenge,
    ),
}
"""By name."""

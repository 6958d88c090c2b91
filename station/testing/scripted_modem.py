"""A Nordic modem as a script, in memory: real keys, a real CSR, real statements, and whatever a test bends."""

import base64
import re
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Final
from uuid import UUID

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from station.ports.transcript import WireTap
from station.testing.memory_link import MemoryLink

Twist = Callable[[bytes], bytes | None]
"""Gets the right answer, all of its lines, and returns what goes onto the wire; None for silence."""

_COMMAND: Final = re.compile(r"AT(?P<name>[+%]?[A-Z0-9]*)(?P<ask>\??)(?:=(?P<content>.*))?", re.DOTALL)
_FORGOTTEN: Final = re.compile(r'"[^"]*"')


def sign1(key: ec.EllipticCurvePrivateKey, payload: bytes, *, detached: bool = False) -> bytes:
    """Make a COSE_Sign1 (RFC 9052 4.2) as modems do."""
    protected = cbor2.dumps({1: -7})
    message = cbor2.dumps(["Signature1", protected, b"", payload])
    numbers = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    raw = b"".join(number.to_bytes(32) for number in numbers)
    return cbor2.dumps(cbor2.CBORTag(18, [protected, {4: cbor2.dumps(-2)}, None if detached else payload, raw]))


def statement(body: bytes, cose: bytes) -> str:
    """Return both parts as they go over the wire."""
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (body, cose))


class ScriptedModem:
    """One modem. What it did stands in ``commands`` and ``credentials``, which may be set as well."""

    def __init__(self, hardware_id: str = "50503631-3544-4e39-8017-1b1464017d02") -> None:
        """Make a blank modem; ``hardware_id`` is its device UUID."""
        self.uuid = UUID(hardware_id)
        self.identity_key = ec.generate_private_key(ec.SECP256R1())
        self.key: ec.EllipticCurvePrivateKey | None = None
        self.credentials: dict[tuple[int, int], bytes] = {}
        """What is listed, by tag and type: a text, and for the key its SubjectPublicKeyInfo."""
        self.commands: list[str] = []
        """All that it was asked, contents left out."""
        self.is_active = True
        self.model, self.firmware, self.imei = "nRF9151-LACA", "mfw_nrf91x1_2.0.2", "350457790000002"
        self.link: MemoryLink | None = None
        self._received = ""
        self._twists: list[tuple[str, Twist, int | None]] = []

    # The test's side.

    def plug(self, *, transcript: WireTap | None = None) -> MemoryLink:
        """Put the modem into a new port and return its link; needs a running event loop."""
        self._received, self.is_active = "", True
        self.link = MemoryLink(f"memory of {self.uuid}", transcript=transcript)
        self.link.connect(self._hear)
        return self.link

    def twist(self, command: str, twist: Twist, *, times: int | None = None) -> None:
        """Let ``twist`` decide on the answer to what begins with ``command``; the latest one goes first."""
        self._twists.insert(0, (command, twist, times))

    def say(self, command: str, raw: bytes, *, times: int | None = None) -> None:
        """Put bytes on the wire in place of the answer."""
        self.twist(command, lambda _answer: raw, times=times)

    def refuse(self, command: str, number: int, *, times: int | None = None) -> None:
        """Answer with ``+CME ERROR``."""
        self.say(command, b"+CME ERROR: %d\r\n" % number, times=times)

    def hush(self, command: str, *, times: int | None = None) -> None:
        """Stay silent."""
        self.twist(command, lambda _answer: None, times=times)

    # The wire's side.

    def _hear(self, data: bytes) -> None:
        self._received += data.decode(errors="replace")
        while (end := self._end_of_line()) is not None:
            line, self._received = self._received[:end], self._received[end + 1 :]
            if line.strip():
                self._obey(line.strip())

    def _end_of_line(self) -> int | None:
        """Find the line end that is not in quotes."""
        hidden = _FORGOTTEN.sub(lambda found: "x" * len(found[0]), self._received)
        found = hidden.find("\n")
        return None if found < 0 or '"' in hidden[:found] else found

    def _obey(self, line: str) -> None:
        self.commands.append(line.partition('"')[0].rstrip(",="))
        try:
            answered = self._answer(line)
        except (ValueError, IndexError, TypeError):  # harmed on the way here
            answered = ["ERROR"]
        answer: bytes | None = "".join(f"{one}\r\n" for one in answered).encode()
        for index, (command, twist, times) in enumerate(self._twists):
            if line.startswith(command):
                if times is not None:
                    self._twists[index : index + 1] = [(command, twist, times - 1)] if times > 1 else []
                answer = twist(answer or b"")
                break
        if answer and self.link is not None:
            self.link.receive(answer)

    def _answer(self, line: str) -> list[str]:
        match = _COMMAND.fullmatch(line)
        if match is None:
            return ["ERROR"]
        fixed = {
            "": [],
            "+CMEE": [],
            "+CGMM": [self.model],
            "+CGMR": [self.firmware],
            "%SHORTSWVER": [f"%SHORTSWVER: {self.firmware.removeprefix('mfw_')}"],
            "+CGSN": [self.imei],
            "%DEVICEUUID": [f"%DEVICEUUID: {self.uuid}"],
        }
        name, arguments = match["name"], [text.strip('"') for text in (match["content"] or "").split(",", 3)]
        if name in fixed:
            return [*fixed[name], "OK"]
        match name:
            case "+CFUN":
                self.is_active = arguments[0] not in {"0", "4"}
                return ["OK"]
            case "%ATTESTTOKEN":
                return [f'%ATTESTTOKEN: "{self.token(bytes.fromhex(arguments[0]))}"', "OK"]
            case "%KEYGEN":
                return self._keygen(int(arguments[0]))
            case _:
                return self._manage(*arguments)

    def token(self, nonce: bytes) -> str:
        """Return an attestation token."""
        body = b"\xd9\xd9\xf7" + cbor2.dumps([1, self.uuid.bytes, 6, bytes(16), nonce])
        return statement(body, sign1(self.identity_key, body, detached=True))

    def csr(self) -> bytes:
        """Return a CSR (DER) for the key."""
        assert self.key is not None  # noqa: S101  # made before
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(self.uuid))])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.key, hashes.SHA256())
        return request.public_bytes(Encoding.DER)

    def key_statement(self, csr: bytes, tag: int) -> bytes:
        """Return what a key statement about a CSR signs."""
        return cbor2.dumps([9, self.uuid.bytes, cbor2.dumps(tag), sha256(csr).digest(), secrets.token_bytes(16)])

    def _keygen(self, tag: int) -> list[str]:
        if self.is_active:
            return ["+CME ERROR: 518"]
        if (tag, 2) in self.credentials:
            return ["+CME ERROR: 519"]
        self.key = ec.generate_private_key(ec.SECP256R1())
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.credentials[tag, 2] = spki
        csr = self.csr()
        return [f'%KEYGEN: "{statement(csr, sign1(self.identity_key, self.key_statement(csr, tag)))}"', "OK"]

    def _manage(self, operation: str, tag: str = "", kind: str = "", content: str = "") -> list[str]:
        place = (int(tag or 0), int(kind or 0))
        if operation == "1":
            listed = (
                f'%CMNG: {where},{what},"{sha256(text).hexdigest().upper()}"'
                for (where, what), text in self.credentials.items()
                if (not tag or where == int(tag)) and (not kind or what == int(kind))
            )
            return [*listed, "OK"]
        if self.is_active:
            return ["+CME ERROR: 518"]
        if operation == "0":
            self.credentials[place] = content.encode()
            return ["OK"]
        return ["OK"] if self.credentials.pop(place, None) is not None else ["+CME ERROR: 513"]

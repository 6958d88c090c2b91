"""The driver of boards that a file describes: it does what ``description`` says, and knows no board by itself.

A home-made shell has neither checksums nor sequence numbers. So who the board is has to be said the same way twice
before it goes on record, certificates are read back and compared byte for byte, and a CSR that does not verify is asked
for once more. ``described_wire`` tells when an answer counts.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from firmware_tools.provisioning import MAX_CSR
from hsm import Csr, CsrError
from station.devices import Capability, DeviceState, Identity, Locks, certificates
from station.devices.certificates import PEM_BEGIN
from station.devices.csr_proof import committed_name, signed_parts
from station.devices.described_wire import DescribedWire, NoCertificate, Told
from station.devices.description import Description, Exchange, Form
from station.errors import DeviceError, Garbled, NoAnswer
from station.ports.link import Link

TRIES: Final = 4
"""How often a CSR or a chain is asked for, or a chain written, until it is sound: one harmed letter is enough."""

SAME: Final = 5
"""How often a board may say who it is until it has said the same twice."""


class DescribedDriver:
    """One board over one link; a ``Driver``."""

    def __init__(self, link: Link, description: Description, *, sec_tag: int = 0) -> None:
        """Drive the board at the other end of an open link; the caller closes it.

        Args:
            link: its console.
            description: of its language.
            sec_tag: what ``{tag}`` stands for.
        """
        self.capabilities = _capabilities(description)
        self._description = description
        self._wire = DescribedWire(link, description)
        self._values: dict[str, object] = {"tag": sec_tag, "hardware_id": "", "lock": ""}
        self._self: Told | None = None
        self._read: list[bytes] | None = None
        """What the board read out last."""

    @property
    def disturbances(self) -> int:
        """See ``Driver.disturbances``."""
        return self._wire.disturbances

    async def identify(self) -> Identity:
        """See ``Driver.identify``."""
        told = await self._identity()
        leaf = told.get("leaf_sha256")
        leaf_sha256 = None if not leaf else self._bytes("leaf_sha256", leaf, size=32)
        if leaf_sha256 is None and "leaf_sha256" not in self._tells("identify"):
            with suppress(NoCertificate):
                leaf_sha256 = sha256(await self.read_back(None)).digest()
        version = _checked("firmware_version", told["firmware_version"], 32)
        firmware = told.get("firmware_sha256")
        return Identity(
            hardware_id=_hardware_id(told["hardware_id"]),
            model=_checked("model", told["model"], 32),
            firmware_version=version,
            firmware_sha256=self._bytes("firmware_sha256", firmware, size=32)
            if firmware
            else sha256(version.encode()).digest(),
            state=_state(told.get("state"), has_leaf=leaf_sha256 is not None),
            leaf_sha256=leaf_sha256,
            remarks={"remark": _checked("remark", told["remark"], 64)} if told.get("remark") else {},
        )

    async def make_key(self) -> bytes:
        """See ``Driver.make_key``."""
        der = b""
        for _ in range(1 if self._description.new_key_each_time else TRIES):
            der = await self._csr()
            with suppress(CsrError):
                return Csr.parse(der).der
        return der

    async def _csr(self) -> bytes:
        told = await self._perform("make_key")
        der = self._bytes("csr", _one(told, "csr"))
        if len(der) > MAX_CSR:
            raise Garbled(f"a CSR of {len(der)} bytes; at most {MAX_CSR}")
        return der

    async def install(self, chain: Sequence[bytes]) -> None:
        """See ``Driver.install``. What is lost or harmed on the way begins it anew, some times."""
        content = self._content(chain)
        values: dict[str, object] = {
            "chain": content,
            "chain_sha256": sha256(content).digest(),
            "chain_size": len(content),
            "leaf_sha256": sha256(chain[0]).digest(),
        }
        for tries_left in reversed(range(TRIES)):
            try:
                told = await self._perform("install", values)
                if digest := told.get("chain_sha256"):
                    self._compare(self._bytes("chain_sha256", digest, size=32), values["chain_sha256"])
            except (Garbled, NoAnswer, DeviceError):
                if not tries_left:
                    raise
            else:
                return

    async def read_back(self, chain: Sequence[bytes] | None) -> bytes:
        """See ``Driver.read_back``.

        Raises:
            DeviceError: ``device.chain_differs``, ``device.certificate_malformed``, or what the file calls it.
        """
        for tries_left in reversed(range(TRIES)):
            try:
                held = await self._held(chain)
            except NoCertificate:
                raise
            except (Garbled, DeviceError):
                if not tries_left:
                    raise
            else:
                if chain is not None or held == self._read:
                    self._read = held
                    return held[0]
                self._read = held  # nothing tells that it was not harmed, but the same once more
        raise Garbled("the board reads its certificate out in another way each time")

    async def _held(self, chain: Sequence[bytes] | None) -> list[bytes]:
        """Return the certificates (DER) that the board reads out, once."""
        told = await self._perform("read_back")
        text = _one(told, "chain")
        content = text.encode() if text.startswith(PEM_BEGIN) else self._bytes("chain", text)
        if self._description.chain.zero:
            content = content.rstrip(b"\0")
        if not content:
            raise NoCertificate("the board holds no certificate")
        if digest := told.get("chain_sha256"):
            self._compare(self._bytes("chain_sha256", digest, size=32), sha256(content).digest())
        held = _certificates(content)
        if chain is not None:
            wanted = list(chain[:1] if self._description.chain.leaf_only else chain)
            if held != wanted:
                self._compare(sha256(b"".join(held)).digest(), sha256(b"".join(wanted)).digest())
        return held

    async def prove(self, challenge: bytes) -> tuple[bytes, bytes]:
        """See ``Driver.prove``.

        Raises:
            DeviceError: ``device.cant_prove``: the file describes no way.
        """
        proof = self._description.proof
        if not self._description.of("prove"):
            raise DeviceError("the driver file has no [[prove]]", code="device.cant_prove")
        leaf = sha256(await self.read_back(None)).digest()
        values: dict[str, object] = {
            "challenge": challenge,
            "leaf_sha256": leaf,
            "proof_name": committed_name(challenge, leaf),
        }
        told = await self._perform("prove", values)
        if proof.by_csr:
            return signed_parts(self._bytes("csr", _one(told, "csr")))
        signature = self._bytes("signature", _one(told, "signature"))
        return proof.message(challenge, leaf), _as_der(signature) if proof.is_raw else signature

    async def lock(self, locks: Locks) -> None:
        """See ``Driver.lock``.

        Raises:
            DeviceError: ``device.cant_lock``: the file names no such lock.
        """
        names = self._description.locks
        wanted = [lock.name.lower() for lock in Locks if lock in locks and lock.name]
        if missing := [name for name in wanted if name not in names]:
            raise DeviceError(f"the driver file names no lock {missing[0]}", code="device.cant_lock")
        for exchange in self._description.of("lock"):
            for name in wanted if exchange.is_for_locks else [""]:
                await self._wire.ask(exchange, self._values | {"lock": names.get(name, "")})

    async def lock_state(self) -> Locks:
        """See ``Driver.lock_state``."""
        locks = Locks.NONE
        if not self._description.of("lock_state"):
            return locks
        words = (await self._perform("lock_state")).get("locks", "").replace(",", " ").split()
        for name, word in self._description.locks.items():
            if word in words:
                locks |= Locks[name.upper()]
        return locks

    # Who is there.

    async def _identity(self) -> Told:
        """Ask who the board is; one that is not known yet has to say the same twice."""
        fixed = dict(self._description.fixed)
        seen: list[Told] = [] if self._self is None else [self._self]
        for _ in range(SAME):
            told = fixed | await self._perform("identify")
            who = {name: value for name, value in told.items() if name not in {"state", "leaf_sha256"}}
            if missing := {"hardware_id", "model", "firmware_version"} - told.keys():
                raise Garbled(f"the board did not tell its {min(missing)}")
            if who in seen:
                self._self = who
                self._values["hardware_id"] = who["hardware_id"]
                return told
            seen.append(who)
        raise Garbled("the board says who it is in another way each time")

    def _tells(self, verb: str) -> set[str]:
        return {
            name for exchange in self._description.of(verb) for pattern in exchange.answer for name in pattern.groups
        }

    # Commands.

    async def _perform(self, verb: str, values: Mapping[str, object] | None = None) -> Told:
        """Go through the exchanges of a verb, and return all that the board told."""
        given = self._values | dict(values or {})
        told: Told = {}
        for exchange in self._description.of(verb):
            for more in self._rounds(exchange, given):
                told |= await self._wire.ask(exchange, given | more)
        return told

    def _rounds(self, exchange: Exchange, given: Mapping[str, object]) -> list[dict[str, object]]:
        """Return what changes from one sending of an exchange to the next: most are sent once."""
        if not exchange.is_for_pieces:
            return [{}]
        content = given["chain"]
        assert isinstance(content, bytes)  # noqa: S101  # the file was checked: pieces are of ``install``
        size = self._description.chain.piece
        pieces = ((offset, content[offset : offset + size]) for offset in range(0, len(content), size))
        return [{"offset": offset, "piece": piece, "piece_size": len(piece)} for offset, piece in pieces]

    # Bytes.

    def _bytes(self, name: str, text: str, *, size: int | None = None) -> bytes:
        """Read what a board told, in the form that the file says; a PEM block is read as one."""
        try:
            if text.startswith(PEM_BEGIN):
                body = "".join(line for line in text.splitlines() if not line.startswith("-----"))
                value = Form.BASE64.decode(body)
            else:
                value = self._description.forms[name].decode(text)
        except ValueError as error:
            raise Garbled(f"the board's {name} can't be read: {error}", got=text) from error
        if size is not None and len(value) != size:
            raise Garbled(f"the board's {name} has {len(value)} bytes, not {size}", got=text)
        return value

    def _content(self, chain: Sequence[bytes]) -> bytes:
        """Return what the board stores."""
        form = self._description.chain
        parts = chain[:1] if form.leaf_only else chain
        if form.is_pem:
            parts = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in parts]
        return b"".join(parts) + (b"\0" if form.zero else b"")

    @staticmethod
    def _compare(got: bytes, expected: object) -> None:
        if got != expected:
            raise DeviceError(
                "the board holds another chain than it was given",
                code="device.chain_differs",
                expected=expected,
                got=got,
            )


def _capabilities(description: Description) -> Capability:
    able = Capability.MAKE_KEY
    for verb, capability in (
        ("read_back", Capability.READ_BACK),
        ("prove", Capability.PROVE),
        ("lock", Capability.LOCK),
        ("lock_state", Capability.OBSERVE_LOCK),
    ):
        if description.of(verb):
            able |= capability
    return able if description.new_key_each_time else able | Capability.REPEAT_CSR


def _hardware_id(text: str) -> str:
    if not (1 <= len(text) <= 64) or any(not (c.isascii() and (c.isalnum() or c in "._:-")) for c in text):  # noqa: PLR2004  # Identity
        raise Garbled("the board's hardware id has not 1 to 64 characters from [0-9A-Za-z._:-]", got=text)
    return text


def _checked(name: str, text: str, limit: int) -> str:
    if not 1 <= len(text) <= limit or not text.isascii() or not text.isprintable():
        raise Garbled(f"the board's {name} has not 1 to {limit} printable characters", got=text)
    return text


def _one(told: Told, name: str) -> str:
    """Return what a board told; its file may say that it need not tell it."""
    value = told.get(name)
    if value is None:
        raise Garbled(f"the board did not tell its {name}")
    return value


def _state(word: str | None, *, has_leaf: bool) -> DeviceState:
    if word and word.upper() in DeviceState.__members__:
        return DeviceState[word.upper()]
    return DeviceState.PROVISIONED if has_leaf else DeviceState.BLANK


def _certificates(content: bytes) -> list[bytes]:
    """Return the certificates (DER) that a board's store holds, as PEM or as DER one after the other."""
    try:
        return certificates.split(content)
    except ValueError as error:
        raise DeviceError(
            f"what the board holds is no certificate: {error}", code="device.certificate_malformed"
        ) from error


def _as_der(signature: bytes) -> bytes:
    """Return an ECDSA signature of r and s as an ECDSA-Sig-Value (RFC 3279 2.2.3)."""
    half = len(signature) // 2
    return encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))

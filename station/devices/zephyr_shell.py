"""The driver of boards with a Zephyr shell, and the commands ``nrf_cloud_cred`` and ``cred`` in it.

Read ``zephyr_shell_wire`` for how a command goes over the wire, and ``docs/drivers.md`` for what the firmware needs.

==========  =======================================================================================================
verb        commands
==========  =======================================================================================================
identify    ``hwinfo devid``, ``posix uname -i``, ``app version`` (or ``kernel version``), each until it was answered
            the same way twice; ``nrf_cloud_cred pubkey``, ``cred list``, and ``cred get`` where there is something
make_key    ``nrf_cloud_cred keygen``, ``nrf_cloud_cred csr``
install     ``cred list``, ``cred del``, ``cred buf``, ``cred add``, ``cred list``
read_back   ``cred list``, ``cred get``
prove       ``nrf_cloud_cred csr`` with a subject that holds the challenge (``csr_proof``)
==========  =======================================================================================================

The key is a PSA key that is made on the board and can't leave it. The chain is stored as PEM, leaf first, with a
terminating zero, as Mbed TLS and nRF Cloud want it. How it gets there is found by asking:

- ``cred buf load`` takes all of it in one go, where the shell knows it. An older one takes the word ``load`` as data
  and says ``Stored 4 bytes.``
- Otherwise it goes in pieces, in Base64. The first piece is longer than most shells take; one that is cut off says how
  much it took, and that is the size of all others. A digest that is wrong in the end makes it begin anew, with pieces
  of ``SMALL_PIECE``.
"""

import base64
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from firmware_tools.provisioning import MAX_CSR
from hsm import Csr, CsrError
from station.devices import Capability, DeviceState, Identity, Locks, certificates
from station.devices.csr_proof import committed_name, signed_parts
from station.devices.zephyr_shell_wire import CTRL_C, ShellWire, Unknown
from station.errors import DeviceError, Garbled
from station.ports.link import Link

SEC_TAG: Final = 16842753
"""Where nRF Cloud's libraries look for their credentials."""

FIRST_PIECE: Final = 480
"""Characters: Zephyr's default takes 246 of them."""

SMALL_PIECE: Final = 48
"""Characters that every shell takes, the smallest receive buffer too."""

TRIES: Final = 4
"""How often a CSR is asked for, or a chain written, until it is sound: one harmed letter is enough."""

SAME: Final = 5
"""How often a board may be asked until it says the same thing twice."""

_P256: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
"""SubjectPublicKeyInfo of an uncompressed point on P-256 (RFC 5480 2.1), up to the point."""

_ID: Final = re.compile(r"ID: 0x([0-9a-f]{2,64})")
_MODEL: Final = re.compile(r"([0-9A-Za-z][0-9A-Za-z_./@-]{0,31})")
_VERSION: Final = re.compile(r"v?(\d[0-9A-Za-z.+_-]{0,30})")
_KERNEL: Final = re.compile(r"(Zephyr version \d[0-9A-Za-z.+_-]{0,15})")
_ENTRY: Final = re.compile(r"(\d{1,10}),SERV,([A-Za-z0-9+/]{43}=),0")
_COUNT: Final = re.compile(r"(\d{1,3}) credentials found\.")
_LISTED: Final = re.compile(f"{_ENTRY.pattern}|{_COUNT.pattern}")
_KEYGEN: Final = re.compile(r"Generated device key in sec tag \d+|Key already exists in sec tag \d+\..*|.*failed: -\d+")
_CSR: Final = re.compile(r"CSR: ([A-Za-z0-9+/]{16,1400}={0,2})|.*(failed: -\d+)")
_PUBKEY: Final = re.compile(r"PUBKEY: ([A-Za-z0-9+/]{87}=)|Public key export (failed): -\d+")
_BASE64: Final = re.compile(r"([A-Za-z0-9+/]{2,80}={0,2})")
_LOADS: Final = re.compile(r"Input credential, finish with CTRL\+C\.|Stored 4 bytes\.")
_STORED: Final = re.compile(r"Stored (\d{1,5}) bytes\.|(Not enough room in (?:the )?credential buffer.*)")
_CLEARED: Final = re.compile(r"Credential buffer cleared\.")
_ADDED: Final = re.compile(r"Added TLS credential of type \w+, sectag \d+, and length \d+ bytes\.|.*already exists\.")
_DELETED: Final = re.compile(r"(?:Deleted|There is no) TLS credential with sectag \d+ and type \w+\.")


@dataclass(frozen=True, slots=True)
class ShellTimeouts:
    """Seconds, beside the time on the wire."""

    query: tuple[float, ...] = (1.0, 1.0, 1.5, 2.0)
    """Each try of what may be asked again."""
    keygen: float = 20.0
    """That a key or a signature may take, beside that."""
    store: float = 5.0
    """That writing or deleting a credential may take, beside that."""


class ZephyrShellDriver:
    """One board over one link; a ``Driver``."""

    capabilities = Capability.MAKE_KEY | Capability.READ_BACK | Capability.PROVE | Capability.REPEAT_CSR

    def __init__(self, link: Link, *, sec_tag: int = SEC_TAG, timeouts: ShellTimeouts | None = None) -> None:
        """Drive the board at the other end of an open link; the caller closes it.

        Args:
            link: its shell.
            sec_tag: where key and chain go, 0 to 2147483647.
            timeouts: other patience.
        """
        self._timeouts = timeouts or ShellTimeouts()
        self._wire = ShellWire(link, self._timeouts.query)
        self._tag = sec_tag
        self._self: tuple[str, str, str] | None = None
        """Hardware id, model and version, as far as they are known."""
        self._held: tuple[str, bytes] | None = None
        """Digest and text of the credential that was read last."""

    @property
    def disturbances(self) -> int:
        """See ``Driver.disturbances``."""
        return self._wire.disturbances

    async def identify(self) -> Identity:
        """See ``Driver.identify``."""
        hardware_id, model, version = await self._introduced()
        (match,) = await self._wire.query(f"nrf_cloud_cred pubkey {self._tag}", _PUBKEY)
        key = None if match[1] is None else sha256(_P256 + _unbased(match[1])).digest()
        leaf = None
        if (digest := await self._listed()) is not None:
            text = await self._text(digest)
            der = _leaf(text)  # what is no certificate of ours is no leaf that anybody here knows
            leaf = base64.b64decode(digest) if der is None else sha256(der).digest()
        state = DeviceState.BLANK
        if key is not None:
            state = DeviceState.KEYED if leaf is None else DeviceState.PROVISIONED
        return Identity(
            hardware_id=hardware_id,
            model=model,
            firmware_version=version,
            # a shell tells no digest of its firmware
            firmware_sha256=sha256(version.encode()).digest(),
            state=state,
            leaf_sha256=leaf,
            key_sha256=key,
        )

    async def make_key(self) -> bytes:
        """See ``Driver.make_key``."""
        seconds = self._timeouts.keygen
        (made,) = await self._wire.query(f"nrf_cloud_cred keygen {self._tag}", _KEYGEN, seconds=seconds)
        if "failed" in made[0]:
            raise DeviceError(f"the board made no key: {made[0]}", code="device.keygen_failed")
        name = self._self[0] if self._self is not None else (await self._introduced())[0]
        return await self._csr(name)

    async def _csr(self, name: str) -> bytes:
        """Return a CSR with this common name; after some tries, whatever the board makes of it."""
        der = b""
        for _ in range(TRIES):
            with suppress(CsrError):
                der = await self._one_csr(name)
                if Csr.parse(der).subject == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]):
                    return der
        return der

    async def _one_csr(self, name: str) -> bytes:
        command = f"nrf_cloud_cred csr {self._tag} CN={name}"
        (match,) = await self._wire.query(command, _CSR, seconds=self._timeouts.keygen)
        if match[1] is None:
            raise DeviceError(f"the board signed no CSR: {match[0]}", code="device.csr_failed")
        der = _unbased(match[1])
        if len(der) > MAX_CSR:
            raise Garbled(f"a CSR of {len(der)} bytes; at most {MAX_CSR}")
        return der

    async def install(self, chain: Sequence[bytes]) -> None:
        """See ``Driver.install``; what was stored is compared at once, and stored again if it differs.

        Raises:
            DeviceError: ``device.chain_differs``; ``device.buffer_too_small``: the shell's buffer does not take it;
                ``device.storage``: it was not stored.
        """
        text = _pem(chain)
        for number in range(TRIES):
            write = self._write_pieces if number % 2 else self._load
            digest = await self._listed()
            if digest == _digest(text):
                return
            if digest is not None:
                command = f"cred del {self._tag} SERV"
                await self._wire.query(command, _DELETED, seconds=self._timeouts.store)
            try:
                form = await write(text)
                command = f"cred add {self._tag} SERV DEFAULT {form}"
                await self._wire.query(command, _ADDED, seconds=self._timeouts.store)
            except Garbled:
                if number == TRIES - 1:
                    raise
        digest = await self._listed()
        if digest != _digest(text):
            raise _differs(text, digest)

    async def _load(self, text: bytes) -> str:
        """Fill the board's buffer in one go, or in pieces if the shell does not know how; return the form."""
        await self._clear()
        answer = await self._wire.say(b"cred buf load\r", _LOADS, self._timeouts.query[-1])
        if answer.startswith("Stored"):
            return await self._write_pieces(text, FIRST_PIECE)
        stored = await self._wire.say(text + CTRL_C, _STORED, self._timeouts.query[-1])
        self._check_room(stored, text)
        if stored != f"Stored {len(text)} bytes.":
            raise Garbled(f"the board took not all of {len(text)} bytes: {stored}")
        return "STRT"

    async def _write_pieces(self, text: bytes, size: int = SMALL_PIECE) -> str:
        """Fill the board's buffer piece by piece; return the form."""
        await self._clear()
        encoded = base64.b64encode(text).decode()
        at = 0
        while at < len(encoded):
            piece = encoded[at : at + size]
            # once: asked again, it would be stored twice
            lines = await self._wire.lines(f"cred buf {piece}", self._timeouts.query[-1])
            found = [match for line in lines if (match := _STORED.fullmatch(line)) is not None]
            if len(found) != 1:
                raise Garbled(f"a piece of the chain was answered with {len(found)} lines", got=" / ".join(lines))
            self._check_room(found[0][0], encoded.encode())
            taken = int(found[0][1])
            if not 0 < taken <= len(piece):
                raise Garbled(f"the board took {taken} characters of {len(piece)}")
            size = min(size, taken) if taken < len(piece) else size
            at += taken
        return "BINT"

    async def _clear(self) -> None:
        # an older shell says so only where there was something
        await self._wire.query("cred buf clear", _CLEARED, count=None)

    def _check_room(self, answer: str, content: bytes) -> None:
        if answer.startswith("Not enough room"):
            raise DeviceError(
                f"the shell's buffer does not take {len(content)} bytes; build the firmware with"
                f" CONFIG_TLS_CREDENTIALS_SHELL_CRED_BUF_SIZE={-(-(len(content) + 64) // 512) * 512} or more",
                code="device.buffer_too_small",
                operator="This firmware can't take the certificate. Call the line engineer.",
            )

    async def read_back(self, chain: Sequence[bytes] | None) -> bytes:
        """See ``Driver.read_back``.

        Raises:
            DeviceError: ``device.no_certificate``, ``device.chain_differs``, or ``device.certificate_malformed``.
        """
        digest = await self._listed()
        if digest is None:
            raise DeviceError("the board holds no certificate", code="device.no_certificate")
        if chain is not None and digest != _digest(_pem(chain)):
            raise _differs(_pem(chain), digest)
        der = _leaf(await self._text(digest))
        if der is None:
            raise DeviceError("what the board holds is no certificate in PEM", code="device.certificate_malformed")
        return der

    async def prove(self, challenge: bytes) -> tuple[bytes, bytes]:
        """See ``Driver.prove``; what is signed is a CSR whose name commits to challenge and leaf."""
        leaf = await self.read_back(None)
        return signed_parts(await self._csr(committed_name(challenge, sha256(leaf).digest())))

    async def lock(self, locks: Locks) -> None:
        """Refuse: a shell closes nothing.

        Raises:
            DeviceError: ``device.cant_lock``.
        """
        raise DeviceError(f"a shell has nothing to close ({locks.name})", code="device.cant_lock")

    async def lock_state(self) -> Locks:
        """See ``Driver.lock_state``: never anything."""
        return Locks.NONE

    # Who is there.

    async def _introduced(self) -> tuple[str, str, str]:
        """Return what the board says of itself; one that was asked before is only asked whether it is still there."""
        if self._self is not None:
            (match,) = await self._wire.query("hwinfo devid", _ID)
            if match[1] == self._self[0]:
                return self._self
            self._held = None  # another board, or a harmed answer
        hardware_id = await self._same("hwinfo devid", _ID)
        if self._self is None or self._self[0] != hardware_id:
            try:
                model = await self._same("posix uname -i", _MODEL)
            except Unknown as error:
                raise DeviceError(
                    f"{error}: the board can't tell its model; build the firmware with CONFIG_POSIX_UNAME and the POSIX"
                    " shell, or describe the board in a driver file",
                    code="device.no_model",
                    operator="This firmware can't say what it is. Call the line engineer.",
                ) from error
            self._self = (hardware_id, model, await self._version())
        return self._self

    async def _version(self) -> str:
        try:
            return await self._same("app version", _VERSION)
        except Unknown:
            return await self._same("kernel version", _KERNEL)

    async def _same(self, command: str, pattern: re.Pattern[str]) -> str:
        """Ask until the same answer came twice: a shell has no checksums, and these answers are for the record."""
        seen: set[str] = set()
        for _ in range(SAME):
            (match,) = await self._wire.query(command, pattern)
            if match[1] in seen:
                return match[1]
            seen.add(match[1])
        raise Garbled(f"'{command}' is answered in another way each time", got=" / ".join(sorted(seen)))

    # Credentials.

    async def _listed(self) -> str | None:
        """Return the digest (Base64) of the chain that the board holds, None if it holds none."""
        for _ in range(SAME):
            matches = await self._wire.query(f"cred list {self._tag} SERV", _LISTED, count=None)
            digests = [match[2] for match in matches if match[2] and int(match[1]) == self._tag]
            counts = [int(match[3]) for match in matches if match[3]]
            if counts == [len(digests)] and len(digests) <= 1:
                return digests[0] if digests else None
        raise Garbled(f"the board says that it lists {counts} credentials, and lists {len(digests)}")

    async def _text(self, digest: str) -> bytes:
        """Return the credential with this digest (Base64), its terminating zero left out."""
        if self._held is not None and self._held[0] == digest:
            return self._held[1]
        for _ in range(TRIES):
            lines = await self._wire.query(f"cred get {self._tag} SERV BINT", _BASE64, count=None)
            with suppress(Garbled):
                text = _unbased("".join(match[1] for match in lines))
                if _digest(text) == digest:
                    self._held = (digest, text)
                    return text
        raise Garbled("what the board reads out has not the digest that it lists")


def _pem(chain: Sequence[bytes]) -> bytes:
    """Return certificates as the board keeps them: PEM, one after the other."""
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain)


def _digest(text: bytes) -> str:
    """Return the digest that a shell lists for a text: of its terminating zero too, in Base64."""
    return base64.b64encode(sha256(text + b"\0").digest()).decode()


def _leaf(text: bytes) -> bytes | None:
    """Return the first certificate (DER) in a text; None: there is none."""
    try:
        return certificates.split_pem(text)[0]
    except (ValueError, IndexError):
        return None


def _unbased(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Garbled(f"this is no Base64: {error}", got=text) from error


def _differs(text: bytes, listed: str | None) -> DeviceError:
    return DeviceError(
        "the board's digest of its certificate is not that of the chain it was given",
        code="device.chain_differs",
        expected=_digest(text),
        got=listed or "none",
    )

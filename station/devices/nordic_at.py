"""The driver of Nordic's cellular modems (nRF9131, nRF9151, nRF9161), which speak AT commands.

Read ``nordic_at_wire`` for how a command goes over the wire, ``nordic_at_modem`` for how a modem says who it is,
``nordic_at_statement`` for what it signs, and ``docs/drivers.md`` for all of it in the words of a line engineer. One
unit is, at best, this row of commands:

==========  =======================================================================================================
verb        commands
==========  =======================================================================================================
identify    ``%ATTESTTOKEN="nonce"``, ``%DEVICEUUID``, ``%ATTESTTOKEN="nonce"``, ``+CGMM`` twice, ``+CGMR``,
            ``%SHORTSWVER``, ``+CGSN``, ``%CMNG=1,tag`` twice
make_key    ``+CFUN=4``, ``%CMNG=1,tag``, what is there is deleted, ``%KEYGEN=tag,2,0``, ``%CMNG=1,tag,2`` twice
install     ``+CFUN=4``, ``%CMNG=0,tag,1,"PEM"``, ``%CMNG=1,tag``
read_back   ``%CMNG=1,tag``
attest      ``%ATTESTTOKEN="nonce"``, ``%CMNG=1,tag``
==========  =======================================================================================================

The hardware id is the device UUID and not the IMEI, since the modem *signs* the UUID, with each key it makes and each
token it gives, and an IMEI is a text. It is also what nRF Cloud calls the device. The IMEI goes on record beside it.

What such a modem can't do, and what stands in its place:

- It makes a key once (+CME ERROR: 519). ``make_key`` therefore deletes the key of an attempt before, with its
  certificate, and the line voids that certificate.
- It does not hand certificates out, but tells the SHA-256 of what was written (``COMPARE``). It is written as PEM, leaf
  first, then the rest of the chain, all in the one place of the client certificate.
- It signs nothing with the new key (``ATTEST``). When the key is made, its identity key signs that this key was made in
  this modem and this tag. Before the unit passes, the same identity key signs a fresh challenge, and the modem's list
  shows the same key and the certificate that was written.
- It closes nothing: there are no locks.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from firmware_tools.provisioning import MAX_CSR
from station.devices import Attestation, Capability, DeviceState, Identity, Locks
from station.devices.nordic_at_credentials import CLIENT_CERTIFICATE, CLIENT_KEY, Credentials
from station.devices.nordic_at_modem import Modem
from station.devices.nordic_at_statement import TEXT, KeyStatement, Statement, StatementRefused
from station.errors import DeviceError, Garbled
from station.ports.link import Link

SEC_TAG: Final = 16842753
"""Where nRF Cloud's libraries look for their credentials."""

WRITES: Final = 4
"""How often a chain is written until the modem tells its digest: one harmed letter among some 1,500 is enough."""

_KEY: Final = re.compile(rf'%KEYGEN: "({TEXT})"')


@dataclass(frozen=True, slots=True)
class AtTimeouts:
    """Seconds that a command waits, beside the time on the wire."""

    query: tuple[float, ...] = (1.0, 1.0, 1.5, 2.0)
    """Each try of what may be asked again."""
    offline: float = 15.0
    """Taking leave of a network may take that long."""
    write: float = 10.0
    """Writing and deleting a credential."""
    keygen: float = 30.0


class NordicAtDriver:
    """One modem over one link; a ``Driver`` that is ``Comparing`` and ``Attesting``."""

    capabilities = Capability.MAKE_KEY | Capability.COMPARE | Capability.ATTEST

    def __init__(self, link: Link, *, sec_tag: int = SEC_TAG, timeouts: AtTimeouts | None = None) -> None:
        """Drive the modem at the other end of an open link; the caller closes it.

        Args:
            link: plain AT, or a Zephyr shell with the command ``at``.
            sec_tag: where key and certificate go, 0 to 2147483647.
            timeouts: other patience.
        """
        self._timeouts = timeouts or AtTimeouts()
        self._modem = Modem(link, self._timeouts.query, self._forget)
        self._wire = self._modem.wire
        self._tag = sec_tag
        self._credentials = Credentials(self._wire, sec_tag, seconds=self._timeouts.write)
        self._made: str | None = None
        """Digest that the modem lists for the key it made."""
        self._statement: Mapping[str, str] = {}

    @property
    def key_statement(self) -> Mapping[str, str]:
        """See ``Attesting.key_statement``."""
        return self._statement

    @property
    def disturbances(self) -> int:
        """See ``Driver.disturbances``."""
        return self._wire.disturbances

    async def identify(self) -> Identity:
        """See ``Driver.identify``.

        Raises:
            DeviceError: ``device.identity_differs``: the token and the commands name different modems.
        """
        me = await self._modem.introduced()
        entries = await self._credentials.listed_twice()
        certificate = entries.get(CLIENT_CERTIFICATE)
        return Identity(
            hardware_id=str(uuid.UUID(bytes=me.uuid)),
            model=me.model,
            firmware_version=me.firmware,
            # a modem tells no digest of its firmware, but a UUID of the build, signed
            firmware_sha256=sha256(me.build).digest(),
            state=_state(entries),
            leaf_sha256=None,
            kept_sha256=None if certificate is None else bytes.fromhex(certificate),
            key_sha256=bytes.fromhex(entries.get(CLIENT_KEY, "")) or None,
            remarks={"imei": me.imei, "firmware_uuid": str(uuid.UUID(bytes=me.build))},
        )

    async def make_key(self) -> bytes:
        """See ``Driver.make_key``. What may have been the wire's fault gets a second try, with a new key.

        Raises:
            StatementRefused: ``device.statement_digest``, ``device.statement_signature`` or
                ``device.statement_content``: the modem's statement is not about this CSR, not by this modem, or about
                another tag.
        """
        try:
            return await self._new_key()
        except StatementRefused:
            return await self._new_key()

    async def _new_key(self) -> bytes:
        await self._offline()
        entries = await self._credentials.listed()
        for kind in (CLIENT_CERTIFICATE, CLIENT_KEY):  # the certificate first: never one without its key
            if kind in entries:
                await self._credentials.delete(kind)
        self._statement, self._made = {}, None
        (match,) = await self._wire.do(f"AT%KEYGEN={self._tag},2,0", _KEY, seconds=self._timeouts.keygen)
        statement = Statement.parse(match[1])
        stated = KeyStatement.of(statement)
        if len(statement.body) > MAX_CSR:
            raise Garbled(f"a CSR of {len(statement.body)} bytes; at most {MAX_CSR}")
        self._modem.identity_key.check(statement)
        if stated.csr_sha256 != sha256(statement.body).digest():
            raise StatementRefused(
                statement, "is about another CSR than the one it came with", code="device.statement_digest"
            )
        if stated.uuid != self._modem.uuid or stated.sec_tag != self._tag:
            raise StatementRefused(
                statement,
                f"is about tag {stated.sec_tag} of modem {stated.uuid.hex()}",
                code="device.statement_content",
            )
        self._made = (await self._credentials.listed_twice(CLIENT_KEY)).get(CLIENT_KEY)
        if self._made is None:
            raise DeviceError("the modem made a key and does not list it", code="device.key_missing")
        self._statement = {
            "statement": statement.payload.hex(),
            "signature": statement.signature.hex(),
            "identity_key": self._modem.identity_key.spki.hex(),
        }
        return statement.body

    async def install(self, chain: Sequence[bytes]) -> None:
        """See ``Driver.install``; what was written is compared at once, and written again if it differs.

        Raises:
            DeviceError: ``device.chain_differs``, or what the modem refuses with. What differs does not stay.
        """
        await self._offline()
        listed = None
        for _ in range(WRITES):
            if CLIENT_CERTIFICATE in await self._credentials.listed(CLIENT_CERTIFICATE):
                await self._credentials.delete(CLIENT_CERTIFICATE)
            await self._credentials.write(CLIENT_CERTIFICATE, _pem(chain))
            listed = (await self._credentials.listed(CLIENT_CERTIFICATE)).get(CLIENT_CERTIFICATE)
            if self._is_kept(chain, listed):
                return
        if listed is not None:  # nobody could tell later that it was ours
            await self._credentials.delete(CLIENT_CERTIFICATE)
        raise _differs(chain, listed)

    def kept(self, chain: Sequence[bytes]) -> frozenset[bytes]:
        """See ``Comparing.kept``: with the line ends that we write, and as a host that strips CR leaves them."""
        text = _pem(chain)
        return frozenset(sha256(form.encode()).digest() for form in (text, text.replace("\r", "")))

    async def read_back(self, chain: Sequence[bytes] | None) -> bytes:
        """See ``Driver.read_back``.

        Raises:
            DeviceError: ``device.chain_differs``: it tells another digest; ``device.certificate_unknown``: nobody here
                knows what it should be.
        """
        if chain is None:
            raise DeviceError(
                "a modem hands no certificate out, and the chain behind this one is not known here",
                code="device.certificate_unknown",
                operator="Give this board to the line engineer.",
            )
        listed = (await self._credentials.listed(CLIENT_CERTIFICATE)).get(CLIENT_CERTIFICATE)
        if not self._is_kept(chain, listed):  # or its answer was harmed
            listed = (await self._credentials.listed_twice(CLIENT_CERTIFICATE)).get(CLIENT_CERTIFICATE)
        if not self._is_kept(chain, listed):
            raise _differs(chain, listed)
        return chain[0]

    def _is_kept(self, chain: Sequence[bytes], listed: str | None) -> bool:
        return listed is not None and bytes.fromhex(listed) in self.kept(chain)

    async def prove(self, challenge: bytes) -> tuple[bytes, bytes]:
        """Refuse: there is no such command.

        Raises:
            DeviceError: ``device.cant_prove``.
        """
        raise DeviceError(
            f"a modem signs no challenge of {len(challenge)} bytes with its client key", code="device.cant_prove"
        )

    async def attest(self, nonce: bytes) -> Attestation:
        """See ``Attesting.attest``."""
        try:
            statement = await self._modem.token(nonce)
        except StatementRefused:  # it may have been the wire's fault
            statement = await self._modem.token(nonce)
        entries = await self._credentials.listed()
        if CLIENT_CERTIFICATE not in entries or self._made not in {None, entries.get(CLIENT_KEY)}:
            entries = await self._credentials.listed_twice()  # it may have been the wire's fault, too
        if CLIENT_CERTIFICATE not in entries or CLIENT_KEY not in entries:
            raise DeviceError("the modem lists no key or no certificate", code="device.key_missing")
        if self._made not in {None, entries[CLIENT_KEY]}:
            raise DeviceError(
                "the modem lists another key than the one it made its statement about",
                code="device.key_replaced",
                expected=self._made,
                got=entries[CLIENT_KEY],
            )
        return Attestation(statement.message, statement.signature, self._modem.identity_key.spki)

    async def lock(self, locks: Locks) -> None:
        """Refuse: a modem closes nothing.

        Raises:
            DeviceError: ``device.cant_lock``.
        """
        raise DeviceError(f"a modem has nothing to close ({locks.name})", code="device.cant_lock")

    async def lock_state(self) -> Locks:
        """See ``Driver.lock_state``: never anything."""
        return Locks.NONE

    def _forget(self) -> None:
        """Another modem is there: it has made no key yet."""
        self._made, self._statement = None, {}

    async def _offline(self) -> None:
        await self._wire.do("AT+CFUN=4", seconds=self._timeouts.offline)


def _state(entries: Mapping[int, str]) -> DeviceState:
    if CLIENT_KEY not in entries:
        return DeviceState.BLANK
    return DeviceState.PROVISIONED if CLIENT_CERTIFICATE in entries else DeviceState.KEYED


def _pem(chain: Sequence[bytes]) -> str:
    """Return certificates as the modem takes them: PEM, one after the other, lines ending with CR LF."""
    blocks = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode() for der in chain]
    return "".join(blocks).replace("\n", "\r\n")


def _differs(chain: Sequence[bytes], listed: str | None) -> DeviceError:
    return DeviceError(
        "the modem's digest of its certificate is not that of the chain it was given",
        code="device.chain_differs",
        expected=sha256(_pem(chain).encode()).hexdigest(),
        got=listed or "none",
    )

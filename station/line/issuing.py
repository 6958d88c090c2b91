"""The one certificate of one unit: from the journal where it was issued before, and from the token otherwise.

What the journal holds and this line can't finish, since issuer, profile or product were changed meanwhile, is voided,
and another one is issued: a board is never left that no line can finish (invariant I5).
"""

from collections.abc import Callable

from hsm import Authority, Csr, IssuanceError, LintedTbs, LintError, new_serial
from hsm.revocation import shard_of
from station.errors import DeviceError, ManifestError, UnitRefused
from station.line.policy import Party
from station.line.workshop import Workshop
from station.manifest import Intent, IssuanceRecord, RecordedCertificate, UnitRecord


class UnitIssuance:
    """How one run gets the certificate of its unit. ``certificate`` may be called again after the HSM was asleep."""

    def __init__(
        self,
        workshop: Workshop,
        unit: UnitRecord,
        csr: Csr,
        *,
        installed: bool,
        waiting_for: Callable[[Party], None] = lambda _party: None,
    ) -> None:
        """Prepare.

        Args:
            workshop: what the line shares.
            unit: as the manifest has it.
            csr: the board's request, checked.
            installed: whether the board holds the recorded certificate already.
            waiting_for: told who has to answer next.
        """
        self._shop = workshop
        self._unit = unit
        self._csr = csr
        self._installed = installed
        self._waiting_for = waiting_for
        self._reserved: int | None = None
        """The issuance that this run has reserved."""
        self.signing = workshop.authority
        """Who signs, or signed last."""

    def sleeping(self) -> Authority | None:
        """Return an authority to wait for, where all that may sign for this unit are asleep."""
        return self._shop.signers.asleep(profile=self._shop.profile.name, order=self._unit.order)

    async def certificate(self) -> RecordedCertificate:
        """Find or issue it; it is recorded when this returns (I1).

        Raises:
            HsmError: the token, or the rules of the CA; where ``recovery`` says so it may be called again later.
            UnitRefused: ``unit.key_certified``: the CA's journal has a certificate for the board's key.
            StationError: the manifest or the board.
        """
        manifest = self._shop.manifest
        if self._reserved is not None:
            intent = await manifest.attempt(self._reserved)
            return await self._sign(intent, *self._redraft(intent.tbs, self._unit.product_serial))
        live, again = self._unit.issuance, None
        if live is not None:
            try:
                again = self._drafted_before(live)
            except LintError as unfit:
                # a copy of another board, under this one's name, must not cost this one its certificate
                await manifest.void(live.id, str(unfit), shown=self._csr.spki_sha256)
                live = None
        if live is not None and again is None:
            return await manifest.recorded(live.id)
        if live is not None and again is not None:
            if again[1].spki_sha256 != self._csr.spki_sha256:
                raise ManifestError(
                    f"the journalled TBS of {self._unit.hardware_id} is for another key than its row says",
                    code="manifest.intent_damaged",
                    operator="The station's records do not fit together. Stop and call the line engineer.",
                )
            return await self._sign(await manifest.attempt(live.id), *again)
        return await self._issue_anew()

    async def _issue_anew(self) -> RecordedCertificate:
        shop, drafts = self._shop, list[LintedTbs]()
        if (holder := shop.ca_holder(self._csr.spki_sha256)) is not None:
            raise UnitRefused(
                f"{self._unit.hardware_id} shows a key that the CA certified before, and not for a unit: {holder}",
                code="unit.key_certified",
                operator="The CA made a certificate for this board's key before. Put the board aside and call the "
                "security officer.",
                spki_sha256=self._csr.spki_sha256,
            )
        authority = self.signing = shop.signers.choose(profile=shop.profile.name, order=self._unit.order)

        def draft(product_serial: str) -> LintedTbs:
            fields, serial = self._fields(product_serial), new_serial(shop.station_id)
            key, spki = self._csr.public_key, self._csr.spki
            made = authority.draft(shop.profile, key, fields=fields, serial=serial, now=shop.now(), spki=spki)
            drafts.append(made)
            return made

        warrant = shop.warrant(self._unit.order)
        if warrant is not None and self._unit.product_serial is None:
            warrant.check_begins()  # before it takes a number: who holds one is finished
        intent = await shop.manifest.reserve(
            self._unit.id,
            spki_sha256=self._csr.spki_sha256,
            draft=draft,
            profile=shop.profile.name,
            order=None if warrant is None else warrant.terms,
            taken=0 if warrant is None else warrant.taken,
        )
        self._reserved = intent.issuance_id
        return await self._sign(intent, authority, drafts[-1])

    def _drafted_before(self, live: IssuanceRecord) -> tuple[Authority, LintedTbs] | None:
        """Return what is still to be signed of a live issuance, and by whom; None where its certificate is recorded.

        Raises:
            LintError: it can't be finished here; the message is why.
            DeviceError: ``device.key_differs``: the board contradicts itself.
        """
        if live.spki_sha256 != self._csr.spki_sha256:
            if self._installed:  # a sound board lost both or neither: no certificate is voided on the word of this one
                raise DeviceError(
                    f"{self._unit.hardware_id} holds its certificate, and asks for one for another key",
                    code="device.key_differs",
                    expected=live.spki_sha256,
                    got=self._csr.spki_sha256,
                )
            raise LintError("the board made a new key", code="unit.new_key")
        if live.certificate is None:
            return self._redraft(live.tbs, self._unit.product_serial)
        if not self._installed and self._shop.issuer_of(live.certificate) is None:
            raise LintError("another issuer signed it, whose chain is not here", code="unit.other_issuer")
        return None

    def _redraft(self, tbs: bytes, product_serial: str | None) -> tuple[Authority, LintedTbs]:
        """Make what was intended before ready to be signed, the same bytes, by the same issuer.

        Raises:
            LintError: no issuer of this line would draft it.
        """
        try:
            authority = self._shop.signers.of_tbs(tbs)
        except IssuanceError as foreign:
            raise LintError(str(foreign), code="unit.other_issuer") from foreign
        fields = None if product_serial is None else self._fields(product_serial)
        return authority, authority.redraft(self._shop.profile, tbs, fields=fields)

    def _fields(self, product_serial: str) -> dict[str, str]:
        """Return what the profile's templates are filled with."""
        warrant = self._shop.warrant(self._unit.order)
        mac = None if warrant is None else warrant.mac(product_serial)
        return {
            **({} if mac is None else {"mac": mac}),
            "product_serial": product_serial,
            "hardware_id": self._unit.hardware_id,
            "model": self._shop.product.model,
            "order": self._unit.order,
            "shard": shard_of(self._unit.order),
        }

    async def _sign(self, intent: Intent, authority: Authority, draft: LintedTbs) -> RecordedCertificate:
        manifest = self._shop.manifest
        self.signing = authority
        self._waiting_for(Party.HSM)
        order = self._shop.warrant(self._unit.order)
        model = self._shop.product.model
        warrant = (
            None if order is None else order.unit(intent.product_serial, holder=self._unit.hardware_id, product=model)
        )
        certificate = await authority.issue(draft, again=lambda: manifest.attempt(intent.issuance_id), warrant=warrant)
        self._waiting_for(Party.MANIFEST)
        return await manifest.record(intent, certificate)

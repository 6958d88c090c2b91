"""The judge: reads boards' flash, the token's count of signatures and the manifest, and trusts nobody's word.

It knows no log of the station and asks no board: what counts is what is stored. Each thing that must not be has a name:

- *lost*: a unit that passed and whose board holds no certificate, or is not locked; at the end, a board that was to
  pass and did not;
- *doubled*: a board with two certificates that are not void, or two boards with one key, one certificate serial or one
  product serial;
- *unrecorded*: a board with a certificate that its row does not record, or that the CA did not sign; a signature that
  the token made and no row tells of;
- *over budget*: a unit more than its order is for;
- *passed wrongly*: a pass whose proof does not verify, or that is for another certificate than the one on the board.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from bench.board_flash import Held, read_flash
from firmware_tools.provisioning import Locks
from hsm import read_counts
from hsm.request import KeyName
from station.manifest import IssuanceState, ManifestReader, UnitHistory, UnitState

ALL_LOCKS: Final = int(Locks.DEBUG | Locks.CREDENTIALS)

NAMES: Final = ("lost", "doubled", "unrecorded", "over_budget", "passed_wrongly")
"""What must not be, as the verdict calls it."""


@dataclass
class Verdict:
    """What was found; the lists are empty where all is well."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unrecorded: list[str] = field(default_factory=list)
    over_budget: list[str] = field(default_factory=list)
    passed_wrongly: list[str] = field(default_factory=list)
    boards: int = 0
    passed: int = 0
    signed_again: int = 0
    """Units for which the token was asked more than once for the same bytes."""
    void: int = 0
    """Certificates that were given up, and stand on the revocation list."""

    @property
    def faults(self) -> list[str]:
        """All that must not be, in sentences."""
        return [f"{name.replace('_', ' ')}: {sentence}" for name in NAMES for sentence in getattr(self, name)]

    def add(self, other: "Verdict") -> Self:
        """Add another round's."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges by a manifest, the CA that signs for it, and the counts of its token."""

    manifest: Path
    issuer: x509.Certificate
    signatures: tuple[Path, ...]
    """Folders of the token's counts: each configuration has its own beside its CA's journal."""

    def judge(self, boards: Mapping[str, Path], *, to_pass: Iterable[str] = (), full: Iterable[str] = ()) -> Verdict:
        """Read everything.

        Args:
            boards: ``flash.bin`` by hardware id; all that the manifest may know.
            to_pass: hardware ids of those that have to have passed by now.
            full: names of orders whose whole quantity has to have passed by now.
        """
        full, verdict = set(full), Verdict(boards=len(boards))
        held = {hardware_id: read_flash(path) for hardware_id, path in boards.items()}
        with ManifestReader(self.manifest) as reader:
            units = {unit.hardware_id: reader.unit(unit.hardware_id) for unit in list(reader.units())}
            revoked = {entry.certificate_serial for entry in reader.revocation_list()}
            for order in reader.orders():
                taken = sum(
                    unit is not None and unit.unit.order == order.terms.name and unit.unit.product_serial is not None
                    for unit in units.values()
                )
                passed = sum(
                    unit is not None and unit.unit.order == order.terms.name and unit.unit.state is UnitState.PASSED
                    for unit in units.values()
                )
                if order.terms.name in full and passed < order.terms.quantity:
                    verdict.lost.append(f"{order.terms.name}: {passed} passed of {order.terms.quantity}")
                if not taken == order.reserved <= order.terms.quantity:
                    name, quantity = order.terms.name, order.terms.quantity
                    verdict.over_budget.append(f"{name}: {taken} serials, {order.reserved} reserved, for {quantity}")
        for hardware_id, board in held.items():
            self._board(hardware_id, board, units.get(hardware_id), verdict)
        wanted = set(to_pass)
        for hardware_id in wanted:
            unit = units.get(hardware_id)
            if unit is None or unit.unit.state is not UnitState.PASSED:
                verdict.lost.append(f"{hardware_id} did not pass: {_why(unit)}")
        histories = [unit for unit in units.values() if unit is not None]
        self._identities(held, histories, verdict)
        self._signatures(histories, verdict)
        void = [one for unit in histories for one in unit.issuances if one.state is IssuanceState.VOID]
        verdict.void = len(void)
        verdict.unrecorded += [
            f"{one.certificate_serial:x} is void and not listed for revocation"
            for one in void
            if one.certificate_serial not in revoked
        ]
        return verdict

    def _board(self, hardware_id: str, board: Held, unit: UnitHistory | None, verdict: Verdict) -> None:
        issuances = () if unit is None else unit.issuances
        recorded = [one.certificate for one in issuances if one.state is IssuanceState.RECORDED]
        if sum(one.state is not IssuanceState.VOID for one in issuances) > 1:
            verdict.doubled.append(f"{hardware_id} has two live certificates")
        verdict.signed_again += any(one.signing_tries > 1 for one in issuances)
        if board.leaf is not None:
            if board.leaf not in recorded:
                verdict.unrecorded.append(f"{hardware_id} holds a certificate that its row does not have")
            if not self._issued(board):
                verdict.unrecorded.append(f"{hardware_id} holds a certificate that the CA did not sign for its key")
        if unit is None or unit.unit.state is not UnitState.PASSED:
            return
        verdict.passed += 1
        if board.leaf is None or board.locks & ALL_LOCKS != ALL_LOCKS:
            verdict.lost.append(f"{hardware_id} passed, and its board is empty or open")
        elif not _proven(board.leaf, unit):
            verdict.passed_wrongly.append(hardware_id)

    def _issued(self, board: Held) -> bool:
        assert board.leaf is not None
        try:
            leaf = x509.load_der_x509_certificate(board.leaf)
            leaf.verify_directly_issued_by(self.issuer)
        except (ValueError, TypeError, InvalidSignature):
            return False
        spki = KeyName.of(leaf.public_key()).spki_sha256  # type: ignore[arg-type]  # a board's key is on P-256
        return board.spki is not None and sha256(board.spki).digest() == spki

    @staticmethod
    def _identities(held: Mapping[str, Held], units: Iterable[UnitHistory], verdict: Verdict) -> None:
        keys: dict[bytes, list[str]] = defaultdict(list)
        for hardware_id, board in held.items():
            if board.spki is not None and board.leaf is not None:
                keys[board.spki].append(hardware_id)
        verdict.doubled += [f"{', '.join(who)} hold the same key" for who in keys.values() if len(who) > 1]
        seen: Counter[object] = Counter()
        for unit in units:
            seen.update({unit.unit.product_serial} - {None})
            seen.update(one.certificate_serial for one in unit.issuances)
            seen.update({one.spki_sha256 for one in unit.issuances})
        verdict.doubled += [f"{what} was given {times} times" for what, times in seen.items() if times > 1]

    def _signatures(self, units: Iterable[UnitHistory], verdict: Verdict) -> None:
        """Hold the token's count against the rows: each try was written down before the token was asked."""
        key = KeyName.of(self.issuer.public_key()).spki_sha256  # type: ignore[arg-type]  # kinds that sign here
        counts = [read_counts(folder).get(key) for folder in self.signatures]
        made = sum(count.signatures for count in counts if count is not None)
        tries = sum(one.signing_tries for unit in units for one in unit.issuances)
        certificates = sum(one.certificate is not None for unit in units for one in unit.issuances)
        if not certificates <= made <= tries:
            verdict.unrecorded.append(f"the token counted {made} signatures; rows tell of {certificates} to {tries}")


def _proven(leaf: bytes, unit: UnitHistory) -> bool:
    """Verify the proof again: the board's signature, by the key in the certificate that it holds."""
    proof = unit.proof
    if proof is None or proof.read_back_sha256 != sha256(leaf).digest() or proof.locks & ALL_LOCKS != ALL_LOCKS:
        return False
    if proof.challenge not in proof.message or sha256(leaf).digest() not in proof.message:
        return False
    key = x509.load_der_x509_certificate(leaf).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(proof.signature, proof.message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _why(unit: UnitHistory | None) -> str:
    if unit is None:
        return "it is not in the manifest"
    return f"{unit.unit.state}, {unit.unit.failure_code or 'no failure'}"

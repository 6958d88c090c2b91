"""One unit against its events: what its rows have to say, made of its journal and of nothing else.

The rules are those of the triggers in ``schema_1.sql`` to ``schema_5.sql``, read backwards: each trigger writes an
event with all that the row says, and here the events write the row.
"""

# ruff: noqa: SLF001  # the table of steps names methods of the class above it

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

UNIT: Final = (
    "id", "hardware_id", "order", "product_serial", "mac", "model", "firmware_version", "firmware_sha256", "state",
    "life", "attempts", "slot", "first_seen_at", "changed_at", "failure_code", "failure_sentence", "failure_step",
)  # fmt: skip
ISSUANCE: Final = (
    "id", "unit_id", "state", "spki_sha256", "certificate_serial", "tbs", "tbs_sha256", "signing_tries", "certificate",
    "certificate_sha256", "intended_at", "changed_at", "void_reason",
)  # fmt: skip
PROOF: Final = ("issuance_id", "challenge", "message", "signature", "read_back_sha256", "locks", "seconds", "at")
LIFE_ACT: Final = (
    "id", "unit_id", "act", "reason", "actor", "os_user", "issuance_id", "other_unit_id", "returned", "at",
)  # fmt: skip
RECEIPT: Final = ("id", "export_id", "unit_id", "issuance_id", "outcome", "reason", "source_sha256", "at")

Facts = Mapping[str, str]
Values = tuple[Any, ...]


@dataclass(slots=True)
class _Issuance:
    id: int
    state: str
    spki_sha256: bytes
    certificate_serial: str
    tbs_sha256: bytes
    signing_tries: int
    certificate_sha256: bytes | None
    intended_at: str
    changed_at: str
    void_reason: str | None


@dataclass(slots=True)
class _Proof:
    read_back_sha256: bytes
    locks: int
    at: str
    challenge: bytes = b""
    message: bytes = b""
    signature: bytes = b""
    seconds: float = 0.0


class UnitJournal:
    """The rows of one unit, as its events tell them, one event after the other."""

    def __init__(self, unit_id: int) -> None:
        """Begin with nothing."""
        self.unit_id = unit_id
        self.hardware_id = ""
        self.order = ""
        self.product_serial: str | None = None
        self.mac: str | None = None
        self.keys: set[bytes] = set()
        self.issuances: dict[int, _Issuance] = {}
        self.proofs: dict[int, _Proof] = {}
        self.acts: list[Values] = []
        self.receipts: list[Values] = []
        self.returned = 0
        self._state = ""
        self._life = "normal"
        self._about: tuple[str, str, bytes] = ("", "", b"")
        self._attempts = 0
        self._slot = ""
        self._first_seen_at = ""
        self._changed_at = ""
        self._failure: tuple[str | None, str | None, str | None] = _NO_FAILURE

    def event(self, at: str, slot: str, step: str, facts: Facts) -> None:
        """Take an event of the kind ``journal``.

        Raises:
            KeyError, ValueError: the journal has no such event.
        """
        if "life_act" in facts:
            self._act(at, slot, step, facts)
        else:
            _STEPS[step](self, at, slot, facts)

    def rows(self) -> Values:
        """Return what the unit's row says, in the order of ``UNIT``."""
        return (
            self.unit_id, self.hardware_id, self.order, self.product_serial, self.mac, *self._about, self._state,
            self._life, self._attempts, self._slot, self._first_seen_at, self._changed_at, *self._failure,
        )  # fmt: skip

    def issuance(self, issuance_id: int) -> Values | None:
        """Return what a row of ``issuance`` says, with digests in place of bytes to be signed and certificate."""
        one = self.issuances.get(issuance_id)
        if one is None:
            return None
        return (
            one.id, self.unit_id, one.state, one.spki_sha256, one.certificate_serial, one.tbs_sha256, one.tbs_sha256,
            one.signing_tries, one.certificate_sha256, one.certificate_sha256, one.intended_at, one.changed_at,
            one.void_reason,
        )  # fmt: skip

    def proof(self, issuance_id: int) -> Values | None:
        """Return what a row of ``proof`` says."""
        one = self.proofs.get(issuance_id)
        if one is None:
            return None
        return (
            issuance_id, one.challenge, one.message, one.signature, one.read_back_sha256, one.locks, one.seconds,
            one.at,
        )  # fmt: skip

    def _begin(self, at: str, slot: str, facts: Facts) -> None:
        attempts = int(facts["attempts"])
        if attempts != self._attempts + 1:
            raise ValueError("attempts are counted one by one")
        if attempts == 1:
            self.hardware_id, self._first_seen_at = facts["hardware_id"], at
        elif facts["hardware_id"] != self.hardware_id:
            raise ValueError("a unit keeps its hardware id")
        self._attempts, self._slot, self._state, self._changed_at = attempts, slot, "open", at
        self.order, self._failure = facts["order"], _NO_FAILURE
        self._about = (facts["model"], facts["firmware_version"], bytes.fromhex(facts["firmware_sha256"]))

    def _intent(self, at: str, slot: str, facts: Facts) -> None:
        self._same_slot(slot)
        issuance_id, tries = int(facts["issuance"]), int(facts["signing_tries"])
        if "tbs_sha256" not in facts:
            one = self._named(facts)
            if tries != one.signing_tries + 1:
                raise ValueError("tries are counted one by one")
            one.signing_tries, one.changed_at = tries, at
            return
        if self.product_serial is None:
            self.product_serial, self.mac, self._changed_at = facts["product_serial"], facts.get("mac") or None, at
        elif facts["product_serial"] != self.product_serial or (facts.get("mac") or None) != self.mac:
            raise ValueError("a unit keeps its serial and its MAC address")
        if issuance_id in self.issuances or tries != 1:
            raise ValueError("an issuance begins once")
        key = bytes.fromhex(facts["spki_sha256"])
        self.keys.add(key)
        self.issuances[issuance_id] = _Issuance(
            issuance_id, "intent", key, facts["certificate_serial"], bytes.fromhex(facts["tbs_sha256"]), 1, None, at,
            at, None,
        )  # fmt: skip

    def _record(self, at: str, slot: str, facts: Facts) -> None:
        self._same_slot(slot)
        one = self._named(facts)
        one.state, one.certificate_sha256, one.changed_at = "recorded", bytes.fromhex(facts["certificate_sha256"]), at

    def _void(self, at: str, slot: str, facts: Facts) -> None:
        self._same_slot(slot)
        one = self._named(facts)
        one.state, one.void_reason, one.changed_at = "void", facts["reason"], at

    def _pass(self, at: str, slot: str, facts: Facts) -> None:
        self._same_slot(slot)
        if (
            facts["product_serial"] != self.product_serial
            or facts.get("hardware_id", self.hardware_id) != self.hardware_id
        ):
            raise ValueError("a unit passes under its own names")
        proof = _Proof(bytes.fromhex(facts["certificate_sha256"]), int(facts["locks"]), at)
        self.proofs[int(facts["issuance"])] = proof
        if "challenge" in facts:  # since schema 3
            _say(proof, facts)
        self._state, self._changed_at = "passed", at

    def _proof(self, _at: str, _slot: str, facts: Facts) -> None:
        """Take what the migration to schema 3 wrote of a proof that was there already."""
        _say(self.proofs[int(facts["issuance"])], facts)

    def _fail(self, at: str, slot: str, facts: Facts) -> None:
        self._same_slot(slot)
        self._state, self._changed_at = "failed", at
        self._failure = (facts["code"], facts["sentence"], facts["step"])

    def _act(self, at: str, slot: str, step: str, facts: Facts) -> None:
        if slot:
            raise ValueError("an act has no slot")
        if step == "replaces":
            return  # the other unit's act, told from this side; its row is the other unit's
        returned = int(facts["returned"])
        issuance, other = (int(facts[name]) if facts[name] else None for name in ("issuance", "other_unit"))
        texts = (facts["reason"], facts["actor"], facts["os_user"])
        self.acts.append((int(facts["life_act"]), self.unit_id, step, *texts, issuance, other, returned, at))
        self.returned += returned
        if step == "rework":
            self._state, self._life, self._changed_at = "open", "normal", at
        elif step != "void" and self._life != "scrapped":
            self._life, self._changed_at = _LIFE[step], at

    def _receipt(self, at: str, slot: str, facts: Facts) -> None:
        if slot:
            raise ValueError("a receipt has no slot")
        export, issuance = int(facts["export"]), int(facts["issuance"])
        said = (facts["outcome"], facts["reason"], bytes.fromhex(facts["source_sha256"]))
        self.receipts.append((int(facts["receipt"]), export, self.unit_id, issuance, *said, at))

    def _named(self, facts: Facts) -> _Issuance:
        one = self.issuances[int(facts["issuance"])]
        if facts["certificate_serial"] != one.certificate_serial:
            raise ValueError("an issuance keeps its serial")
        return one

    def _same_slot(self, slot: str) -> None:
        if slot != self._slot:
            raise ValueError("a unit is in the slot where it was begun")


def _say(proof: _Proof, facts: Facts) -> None:
    proof.challenge, proof.message, proof.signature = (
        bytes.fromhex(facts[name]) for name in ("challenge", "message", "signature")
    )
    proof.seconds = float(facts["seconds"])


_NO_FAILURE: Final = (None, None, None)

_STEPS: Final[Mapping[str, Callable[[UnitJournal, str, str, Facts], None]]] = {
    "begin": UnitJournal._begin,
    "intent": UnitJournal._intent,
    "record": UnitJournal._record,
    "void": UnitJournal._void,
    "pass": UnitJournal._pass,
    "proof": UnitJournal._proof,
    "fail": UnitJournal._fail,
    "receipt": UnitJournal._receipt,
}

_LIFE: Final = {"scrap": "scrapped", "replace": "scrapped", "rma": "rma", "release": "normal"}

"""The judge of ``kill``: compares what boards hold with what is on record, and trusts neither the station nor its log.

- *lost*: a board of the order without a certificate, or that did not pass;
- *doubled*: a board with more than one certificate signed or intended, void ones too: its key never changed, so there
  is no reason for a second; or a certificate serial, key or product serial that two boards have;
- *unrecorded*: a board with a certificate that the manifest has not recorded for it, or that the CA did not sign;
- *beyond the order*: boards with a certificate in excess of the order's quantity.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from bench.board_client import client_of
from bench.figures import BenchError, Figure
from bench.processes import Board
from firmware_tools.provisioning_group import DeviceState
from station.manifest import ManifestReader, UnitHistory, UnitState


class Judge:
    """Asks the boards of each round, and counts."""

    def __init__(self, manifest: Path, issuer: x509.Certificate) -> None:
        """Judge by a manifest and the issuing CA."""
        self.manifest = manifest
        self._issuer = issuer
        self._issuer_der = issuer.public_bytes(Encoding.DER)
        self._boards = self._passed = self._resigned = 0
        self._lost = self._doubled = self._unrecorded = self._open = self._beyond = 0
        self._seen: Counter[object] = Counter()

    def ask(self, boards: Sequence[Board], *, expected: int) -> None:
        """Let each board of a round tell what it holds, while no station runs.

        Args:
            boards: powered.
            expected: how many of them the order is for.
        """
        with ManifestReader(self.manifest) as reader:
            passed = sum(self._judge(board, reader.unit(board.hardware_id)) for board in boards)
        self._boards += len(boards)
        self._passed += passed
        self._lost += max(0, expected - passed)
        self._beyond += max(0, passed - expected)

    def _judge(self, board: Board, history: UnitHistory | None) -> bool:
        """Return whether a board has passed, or has any certificate."""
        with client_of(board.port) as client:
            identity = client.identify()
            if identity.hw != board.hardware_id:
                raise BenchError(f"{board.slot} holds {identity.hw}, not {board.hardware_id}")
            chain = client.chain()
        issuances = () if history is None else history.issuances
        if chain:
            self._unrecorded += not self._is_recorded(chain, [issuance.certificate for issuance in issuances])
        if history is not None and history.unit.state is UnitState.PASSED:
            self._lost += not chain or history.proof is None
            self._open += identity.st is not DeviceState.LOCKED
        elif chain or issuances:
            self._lost += 1  # it began and did not end
        self._doubled += len(issuances) > 1
        self._resigned += any(issuance.signing_tries > 1 for issuance in issuances)
        for issuance in issuances:
            self._seen.update([issuance.certificate_serial, issuance.spki_sha256])
        if history is not None and history.unit.product_serial is not None:
            self._seen[history.unit.product_serial] += 1
        return bool(chain or issuances)

    def _is_recorded(self, chain: bytes, certificates: Sequence[bytes | None]) -> bool:
        """Whether a board's chain is a recorded certificate of our CA, and the CA's own after it."""
        leaf = chain.removesuffix(self._issuer_der)
        try:
            x509.load_der_x509_certificate(leaf).verify_directly_issued_by(self._issuer)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return leaf + self._issuer_der == chain and leaf in certificates

    def verdict(self) -> Iterator[Figure]:
        """Yield the counts over all rounds."""
        with ManifestReader(self.manifest) as reader:
            on_record = sum(len(history.issuances) for history in _histories(reader))
        yield Figure("boards", self._boards, note="asked through SMP, by a client that is not the station", timed=False)
        yield Figure("boards with a certificate", self._passed, timed=False)
        yield Figure("signed again after a kill", self._resigned, note="the same TBS, from its intent", timed=False)
        doubled = self._doubled + sum(times > 1 for times in self._seen.values())
        for name, times in (
            ("lost", self._lost),
            ("doubled", doubled),
            ("unrecorded", self._unrecorded),
            ("on record, and on no board", on_record - self._passed),
            ("passed and not locked", self._open),
            ("beyond the order", self._beyond),
        ):
            yield Figure(name, times, at_least=0, at_most=0, timed=False)


def _histories(reader: ManifestReader) -> Iterator[UnitHistory]:
    for unit in list(reader.units()):
        history = reader.unit(unit.hardware_id)
        if history is not None:
            yield history

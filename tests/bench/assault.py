"""Hostile boards against the real line, in virtual time: the part that the benchmark and the tests share.

Real are the unit's steps (``UnitRun``), the driver, the manifest on the disk, the authority with its lint and its
signer's thread. The token is ``hsm.fake_token``: SoftHSM would only add its own time. Boards are those of
``languages.py``; the wire is memory, its time virtual, so that a deadline of a minute is measured to the millisecond
and costs nothing.

Each board visits a few times in bad faith and once as an honest board; then it is judged by what the manifest says:

- *crashes*: a visit ended in something that is no answer of the line;
- *hangs*: a step took longer than its deadline allows, in virtual seconds;
- *unlawful*: a certificate for a key that nobody showed, a pass without a proof that verifies or with an open lock, a
  second live certificate, a signature that is not on record, or anything at all for a board that never showed a sound
  CSR;
- *bricked*: an honest board that does not pass afterwards, though nobody took its key or its name before.
"""

import asyncio
import datetime as dt
import gc
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from random import Random
from typing import Any, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from bench.languages import LANGUAGES, Hostile, Language
from bench.shop import shop_of
from hsm import Authority, Signer
from hsm.fake_token import FAKE_URI, FakeToken
from station.events import Event, SlotChanged, SlotState
from station.line import policy
from station.line import unit as unit_module
from station.line.unit import UnitRun
from station.line.workshop import Workshop
from station.manifest import Manifest, ManifestReader, UnitHistory, UnitState
from station.testing.virtual_time import Held, VirtualLoop

SLOTS: Final = 16
"""Boards at work at the same time."""

VISITS: Final = 4
"""Of one board in bad faith, before it comes as an honest one."""

ALLOWED: Final = frozenset({"manifest.duplicate_key", "unit.cloned", "unit.twice_on_the_line"})
"""How an honest visit may end but for a pass: its key was shown under another name before, by itself or by a copy; or a
board in another slot says just then that it is this one."""

_SLACK: Final = 0.05
"""Virtual seconds by which a step may be late: timers of the same moment follow each other."""

_ALLOWED_SECONDS: Final = {step.name: step.deadline * step.tries for step in policy.STEPS}
_SHOWN: Final = 5
"""Failures of each kind that are kept word for word."""


@dataclass(slots=True)
class Tally:
    """What came of an assault."""

    visits: int = 0
    boards: int = 0
    twisted: int = 0
    """Answers that were not the right ones."""
    ends: Counter[str] = field(default_factory=Counter)
    """Codes of the visits in bad faith; a state's name where there is none."""
    honest: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    unlawful: list[str] = field(default_factory=list)
    bricked: list[str] = field(default_factory=list)
    certificates: int = 0
    longest: float = 0.0
    """Virtual seconds of the longest visit."""
    busiest: float = 0.0
    """Processor seconds in which one board kept the others waiting."""

    @property
    def faults(self) -> list[str]:
        """All that must not be, in words."""
        return [*self.crashes, *self.hangs, *self.unlawful, *self.bricked]


def issuer_of(token: FakeToken) -> x509.Certificate:
    """Return a CA's certificate for the key of a fake token."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Assault CA")])
    no_end = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder(name, name, token.public, 7, begin, no_end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(token.public), critical=False)
        .sign(token.private, hashes.SHA256())
    )


@contextmanager
def virtual_seconds(loop: VirtualLoop) -> Iterator[None]:
    """Let unit runs measure with the loop's clock: what they write down, and when a board may have been swapped."""
    machine, unit_module.monotonic = unit_module.monotonic, loop.time  # type: ignore[attr-defined]
    try:
        yield
    finally:
        unit_module.monotonic = machine  # type: ignore[attr-defined]


class Assault:
    """One manifest, one token, and boards that come one after the other."""

    def __init__(self, folder: Path, *, seed: int = 0, language: Language = LANGUAGES["smp"]) -> None:
        """Prepare.

        Args:
            folder: an empty one, for the manifest.
            seed: of all that is thrown.
            language: what the boards speak.
        """
        self.tally = Tally()
        self._language = language
        self._path = folder / "manifest.db"
        self._dice = Random(seed)  # noqa: S311 - hostile boards, not secrets
        self._past: list[Any] = []
        self._shown: set[bytes] = set()
        self._seen: set[int] = set()
        self._numbers = count(1)

    def run(self, replies: int) -> Tally:
        """Let boards come to all slots until so many answers were twisted."""
        with self.opened():
            self._runner.run(self._all_slots(replies))
        return self.tally

    def visit(self, board: Hostile) -> SlotChanged | None:
        """Let one board be served once, while ``opened``; None if the line fell over."""
        return self._runner.run(self._visit(board, "1"))

    def judge(self, board: Hostile) -> SlotChanged | None:
        """Let a board come as an honest one, and judge it."""
        board.behave()
        last = self.visit(board)
        self._judge(board, last)
        return last

    def history(self, board: Hostile) -> UnitHistory | None:
        """Return what the manifest says of a board's name, while ``opened``."""
        return self._reader.unit(board.hardware_id)

    def board(self, dice: Random | None = None) -> Hostile:
        """Return a new board, which may copy what all others have said."""
        own = dice or Random(self._dice.randrange(1 << 62))  # noqa: S311 - hostile boards, not secrets
        return self._language.make(next(self._numbers), own, self._past, self._shown)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open manifest and token in a virtual event loop; compare their counts at the end."""
        loop, token = VirtualLoop(), FakeToken()
        with (
            asyncio.Runner(loop_factory=lambda: loop) as self._runner,
            virtual_seconds(loop),
            Signer.on(token, FAKE_URI) as signer,
            Manifest.open(self._path) as manifest,
            ManifestReader(self._path) as self._reader,
        ):
            self._shop = self._runner.run(self._workshop(loop, manifest, signer, token))
            probes = token.calls["sign"]
            gc.collect()
            gc.freeze()  # as the daemon does: the collector's look at all of it would be the longest turn of the loop
            loop.forget_busiest()
            try:
                yield
            finally:
                gc.unfreeze()
            self.tally.busiest = loop.busiest
            self._account(token.calls["sign"] - probes)

    async def _workshop(self, loop: VirtualLoop, manifest: Manifest, signer: Signer, token: FakeToken) -> Workshop:
        with loop.standing_still():
            authority = await Authority.open(signer, issuer=issuer_of(token))
            shown = cast("Manifest", Held(manifest, loop))
            signer_held = Held(authority, loop)
            return await shop_of(manifest, authority, shown=shown, signer=signer_held, product=self._language.product)

    async def _all_slots(self, replies: int) -> None:
        async with asyncio.TaskGroup() as group:
            for slot in range(SLOTS):
                group.create_task(self._slot(str(slot + 1), replies))

    async def _slot(self, slot: str, replies: int) -> None:
        while self.tally.twisted < replies:
            board = self.board()
            for _ in range(VISITS):
                board.attack()
                await self._visit(board, slot)
            board.behave()
            self._judge(board, await self._visit(board, slot))

    async def _visit(self, board: Hostile, slot: str) -> SlotChanged | None:
        """Let a board be served once; None if the line fell over."""
        told: list[SlotChanged] = []

        def watch(event: Event) -> None:
            if isinstance(event, SlotChanged):
                told.append(event)

        loop = asyncio.get_running_loop()
        link, began, before, end = board.plug(), loop.time(), board.twisted, None
        try:
            end = await UnitRun(self._shop, self._language.driver(link), slot, watch).run()
        except Exception:  # noqa: BLE001 - that is what is looked for
            self._keep(self.tally.crashes, f"{board.hardware_id}: {traceback.format_exc()}")
        finally:
            link.close()
        self.tally.visits += 1
        self.tally.twisted += board.twisted - before
        self.tally.ends["crashed" if end is None else end.code or end.state.name] += 1
        self.tally.longest = max(self.tally.longest, loop.time() - began)
        self._check_deadlines(board, told)
        return end

    def _check_deadlines(self, board: Hostile, told: Sequence[SlotChanged]) -> None:
        for event, after in pairwise(told):
            allowed = _ALLOWED_SECONDS[event.step] + _SLACK
            if after.at - event.at > allowed:
                took = f"{after.at - event.at:.2f} s of {allowed:.2f}"
                self._keep(self.tally.hangs, f"{board.hardware_id}: {event.step} took {took}")

    # The judge.

    def _judge(self, board: Hostile, end: SlotChanged | None) -> None:
        """Compare a board's record with the board itself."""
        self.tally.boards += 1
        self.tally.honest[end.code or end.state.name if end else "crashed"] += 1
        key = board.spki_sha256
        own = self._reader.unit(board.hardware_id)
        for history in filter(None, [own, self._reader.unit(key.hex())]):
            if history.unit.id not in self._seen:
                self._seen.add(history.unit.id)
                self._judge_unit(board.hardware_id, history)
        live = None if own is None else own.unit.issuance
        if end is not None and end.state in {SlotState.PASSED, SlotState.DONE_BEFORE}:
            if live is None or live.certificate != board.leaf:
                self._unlawful(board.hardware_id, "it passed, and holds another certificate than its record says")
        elif (
            end is not None
            and own is not None
            and any(made.spki_sha256 != key for made in own.issuances if made.void_reason is None)
        ):
            return  # another board took its name, and a name is all that was known
        elif end is None or end.code not in ALLOWED | self._language.ends:
            why = "a crash" if end is None else f"{end.code} {end.detail}"
            self._keep(self.tally.bricked, f"{board.hardware_id}: {why}")

    def _judge_unit(self, hardware_id: str, history: UnitHistory) -> None:
        self.tally.certificates += len(history.issuances)
        if sum(issuance.void_reason is None for issuance in history.issuances) > 1:
            self._unlawful(hardware_id, "two live certificates")
        for issuance in history.issuances:
            if issuance.spki_sha256 not in self._shown:
                self._unlawful(hardware_id, "a certificate for a key that nobody showed")
        if history.unit.state is UnitState.PASSED and not self._language.is_proven(history):
            self._unlawful(hardware_id, "a pass without a proof")

    def _account(self, signatures: int) -> None:
        """Compare the token's count with the record, all units of it."""
        ((tries,),) = self._reader.rows("SELECT coalesce(sum(signing_tries), 0) FROM issuance")
        for unit in list(self._reader.units()):
            history = None if unit.id in self._seen else self._reader.unit(unit.hardware_id)
            if history is not None:  # of a name that some board made up, for a key that another one had shown
                self._judge_unit(unit.hardware_id, history)
        if signatures != tries:
            self._keep(self.tally.unlawful, f"the token signed {signatures} times; on record are {tries}")

    def _unlawful(self, hardware_id: str, what: str) -> None:
        self._keep(self.tally.unlawful, f"{hardware_id}: {what}")

    @staticmethod
    def _keep(kind: list[str], what: str) -> None:
        kind.append(what if len(kind) < _SHOWN else "and another")

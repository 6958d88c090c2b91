"""The line as a whole: opens token and manifest, follows the ports, keeps one worker a slot, and stops well.

Stopping: the first SIGTERM, ctrl-C or SIGHUP (its terminal was closed) lets the boards that are being worked on finish,
and begins with no other; the second, or the end of ``GRACE``, cuts them off at once. Both are safe: what a board has
reached is on record, and it goes on from there when it is plugged in again (invariant I5).

Under systemd (``Type=notify``) the daemon says when it is ready, and feeds the watchdog as long as the event loop, the
manifest's thread and the token's thread all answer: an HSM or a disk that hangs for good gets the line restarted.
"""

import asyncio
import gc
import logging
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from time import monotonic

from hsm import Authority, HsmError, Issuers, Profile
from station.checks.findings import Level
from station.checks.preflight import WORTHLESS, is_worthless, validity
from station.config import Config
from station.config.certificates import load_certificate, load_issuer
from station.errors import ConfigError, LinkError, StationError
from station.events import Notice, SlotChanged, SlotState, Summary, Watch, ignore
from station.key_holders import KeyHolders
from station.ledger.keying import check_never_sealed, open_ledger
from station.ledger.ledger import Ledger
from station.line.asked_book import keep
from station.line.control import Answer, Request, answering, life_request, text_in
from station.line.crl_schedule import CrlSchedule
from station.line.ledger_schedule import LedgerSchedule
from station.line.quarantine import End, Health, Scope, Verdict, judge
from station.line.rehearsal import slots_of, virtual_line
from station.line.sd_notify import notify, watchdog_interval
from station.line.slot_worker import SlotWorker
from station.line.workshop import Workshop
from station.manifest import Manifest
from station.manifest.life import check_actor
from station.ordering import open_book, product_under, settle
from station.ports.hotplug import Hotplug, PortEvent, PortEventKind, hotplug_for
from station.ports.slots import SlotMap
from station.ports.transcript_folder import TranscriptFolder
from station.product_firmware import firmware_under, read_bundle
from station.signing import opened_issuers

LOG = logging.getLogger(__name__)

GRACE = 30.0
"""Seconds that boards in work get to finish after the first signal."""

SWITCH_INTERVAL = 0.0005
"""Seconds that the manifest's or the token's thread may keep the interpreter while boards wait for an answer."""

ONCE_PATIENCE = 3.0
"""Seconds that ``once`` waits for a port to appear before it counts a slot as empty."""


def run_station(
    config: Config, *, once: bool = False, on_event: Watch = ignore, on_stop: Callable[[], None] = lambda: None
) -> Summary:
    """Run the line until it is told to stop; with ``once``, until each slot has served the board in it.

    Raises:
        StationError, HsmError, FirmwareToolsError: the line can't be opened; nothing has been begun.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    return asyncio.run(run_line(config, once=once, watch=on_event, on_stop=on_stop))


async def run_line(
    config: Config, *, once: bool = False, watch: Watch = ignore, on_stop: Callable[[], None] = lambda: None
) -> Summary:
    """Run the line inside a running event loop; see ``run_station``. ``on_stop`` is told of the first signal."""
    async with AsyncExitStack() as stack:
        shop = await stack.enter_async_context(opened(config))
        if config.rehearsal is not None:
            await stack.enter_async_context(virtual_line(config.rehearsal, config.product.model))
        gc.freeze()  # what start-up made stays: the collector need not look at it again, board after board
        line = _Line(config, shop, watch, on_stop)
        await stack.enter_async_context(answering(config.station.manifest, line.answer))
        if (firmware := shop.firmware) is not None:  # last of all: a line that can't start must not rule the older out
            await shop.manifest.take_up(firmware.release, firmware.rollback_reason)
        with _signals(line):
            return await line.run(hotplug_for(line.slots), once=once)


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Workshop]:
    """Open manifest, token and authority, checked in the order in which a fault costs least."""
    issuer, root = load_issuer(config.ca.certificate), load_certificate(config.ca.root)
    if config.rehearsal is not None and not is_worthless(issuer):
        raise ConfigError(
            f"{config.path}: virtual boards would get certificates of a real CA; delete [rehearsal], or take a CA whose"
            f" name says {' or '.join(WORTHLESS)}",
            code="config.rehearsal_with_real_ca",
        )
    for name, certificate in (("issuer", issuer), ("root", root)):
        finding = validity(name, certificate, datetime.now(UTC))
        if finding.level is Level.FAIL:  # or each board would fail, one by one
            raise ConfigError(f"{name}: {finding.text}; {finding.advice}", code="config.issuer_not_valid")
    profile = Profile.load(config.ca.profile)
    firmware = await asyncio.to_thread(read_bundle, config.product)
    with (
        closing(Manifest.open(config.station.manifest)) as manifest,
        closing(KeyHolders.of_the_ca(config.ca.journal)) as ca_holder,
    ):
        orders = open_book(config)
        order = orders.check_begins(config.order.name)
        product = product_under(order.order, config, profile)
        firmware = firmware_under(order.order, firmware)
        async with opened_issuers(config) as issuers:
            ledger = await asyncio.to_thread(checked_ledger, config, manifest, issuers)
            signer = issuers.issuers[0].authority.key.signer
            await asyncio.to_thread(settle, config, signer, orders, order, manifest.identity)
            if firmware is not None:
                product = replace(product, locks=firmware.plan.locks)
            yield Workshop(
                manifest=manifest,
                authority=issuers.issuers[0].authority,
                profile=profile,
                product=product,
                order=config.order,
                station_id=config.station.id,
                issuers=issuers,
                orders=orders,
                ledger=ledger,
                firmware=firmware,
                ca_holder=ca_holder,
            )


def checked_ledger(config: Config, manifest: Manifest, issuers: Issuers) -> Ledger | None:
    """Open the ledger, and refuse a manifest that is not the newest one; None for a line without a ledger key. Blocks.

    Raises:
        RolledBack: the manifest lacks what was sealed before: an older copy, or another one.
        LedgerError, HsmError: the key can't be used, or is gone while checkpoints are there.
    """
    signer = issuers.issuers[0].authority.key.signer
    if not config.ledger.key.exists():
        check_never_sealed(config.ledger.key, manifest, signer)
        return None
    ledger = open_ledger(config.ledger.key, manifest, signer)
    ledger.check()
    return ledger


def pace_of(config: Config) -> int | None:
    """Return how many new boards a minute may come into a slot: nobody loads virtual ones by hand, no order loses."""
    return None if config.rehearsal is not None else config.station.new_units_per_minute


class _Line:
    """The workers of a run, and what moves them."""

    def __init__(self, config: Config, shop: Workshop, watch: Watch, on_stop: Callable[[], None]) -> None:
        self._on_stop = on_stop
        self.slots = slots_of(config)
        self._shop = shop
        self._map = SlotMap(self.slots)
        transcripts = TranscriptFolder(config.station.transcripts, config.station.transcripts_limit)
        pace = pace_of(config)
        self._workers = {
            slot.name: SlotWorker(slot, shop, transcripts, watch, pace=pace, judge=self._judge) for slot in self.slots
        }
        self._watch = watch
        self._rules = config.quarantine
        self._actors = config.life.actors
        self._health = Health()
        self._crls = None if config.crl is None else CrlSchedule(config, config.crl, _authorities(shop), watch)
        self._ledger = None if shop.ledger is None else LedgerSchedule(shop.ledger, config.ledger.interval, watch)
        self._tasks: list[asyncio.Task[None]] = []
        self._signals = 0
        self._last_signal = 0

    def stop(self, number: int) -> None:
        """Take a signal: drain on the first, cut off on the second."""
        self._signals += 1
        self._last_signal = number
        notify("STOPPING=1")
        if self._signals == 1:
            self._on_stop()
            self._drain()
            asyncio.get_running_loop().call_later(GRACE, self._cut)
        else:
            self._cut()

    def _cut(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def run(self, hotplug: Hotplug, *, once: bool) -> Summary:
        followers = [asyncio.create_task(self._follow(hotplug))]
        followers[0].add_done_callback(lambda _: self._drain())  # a line that hears of no port any more is none
        if (interval := watchdog_interval()) is not None:
            followers.append(asyncio.create_task(_feed_watchdog(interval, self._shop)))
        if self._crls is not None:
            followers.append(asyncio.create_task(self._crls.run()))
        if self._ledger is not None:
            followers.append(asyncio.create_task(self._ledger.run()))
            followers[-1].add_done_callback(lambda _: self._drain())  # it ends by itself at ``fork`` only
        self._tasks = [asyncio.create_task(worker.run(once=once)) for worker in self._workers.values()]
        for task in self._tasks:
            task.add_done_callback(self._worker_ended)
        if once:
            asyncio.get_running_loop().call_later(ONCE_PATIENCE, self._give_up_on_empty_slots)
        notify("READY=1")
        try:
            ends = await asyncio.gather(*self._tasks, return_exceptions=True)
            deaf = followers[0].done()
        finally:
            hotplug.close()
            for task in (*followers, *self._tasks):
                task.cancel()
            await asyncio.gather(*followers, *self._tasks, return_exceptions=True)
            if self._ledger is not None:
                await self._ledger.seal("stop")
        if bugs := [end for end in ends if isinstance(end, Exception)]:
            raise bugs[0]
        if self._ledger is not None and self._ledger.fork is not None:
            raise self._ledger.fork
        if deaf:
            raise LinkError("the system tells nothing about ports any more; see its log", code="link.no_hotplug")
        return self._summary()

    def _worker_ended(self, task: asyncio.Task[None]) -> None:
        """Let the line end, and systemd start it anew, rather than keep a slot that looks alive and serves nobody."""
        if not task.cancelled() and task.exception() is not None:
            LOG.error("a slot died of a bug in the station; the line stops", exc_info=task.exception())
            self._drain()

    def _judge(self, end: SlotChanged) -> None:
        """Stop a slot, or all of them, where boards don't fail by their own fault."""
        self._health, verdict = judge(self._health, End(end.slot, end.hardware_id, end.code), self._rules)
        match verdict.scope:
            case Scope.NOTHING:
                return
            case Scope.SLOT:
                stopped = [self._workers[end.slot]]
            case Scope.LINE:
                stopped = list(self._workers.values())
                self._watch(Notice("line", f"{verdict.sentence} {verdict.reason}", verdict.code, monotonic()))
        for worker in stopped:
            worker.stop(verdict)
        self._note(end.slot, "stopped", verdict)

    async def answer(self, request: Request, user: str) -> Answer:
        """Do what a command asks for while the line runs; see ``control.py``."""
        match request["do"]:
            case "act":
                wish = life_request(request, user)
                check_actor(wish.actor, self._actors)
                done = await self._shop.manifest.act(wish)
                if done.returned and (warrant := self._shop.warrant(done.order)) is not None:
                    warrant.give_back()  # the gate counts by itself
                return {"act": asdict(done)}
            case "release":
                slot = request.get("slot")
                if slot is not None and slot not in self._workers:
                    raise StationError(f"there is no slot '{slot}' here", code="line.no_slot")
                return {"released": self.release(None if slot is None else str(slot))}
            case "close":
                name, who, reason = (text_in(request, key) for key in ("order", "actor", "reason"))
                check_actor(who, self._actors)
                return {"closed": await self._shop.manifest.close_order(name, f"{who} ({user}): {reason}")}
            case other:
                if (kept := await keep(self._shop.manifest, request)) is not None:
                    return kept
                raise StationError(f"this station does not know how to '{other}'", code="control.unknown")

    def release(self, slot: str | None = None) -> list[str]:
        """Let a slot that stopped go on, or all of them; return which did."""
        chosen = [name for name, worker in self._workers.items() if worker.is_stopped and slot in {None, name}]
        self._health = self._health.released(slot)
        for name in chosen:
            self._workers[name].release()
            self._note(name, "released")
        return chosen

    def _note(self, slot: str, kind: str, verdict: Verdict | None = None) -> None:
        facts = {} if verdict is None else {"code": verdict.code, "blame": verdict.blame, "reason": verdict.reason}
        with suppress(StationError):  # a manifest that can't be written may be the very reason
            self._shop.manifest.event(None, slot, "quarantine", kind, facts)

    def _drain(self) -> None:
        for worker in self._workers.values():
            worker.drain()

    async def _follow(self, hotplug: Hotplug) -> None:
        async for event in hotplug:
            self._apply(event)

    def _apply(self, event: PortEvent) -> None:
        name = self._map.slot_of(event)
        if name is None:
            return
        worker = self._workers[name]
        if event.kind is PortEventKind.ARRIVED:
            worker.arrived(event.device)
        else:
            worker.left()

    def _give_up_on_empty_slots(self) -> None:
        for worker in self._workers.values():
            if worker.is_idle:
                worker.drain()

    def _summary(self) -> Summary:
        workers = self._workers.values()
        ends = sum((worker.ends for worker in workers), Counter[SlotState]())
        starts = [worker.began for worker in workers if worker.began is not None]
        finals = [worker.ended for worker in workers if worker.ended is not None]
        return Summary(
            passed=ends[SlotState.PASSED],
            done_before=ends[SlotState.DONE_BEFORE],
            failed=ends[SlotState.FAILED],
            stopped=ends[SlotState.STOPPED],
            seconds=max(finals) - min(starts) if finals else 0.0,
            signal=self._last_signal,
        )


def _authorities(shop: Workshop) -> list[Authority]:
    return [issuer.authority for issuer in shop.signers.issuers]


async def _feed_watchdog(interval: float, shop: Workshop) -> None:
    while True:
        with suppress(StationError, HsmError):  # an error is an answer too; it is told where it stands in the way
            await shop.manifest.answer()
            await shop.authority.key.signer.call(lambda _: None)
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)


@contextmanager
def _signals(line: _Line) -> Iterator[None]:
    """Let SIGTERM, ctrl-C and SIGHUP stop the line well; outside the main thread nobody sends us signals.

    Who started us under ``nohup`` wants SIGHUP ignored, and it stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    is_hup_ours = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    numbers = (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if is_hup_ours else []))
    for number in numbers:
        loop.add_signal_handler(number, line.stop, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)

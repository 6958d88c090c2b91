"""``station firmware flash``: flashing alone, many boards at once."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, Self

import click

from station.cli.commands import command, config_option, json_option
from station.cli.output import json_line
from station.cli.root import EXIT_FAILURE
from station.config import Config, SlotConfig, load
from station.errors import ConfigError
from station.line.batch import BatchEvent, FlashBegan, FlashEnded, FlashProgress, Result, chosen, flash_slots
from station.line.rehearsal import slots_of, virtual_line
from station.manifest import ManifestReader
from station.manifest.firmware import check_newer
from station.product_firmware import ProductFirmware, read_bundle


class View(Protocol):
    """Who is told what becomes of the boards."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Show the last state."""

    def __call__(self, event: BatchEvent) -> None:
        """Take an event."""

    def close(self, ends: Sequence[FlashEnded], seconds: float) -> None:
        """Show what it came to."""


class _Plain:
    """What views share that hold nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        return None


class JsonView(_Plain):
    """One JSON object a line; each board is a task with an id.

    Args:
        firmware: what is flashed.
        write: gets each line.
    """

    def __init__(self, firmware: ProductFirmware, write: Callable[[str], None] = click.echo) -> None:
        self._write = write
        self._about = {"bundle": firmware.bundle.digest, "version": str(firmware.bundle.version)}

    def __call__(self, event: BatchEvent) -> None:
        """Write a task's begin, progress or end."""
        task = {"task": f"flash-{event.slot}", "slot": event.slot}
        match event:
            case FlashBegan():
                self._say("task_begin", **task, **self._about)
            case FlashProgress():
                self._say("task_progress", **task, percent=event.percent)
            case FlashEnded():
                self._say("task_end", **task, **_end_of(event))

    def close(self, ends: Sequence[FlashEnded], seconds: float) -> None:
        """Write how many ended how."""
        self._say("summary", **_counts(ends), seconds=round(seconds, 3))

    def _say(self, name: str, **facts: object) -> None:
        self._write(json_line({"event": name, **facts}))


class LineView(_Plain):
    """A line at each board's end, for pipes and logs."""

    def __call__(self, event: BatchEvent) -> None:
        """Write how a board ended."""
        if isinstance(event, FlashEnded):
            click.echo(f"slot {event.slot}: {_words(event)}")

    def close(self, ends: Sequence[FlashEnded], seconds: float) -> None:
        """Write how many ended how."""
        click.echo(_sentence(ends, seconds))


class BarView:
    """A bar for each board, on a terminal.

    Args:
        slots: names, in the order of the bars.
    """

    def __init__(self, slots: Sequence[str]) -> None:
        # rich is loaded only where there is a terminal to draw on
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}"),
        )
        self._progress = Progress(*columns)
        self._tasks = {slot: self._progress.add_task(f"slot {slot}", total=100, start=False, said="") for slot in slots}

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Draw the last state."""
        self._progress.stop()

    def __call__(self, event: BatchEvent) -> None:
        """Move a bar."""
        task = self._tasks[event.slot]
        match event:
            case FlashBegan():
                self._progress.start_task(task)
            case FlashProgress():
                self._progress.update(task, completed=event.percent)
            case FlashEnded():
                if event.result in {Result.FLASHED, Result.SKIPPED}:
                    self._progress.update(task, completed=100)
                self._progress.update(task, said=event.result.value)
                self._progress.stop_task(task)

    def close(self, ends: Sequence[FlashEnded], seconds: float) -> None:
        """Write how many ended how."""
        click.echo(_sentence(ends, seconds))


@command(
    "flash",
    examples=[
        "station firmware flash sensor.bundle --all",
        "station firmware flash sensor.bundle --slot 1 --slot 2 --json",
        "station firmware flash --all",
    ],
)
@click.argument("bundle", required=False, type=click.Path(dir_okay=False))
@config_option
@click.option("--all", "all_slots", is_flag=True, help="The boards in all slots, at once.")
@click.option("--slot", "names", multiple=True, metavar="NAME", help="The board in this slot; may be given again.")
@click.option(
    "--key",
    "release_key",
    type=click.Path(dir_okay=False),
    help="Public key that the bundle is signed with, in place of [product] release_key.",
)
@json_option("Write one JSON object a line: begin, progress and end of each board as a task, and a summary.")
def flash(  # noqa: PLR0913 - its options
    config_path: str,
    *,
    bundle: str | None,
    all_slots: bool,
    names: tuple[str, ...],
    release_key: str | None,
    as_json: bool,
) -> None:
    """Flash boards, and do nothing else with them.

    BUNDLE is that of [product] firmware, if left out. No order, no identity, no record: 'station run' flashes on its
    way, and this is for boards that only need firmware. The bundle is verified whole before a board is touched. A board
    that runs it already is not written. A version that is older than what the line worked by is refused. Ctrl-C leaves
    each board so that it can be flashed again. Exit 1 if a board failed, with a line for each. 'station run' must not
    work on these slots meanwhile.
    """
    if all_slots == bool(names):
        raise click.UsageError("say which boards: --all, or --slot NAME, once or more")
    config = load(Path(config_path))
    firmware = _firmware(config, bundle, release_key)
    slots = slots_of(config)
    slots = slots if all_slots else tuple(chosen(slots, names))
    view = _view(slots, firmware, as_json=as_json)
    began = monotonic()
    ends: list[FlashEnded] = []

    def watch(event: BatchEvent) -> None:
        if isinstance(event, FlashEnded):
            ends.append(event)
        view(event)

    try:
        with view:
            asyncio.run(_run(config, slots, firmware, watch))
    except KeyboardInterrupt:
        view.close(ends, monotonic() - began)
        raise
    view.close(ends, monotonic() - began)
    places = [slot.name for slot in slots]
    failed = sorted((end for end in ends if end.result is Result.FAILED), key=lambda end: places.index(end.slot))
    for end in failed:
        click.echo(f"station: slot {end.slot}: {end.detail} [{end.code}]; {end.operator}", err=True)
    if failed:
        sys.exit(EXIT_FAILURE)


async def _run(
    config: Config, slots: Sequence[SlotConfig], firmware: ProductFirmware, watch: Callable[[BatchEvent], None]
) -> None:
    async with AsyncExitStack() as stack:
        if config.rehearsal is not None:
            await stack.enter_async_context(virtual_line(config.rehearsal, config.product.model))
        await flash_slots(slots, firmware, config.product, watch)


def _firmware(config: Config, bundle: str | None, release_key: str | None) -> ProductFirmware:
    """Read the bundle that was asked for, and refuse one that is older than what the line worked by."""
    product = config.product
    if bundle is not None:
        product = replace(product, firmware=Path(bundle))
    if release_key is not None:
        product = replace(product, release_key=Path(release_key))
    if product.firmware is None:
        raise ConfigError("which firmware? Name a bundle, or write it into [product] firmware")
    if product.release_key is None:
        raise ConfigError("which key signed it? Name its public half with --key, or in [product] release_key")
    firmware = read_bundle(product)
    assert firmware is not None  # noqa: S101 - both are there
    if config.station.manifest.exists():
        with ManifestReader(config.station.manifest) as reader:
            check_newer(reader.newest_firmware(product.model), firmware.release, firmware.rollback_reason)
    return firmware


def _view(slots: Sequence[SlotConfig], firmware: ProductFirmware, *, as_json: bool) -> View:
    if as_json:
        return JsonView(firmware)
    if sys.stdout.isatty():
        return BarView([slot.name for slot in slots])
    return LineView()


def _end_of(end: FlashEnded) -> dict[str, Any]:
    facts: dict[str, Any] = {"result": end.result, "seconds": round(end.seconds, 3)}
    if end.report is not None:
        facts |= {
            "written": end.report.written,
            "verified": end.report.verified,
            "phases": {phase.value: round(took, 3) for phase, took in end.report.seconds.items()},
            "bootloader": end.report.after.bootloader,
        }
    return facts | {"code": end.code, "detail": end.detail}


def _counts(ends: Sequence[FlashEnded]) -> dict[str, int]:
    return {result.value: sum(end.result is result for end in ends) for result in Result}


def _words(end: FlashEnded) -> str:
    match end.result:
        case Result.FLASHED:
            report = end.report
            how = f", {report.written} bytes, checked by {report.verified}" if report else ""
            return f"flashed in {end.seconds:.1f} s{how}"
        case Result.SKIPPED:
            return "runs this firmware already"
        case Result.STOPPED:
            return "stopped; flash it again"
        case Result.FAILED:
            return f"failed [{end.code}]"


def _sentence(ends: Sequence[FlashEnded], seconds: float) -> str:
    counts = _counts(ends)
    parts = [f"{counts[Result.FLASHED]} flashed", f"{counts[Result.FAILED]} failed"]
    if counts[Result.SKIPPED]:
        parts.append(f"{counts[Result.SKIPPED]} ran it already")
    if counts[Result.STOPPED]:
        parts.append(f"{counts[Result.STOPPED]} stopped")
    return f"{', '.join(parts)}, {seconds:.1f} s"

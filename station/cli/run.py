"""``station run``."""

import signal
import sys
from dataclasses import replace
from pathlib import Path

import click

from station.cli.commands import command, config_option, json_option
from station.cli.output import discard_what_hung_up
from station.cli.root import EXIT_FAILURE
from station.cli.view import view_for
from station.config import Config, load
from station.errors import LinkError
from station.events import Summary
from station.line.daemon import run_station
from station.line.rehearsal import slots_of


@command("run", examples=["station run", "station run --once --json --config line-1/station.toml"])
@config_option
@click.option(
    "--once",
    is_flag=True,
    help="Serve the board in each slot once, then end; exit 1 if one failed, or if there was none.",
)
@click.option("--order", "order_name", metavar="NAME", help="Run this imported order in place of that of [order].")
@click.option(
    "--dry-run-locks",
    is_flag=True,
    help="Close nothing: write down what would be closed. No board passes.",
)
@json_option("Write one JSON object a line: each change of a slot, and a summary at the end.")
def run(config_path: str, *, once: bool, order_name: str | None, dry_run_locks: bool, as_json: bool) -> None:
    """Provision each board that is plugged in.

    Works until it is told to stop. The first ctrl-C (or SIGTERM, or the end of its terminal) lets the boards that are
    being worked on finish and begins with no other; the second cuts them off. Nothing is lost either way: a board goes
    on where it was when it is plugged in again.
    """
    config = load(Path(config_path))
    if order_name is not None:
        config = replace(config, order=replace(config.order, name=order_name))
    if dry_run_locks:
        config = replace(config, product=replace(config.product, dry_run_locks=True))
    summary = serve(config, once=once, as_json=as_json)
    if once and not summary.boards:
        raise LinkError(
            "no board in any slot; plug one in, or look at 'station check' and 'station slots list'",
            code="line.no_board",
        )
    if once and (summary.failed or summary.stopped):
        sys.exit(EXIT_FAILURE)


def serve(config: Config, *, once: bool, as_json: bool) -> Summary:
    """Run the line and show it.

    Raises:
        KeyboardInterrupt: ctrl-C ended it, and ended it well.
    """
    names = [slot.name for slot in slots_of(config)]
    with view_for(names, as_json=as_json, rehearsal=config.rehearsal is not None) as view:

        def on_stop() -> None:
            discard_what_hung_up()
            view.stopping()

        summary = run_station(config, once=once, on_event=view, on_stop=on_stop)
    view.close(summary)
    if summary.signal == signal.SIGINT:
        raise KeyboardInterrupt
    return summary

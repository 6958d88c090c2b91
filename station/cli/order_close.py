"""``station order close``."""

import asyncio
from pathlib import Path

import click

from station.cli.commands import Command, config_option
from station.config import load
from station.line.control import ask, user_name
from station.manifest import Manifest, ManifestLocked
from station.manifest.life import ACTOR_LIMIT, check_actor
from station.orders import OrderError


@click.command(
    "close",
    cls=Command,
    examples=["station order close WO-1001 --reason 'delivered 480 of 500, the rest was cancelled'"],
)
@click.argument("name")
@click.option("--reason", required=True, help="Why; stands in the manifest for good.")
@click.option(
    "--actor", help="Who does it, one of [life] actors, if there are any; the user of this shell if left out."
)
@config_option
def close(name: str, *, reason: str, actor: str | None, config_path: str) -> None:
    """Close an order for good.

    No board begins under it any more; those that hold a serial may be finished. It is never opened again. A station
    that runs is told, and goes on with the boards that it has begun.
    """
    if not reason.strip():
        raise click.UsageError("--reason is empty; say why")
    config = load(Path(config_path))
    who = user_name() if actor is None else actor.strip()
    if not 0 < len(who) <= ACTOR_LIMIT:
        raise click.UsageError(f"--actor has 1 to {ACTOR_LIMIT} characters; say who")
    check_actor(who, config.life.actors)
    if not config.station.manifest.exists():
        raise OrderError(f"there is no manifest yet, and so no order {name!r}", code="order.not_imported")
    try:
        with Manifest.open(config.station.manifest) as manifest:
            is_closed_now = asyncio.run(manifest.close_order(name, f"{who} ({user_name()}): {reason}"))
    except ManifestLocked:
        wish = {"do": "close", "order": name, "actor": who, "reason": reason}
        is_closed_now = bool(ask(config.station.manifest, wish)["closed"])
    click.echo(f"closed {name}" if is_closed_now else f"{name} was closed before; nothing changed")

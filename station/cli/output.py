"""What commands print: aligned columns for people, JSON lines for programs."""

import errno
import json
import os
import sys
import termios
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

import click


def _plain(value: object) -> object:
    """Return a value as JSON can hold it."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(type(value).__name__)


def json_line(value: object) -> str:
    """Return one value as one line of JSON (ASCII only: a terminal may be reading after all)."""
    return json.dumps(value, default=_plain)


def print_json(value: object) -> None:
    """Print one value as one line of JSON."""
    click.echo(json_line(value))


def discard_stdout() -> None:
    """Let everything that is still printed go nowhere: whoever read it went away."""
    _discard(sys.stdout.fileno())


def _discard(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def discard_what_hung_up() -> None:
    """Let what is printed go nowhere where the terminal was closed: each further write to it would be an error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            termios.tcgetattr(stream.fileno())
        except termios.error as error:
            if error.args[0] == errno.EIO:
                _discard(stream.fileno())
        except (OSError, ValueError):  # a stream without a descriptor
            continue


def print_columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as columns, each as wide as its widest cell; the last one is not padded."""
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one a line; further lines of a value stand below it."""
    width = max((len(name) for name, _ in fields), default=0)
    for name, value in fields:
        for index, line in enumerate(value.split("\n")):
            click.echo(f"{'' if index else name:<{width}}  {line}".rstrip())

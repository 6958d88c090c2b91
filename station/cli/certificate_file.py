"""Where a command puts a certificate: a new file, or standard output."""

import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from hsm.certificate_files import Form, write_or_find
from station.errors import StationError

_ROOM: Final = 64 * 1024
"""Bytes that have to fit on the disk before anything is signed: more than a certificate and its chain."""

out_option = click.option("--out", type=click.Path(dir_okay=False), help="File to write; left out: standard output.")
form_option = click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Form]),
    default=Form.PEM.value,
    show_default=True,
    help="pem and der: the certificate; p7b (PKCS #7) and chain (PEM): with those above it.",
)


def refuse_tty(out: str | None, form: Form) -> None:
    """Refuse to write DER to a terminal."""
    if out is None and form in {Form.DER, Form.P7B} and sys.stdout.isatty():
        raise StationError("a terminal can't show DER; name a file with --out")


def check_room(out: str | None) -> None:
    """See that a file can be written, while nothing is signed yet. The try has no name, so a kill leaves nothing.

    Raises:
        StationError: its folder is missing, full, or not ours to write to (``file.unwritable``).
    """
    if out is None:
        return
    try:
        with tempfile.TemporaryFile(dir=Path(out).absolute().parent) as probe:
            probe.write(bytes(_ROOM))
            probe.flush()
    except OSError as error:
        raise StationError(
            f"{out} can't be written ({error.strerror}), so nothing is signed; name a file in a folder with room",
            code="file.unwritable",
        ) from error


def put(out: str | None, content: bytes) -> None:
    """Write a certificate to a file that is not there, or that holds the beginning of it; or to standard output.

    Raises:
        StationError: something else is there (``file.exists``).
        OSError: it can't be written.
    """
    if out is None:
        click.echo(content, nl=False)
        return
    try:
        write_or_find(out, content)
    except FileExistsError:
        raise StationError(f"{out} is there already; name another file", code="file.exists") from None

"""``station ca export``: a certificate of the CA's record, as a file once more."""

from pathlib import Path
from typing import Final

import click
from cryptography.hazmat.primitives.serialization import Encoding

from hsm.certificate_files import Form, written
from hsm.journal import JournalReader, certificate_sha256
from station.cli.ca_journal import parse_serial
from station.cli.certificate_file import form_option, out_option, put, refuse_tty
from station.cli.commands import Command, config_option
from station.config import Config, load
from station.config.certificates import load_issuer
from station.errors import StationError
from station.signing import issuing_cas

_WITH_CHAIN: Final = frozenset({Form.P7B, Form.CHAIN})


@click.command(
    "export", cls=Command, examples=["station ca export 01c0ffee00000000000000000000beef --format chain --out web.pem"]
)
@config_option
@click.argument("serial")
@out_option
@form_option
def export_command(*, config_path: str, serial: str, out: str | None, form: str) -> None:
    """Write a certificate that is on record.

    For one whose file was lost, or could not be written. No token is opened and nothing is signed; that a certificate
    was revoked since does not show in it.
    """
    config, chosen = load(Path(config_path)), Form(form)
    refuse_tty(out, chosen)
    number = parse_serial(serial)
    found = None
    if config.ca.journal.exists():
        with JournalReader(config.ca.journal) as reader:
            found = reader.by_serial(number)
    if found is None or found.certificate is None:
        raise StationError(
            f"no certificate {number:032x} is on record in {config.ca.journal}; 'station ca intents' lists what was "
            "never signed",
            code="export.unknown",
        )
    chain = _chain(config, found.issuer) if chosen in _WITH_CHAIN else ()
    put(out, written(found.certificate, chain, chosen))
    if out is not None:
        click.echo(f"written: {number:032x}: {out}")


def _chain(config: Config, issuer: bytes) -> tuple[bytes, ...]:
    """Return the DER of the issuer's certificate; the root is left out."""
    for one in issuing_cas(config):
        certificate = load_issuer(one.certificate)
        if certificate_sha256(certificate) == issuer:
            return (certificate.public_bytes(Encoding.DER),)
    raise StationError(
        "neither [ca] nor an [[issuer]] has the certificate of its issuer any more; take --format pem or der",
        code="config.no_issuer",
    )

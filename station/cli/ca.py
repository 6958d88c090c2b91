"""``station ca``."""

from pathlib import Path
from typing import Final

import click
from cryptography import x509

from hsm import KeyKind, TokenUri, init_ca
from station.cli.ca_audit import audit
from station.cli.ca_ceremony import ceremony
from station.cli.ca_crl import crl
from station.cli.ca_export import export_command
from station.cli.ca_intents import give_up_command, intents_command
from station.cli.ca_issue import issue, profiles, sign_batch
from station.cli.ca_ocsp import ocsp
from station.cli.ca_revoke import hold_command, release_command, revoke_command, revoked_command
from station.cli.ca_verification import verification
from station.cli.certificate import facts_of, lines_of
from station.cli.commands import Group, json_option
from station.cli.output import print_fields, print_json
from station.errors import StationError

_KEYS: Final = [kind.value for kind in KeyKind]

_INIT_EXAMPLE: Final = """\
station ca init --name 'Acme Devices' --out ca/ \\
    --root-token 'pkcs11:token=root?module-name=softhsm2&pin-source=prompt:' \\
    --intermediate-token 'pkcs11:token=intermediate?module-name=softhsm2&pin-source=prompt:'"""


@click.group("ca", cls=Group, examples=["station ca init --help", "station ca show ca/*.pem"])
def ca() -> None:
    """Make and look at the certificate authority."""


ca.add_command(audit)
ca.add_command(ceremony)
ca.add_command(profiles)
ca.add_command(issue)
ca.add_command(sign_batch)
ca.add_command(verification)
for command in (
    export_command,
    intents_command,
    give_up_command,
    revoke_command,
    hold_command,
    release_command,
    revoked_command,
    crl,
    ocsp,
):
    ca.add_command(command)


@ca.command(
    "init",
    examples=[_INIT_EXAMPLE],
)
@click.option("--root-token", required=True, metavar="URI", help="Token for the root's key; it rests in a safe later.")
@click.option(
    "--intermediate-token", required=True, metavar="URI", help="Token for the issuing key; it goes to the line."
)
@click.option("--name", required=True, help="Whose CA it is; stands in the names of both certificates.")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False), help="Folder for root.pem and intermediate.pem."
)
@click.option(
    "--root-key",
    type=click.Choice(_KEYS),
    default=KeyKind.P384.value,
    show_default=True,
    help="Kind of the root's key.",
)
@click.option(
    "--intermediate-key",
    type=click.Choice(_KEYS),
    default=KeyKind.P256.value,
    show_default=True,
    help="Kind of the issuing key.",
)
@json_option("Write one JSON object: both certificates and the labels of their keys.")
def init(  # noqa: PLR0913 (a ceremony is its list of decisions)
    *,
    root_token: str,
    intermediate_token: str,
    name: str,
    out: str,
    root_key: str,
    intermediate_key: str,
    as_json: bool,
) -> None:
    """Make a root and an intermediate CA.

    Both keys are made in their tokens (two), can't leave them, and are seen to be so. The root signs itself and the
    intermediate, which may sign devices only (pathlen 0). A token is named by a PKCS#11 URI (RFC 7512) with module-path
    and pin-source; object= in it names the key. Nothing is ever overwritten; what fails on the way is undone.
    """
    made = init_ca(
        root=TokenUri.parse(root_token),
        intermediate=TokenUri.parse(intermediate_token),
        name=name,
        folder=Path(out),
        root_kind=KeyKind(root_key),
        intermediate_kind=KeyKind(intermediate_key),
    )
    parts = (
        ("root", made.root, made.root_file, made.root_key),
        ("intermediate", made.intermediate, made.intermediate_file, made.intermediate_key),
    )
    if as_json:
        print_json(
            {
                part: {"file": file, "key_label": label, **facts_of(certificate)}
                for part, certificate, file, label in parts
            }
        )
        return
    for part, certificate, file, label in parts:
        click.echo(f"made {part} {certificate.subject.rfc4514_string()}: key '{label}', certificate {file}")
    click.echo("next: put the root's token into a safe, and name the other one in [ca] of station.toml")


@ca.command("show", examples=["station ca show ca/root.pem ca/intermediate.pem", "station ca show --json ca/root.pem"])
@click.argument("certificates", nargs=-1, required=True, type=click.Path(dir_okay=False), metavar="CERT...")
@json_option("Write one JSON object a certificate.")
def show(certificates: tuple[str, ...], *, as_json: bool) -> None:
    """Show what certificates say.

    CERT is a file in PEM (all certificates in it are shown) or DER.
    """
    for path in certificates:
        for index, certificate in enumerate(_facts(Path(path))):
            facts = {"file": path, **certificate}
            if as_json:
                print_json(facts)
                continue
            if index or path != certificates[0]:
                click.echo()
            print_fields(lines_of(facts))


def _facts(path: Path) -> list[dict[str, object]]:
    content = path.read_bytes()
    try:
        if b"-----BEGIN" in content:
            found = x509.load_pem_x509_certificates(content)
        else:
            found = [x509.load_der_x509_certificate(content)]
        return [facts_of(certificate) for certificate in found]
    except ValueError:
        raise StationError(f"{path}: neither PEM nor DER of a certificate; give the file of a certificate") from None

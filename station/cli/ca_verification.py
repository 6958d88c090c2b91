"""``station ca verification``."""

import asyncio
import re
from pathlib import Path
from typing import Final

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from hsm import Csr, Profile
from hsm.certificate_files import Form, written
from hsm.issuing import Desk
from hsm.journal import Issued
from station.cli.ca_open import opened_ca
from station.cli.commands import Command, config_option
from station.config import load
from station.errors import StationError
from station.signing import choose_ca

_CODE: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
"""AWS's codes have 64 hexadecimal digits, Azure's 48."""


@click.command(
    "verification", cls=Command, examples=["station ca verification 8f3a6c0b51d2e4f7 --out verification.pem"]
)
@config_option
@click.argument("code")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write (PEM).")
def verification(code: str, config_path: str, *, out: Path) -> None:
    """Prove to a cloud that the CA's key is here.

    CODE is what the cloud gives when a CA is registered there: AWS IoT's registration code, Azure's verification code.
    The certificate has it as its name, is good for a day, and is in the CA's journal like any other. The key in it is
    made for it and forgotten at once.
    """
    if not _CODE.fullmatch(code):
        raise StationError(
            "CODE has 8 to 64 letters and digits: paste the registration code or verification code of the cloud"
        )
    if out.exists():
        raise StationError(f"{out} is there already; name another file")
    config, profile = load(Path(config_path)), Profile.load("verification")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, code)])
    request = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256())
    csr = Csr.parse(request.public_bytes(Encoding.DER))

    async def run() -> tuple[Issued, tuple[bytes, ...]]:
        async with opened_ca(config, choose_ca(config, profile.name, None)) as (authority, journal):
            desk = Desk(authority, journal, profile, config.station.id, {"code": code})
            return await desk.issue(csr), authority.chain

    issued, chain = asyncio.run(run())
    with out.open("xb") as file:
        file.write(written(issued.der, chain, Form.PEM))
    click.echo(f"{out}: proves possession of {config.ca.certificate} with code {code}, for a day")

"""A station in a folder, as ``station init --softhsm`` makes it, for the ports and runs that a benchmark needs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

from cryptography import x509

from firmware_tools.build import build_device
from hsm import TokenUri, init_ca
from hsm.ceremony import INTERMEDIATE_FILE, ROOT_FILE
from softhsm import SoftHsm, make_tokens
from station.testing.orders import install_order

ROOT: Final = Path(__file__).resolve().parents[2]
"""The project's folder."""

ROOT_TOKEN: Final = "root"  # noqa: S105 - labels of tokens, not passwords
ISSUING_TOKEN: Final = "intermediate"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Run:
    """One configuration with its own manifest."""

    config: Path
    manifest: Path
    transcripts: Path


@dataclass(frozen=True)
class Place:
    """Tokens and a CA."""

    folder: Path
    tokens: SoftHsm

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Make two tokens and a CA in them."""
        tokens = make_tokens(folder / "tokens", [ROOT_TOKEN, ISSUING_TOKEN])
        init_ca(
            root=TokenUri.parse(tokens.uri(ROOT_TOKEN)),
            intermediate=TokenUri.parse(tokens.uri(ISSUING_TOKEN)),
            name="BENCHMARK",
            folder=folder / "ca",
            environment=tokens.environment,
        )
        return cls(folder, tokens)

    @cached_property
    def issuer(self) -> x509.Certificate:
        """The issuing CA's certificate."""
        return x509.load_pem_x509_certificate((self.folder / "ca" / INTERMEDIATE_FILE).read_bytes())

    @cached_property
    def root(self) -> x509.Certificate:
        """The root's certificate."""
        return x509.load_pem_x509_certificate((self.folder / "ca" / ROOT_FILE).read_bytes())

    def run(
        self,
        name: str,
        ports: Sequence[Path],
        *,
        quantity: int,
        baud: int = 115200,
        manifest: Path | None = None,
        product: Sequence[str] = ('model = "reference-device"', 'locks = ["debug", "credentials"]'),
        driver: str = "smp",
    ) -> Run:
        """Write a ``station.toml`` into a new folder.

        Args:
            name: of the folder, of the order, and in the product serials of its units.
            ports: one slot each, named 1, 2 and so on.
            quantity: of the order.
            baud: of each slot.
            manifest: one that other runs write to as well; None: one of its own.
            product: the lines of that section.
            driver: of each slot.
        """
        folder = self.folder / name
        folder.mkdir(parents=True)
        run = Run(folder / "station.toml", manifest or folder / "manifest.db", folder / "transcripts")
        lines = [
            "[station]",
            "id = 1",
            f"manifest = {_quoted(run.manifest)}",
            "[ca]",
            f"token = {_quoted(self.tokens.uri(ISSUING_TOKEN))}",
            f"certificate = {_quoted(self.folder / 'ca' / INTERMEDIATE_FILE)}",
            f"root = {_quoted(self.folder / 'ca' / ROOT_FILE)}",
            'profile = "idevid"',
            f"environment = {{ SOFTHSM2_CONF = {_quoted(self.tokens.conf)} }}",
            "[order]",
            f"name = {_quoted(name)}",
            'trusted = ["oem.pem"]',
            "[product]",
            *product,
        ]
        for number, port in enumerate(ports, 1):
            lines += ["[[slot]]", f'name = "{number}"', f"port = {_quoted(port)}", f"baud = {baud}"]
            lines.append(f'driver = "{driver}"')
        run.config.write_text("\n".join(lines) + "\n")
        install_order(run.config, quantity=quantity, serial_format=f"{name}-{{number:06d}}")
        return run


def device_program() -> Path:
    """Build the reference device, unless that was done before."""
    return build_device(ROOT / "build")


def _quoted(text: object) -> str:
    """Return a text as TOML writes it; JSON's strings are TOML's, within what a path or URI holds."""
    return json.dumps(str(text))

"""The folder of a line: ``station.toml``, and for development and rehearsals its tokens and its CA.

::

    DIR/station.toml     what a line engineer edits
    DIR/tokens/          SoftHSM tokens ``root``, ``intermediate``, ``oem``    }
    DIR/ca/              ``root.pem``, ``intermediate.pem``, ``ledger.pem``    } where a CA was asked for
    DIR/oem.pem          the key that signs orders; its private half in ``oem``  }
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from firmware_tools.virtual_line.personas import DEFAULT_PERSONA
from hsm import Signer, TokenUri, init_ca
from hsm.ceremony import INTERMEDIATE_FILE, ROOT_FILE
from softhsm import SoftHsm, make_tokens
from station.config.languages import PERSONA_PRODUCTS, VirtualProduct
from station.errors import ConfigError
from station.ledger.keying import LEDGER_FILE, make_ledger_key
from station.orders.rehearsal import rehearsal_order
from station.ports.adapters import product_name
from station.ports.event import PortEvent
from station.ports.uevent import present_ports

ROOT_TOKEN: Final = "root"  # noqa: S105 (labels of tokens, not passwords)
INTERMEDIATE_TOKEN: Final = "intermediate"  # noqa: S105
OEM_TOKEN: Final = "oem"  # noqa: S105

OEM_KEY: Final = "oem.pem"
"""Public half of the key that signs orders."""

CONFIGURATION: Final = "station.toml"
ORDER: Final = "WO-0001"
QUANTITY: Final = 100
"""Units in the order that comes with SoftHSM tokens."""

_TOKEN: Final = f"pkcs11:token={INTERMEDIATE_TOKEN}?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=prompt:"
"""What stands in the file until the engineer names the real token."""

_SLOTS: Final = """
# One place for a board each. usb = "1-1.2" names the socket of a hub and stays the same whatever else is plugged in;
# port = "/dev/ttyS0", "socket://host:4000" or "rfc2217://host:4000" names a port.
# 'station slots suggest' prints these sections for all cables that are plugged in.
"""
_SLOT: Final = '[[slot]]\nname = "1"\nport = "/dev/ttyUSB0"\nbaud = 115200\n'

_REHEARSAL: Final = """
# Virtual boards take the place of real ones. When you have boards, delete this section, and append what
# 'station slots suggest' prints.
[rehearsal]
boards = {boards}
{persona}directory = "boards"
"""

_ACCEPTS: Final = "accepts = {}    # in place of reading back, in place of a signature: docs/drivers.md\n"


_FIRMWARE: Final = """\
{off}firmware = {bundle}   # boards are flashed with it ('station firmware --help'); without it they come flashed
{off}release_key = {release_key}    # who signed it
"""


@dataclass(frozen=True, slots=True)
class RehearsalFirmware:
    """Firmware for virtual boards; paths are relative to the folder of the line."""

    bundle: Path
    release_key: Path
    image_key: Path
    digest: bytes
    """Of the bundle; 32 bytes."""
    machine: str
    """What the boards are made of."""


def make_line(  # noqa: PLR0913 (what a line is, each with its default)
    directory: Path,
    *,
    name: str | None = None,
    ca_name: str | None = None,
    order: str = ORDER,
    quantity: int = QUANTITY,
    boards: int | None = None,
    firmware: Callable[[SoftHsm], RehearsalFirmware] | None = None,
    persona: str = DEFAULT_PERSONA,
) -> Path:
    """Make the folder of a line. Nothing that is there is overwritten.

    Args:
        directory: made if it is missing.
        name: of the station; the folder's if left out.
        ca_name: SoftHSM tokens are made, and in them a CA of this name; None for a CA that is made elsewhere.
        order: name of the production order that the line will run.
        quantity: units in it; with a CA, such an order is signed and imported.
        boards: how many virtual boards fill the slots; None for slots at the ports that are plugged in now.
        firmware: makes what virtual boards are flashed with, with keys in the tokens; None: they come flashed.
        persona: what virtual boards are; order and product are for such boards.

    Returns:
        The path of ``station.toml``, which is written last: where it is, all else is too.

    Raises:
        ConfigError: there is a ``station.toml``.
        OSError: the folder can't be written.
        SoftHsmError, HsmError, StationError: the CA, or the order, can't be made.
    """
    path = directory / CONFIGURATION
    if path.exists():
        raise ConfigError(f"{path} is there already; edit it, or name another folder")
    directory.mkdir(parents=True, exist_ok=True)
    tokens = make_ca(directory, ca_name) if ca_name else None
    made = None if tokens is None or firmware is None else firmware(tokens)
    if tokens is not None:
        rehearsal_order(
            directory,
            order,
            quantity,
            oem=TokenUri.parse(tokens.uri(OEM_TOKEN)),
            issuing=TokenUri.parse(tokens.uri(INTERMEDIATE_TOKEN)),
            key=directory / OEM_KEY,
            station_key=directory / "ca" / LEDGER_FILE,
            environment=tokens.environment,
            bundle_sha256=None if made is None else made.digest,
            product=PERSONA_PRODUCTS[persona].model,
        )
    text = configuration(
        name=name or directory.absolute().name or "station",
        tokens=tokens,
        order=order,
        slots=_rehearsal(boards, persona, made) if boards else _present_slots(),
        product=PERSONA_PRODUCTS[persona],
        firmware=made,
    )
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    return path


def make_ca(directory: Path, name: str) -> SoftHsm:
    """Make SoftHSM tokens and a CA in the folder of a line, if they are not there."""
    tokens = make_tokens(directory / "tokens", [ROOT_TOKEN, INTERMEDIATE_TOKEN, OEM_TOKEN])
    certificates = directory / "ca"
    if not all((certificates / file).exists() for file in (ROOT_FILE, INTERMEDIATE_FILE)):
        init_ca(
            root=TokenUri.parse(tokens.uri(ROOT_TOKEN)),
            intermediate=TokenUri.parse(tokens.uri(INTERMEDIATE_TOKEN)),
            name=name,
            folder=certificates,
            environment=tokens.environment,
        )
    if not (certificates / LEDGER_FILE).exists():
        uri = TokenUri.parse(tokens.uri(INTERMEDIATE_TOKEN))
        with Signer.open(uri, environment=tokens.environment, writable=True) as signer:
            make_ledger_key(signer, certificates / LEDGER_FILE)
    return tokens


def configuration(  # noqa: PLR0913 - what a line is, by name
    *,
    name: str,
    slots: str,
    tokens: SoftHsm | None = None,
    order: str = ORDER,
    firmware: RehearsalFirmware | None = None,
    product: VirtualProduct = PERSONA_PRODUCTS[DEFAULT_PERSONA],
) -> str:
    """Return the text of a station.toml, with comments.

    Args:
        name: of the station.
        slots: the sections at the end.
        tokens: in the folder ``tokens`` beside the file; None for a token that is yet to be named.
        order: name of the production order.
        firmware: what boards are flashed with; None: a comment says how it is named.
        product: what boards have to be.
    """
    template = Template((resources.files("station.config") / CONFIGURATION).read_text(encoding="utf-8"))
    return template.substitute(
        name=_quoted(name),
        token=_quoted(tokens.uri(INTERMEDIATE_TOKEN) if tokens else _TOKEN),
        environment=f'{"" if tokens else "# "}environment = {{ SOFTHSM2_CONF = "tokens/softhsm2.conf" }}\n',
        order=_quoted(order),
        model=_quoted(product.model),
        locks=json.dumps(product.locks),
        accepts=_ACCEPTS.format(json.dumps(product.accepts)) if product.accepts else "",
        slots=slots,
        firmware=_FIRMWARE.format(
            off="" if firmware else "# ",
            bundle=_quoted(str(firmware.bundle) if firmware else "sensor.bundle"),
            release_key=_quoted(str(firmware.release_key) if firmware else "release.pem"),
        ),
    )


def stanza(port: PortEvent, *, name: str) -> str:
    """Return the ``[[slot]]`` for a port, by its USB path if it has one."""
    place = f'usb = "{port.usb}"' if port.usb else f'port = "{port.device}"'
    what = " ".join(filter(None, (product_name(port), f"now {port.device}" if port.usb else "")))
    return f'[[slot]]\nname = "{name}"\n{place}{f"    # {what}" if what else ""}\nbaud = 115200\n'


def _rehearsal(boards: int, persona: str, firmware: RehearsalFirmware | None) -> str:
    line = "" if persona == DEFAULT_PERSONA else f'persona = "{persona}"\n'
    text = _REHEARSAL.format(boards=boards, persona=line)
    if firmware is None:
        return text
    return f"{text}machine = {_quoted(firmware.machine)}\nimage_key = {_quoted(str(firmware.image_key))}\n"


def _present_slots() -> str:
    numbers = map(str, itertools.count(1))
    stanzas = [stanza(port, name=name) for name, port in zip(numbers, present_ports(), strict=False)]
    return _SLOTS + "\n".join(stanzas or [_SLOT])


def _quoted(text: str) -> str:
    """Return a text as TOML writes it; JSON's strings are TOML's, within what a name or URI holds."""
    return json.dumps(text, ensure_ascii=False)

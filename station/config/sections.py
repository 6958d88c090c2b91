"""``station.toml``: what a line engineer writes, checked once, at the border.

``load`` returns a ``Config`` that needs no further checks, or raises ``ConfigError`` with one line that names the file,
the line number, what is wrong and what to write instead. ``problems`` lists all such lines. Neither looks whether files
and ports are there: that is the work of ``station check``. ``docs/configuration.md`` tells each key to its reader.
"""

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from firmware_tools.smp_framing import Framing
from firmware_tools.virtual_line.line import DEFAULT_MACHINE, MACHINES
from firmware_tools.virtual_line.personas import DEFAULT_PERSONA
from station.config.ca import CaSection, read_ca
from station.config.crl import CrlSection, read_crl_section
from station.config.issuers import IssuerSection, read_issuer
from station.config.languages import DEFAULT_DRIVER, DRIVER_FILE, DRIVERS, PERSONA_DRIVERS, known_drivers
from station.config.ledger import LedgerSection, read_ledger
from station.config.life import LifeSection, QuarantineSection, read_life, read_quarantine
from station.config.product import ProductSection, read_product
from station.config.section import Document, Section, nearest, parse
from station.errors import ConfigError

BAUD_RATES: Final = (
    *(1200, 2400, 4800, 9600, 19200, 38400, 57600, 74880, 115200, 230400, 250000, 256000, 460800, 500000),
    *(512000, 576000, 750000, 921600, 1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000),
    *(3_500_000, 4_000_000, 6_000_000, 12_000_000),
)
"""Bits per second that USB serial bridges and boards use (74880 is the boot loader of the ESP8266)."""


URL_SCHEMES: Final = ("socket", "rfc2217")
"""Ports that are not files: a plain TCP socket, and RFC 2217."""

MAX_STATION_ID: Final = 127
"""The station id is the first byte of a certificate serial number, which has to be positive (RFC 5280 4.1.2.2)."""

MAX_APPROVALS: Final = 4
MAX_NUMBERS_PER_NOTE: Final = 1000
"""Keys that have to sign an order."""

MAX_REHEARSAL_BOARDS: Final = 256
"""Virtual boards on one machine."""

NEW_UNITS_PER_MINUTE: Final = 12
"""New boards that may come into one slot in a minute: hands are slower, a board that invents hardware ids is not."""

MAX_NEW_UNITS: Final = 6000

TRANSCRIPTS_LIMIT: Final = 512
"""MiB of all transcripts together."""

MIB: Final = 1 << 20

_SIGNED_TERMS: Final = ("quantity", "serial", "first")
"""Keys that stood here before orders were signed."""

_USB_PATH = re.compile(r"\d+-\d+(?:\.\d+)*(?::\d+\.\d+(?:\+\d+)?)?")
"""Bus, chain of hub ports and, for a board with several, the interface, as
``station.ports.uevent`` names it: ``1-1.4.2:1.0``."""


@dataclass(frozen=True, slots=True)
class StationSection:
    """This station and where it writes."""

    id: int
    """1 to 127, another one for each station: the first byte of each certificate serial number."""
    name: str
    manifest: Path
    transcripts: Path
    transcripts_limit: int = TRANSCRIPTS_LIMIT * MIB
    """Bytes of all transcripts together."""
    new_units_per_minute: int = NEW_UNITS_PER_MINUTE
    """New boards that may come into one slot in a minute; virtual boards may come as fast as they like."""


@dataclass(frozen=True, slots=True)
class OrderSection:
    """Which signed order this line runs, and whose signatures count. What is ordered stands in the order itself."""

    name: str
    trusted: tuple[Path, ...] = ()
    """Public keys, or certificates, of who may sign orders (PEM, P-256)."""
    approvals: int = 1
    """So many of them have to sign."""
    numbers_per_note: int = 1
    """Numbers that a token is told of with one note, at most."""


@dataclass(frozen=True, slots=True)
class SlotConfig:
    """One place for a board; exactly one of ``port`` and ``usb`` is set."""

    name: str
    port: str | None
    """Absolute path of a tty, or a ``socket://`` or ``rfc2217://`` URL."""
    usb: str | None
    """Where the cable is plugged in: the USB path as sysfs names it."""
    baud: int
    driver: str = DEFAULT_DRIVER
    """A name of ``station.config.languages``, or the absolute path of a driver file."""
    fixture: bool = False
    """The port stays when the board leaves, so the board itself is asked whether it is still there."""
    framing: Framing = Framing.BASE64
    """How SMP messages go over the wire."""
    flash_baud: int | None = None
    """Bits a second that a loader in ROM is asked to go to; None: what its flasher takes by itself."""
    probe: str | None = None
    """Serial number of the debug probe that flashes this slot, for bundles of the kind ``probe``."""


@dataclass(frozen=True, slots=True)
class RehearsalSection:
    """Virtual boards take the place of real ones."""

    boards: int
    directory: Path
    """Where their storage and ports live."""
    baud: int | None = None
    """Speed of the wires to them, bits a second; None: as fast as the machine can."""
    persona: str = DEFAULT_PERSONA
    """What they are: a name of ``firmware_tools.virtual_line.personas``."""
    machine: str = DEFAULT_MACHINE
    """What they are made of: a name of ``firmware_tools.virtual_line.line.MACHINES``."""
    image_key: Path | None = None
    """Public key (PEM) of the images that they run: they have a bootloader then, and come blank."""


@dataclass(frozen=True, slots=True)
class Config:
    """A whole ``station.toml``; all paths are absolute."""

    path: Path
    station: StationSection
    ca: CaSection
    order: OrderSection
    product: ProductSection
    slots: tuple[SlotConfig, ...]
    """Empty only in a rehearsal, where each virtual board is a slot."""
    rehearsal: RehearsalSection | None
    crl: CrlSection | None = None
    """None: the station publishes no revocation lists."""
    issuers: tuple[IssuerSection, ...] = ()
    """Issuing CAs besides that of ``[ca]``."""
    ledger: LedgerSection = field(default_factory=LedgerSection)
    quarantine: QuarantineSection = field(default_factory=QuarantineSection)
    life: LifeSection = field(default_factory=LifeSection)


def load(path: Path) -> Config:
    """Read a configuration.

    Args:
        path: the file. Relative paths in it are relative to its folder.

    Raises:
        ConfigError: the first of its problems, as one line with file and line number.
    """
    document = _open(path)
    config = _read(document, path)
    if document.problems:
        raise document.problems[0]
    return config


def problems(path: Path) -> list[ConfigError]:
    """Return everything that is wrong with a configuration, in the order of its lines."""
    try:
        document = _open(path)
    except ConfigError as error:
        return [error]
    _read(document, path)
    return document.problems


def _open(path: Path) -> Document:
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows begin a file with a byte order mark
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; make one with 'station init'", path=path) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text; save it as UTF-8", path=path) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"{path}: can't be read ({reason}); check its owner and mode", path=path) from None
    return parse(text, name=min(str(path), os.path.relpath(path), key=len))


def _read(document: Document, path: Path) -> Config:
    """Read every section; what is wrong is collected in ``document.problems``, and the value then means nothing."""
    folder = path.absolute().parent
    top = document.top
    ca = read_ca(top.section("ca", example='token = "pkcs11:…"'), folder)
    config = Config(
        path=path.absolute(),
        station=_station(top.section("station", example="id = 1"), folder),
        ca=ca,
        order=_order(top.section("order", example='name = "WO-1001" and trusted = ["oem.pem"]'), folder),
        product=read_product(
            top.section("product", example='model = "…" and locks = ["debug", "credentials"]'), folder
        ),
        slots=tuple(_slot(section, folder) for section in top.sections("slot")),
        rehearsal=_rehearsal(top.table("rehearsal"), folder) if top.has("rehearsal") else None,
        crl=read_crl_section(top.table("crl"), folder) if top.has("crl") else None,
        issuers=tuple(read_issuer(section, folder, ca.root) for section in top.sections("issuer")),
        ledger=read_ledger(top.table("ledger"), folder),
        quarantine=read_quarantine(top.table("quarantine")) if top.has("quarantine") else QuarantineSection(),
        life=read_life(top.table("life")) if top.has("life") else LifeSection(),
    )
    if not config.slots and config.rehearsal is None and not top.has("slot"):
        top.complain("slot", "there is no [[slot]]; add one for each board cable ('station slots suggest' prints them)")
    _refuse_twins(top.sections("slot"), config.slots)
    top.close()
    return config


def _station(section: Section, folder: Path) -> StationSection:
    value = StationSection(
        id=section.integer("id", 1, MAX_STATION_ID, example="1"),
        name=section.text("name", "station"),
        manifest=folder / section.text("manifest", "manifest.db", limit=4096),
        transcripts=folder / section.text("transcripts", "transcripts", limit=4096),
        transcripts_limit=section.integer("transcripts_limit", 16, MIB, default=TRANSCRIPTS_LIMIT) * MIB,
        new_units_per_minute=section.integer("new_units_per_minute", 1, MAX_NEW_UNITS, default=NEW_UNITS_PER_MINUTE),
    )
    section.close()
    return value


def _order(section: Section, folder: Path) -> OrderSection:
    name = section.text("name", example='"WO-1001"')
    trusted = section.texts("trusted", example='["oem.pem"]')
    approvals = section.integer("approvals", 1, MAX_APPROVALS, default=1)
    for key in _SIGNED_TERMS:
        if key in section.names() and section.has(key):
            section.complain(
                key,
                f"'{key}' does not stand here any more: it is a term of the signed order. Delete it, and import the "
                "order's file with 'station order import FILE' ('station order create --help' makes one)",
            )
    per_note = section.integer("numbers_per_note", 1, MAX_NUMBERS_PER_NOTE, default=1)
    value = OrderSection(name, tuple(folder / path for path in trusted), approvals, per_note)
    if section.has("trusted") and len(set(trusted)) < value.approvals:
        section.complain(
            "trusted",
            f"'trusted' names {len(set(trusted))} key{'' if len(set(trusted)) == 1 else 's'}, and {value.approvals} "
            "have to sign an order; name the public key of each approver",
        )
    section.close()
    return value


def _slot(section: Section, folder: Path) -> SlotConfig:
    port, usb = section.text("port", "", limit=4096), section.text("usb", "")
    if section.has("port") and section.has("usb"):
        section.complain("usb", "a slot has a 'port' or a 'usb' path, not both; delete one of them")
    elif not section.has("port") and not section.has("usb"):
        section.complain(
            "", 'the slot has no port; add usb = "1-1.2" (\'station slots list\') or port = "/dev/ttyUSB0"'
        )
    if usb and not _USB_PATH.fullmatch(usb):
        section.complain("usb", f"'{usb}' is not a USB path; write it as 'station slots list' does, like \"1-1.2:1.0\"")
    if port and (fault := _port_fault(port)):
        section.complain("port", fault)
    driver = section.text("driver", DEFAULT_DRIVER, limit=4096)
    if driver.endswith(DRIVER_FILE):
        driver = str(folder / driver)
    elif driver and driver not in DRIVERS and driver not in (known := known_drivers()):
        section.complain("driver", f"unknown driver '{driver}'; {nearest(driver, known)}")
    value = SlotConfig(
        name=section.text("name", example='"1"', limit=16),
        port=(port if "://" in port else str(folder / port)) if port else None,
        usb=usb or None,
        baud=_baud(section, "baud", 115200),
        driver=driver,
        fixture=section.flag("fixture", default=False),
        framing=_framing(section),
        flash_baud=_baud(section, "flash_baud", 0) or None,
        probe=section.text("probe", "", limit=64) or None,
    )
    section.close()
    return value


def _baud(section: Section, key: str, default: int) -> int:
    baud = section.integer(key, 1, max(BAUD_RATES), default=default)
    if baud and baud not in BAUD_RATES:
        close = difflib.get_close_matches(str(baud), map(str, BAUD_RATES), n=1, cutoff=0)
        section.complain(key, f"{baud} is not a baud rate in use; did you mean {close[0]}?")
    return baud


def _framing(section: Section) -> Framing:
    known = [framing.value for framing in Framing]
    name = section.text("framing", Framing.BASE64.value)
    if name not in known:
        section.complain("framing", f"unknown framing '{name}'; {nearest(name, known)}")
        return Framing.BASE64
    return Framing(name)


def _port_fault(port: str) -> str | None:
    """Return what is wrong with a port, or None."""
    if "://" not in port:
        return None if "/" in port else f"'{port}' is not a path; write \"/dev/{port}\""
    try:
        parts = urlsplit(port)
        is_whole = bool(parts.hostname and parts.port)
    except ValueError:
        return f"'{port}' has no usable host and port; write \"socket://host:4000\""
    if parts.scheme not in URL_SCHEMES:
        return f"unknown kind of port '{parts.scheme}://'; {nearest(parts.scheme, URL_SCHEMES)}"
    return None if is_whole else f"'{port}' needs host and port; write \"{parts.scheme}://host:4000\""


def _refuse_twins(sections: Iterable[Section], slots: tuple[SlotConfig, ...]) -> None:
    """Complain about slots that share a name or a port."""
    seen: dict[tuple[str, str], Section] = {}
    for section, slot in zip(sections, slots, strict=True):
        for key, value in (("name", slot.name), ("port", slot.port), ("usb", slot.usb), ("probe", slot.probe)):
            first = seen.setdefault((key, value), section) if value else section
            if first is not section:
                section.complain(
                    key, f"{key} '{value}' is that of the slot in line {first.line('')}; each needs its own"
                )


def _rehearsal(section: Section, folder: Path) -> RehearsalSection:
    persona = section.text("persona", DEFAULT_PERSONA)
    if persona and persona not in PERSONA_DRIVERS:
        section.complain("persona", f"unknown persona '{persona}'; {nearest(persona, list(PERSONA_DRIVERS))}")
    machine = section.text("machine", DEFAULT_MACHINE)
    if machine and machine not in MACHINES:
        section.complain("machine", f"unknown machine '{machine}'; {nearest(machine, MACHINES)}")
    image_key = section.text("image_key", "", limit=4096)
    if machine != DEFAULT_MACHINE and not image_key:
        section.complain("machine", f"a board of '{machine}' runs signed images only; add image_key = \"image.pem\"")
    value = RehearsalSection(
        boards=section.integer("boards", 1, MAX_REHEARSAL_BOARDS, default=8),
        directory=folder / section.text("directory", "boards", limit=4096),
        baud=section.integer("baud", min(BAUD_RATES), max(BAUD_RATES), default=0) or None,
        persona=persona,
        machine=machine,
        image_key=folder / image_key if image_key else None,
    )
    section.close()
    return value

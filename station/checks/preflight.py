"""What ``station check`` looks at: the configuration and everything it names, without waking the HSM.

No PIN is read, no port is opened (that resets many boards), nothing is written.
"""

import grp
import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from hsm import HsmError, Profile, TokenUri
from hsm.module import module_path
from hsm.pin import PinKind
from station.checks import crls, firmware, orders
from station.checks.findings import Finding, fail, ok, warn
from station.config import Config, SlotConfig, load, problems
from station.config.certificates import ROOT_STAYS, is_root
from station.config.languages import DRIVERS
from station.errors import ConfigError
from station.ports.slots import SlotMap
from station.ports.uevent import present_ports

WORTHLESS: Final = ("REHEARSAL", "DEVELOPMENT")
"""What stands in the name of a CA that may sign for virtual boards."""

_GROUP_MAY: Final = stat.S_IRGRP | stat.S_IWGRP

CA_MISSING: Final = "make the CA ('station ca init --help'), or correct [ca]"


def examine(path: Path) -> Iterator[Finding]:
    """Examine a configuration and what it names, in the order in which one would put it right."""
    found = problems(path)
    if found:
        yield from (fail("configuration", str(problem), "") for problem in found)
        return
    config = load(path)
    yield ok("configuration", str(path))
    yield from _environment(config)
    yield from _tokens(config)
    yield from _certificates(config)
    yield from _profile(config)
    yield from orders.examine(config)
    yield from firmware.examine(config)
    yield _ledger(config)
    yield from _folders(config)
    yield from crls.examine(config)
    yield from _slots(config)


def _environment(config: Config) -> Iterator[Finding]:
    for name, value in config.ca.environment.items():
        if os.sep not in value and (config.path.parent / value).exists():
            yield warn(
                "environment",
                f'{name} = "{value}" is passed on as it stands, and there is a file of that name here',
                f'write "./{value}" if you mean the file',
            )
        elif value.startswith(str(config.path.parent)) and not Path(value).exists():
            yield fail("environment", f"{name}: {value} is not there", "correct [ca] environment")
        elif name == "SOFTHSM2_CONF" and (lost := _lost_tokens(Path(value))):
            yield fail("environment", f"{value}: directories.tokendir {lost} is not there", "was the folder moved?")


def _lost_tokens(configuration: Path) -> str | None:
    """Return the folder of tokens that a softhsm2.conf names, if it is not there."""
    try:
        text = configuration.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None  # the module itself will say
    found = re.search(r"^[ \t]*directories\.tokendir[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE)
    return found[1] if found and not Path(found[1]).is_dir() else None


def _tokens(config: Config) -> Iterator[Finding]:
    """Look at each token's URI; those after the first say ``module 2``, ``PIN source 2`` and so on."""
    sections = [config.ca.tokens, *(issuer.tokens for issuer in config.issuers)]
    uris = [uri for section in sections for uri in section.uris]
    for number, uri in enumerate(uris, start=1):
        yield from _token(TokenUri.parse(uri), "" if number == 1 else f" {number}")


def _token(uri: TokenUri, number: str) -> Iterator[Finding]:
    try:
        yield ok(f"module{number}", str(module_path(uri)))
    except HsmError as error:
        yield fail(f"module{number}", str(error), "")
    source, check = uri.pin_source, f"PIN source{number}"
    if source is None:
        yield warn(check, "the token's URI names none", "add &pin-source=file:/path, unless the token has a PIN pad")
    elif source.kind is PinKind.FILE:
        yield _pin_file(check, Path(source.where))
    elif source.kind is PinKind.ENVIRONMENT and source.where not in os.environ:
        yield warn(check, f"the variable {source.where} is not set here", "set it where 'station run' starts")
    else:
        yield ok(check, str(source))


def _pin_file(check: str, path: Path) -> Finding:
    """Look at a PIN file from outside."""
    try:
        status = path.stat()
    except OSError as error:
        return fail(check, f"{path}: {error.strerror}", "make the file, mode 0600, or correct pin-source")
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        return fail(check, f"{path} is open to others", f"chmod 600 {path}")
    if not os.access(path, os.R_OK):
        return fail(check, f"{path} can't be read by this user", "run as the file's owner, or change its owner")
    return ok(check, f"file {path}, closed to others")


def read_certificate(path: Path) -> x509.Certificate | str:
    """Return the certificate in a PEM file, or what is wrong with the file."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        return error.strerror or type(error).__name__
    except ValueError:
        return "not a PEM certificate"


def _certificates(config: Config) -> Iterator[Finding]:
    paths = {"issuer": config.ca.certificate, "root": config.ca.root}
    if not any(path.exists() for path in paths.values()):
        yield warn("certificates", f"{config.ca.certificate} and {config.ca.root} are not there yet", CA_MISSING)
        return
    read = {name: read_certificate(path) for name, path in paths.items()}
    for name, certificate in read.items():
        if isinstance(certificate, str):
            yield fail(name, f"{paths[name]}: {certificate}", CA_MISSING)
        else:
            yield validity(name, certificate, datetime.now(UTC))
    issuer, root = read["issuer"], read["root"]
    if isinstance(issuer, str) or isinstance(root, str):
        return
    try:
        issuer.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError, TypeError):
        yield fail("chain", f"{config.ca.certificate} is not signed by {config.ca.root}", "name the right pair in [ca]")
    else:
        if is_root(issuer, config.ca.certificate.parent):
            yield fail("chain", f"{config.ca.certificate}: {ROOT_STAYS}", "")
        else:
            yield ok("chain", "the root signed the issuer")
    if config.rehearsal is not None and not is_worthless(issuer):
        yield fail(
            "rehearsal",
            f"virtual boards would get certificates of a real CA: {issuer.subject.rfc4514_string()}",
            f"make one whose name says {' or '.join(WORTHLESS)} ('station init --softhsm'), or delete [rehearsal]",
        )


def is_worthless(issuer: x509.Certificate) -> bool:
    """Whether a CA says in its name that none of its certificates counts."""
    return any(word in issuer.subject.rfc4514_string() for word in WORTHLESS)


def validity(name: str, certificate: x509.Certificate, now: datetime) -> Finding:
    """Say whether a certificate is valid now."""
    subject = certificate.subject.rfc4514_string()
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        return fail(name, f"{subject} is valid from {begin:%Y-%m-%d %H:%M} UTC on only", "set this machine's clock")
    if now > end:
        return fail(name, f"{subject} ended on {end:%Y-%m-%d}", "make a new one and name it in [ca]")
    return ok(name, f"{subject}, valid to {end:%Y-%m-%d}")


def _ledger(config: Config) -> Finding:
    """Say whether the manifest is sealed, so that who trusts nobody here can check it."""
    if config.ledger.key.exists():
        return ok("ledger", f"sealed every {config.ledger.interval} s with the key of {config.ledger.key}")
    text = f"{config.ledger.key} is not there: nothing seals the manifest"
    return warn("ledger", text, "station manifest ledger-key")


def _profile(config: Config) -> Iterator[Finding]:
    try:
        profile = Profile.load(config.ca.profile)
    except HsmError as error:
        yield fail("profile", str(error), "")
    else:
        yield ok("profile", profile.name)


def _folders(config: Config) -> Iterator[Finding]:
    for name, path in (("manifest", config.station.manifest), ("transcripts", config.station.transcripts)):
        place = path
        while not place.exists() and place != place.parent:
            place = place.parent
        if not os.access(place, os.W_OK):
            yield fail(
                name, f"{place} can't be written by this user", "change its owner, or name another place in [station]"
            )
        elif name == "manifest" and path.is_dir():
            yield fail(name, f"{path} is a folder", "name a file in [station] manifest")
        else:
            yield ok(name, f"{path}{'' if path.exists() else ' (will be made)'}")


def _slots(config: Config) -> Iterator[Finding]:
    """Look whether the ports are there; a port that comes with its board need not be."""
    if config.rehearsal is not None:
        yield ok("slots", f"a rehearsal with {config.rehearsal.boards} virtual boards; their ports come with them")
        return
    yield from _drivers(config)
    places = SlotMap(config.slots)
    present = {places.slot_of(port): port.device for port in present_ports()}
    for slot in config.slots:
        yield _slot(slot, present.get(slot.name))


def _drivers(config: Config) -> Iterator[Finding]:
    """Look whether the drivers that are no part of the station can be used."""
    names = sorted({slot.driver for slot in config.slots} - set(DRIVERS))
    if names:
        from station.line.drivers import driver_maker  # noqa: PLC0415  # all drivers: most lines need none of them here
    for name in names:
        check = f"driver {Path(name).name}"
        try:
            driver_maker(name)
        except ConfigError as error:
            yield fail(check, str(error), f"'station driver lint {name}' lists all that is wrong")
        else:
            yield ok(check, name)


def _slot(slot: SlotConfig, device: str | None) -> Finding:
    check = f"slot {slot.name}"
    if slot.port is not None and "://" in slot.port:
        return ok(check, f"{slot.port} (is tried when 'station run' starts)")
    path = Path(slot.port or device or "")
    if slot.port is None and device is None:
        return warn(check, f"nothing is plugged in at {slot.usb}", "plug the board in, or see 'station slots list'")
    if not path.exists():
        return warn(check, f"{path} is not there", "plug the board in, or see 'station slots list'")
    if not stat.S_ISCHR(path.stat().st_mode):
        return fail(check, f"{path} is not a serial port", "name a tty in [[slot]] port")
    return port_rights(check, path)


def port_rights(check: str, path: Path) -> Finding:
    """Say whether this user may use a port, and which group to join if not."""
    if os.access(path, os.R_OK | os.W_OK):
        return ok(check, str(path))
    status = path.stat()
    text = f"{path} can't be used by this user"
    if status.st_gid == 0 or status.st_mode & _GROUP_MAY != _GROUP_MAY:  # joining it would not help, or far too much
        return fail(check, text, "give the port to the group dialout, mode 0660, by a udev rule")
    return fail(check, text, f"sudo usermod -aG {_group_name(status.st_gid)} $USER, then log in again")


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)

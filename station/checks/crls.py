"""What ``station check`` and ``station doctor`` say about revocation lists.

Who publishes them, who finds them, and whether what is out there still holds. Files are read; no token is woken, and
nothing is written.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hsm import HsmError, Profile
from hsm.journal import JournalReader
from hsm.revocation import FULL, check_published, read_crl, revoker_of
from hsm.revocation.numbers import highest_number
from station.checks.findings import Finding, fail, ok, warn
from station.config import Config, CrlSection
from station.crl_places import CrlPlace, crl_places
from station.errors import StationError

_CHECK: Final = "crl"
_PUBLISH: Final = "run 'station ca crl publish', and see why the daemon did not"


def examine(config: Config, now: datetime | None = None) -> Iterator[Finding]:
    """Examine ``[crl]``, the URLs in the profile of ``[ca]``, and what is published for each issuing CA.

    Args:
        config: with files that may be missing.
        now: the clock's time when left out.
    """
    urls = _profile_urls(config)
    if config.crl is None:
        if urls:
            yield warn(
                _CHECK,
                f"profile {config.ca.profile} sends its readers to {urls[0]}, and the station publishes no list",
                "add [crl] with directory and url, or see that 'station ca crl publish' runs somewhere",
            )
        return
    yield _folder(config.crl.directory)
    yield _urls(config.crl, config.ca.profile, urls)
    yield from _published(config, config.crl.directory, now or datetime.now(UTC))


def _profile_urls(config: Config) -> list[str]:
    """Return where the line's profile says that a list is; a profile that can't be read is told elsewhere."""
    try:
        return [template.text for template in Profile.load(config.ca.profile).urls.crl]
    except HsmError:
        return []


def _folder(path: Path) -> Finding:
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if path.exists() and not path.is_dir():
        return fail(_CHECK, f"{path} is not a folder", "name a folder in [crl] directory")
    if not os.access(place, os.W_OK | os.X_OK):
        return fail(
            _CHECK, f"{place} can't be written by this user", "change its owner, or name another [crl] directory"
        )
    return ok(_CHECK, f"{path}{'' if path.exists() else ' (will be made)'}")


def _urls(section: CrlSection, profile: str, urls: list[str]) -> Finding:
    check, url = f"{_CHECK} url", section.policy.url
    if not urls:
        return warn(
            check,
            f"profile {profile} puts no URL of a list into certificates, so nobody finds the lists by themselves",
            'take a profile with [urls] crl = ["…"] (docs/revocation.md), or tell your clients where they are',
        )
    if url is None:
        return warn(
            check,
            f"profile {profile} names {urls[0]}, and [crl] has no url: only full.crl is made",
            "write url into [crl]: the URL of the folder, as it stands in the profile",
        )
    if strange := [one for one in urls if not one.startswith(f"{url.rstrip('/')}/")]:
        return warn(
            check, f"profile {profile} names {strange[0]}, which is not below {url}", "put one of the two right"
        )
    return ok(check, f"{url}, as in profile {profile}")


def _published(config: Config, directory: Path, now: datetime) -> Iterator[Finding]:
    try:
        places = crl_places(config, directory)
    except (StationError, HsmError):
        return  # a certificate or a profile is missing: said by other checks
    for number, place in enumerate(places, start=1):
        mark = "" if number == 1 else f" {number}"
        yield _newest(place, now, f"{_CHECK} full{mark}")
        yield _number(config, place, f"{_CHECK} number{mark}")


def _newest(place: CrlPlace, now: datetime, check: str) -> Finding:
    """Compare the complete list that is published with the clock and the schedule."""
    path = place.folder.where(FULL)
    if not path.exists():
        return ok(check, f"{path} is not there yet: the daemon publishes it when it starts")
    try:
        found = read_crl(path)
    except HsmError as error:
        return fail(check, str(error), "move it away, and publish anew")
    made, until = found.last_update_utc, found.next_update_utc
    if made > now:
        return fail(
            check, f"{path} was made at {made:%Y-%m-%d %H:%M} UTC, which is to come", "set this machine's clock"
        )
    if until is None or until <= now:
        ended = "has no end" if until is None else f"ended at {until:%Y-%m-%d %H:%M} UTC: clients refuse every device"
        return fail(check, f"{path} {ended}", _PUBLISH)
    text, due = f"{path} holds until {until:%Y-%m-%d %H:%M} UTC", made + place.policy.every
    if due <= now:
        text += f"; the next one is due since {due:%Y-%m-%d %H:%M} UTC"
    elif until < due:
        text += f", and [crl] makes the next one at {due:%Y-%m-%d %H:%M} UTC, which is later"
    else:
        return ok(check, text)
    return warn(check, text, _PUBLISH)


def _number(config: Config, place: CrlPlace, check: str) -> Finding:
    """See that the journal is the one that the published lists come from."""
    known = 0
    try:
        if config.ca.journal.exists():
            with JournalReader(config.ca.journal) as reader:
                known = highest_number(reader, revoker_of(place.issuer))
                check_published(reader, place.issuer, place.folder)
        else:
            place.folder.check(lambda: 0, lambda _: False)
    except HsmError as error:
        return fail(check, str(error), "")
    return ok(check, f"the next list is number {known + 1}")

"""``[crl]``: where and how often revocation lists are published."""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from hsm.revocation import CrlPolicy
from station.config.section import Section

_SPAN: Final = re.compile(r"([1-9][0-9]{0,4})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LEAST: Final = timedelta(seconds=1)
MOST: Final = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class CrlSection:
    """Revocation lists."""

    directory: Path
    """Folder that a web server hands out, or that is copied to one."""
    policy: CrlPolicy


def span(text: str) -> timedelta | None:
    """Parse a span of time like ``90m``, ``12h`` or ``7d``; None if it is none, or longer than ten years."""
    match = _SPAN.fullmatch(text)
    if match is None:
        return None
    found = timedelta(**{_UNITS[match[2]]: int(match[1])})
    return found if LEAST <= found <= MOST else None


def read_crl_section(section: Section, folder: Path) -> CrlSection:
    """Read the section; what is wrong is complained about there."""
    url = section.text("url", "", limit=400)
    if url and not _is_web(url):
        section.complain("url", f"'{url}' is not the URL of a folder; write url = \"http://crl.example.com/acme\"")
    default = CrlPolicy()
    value = CrlSection(
        directory=folder / section.text("directory", "crl", limit=4096),
        policy=CrlPolicy(
            _span(section, "every", default.every), _span(section, "overlap", default.overlap), url or None
        ),
    )
    section.close()
    return value


def _span(section: Section, key: str, default: timedelta) -> timedelta:
    text = section.text(key, "")
    if not text:
        return default
    found = span(text)
    if found is None:
        section.complain(key, f"'{key}' is a span of time; write {key} = \"12h\" (s, m, h or d), at most ten years")
    return found or default


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    plain = parts.scheme in {"http", "https"} and bool(parts.hostname) and not (parts.query or parts.fragment)
    return plain and url.isascii() and " " not in url

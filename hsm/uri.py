"""PKCS#11 URIs (RFC 7512): which module, which token, where its PIN comes from.

``pkcs11:token=intermediate;serial=1f?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/pin``

Attributes before ``?`` name a token (and an object in it); those after it say how to reach it. Everything but letters,
digits and a few signs is percent-encoded UTF-8; ``id`` holds bytes. Vendor attributes (``x-...``) are kept,
not used.
``pin-value`` is refused: a PIN in a URI ends up in configuration files, process lists and logs.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final, Self
from urllib.parse import quote, unquote_to_bytes

from hsm.errors import UriError
from hsm.pin import PinSource

_PATH_SAFE: Final = ":[]@!$'()*+,=&"
"""``pk11-path-res-avail`` and ``&`` of RFC 7512 2.3; letters, digits and ``-._~`` are safe in any case."""
_QUERY_SAFE: Final = ":[]@!$'()*+,=/?|"
"""``pk11-query-res-avail`` of RFC 7512 2.3."""
_QUERY_ATTRIBUTES: Final = ("module-path", "module-name", "pin-source")
_OBJECT_TYPES: Final = ("public", "private", "cert", "secret-key", "data")
_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ALLOWED: Final = re.compile(r"[0-9A-Za-z._~%:\[\]@!$'()*+,=&/?|;-]*")
_MAX_URI: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUri:
    """A parsed URI. An attribute that is not given is None and matches everything."""

    token: str | None = None
    """The token's label."""
    manufacturer: str | None = None
    serial: str | None = None
    model: str | None = None
    object: str | None = None
    """Label of an object in the token (``CKA_LABEL``)."""
    type: str | None = None
    """One of ``public``, ``private``, ``cert``, ``secret-key``, ``data``."""
    id: bytes | None = None
    """``CKA_ID`` of an object in the token."""
    slot_id: int | None = None
    slot_manufacturer: str | None = None
    slot_description: str | None = None
    library_manufacturer: str | None = None
    library_description: str | None = None
    library_version: str | None = None
    """``MAJOR`` or ``MAJOR.MINOR``."""
    module_path: str | None = None
    module_name: str | None = None
    pin_source: PinSource | None = None
    vendor: tuple[tuple[str, str], ...] = ()
    """Path attributes that start with ``x-``."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a URI.

        Raises:
            UriError: it is not one, names an attribute twice or one that does not exist, or carries a PIN.
        """
        if not text.startswith("pkcs11:"):
            raise UriError("a token is named by a URI that starts with 'pkcs11:', like 'pkcs11:token=intermediate'")
        if re.search(r"[:;?&]pin-value=", text):
            raise UriError(
                "pin-value is not accepted: a PIN in a URI ends up in files, logs and process lists; "
                "put it into a file of mode 0600 and write pin-source=file:/path",
                code="uri.pin_value",
            )
        if len(text) > _MAX_URI or not _ALLOWED.fullmatch(text.removeprefix("pkcs11:")) or _PERCENT.search(text):
            raise UriError("a character of the URI needs percent-encoding (a space is %20)", uri=text)
        path, _, query = text.removeprefix("pkcs11:").partition("?")
        values: dict[str, str] = {}
        for name, value in [*_pairs(path, ";"), *_pairs(query, "&")]:
            if name in values:
                raise UriError(f"{name} stands twice in the URI", uri=text)
            values[name] = value
        in_query = {name for name, _ in _pairs(query, "&")}
        return cls._of(values, in_query)

    @classmethod
    def _of(cls, values: dict[str, str], in_query: set[str]) -> Self:
        known = {field.name.replace("_", "-"): field.name for field in fields(cls) if field.name != "vendor"}
        given: dict[str, object] = {}
        vendor: list[tuple[str, str]] = []
        for name, raw in values.items():
            if name.startswith("x-"):
                vendor.append((name, _text(name, raw)))
                continue
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise UriError(
                    f"{name!r} is not an attribute of a PKCS#11 URI" + (f"; did you mean {near[0]!r}?" if near else "")
                )
            if (name in in_query) is not (name in _QUERY_ATTRIBUTES):
                place = "after the '?'" if name in _QUERY_ATTRIBUTES else "before the '?'"
                raise UriError(f"{name} belongs {place} of the URI")
            given[known[name]] = _value(name, raw)
        if "module_path" in given and "module_name" in given:
            raise UriError("give module-path or module-name, not both")
        return cls(**given, vendor=tuple(vendor))  # type: ignore[arg-type]  # each value was made by _value for its name

    def __str__(self) -> str:
        """Return the URI; parsing it again gives an equal object."""
        path: list[str] = []
        query: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            name = field.name.replace("_", "-")
            if value is None or field.name == "vendor":
                continue
            if isinstance(value, bytes):
                path.append(f"{name}={''.join(f'%{byte:02X}' for byte in value)}")
            elif name in _QUERY_ATTRIBUTES:
                query.append(f"{name}={quote(str(value), safe=_QUERY_SAFE)}")
            else:
                path.append(f"{name}={quote(str(value), safe=_PATH_SAFE)}")
        path.extend(f"{name}={quote(value, safe=_PATH_SAFE)}" for name, value in self.vendor)
        return "pkcs11:" + ";".join(path) + ("?" + "&".join(query) if query else "")


def _pairs(text: str, separator: str) -> Iterator[tuple[str, str]]:
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise UriError(f"{part!r} in the URI is not of the form name=value")
        yield name, value


def _value(name: str, raw: str) -> object:
    match name:
        case "id":
            return unquote_to_bytes(raw)
        case "slot-id":
            if not re.fullmatch(r"[0-9]{1,20}", raw):
                raise UriError(f"slot-id is a decimal number, not {raw!r}")
            return int(raw)
        case "type":
            if raw not in _OBJECT_TYPES:
                raise UriError(f"type is one of {', '.join(_OBJECT_TYPES)}, not {raw!r}")
            return raw
        case "library-version":
            if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", raw):
                raise UriError(f"library-version is like 2 or 2.40, not {raw!r}")
            return raw
        case "pin-source":
            return PinSource.parse(_text(name, raw))
        case _:
            return _text(name, raw)


def _text(name: str, raw: str) -> str:
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise UriError(f"{name} is not UTF-8 after percent-decoding") from error
    if not text.isprintable():
        raise UriError(f"{name} holds a control character")
    return text

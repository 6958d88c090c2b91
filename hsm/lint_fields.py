"""Lint rules for the fields of a TBSCertificate, but for its extensions."""

import re
from collections.abc import Iterator
from typing import Final

from hsm import der
from hsm.algorithms import family_of
from hsm.lint_case import Case, Finding

_INTEGER: Final = 0x02
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_TIME: Final = rb"(\x17\x0d[0-9]{12}Z|\x18\x0f[0-9]{14}Z)"
_TIMES: Final = re.compile(rb"\x30." + _TIME + _TIME, re.DOTALL)
_UTC_TIME_ENDS: Final = 2050
_SERIAL_OCTETS: Final = 20
_EMPTY_NAME: Final = b"\x30\x00"


def serial(case: Case) -> Iterator[Finding]:
    """RFC 5280 4.1.2.2."""
    tag, content = case.fields[1][0], case.fields[1][2:]
    number = int.from_bytes(content, signed=True)
    shortest = der.encode(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, signed=True))
    if tag != _INTEGER or number <= 0 or len(content) > _SERIAL_OCTETS or case.fields[1] != shortest:
        yield Finding("serial.range", f"the serial number is not positive and of 1 to 20 octets: {content.hex()}")
    if case.expected.serial not in {None, number}:
        yield Finding("serial.mismatch", f"the serial number is {content.hex()}, not {case.expected.serial:x}")


def signature(case: Case) -> Iterator[Finding]:
    """RFC 5280 4.1.2.3."""
    if case.fields[2] != case.issuer.scheme.identifier:
        yield Finding("signature.mismatch", f"the algorithm is {case.fields[2].hex()}")


def issuer(case: Case) -> Iterator[Finding]:
    """RFC 5280 4.1.2.4."""
    if case.fields[3] != case.issuer.subject:
        yield Finding("issuer.mismatch", "the issuer's name is not the subject of the issuer's certificate")


def times(case: Case) -> Iterator[Finding]:
    """RFC 5280 4.1.2.5: how they are written, and that they are the ones that were asked for."""
    start, end = case.period
    written = _TIMES.fullmatch(case.fields[4])
    for position, moment in enumerate((start, end), start=1):
        tag = _UTC_TIME if moment.year < _UTC_TIME_ENDS else _GENERALIZED_TIME
        if written is None or written[position][0] != tag:
            yield Finding("validity.encoding", f"{moment:%Y-%m-%d} is written in the wrong form")
    if case.expected.not_before not in {None, start} or case.expected.not_after not in {None, end}:
        yield Finding("validity.mismatch", f"{start} to {end} is not what was asked for")


def validity(case: Case) -> Iterator[Finding]:
    """Within the issuer's, and not backwards."""
    start, end = case.period
    if start > end:
        yield Finding("validity.order", f"it ends ({end}) before it begins ({start})")
    if start < case.issuer.not_before or end > case.issuer.not_after:
        yield Finding("validity.outside_issuer", f"{start} to {end} is not within the issuer's validity")


def subject(case: Case) -> Iterator[Finding]:
    """RFC 5280 4.1.2.6."""
    if case.fields[5] == _EMPTY_NAME:
        yield Finding("subject.empty", "the subject is empty")
        return
    if case.expected.subject == case.fields[5]:
        return
    if case.expected.subject is not None:
        yield Finding("subject.mismatch", f"the subject is {case.subject.rfc4514_string()}")
        return
    found = [attribute.oid for attribute in case.subject]
    allowed = [part.rule.oid for part in case.profile.subject_parts if not part.optional or part.rule.oid in found]
    if found != allowed:
        yield Finding("subject.mismatch", f"not the attributes of the profile: {case.subject.rfc4514_string()}")


def same_key(case: Case) -> Iterator[Finding]:
    """The public key is the one that was asked for."""
    if case.expected.spki not in {None, case.fields[6]}:
        yield Finding("key.mismatch", "the public key is not the one that was asked for")


def key(case: Case) -> Iterator[Finding]:
    """The public key is one of the profile's kinds."""
    if family_of(case.key) not in case.profile.keys:
        yield Finding("key.not_allowed", f"the profile {case.profile.name} does not allow this kind of key")


def size(case: Case) -> Iterator[Finding]:
    """The certificate is not too large for the device."""
    total = len(der.join_signed(case.tbs, case.issuer.scheme.identifier, bytes(case.issuer.signature_size)))
    if total > case.profile.max_size:
        yield Finding("size.too_large", f"the certificate has {total} bytes; at most {case.profile.max_size}")

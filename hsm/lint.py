"""Rules that a certificate has to pass before the token signs it.

Linting looks at the bytes that will be signed, not at what they were made from, so that a fault of the builder is seen
too. Each finding has a dotted code that never changes:

==================  ==================================================================================================
``der.*``           ``malformed``: it can't be read
``version.*``       ``not_v3``
``serial.*``        ``range``: a positive INTEGER of 1 to 20 octets (RFC 5280 4.1.2.2); ``mismatch``
``signature.*``     ``mismatch``: not the issuer's AlgorithmIdentifier, byte for byte
``issuer.*``        ``mismatch``: not the issuer's subject, byte for byte (RFC 5280 4.1.2.4); ``not_self``,
                    ``key_not_allowed``, ``path_length``, ``path_exhausted``; with an attribute, like ``issuer.vid.*``:
                    ``missing``, ``unexpected``
``validity.*``      ``encoding`` (RFC 5280 4.1.2.5), ``order``, ``outside_issuer``, ``mismatch``
``subject.*``       ``empty``, ``mismatch``, ``forbidden_text``; with an attribute, like ``subject.vid.*``: ``missing``,
                    ``unexpected``, ``twice``, ``value``, ``differs`` (from the issuer's)
``key.*``           ``mismatch``: not the key that was asked for; ``not_allowed``: not one of the profile's
``<ext>.*``         for ``aki ski bc ku eku san nc cdp aia nocheck``: ``missing``, ``unexpected``, ``mismatch``,
                    ``critical`` (wrong flag); also ``bc.ca``, ``bc.path_length``, ``aki.length``, ``ski.length``,
                    ``san.outside_policy``, ``san.required``,
                    ``san.wildcard_too_wide``; ``outside_issuer``, for ``bc eku san`` and ``subject``: not what
                    every certificate above may sign for (RFC 5280 6.1)
``extension.*``     ``unknown``, ``unknown_critical``
``size.*``          ``too_large``
``pkix.*`` etc.     what pkilint finds, by its own codes (``lint_pkilint.py``, an option)
==================  ==================================================================================================

Every rule is asked about every certificate. Three shortcuts save reading what is known: extensions that are the
expected ones byte for byte are not taken apart; where two builders agreed on the whole TBSCertificate
(``hsm.drafting``), only the rules about values are left to ask; and rules that look at algorithm, issuer and validity
only are not asked about the same bytes twice in a row, since a batch has these in common.
"""

from collections.abc import Callable, Iterator
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from hsm import lint_chain, lint_extensions, lint_fields
from hsm.lint_case import Case, Expected, Finding, IssuerFacts
from hsm.profiles import Profile

__all__ = ["RULES", "Expected", "Finding", "IssuerFacts", "Linter"]

VERSION_3: Final = bytes.fromhex("a003020102")
_TBS_FIELDS: Final = 8

Rule = Callable[[Case], Iterator[Finding]]

_COMMON: Final[tuple[Rule, ...]] = (
    lint_fields.signature,
    lint_fields.issuer,
    lint_fields.times,
    lint_fields.validity,
    lint_chain.issuer_form,
)
"""Rules about what the certificates of a batch have in common; ``_common`` is all that they look at."""

_FORM: Final[tuple[Rule, ...]] = (
    lint_fields.serial,
    lint_fields.subject,
    lint_fields.same_key,
    lint_extensions.known,
    lint_extensions.unknown,
)
_VALUES: Final[tuple[Rule, ...]] = (
    lint_fields.key,
    lint_chain.own_attributes,
    lint_chain.forbidden_texts,
    lint_chain.issuer_subject,
    lint_chain.limits,
    lint_extensions.names,
    lint_extensions.key_identifiers,
    lint_fields.size,
)

_OWN: Final[tuple[Rule, ...]] = (*_FORM, *_VALUES)
"""Rules about what is each certificate's own."""

_AGREED: Final[tuple[Rule, ...]] = (lint_fields.validity, lint_chain.issuer_form, *_VALUES)
"""What is left to ask where two builders agreed."""

RULES: Final[tuple[Rule, ...]] = (*_COMMON, *_FORM, *_VALUES)
"""Every rule."""

Extra = Callable[[x509.Certificate], tuple[Finding, ...]]
"""Another linter, asked when our own rules found nothing."""


class Linter:
    """The rules of one profile under one issuer."""

    def __init__(self, profile: Profile, issuer: IssuerFacts, *, extra: Extra | None = None) -> None:
        """Prepare what is the same for every certificate."""
        self._profile = profile
        self._issuer = issuer
        self._extra = extra
        key_identifier = x509.AuthorityKeyIdentifier(issuer.key_identifier, None, None)
        self._passed: tuple[object, ...] = ()
        self._fixed = {value.oid: value for value in (key_identifier, *(v for v, _ in profile.fixed_extensions()))}

    def check(self, certificate: x509.Certificate, expected: Expected, tbs: bytes | None = None) -> tuple[Finding, ...]:
        """Check the TBSCertificate of a certificate; what stands in the place of its signature does not matter.

        Args:
            certificate: as read from its bytes.
            expected: what it should say.
            tbs: its TBSCertificate, where the caller has asked it already.

        Returns:
            The rules it breaks; none if its TBSCertificate may be signed.
        """
        try:
            tbs = tbs or certificate.tbs_certificate_bytes
            case = Case(certificate, tbs, self._profile, self._fixed, self._issuer, expected)
            found = _ask(_AGREED, case) if tbs == expected.tbs else self._all(case)
            return found or (() if self._extra is None else self._extra(certificate))
        except (ValueError, KeyError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
            # KeyError: pyca/cryptography 45 in names with a string type that it does not know
            return (Finding("der.malformed", f"{type(error).__name__}: {error}"),)

    def _all(self, case: Case) -> tuple[Finding, ...]:
        if case.fields[:1] != (VERSION_3,):  # the fields of other versions stand elsewhere
            return (Finding("version.not_v3", "the certificate is not X.509 version 3"),)
        if len(case.fields) != _TBS_FIELDS:
            return (Finding("der.malformed", f"{len(case.fields)} fields in the TBSCertificate, not {_TBS_FIELDS}"),)
        common = _common(case)
        found = () if common == self._passed else _ask(_COMMON, case)
        if not found:
            self._passed = common
        return found + _ask(_OWN, case)


def _common(case: Case) -> tuple[object, ...]:
    """Return what the rules in ``_COMMON`` look at, but for the linter's own profile and issuer."""
    return (*case.fields[2:5], case.expected.not_before, case.expected.not_after)


def _ask(rules: tuple[Rule, ...], case: Case) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for rule in rules:
        found.extend(rule(case))
    return tuple(found)

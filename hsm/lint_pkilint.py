"""pkilint as a further linter (the extra ``lint``): the PKIX rules that our own don't have, by its own dotted codes.

It looks at the certificate that is to be, with a blank in place of the signature. Errors stop, warnings and notices
don't; a sound wildcard is no error, since our own lint has rules for these. It takes about 2 ms a certificate, so it is
asked after our own rules, and only on demand in a batch.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hsm.errors import LintError
from hsm.lint_case import Finding
from hsm.names import dns_fault

_DNS_SYNTAX: Final = "pkix.invalid_domain_name_syntax"
"""What pkilint calls each wildcard: RFC 5280 knows none in a dNSName, and TLS does (RFC 9525 6.3)."""

ADVICE: Final = "install it with: pip install 'provisioning-station[lint]'"


def is_installed() -> bool:
    """Tell whether pkilint can be used."""
    return find_spec("pkilint") is not None


def findings(certificate: x509.Certificate) -> tuple[Finding, ...]:
    """Return the errors that pkilint finds in a certificate: for ``Authority.open(extra_lint=findings)``.

    Raises:
        LintError: it is not installed (``lint.not_installed``).
    """
    return tuple(
        Finding(code, message)
        for severity, code, message in all_findings(certificate)
        if severity in {"ERROR", "FATAL"}
    )


def all_findings(certificate: x509.Certificate) -> list[tuple[str, str, str]]:
    """Return everything that pkilint finds: severity, code, message.

    Raises:
        LintError: it is not installed.
    """
    load, validator = _pkilint()
    document = load(certificate.public_bytes(Encoding.DER), "certificate")
    return [
        (
            str(description.finding.severity),
            str(description.finding.code),
            f"{result.node.path}: {description.message}" if description.message else str(result.node.path),
        )
        for result in validator.validate(document.root)
        for description in result.finding_descriptions
        if not (str(description.finding.code) == _DNS_SYNTAX and _is_sound_wildcard(str(result.node.pdu)))
    ]


def _is_sound_wildcard(name: str) -> bool:
    return name.startswith("*.") and dns_fault(name, wildcard=True) is None


@cache
def _pkilint() -> tuple[Any, Any]:
    """Prepare pkilint's PKIX rules: its loader, and its validator."""
    try:
        loader = import_module("pkilint.loader")
        certificate, extension, name = (
            import_module(f"pkilint.pkix.{part}") for part in ("certificate", "extension", "name")
        )
    except ImportError as error:
        raise LintError(f"pkilint is not installed; {ADVICE}", code="lint.not_installed") from error
    validator = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
    return loader.RFC5280CertificateDocumentLoader().load_der_document, validator

"""A certificate as people read it, and as programs do."""

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from station.errors import printable

_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)


def facts_of(certificate: x509.Certificate) -> dict[str, object]:
    """Return what a certificate says, by stable names; texts are safe to print."""
    spki = hashes.Hash(hashes.SHA256())
    spki.update(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return {
        "subject": printable(certificate.subject.rfc4514_string()),
        "issuer": printable(certificate.issuer.rfc4514_string()),
        "serial": f"{certificate.serial_number:032x}",
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
        "key": key_name(certificate.public_key()),
        "signature": _oid_name(certificate.signature_algorithm_oid),
        "extensions": [_extension(extension) for extension in certificate.extensions],
        "sha256": certificate.fingerprint(hashes.SHA256()),
        "spki_sha256": spki.finalize(),
    }


def lines_of(facts: dict[str, object]) -> list[tuple[str, str]]:
    """Return the facts as names and values for people."""
    lines: list[tuple[str, str]] = []
    for name, value in facts.items():
        title = name.replace("_", " ")
        if isinstance(value, bytes):
            lines.append((title, value.hex()))
        elif isinstance(value, list):
            texts = [
                f"{entry['name']}{' (critical)' if entry['critical'] else ''}: {entry['value']}" for entry in value
            ]
            lines.append((title, "\n".join(texts) or "none"))
        else:
            lines.append((title, str(value)))
    return lines


def key_name(key: PublicKeyTypes) -> str:
    """Return kind and size of a public key."""
    match key:
        case ec.EllipticCurvePublicKey():
            return f"EC {key.curve.name}"
        case rsa.RSAPublicKey() | dsa.DSAPublicKey():
            return f"{'RSA' if isinstance(key, rsa.RSAPublicKey) else 'DSA'} {key.key_size}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
        case _:
            return type(key).__name__


def _oid_name(oid: x509.ObjectIdentifier) -> str:
    name = oid._name  # noqa: SLF001 (pyca offers the names in no other way)
    return oid.dotted_string if name == "Unknown OID" else name


def _extension(extension: x509.Extension[x509.ExtensionType]) -> dict[str, object]:
    return {
        "name": _oid_name(extension.oid),
        "critical": extension.critical,
        "value": printable(_value(extension.value)),
    }


def _value(value: x509.ExtensionType) -> str:  # noqa: PLR0911 (one a kind of extension)
    match value:
        case x509.BasicConstraints():
            return f"CA {str(value.ca).lower()}" + (
                f", pathlen {value.path_length}" if value.path_length is not None else ""
            )
        case x509.KeyUsage():
            return ", ".join(usage.replace("_", " ") for usage in _USAGES if getattr(value, usage))
        case x509.ExtendedKeyUsage():
            return ", ".join(map(_oid_name, value))
        case x509.SubjectKeyIdentifier():
            return value.digest.hex()
        case x509.AuthorityKeyIdentifier():
            return (value.key_identifier or b"").hex()
        case x509.SubjectAlternativeName():
            return ", ".join(_general_name(name) for name in value)
        case x509.UnrecognizedExtension():
            return value.value.hex()
        case _:
            return repr(value)


def _general_name(name: x509.GeneralName) -> str:
    if isinstance(name, x509.OtherName):
        return f"otherName {name.type_id.dotted_string} {name.value.hex()}"
    return f"{type(name).__name__} {name.value}"

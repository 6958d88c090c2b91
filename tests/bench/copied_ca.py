"""A line's CA made anew with a key that was copied: several tokens hold it, or its certificate ends soon."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import KeyType

from hsm import Signer, TokenUri
from hsm.key_rules import CURVES
from hsm.key_store import KeyFamily
from softhsm import SoftHsm, make_tokens
from station.config.certificates import load_certificate


class CopiedCa:
    """Root and issuing key, in memory too: so that the issuing certificate can be made again."""

    def __init__(self, folder: Path) -> None:
        """Take the certificates of a line's folder as the models."""
        self._ca = folder / "ca"
        self._root = ec.generate_private_key(ec.SECP256R1())
        self.issuing = ec.generate_private_key(ec.SECP256R1())
        root = load_certificate(self._ca / "root.pem")
        self._write(root, self._root.public_key(), root.not_valid_after_utc, "root.pem")

    def issue(self, end: datetime | None = None) -> None:
        """Write the issuing certificate, with another end if one is given."""
        model = load_certificate(self._ca / "intermediate.pem")
        self._write(model, self.issuing.public_key(), end or model.not_valid_after_utc, "intermediate.pem")

    def _write(self, model: x509.Certificate, public: ec.EllipticCurvePublicKey, end: datetime, name: str) -> None:
        made = x509.CertificateBuilder().subject_name(model.subject).issuer_name(model.issuer).public_key(public)
        made = made.serial_number(model.serial_number).not_valid_before(model.not_valid_before_utc).not_valid_after(end)
        for extension in model.extensions:
            value = extension.value
            if isinstance(value, x509.SubjectKeyIdentifier):
                value = x509.SubjectKeyIdentifier.from_public_key(public)
            if isinstance(value, x509.AuthorityKeyIdentifier):
                value = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._root.public_key())
            made = made.add_extension(value, extension.critical)
        (self._ca / name).write_bytes(made.sign(self._root, hashes.SHA256()).public_bytes(Encoding.PEM))


def with_copied_ca(folder: Path, labels: Sequence[str], end: datetime | None = None) -> CopiedCa:
    """Give a line of ``station init --softhsm`` such a CA.

    Args:
        folder: of the line.
        labels: of the tokens that hold the key, the line's own first; what is not there is made.
        end: of the issuing certificate; as it was if left out.
    """
    softhsm, ca = make_tokens(folder / "tokens", labels), CopiedCa(folder)
    for label in labels:
        _copy_key(softhsm, label, ca.issuing)
    ca.issue(end)
    path = folder / "station.toml"
    spares = ", ".join(f'"{softhsm.uri(label)}"' for label in labels[1:])
    said = f"[ca]\nbacked_up = true\ntokens = [{spares}]\n"
    path.write_text(path.read_text().replace("[ca]\n", said, 1))
    return ca


def _copy_key(softhsm: SoftHsm, label: str, key: ec.EllipticCurvePrivateKey) -> None:
    """Put a key into a token, as a ceremony's copy would be there."""
    point = bytes((4, 65)) + key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    common = {Attribute.KEY_TYPE: KeyType.EC, Attribute.EC_PARAMS: CURVES[KeyFamily.P256], Attribute.ID: b"copied"}
    common |= {Attribute.TOKEN: True, Attribute.LABEL: "copied"}
    private = {
        Attribute.CLASS: ObjectClass.PRIVATE_KEY,
        Attribute.VALUE: key.private_numbers().private_value.to_bytes(32),
        **dict.fromkeys((Attribute.SENSITIVE, Attribute.PRIVATE, Attribute.SIGN), True),
        Attribute.EXTRACTABLE: False,
        **dict.fromkeys((Attribute.DECRYPT, Attribute.UNWRAP, Attribute.DERIVE, Attribute.SIGN_RECOVER), False),
    }
    public = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.EC_POINT: point, Attribute.VERIFY: True}
    with Signer.open(TokenUri.parse(softhsm.uri(label)), environment=softhsm.environment, writable=True) as signer:
        signer.call_blocking(lambda session: [session.create_object(common | half) for half in (private, public)])

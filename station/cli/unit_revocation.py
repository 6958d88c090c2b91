"""What the CA's journal says of a unit's certificates: ``station unit show`` tells it beside the manifest."""

from collections.abc import Mapping, Sequence

from cryptography.x509 import Certificate

from hsm.errors import JournalError
from hsm.journal import JournalReader
from hsm.revocation import Act, Standing, revoker_of, standing
from station.config import Config
from station.crl_places import issuers_of, names_issuer
from station.errors import ConfigError
from station.manifest import IssuanceRecord


def standings_of(config: Config, issuances: Sequence[IssuanceRecord]) -> Mapping[int, Standing]:
    """Return what was done to certificates, by serial number; nothing where there is no CA here, as with a copy."""
    if not config.ca.journal.exists():
        return {}
    try:
        issuers = issuers_of(config)
        with JournalReader(config.ca.journal) as reader:
            return {
                one.certificate_serial: found
                for one in issuances
                if (issuer := _issuer(one, issuers)) is not None
                and (found := standing(reader, revoker_of(issuer), one.certificate_serial)) is not None
            }
    except (ConfigError, JournalError):
        return {}


def _issuer(issuance: IssuanceRecord, issuers: Sequence[Certificate]) -> Certificate | None:
    return next((one for one in issuers if names_issuer(one) in issuance.tbs), None)


def sentence(found: Standing) -> str:
    """Say what was done to a certificate."""
    since = f"since {found.revoked_at:%Y-%m-%d %H:%M:%S}Z"
    match found.act:
        case Act.REVOKE:
            return f"revoked  {since}: {found.reason.text}"
        case Act.HOLD:
            return f"on hold  {since}; 'station ca release' ends that"
        case _:
            return f"good     released from a hold that began {since.removeprefix('since ')}"


def facts_of(found: Standing | None) -> dict[str, object] | None:
    """Return the same for programs."""
    if found is None:
        return None
    return {"act": found.act, "reason": found.reason.text, "since": f"{found.revoked_at:%Y-%m-%dT%H:%M:%SZ}"}

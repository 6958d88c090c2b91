"""From the bytes of an SMP response to a typed one, or to an error that says what is wrong with it.

The bytes come from a board that may be broken or hostile: CBOR is decoded with bounded depth, without duplicate keys
and without tags (some of which cost memory without bound), and each value has to be of the very type that the protocol
names, since pydantic would turn ``"1"`` into 1 and a text into bytes. Maps of indefinite length are fine: Zephyr's
encoder writes them.
"""

from collections.abc import Mapping
from typing import Any, Final

from smp.error import MGMT_ERR
from smp.header import Header
from smpclient.generics import SMPRequest, TEr1, TEr2, TRep

from firmware_tools import provisioning_group as group
from firmware_tools import strict_cbor
from firmware_tools.provisioning_group import ProvisioningError
from station.errors import DeviceError, Garbled

CBOR_DEPTH: Final = 4
"""Containers within containers; our group needs one, image lists need three."""

_OWN_FIELDS: Final = frozenset({"header", "version", "sequence", "smp_data"})
"""Fields of the message classes of ``smp`` that do not come out of the map."""

_RED_BIN: Final = "Put the board into the red bin."
_AGAIN: Final = "Reseat the board; if it fails twice, put it into the red bin."
_ENGINEER: Final = "Call the line engineer."

REFUSALS: Final[Mapping[ProvisioningError, tuple[str, str]]] = {
    ProvisioningError.UNKNOWN: ("an unknown error", _AGAIN),
    ProvisioningError.BAD_REQUEST: ("it does not accept the request", _ENGINEER),
    ProvisioningError.WRONG_STATE: ("it is not in a state for that", _AGAIN),
    ProvisioningError.BAD_OFFSET: ("it expects another offset", _AGAIN),
    ProvisioningError.TOO_LARGE: ("it has no room for that many bytes", _ENGINEER),
    ProvisioningError.DIGEST_MISMATCH: ("the bytes it got have another SHA-256", _AGAIN),
    ProvisioningError.CHAIN_MALFORMED: ("the chain is no row of certificates to it", _ENGINEER),
    ProvisioningError.WRONG_KEY: ("the certificate is not for its key", _RED_BIN),
    ProvisioningError.BROKEN_LINK: ("a certificate is not signed by the next one", _ENGINEER),
    ProvisioningError.IS_LOCKED: ("its credential slot is locked", _RED_BIN),
    ProvisioningError.STORAGE: ("it could not write its storage", _RED_BIN),
    ProvisioningError.CRYPTO: ("its cryptography failed", _RED_BIN),
}
"""What a return code of the provisioning group means, and the operator's next move."""

_NOT_OURS: Final = frozenset({MGMT_ERR.ENOTSUP, MGMT_ERR.ENOENT})
"""Return codes of a board whose firmware lacks the group."""


def malformed(field: str, value: object) -> DeviceError:
    """Make the error for a field that is not what the protocol allows."""
    return DeviceError(
        f"the board's answer has a bad {field}: {value!r}",
        code="device.malformed",
        operator="The board gives answers that make no sense. Check its type; if it is right, put it into the red bin.",
        field=field,
        got=value,
    )


def parse(request: SMPRequest[TRep, TEr1, TEr2], message: bytes) -> TRep:
    """Return the typed response of a message that answers ``request``.

    Args:
        request: what was asked.
        message: header and map; the header is known to answer the request.

    Raises:
        Garbled: the map is not CBOR, or not a map.
        DeviceError: ``device.malformed``, or the board's return code.
    """
    body = _decode(message[Header.SIZE :])
    _raise_refusal(body)
    model = request._Response  # noqa: SLF001  smp's name for the response class of a request
    if issubclass(model, group.IdentResponse):
        _check_version(body)
    try:
        header = Header.loads(message[: Header.SIZE])
        fields = {name: body[name] for name in model.model_fields if name in body and name not in _OWN_FIELDS}
        response = model(header=header, version=header.version, smp_data=message, **fields)
    except (ValueError, TypeError) as error:  # pydantic's ValidationError is a ValueError
        raise malformed("field", body) from error
    for name, raw in fields.items():
        value = getattr(response, name)
        if raw != value or type(raw) is not _wire_type(value):
            raise malformed(name, raw)
    return response


def _wire_type(value: object) -> type:
    """Return what CBOR makes of a field: an enum is a number on the wire."""
    return int if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _decode(data: bytes) -> dict[str, Any]:
    try:
        body = strict_cbor.decode(data, depth=CBOR_DEPTH)
    except ValueError as error:
        raise Garbled(f"the board's answer is not CBOR: {error}", got=data) from error
    if not isinstance(body, dict):
        raise Garbled("the board's answer is CBOR, but not a map", got=data)
    return body


def _check_version(body: Mapping[str, Any]) -> None:
    """Refuse another protocol before its other fields are looked at: they may have changed as well."""
    version = body.get("v")
    if type(version) is not int:
        raise malformed("v", version)
    if version != group.PROTOCOL_VERSION:
        raise DeviceError(
            f"the board speaks version {version} of the provisioning protocol; this station speaks"
            f" {group.PROTOCOL_VERSION}: update the {'station' if version > group.PROTOCOL_VERSION else 'firmware'}",
            code="device.protocol_version",
            operator=_ENGINEER,
            expected=group.PROTOCOL_VERSION,
            got=version,
        )


def _raise_refusal(body: Mapping[str, Any]) -> None:
    """Raise what the board reports: ``{err: {group, rc}}`` (SMP version 2) or ``{rc}`` (version 1)."""
    error = body.get("err")
    if error is not None:
        code, where = (error.get("rc"), error.get("group")) if isinstance(error, dict) else (None, None)
        if type(code) is not int or type(where) is not int:
            raise malformed("err", error)
        if where == group.GROUP:
            _raise_group_code(code)
        elif code:
            raise DeviceError(f"the board refuses: code {code} of group {where}", code="device.refused", rc=code)
    code = body.get("rc")
    if code is not None:
        if type(code) is not int:
            raise malformed("rc", code)
        _raise_smp_code(code)


def _raise_group_code(code: int) -> None:
    try:
        known = ProvisioningError(code)
    except ValueError:
        raise DeviceError(f"the board refuses with the unknown code {code}", code="device.refused", rc=code) from None
    if known is not ProvisioningError.OK:
        meaning, operator = REFUSALS[known]
        raise DeviceError(
            f"the board refuses: {meaning} ({known.name})",
            code=f"device.{known.name.lower()}",
            operator=operator,
            rc=code,
        )


def _raise_smp_code(code: int) -> None:
    """A code of SMP itself. 0 is success: MCUboot sends it with every answer."""
    if code == MGMT_ERR.EOK:
        return
    try:
        known = MGMT_ERR(code)
    except ValueError:
        raise DeviceError(f"the board refuses with the unknown code {code}", code="device.refused", rc=code) from None
    if known in _NOT_OURS:
        raise DeviceError(
            f"the board's firmware does not know the command ({known.name})",
            code=f"device.{known.name.lower()}",
            operator="This board runs a firmware that can't be provisioned. Put it aside and call the line engineer.",
            rc=code,
        )
    raise DeviceError(f"the board refuses: {known.name}", code=f"device.{known.name.lower()}", operator=_AGAIN, rc=code)

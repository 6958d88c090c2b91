"""The provisioning group of SMP, as Python types.

SMP (the Simple Management Protocol of Zephyr, Mynewt and MCUboot) leaves group numbers from 64 up to its users. Group
80 is ours: with it a device makes a key, hands out a certificate signing request, takes a certificate chain, and proves
that it holds the key. ``docs/protocol.md`` tells the same for the person who writes the device side.

=======  =====  =====  ===========================================  ==================================================
command  op     name   request                                      response
=======  =====  =====  ===========================================  ==================================================
0        read   ident  ``{}``                                       ``{v, hw, model, fw, img, st, buf, ?leaf}``
1        write  csr    ``{off}``                                    ``{len, off, data}``
2        write  chain  ``{off, data, ?len, ?sha}``                  ``{off}``
2        read   chain  ``{off, ?max}``                              ``{len, off, data, ?sha}``
3        write  prove  ``{nonce}``                                  ``{sig}``
4        write  lock   ``{locks}``                                  ``{locks}``
4        read   lock   ``{}``                                       ``{locks}``
=======  =====  =====  ===========================================  ==================================================

Every command may be repeated: asking twice changes nothing that asking once did not. Offsets and lengths are in bytes
of the object that is transferred (the CSR in DER; the chain as certificates in DER, leaf first, one after the other).
"""

from enum import IntEnum, unique
from typing import Final

from pydantic import ConfigDict
from smp import error, message

from firmware_tools.provisioning import DeviceState, Locks

GROUP: Final = 80
"""The group number. 0 to 63 belong to the SMP specification, 64 and up to users."""

PROTOCOL_VERSION: Final = 1
"""What ``ident`` answers as ``v``. A station refuses a device with another one."""


@unique
class Command(IntEnum):
    """The commands of the group."""

    IDENT = 0
    CSR = 1
    CHAIN = 2
    PROVE = 3
    LOCK = 4


@unique
class ProvisioningError(IntEnum):
    """Return codes of the group."""

    OK = 0
    UNKNOWN = 1
    BAD_REQUEST = 2
    """The request is malformed, or a value is out of its range."""
    WRONG_STATE = 3
    """Not in this state: no key yet, or no chain yet."""
    BAD_OFFSET = 4
    """Not the offset that comes next; start again at 0."""
    TOO_LARGE = 5
    """More bytes than the device has room for."""
    DIGEST_MISMATCH = 6
    """The bytes received do not have the SHA-256 that was announced."""
    CHAIN_MALFORMED = 7
    """The chain is not a row of X.509 certificates in DER."""
    WRONG_KEY = 8
    """The leaf is not for the key of this device."""
    BROKEN_LINK = 9
    """A certificate is not signed by the one that follows it."""
    IS_LOCKED = 10
    """The credential slot is locked."""
    STORAGE = 11
    """The device could not write its storage."""
    CRYPTO = 12
    """The device's cryptography failed."""


class _Tolerant(message.Response):
    """A response that may carry keys we do not know: a newer device still works."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    _GROUP_ID = GROUP


class ErrorV1(error.ErrorV1):
    """An error as SMP version 1 reports it."""

    _GROUP_ID = GROUP


class ErrorV2(error.ErrorV2[ProvisioningError]):
    """An error as SMP version 2 reports it."""

    _GROUP_ID = GROUP


class _Errors:
    _ErrorV1 = ErrorV1
    _ErrorV2 = ErrorV2


class IdentResponse(message.ReadResponse, _Tolerant):
    """Who the device is and how far it has come."""

    _COMMAND_ID = Command.IDENT

    v: int
    """Protocol version."""
    hw: str
    """Hardware id."""
    model: str
    """Product model the firmware is built for."""
    fw: str
    """Version of the firmware that runs."""
    img: bytes
    """SHA-256 of the firmware image that runs."""
    st: DeviceState
    """State."""
    buf: int
    """Largest SMP message in bytes, header included, that the device can take."""
    leaf: bytes | None = None
    """SHA-256 of the stored leaf certificate (DER), once there is one."""


class IdentRead(_Errors, message.ReadRequest):
    """Ask who the device is."""

    _GROUP_ID = GROUP
    _COMMAND_ID = Command.IDENT
    _Response = IdentResponse


class CsrResponse(message.WriteResponse, _Tolerant):
    """A piece of the CSR."""

    _COMMAND_ID = Command.CSR

    len: int
    """Bytes in the whole CSR."""
    off: int
    """Where this piece stands."""
    data: bytes
    """The piece."""


class CsrWrite(_Errors, message.WriteRequest):
    """Make a key if there is none, and hand out the CSR from ``off`` on."""

    _GROUP_ID = GROUP
    _COMMAND_ID = Command.CSR
    _Response = CsrResponse

    off: int
    """The first byte wanted."""


class ChainWriteResponse(message.WriteResponse, _Tolerant):
    """How much of the chain has arrived."""

    _COMMAND_ID = Command.CHAIN

    off: int
    """The next offset wanted. Equal to the length: the chain is checked and stored."""


class ChainWrite(_Errors, message.WriteRequest):
    """Hand over a piece of the chain. The last piece checks it and stores it in one go."""

    _GROUP_ID = GROUP
    _COMMAND_ID = Command.CHAIN
    _Response = ChainWriteResponse

    off: int
    """Where this piece stands; 0 begins anew."""
    data: bytes
    """The piece."""
    len: int | None = None
    """Bytes in the whole chain; with ``off`` 0 only."""
    sha: bytes | None = None
    """SHA-256 of the whole chain; with ``off`` 0 only."""


class ChainReadResponse(message.ReadResponse, _Tolerant):
    """A piece of the chain, read from storage."""

    _COMMAND_ID = Command.CHAIN

    len: int
    """Bytes in the whole chain."""
    off: int
    """Where this piece stands."""
    data: bytes
    """The piece."""
    sha: bytes | None = None
    """SHA-256 over the whole chain as it stands in storage; with ``off`` 0 only."""


class ChainRead(_Errors, message.ReadRequest):
    """Read the stored chain from ``off`` on."""

    _GROUP_ID = GROUP
    _COMMAND_ID = Command.CHAIN
    _Response = ChainReadResponse

    off: int
    """The first byte wanted."""
    max: int | None = None
    """At most so many bytes: who needs the leaf only does not pay for the rest on a slow wire."""


class ProveResponse(message.WriteResponse, _Tolerant):
    """The proof of possession."""

    _COMMAND_ID = Command.PROVE

    sig: bytes
    """ECDSA-Sig-Value in DER (RFC 3279 2.2.3), SHA-256, over ``PROOF_DOMAIN || nonce || SHA-256(leaf DER)``."""


class ProveWrite(_Errors, message.WriteRequest):
    """Ask for a signature over a fresh challenge, made with the key of the installed certificate."""

    _GROUP_ID = GROUP
    _COMMAND_ID = Command.PROVE
    _Response = ProveResponse

    nonce: bytes
    """32 fresh random bytes."""


class LockWriteResponse(message.WriteResponse, _Tolerant):
    """What is locked now."""

    _COMMAND_ID = Command.LOCK

    locks: Locks
    """Observed after the change."""


class LockWrite(_Errors, message.WriteRequest):
    """Close locks for good."""

    _GROUP_ID = GROUP
    _COMMAND_ID = Command.LOCK
    _Response = LockWriteResponse

    locks: Locks
    """Those to close; the others stay as they are."""


class LockReadResponse(message.ReadResponse, _Tolerant):
    """What is locked."""

    _COMMAND_ID = Command.LOCK

    locks: Locks
    """As observed."""


class LockRead(_Errors, message.ReadRequest):
    """Ask what is locked."""

    _GROUP_ID = GROUP
    _COMMAND_ID = Command.LOCK
    _Response = LockReadResponse

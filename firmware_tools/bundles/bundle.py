"""A firmware bundle: one file with all that a board of a product gets, signed by a release key.

::

    bundle.toml       what it is and what goes where (``manifest.py``); its SHA-256 is the bundle's digest
    signature.json    signatures over bundle.toml (``release_signature.py``); a bundle may wait for them
    <images>          as bundle.toml names them, with their digests

It is a zip (``archive.py``). An order names the digest, so a bundle that is zipped again, or gets one signature
more, stays the same bundle. A ``Bundle`` exists only if all of it was checked; ``Contents`` is one whose signatures
were not.

Codes of ``BundleError``: ``bundle.unreadable`` (the file), ``bundle.not_zip``, ``bundle.member`` (a name, link, cipher
or double), ``bundle.too_large``, ``bundle.manifest``, ``bundle.missing_image``, ``bundle.digest``, ``bundle.image`` (an
image is not what the plan says), ``bundle.unsigned``, ``bundle.signature``, ``bundle.signed_before``.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from firmware_tools.bundles.archive import read_members, zipped
from firmware_tools.bundles.flasher_options import lock_fault, options_fault
from firmware_tools.bundles.manifest import BundleManifest, ImageEntry, LockStep, UnitFile, with_images
from firmware_tools.bundles.manifest_toml import read_manifest, write_manifest
from firmware_tools.bundles.release_signature import (
    PublicKey,
    ReleaseSignature,
    key_id,
    read_signatures,
    signers,
    write_signatures,
)
from firmware_tools.errors import BundleError, UnitFileError
from firmware_tools.flashers import FlasherKind, Payload, Placed
from firmware_tools.image_kinds import check_image
from firmware_tools.mcuboot_image import is_mcuboot, read_mcuboot
from firmware_tools.unit_files import check_unit_file
from firmware_tools.version import Version

__all__ = [
    "Bundle",
    "BundleError",
    "BundleManifest",
    "Contents",
    "LockStep",
    "PublicKey",
    "UnitFile",
    "Version",
    "key_id",
    "pack",
    "read_contents",
]

MANIFEST: Final = "bundle.toml"
SIGNATURE: Final = "signature.json"

_SUFFIX: Final = re.compile(r"\.[0-9A-Za-z]{1,8}$")


@dataclass(frozen=True, slots=True)
class Contents:
    """A bundle whose parts fit together; who signed it was not looked at."""

    manifest: BundleManifest
    manifest_bytes: bytes = field(repr=False)
    payload: Payload = field(repr=False)
    signatures: tuple[ReleaseSignature, ...] = ()

    @property
    def digest(self) -> bytes:
        """SHA-256 of ``bundle.toml``: what an order names; 32 bytes."""
        return hashlib.sha256(self.manifest_bytes).digest()

    def signed(self, signature: ReleaseSignature) -> "Contents":
        """Return it with one signature more."""
        return replace(self, signatures=(*self.signatures, signature))

    def packed(self) -> bytes:
        """Return the bundle's file."""
        members = {MANIFEST: self.manifest_bytes}
        if self.signatures:
            members[SIGNATURE] = write_signatures(self.signatures)
        contents = {placed.name: placed.content for placed in self.payload.images}
        return zipped(members | {image.file: contents[image.name] for image in self.manifest.images})


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was verified whole; made by ``Bundle.open`` and ``Bundle.of`` only."""

    contents: Contents
    signers: tuple[str, ...]
    """Ids of the release keys that signed it (``key_id``)."""

    @classmethod
    def open(cls, path: Path, keys: Sequence[PublicKey]) -> "Bundle":
        """Read a bundle and verify all of it: every digest, and a signature by one of the keys.

        Args:
            path: the file; read in memory (at most 64 MiB), nothing is unpacked to a disk.
            keys: release keys that are trusted.

        Raises:
            BundleError: it can't be used; the module lists the codes.
        """
        return cls.of(read_contents(path), keys, name=str(path))

    @classmethod
    def of(cls, contents: Contents, keys: Sequence[PublicKey], *, name: str = "the bundle") -> "Bundle":
        """Verify the signatures of contents; see ``open``."""
        found = signers(contents.signatures, contents.manifest_bytes, keys)
        if not contents.signatures:
            raise BundleError(
                f"{name}: nobody signed this bundle; sign it with 'station firmware sign'", code="bundle.unsigned"
            )
        if not found:
            said = ", ".join(f"{one.kid[:16]}…" if one.kid.isalnum() else "?" for one in contents.signatures)
            wanted = ", ".join(f"{key_id(key)[:16]}…" for key in keys) or "none"
            raise BundleError(
                f"{name}: no signature verifies with a trusted release key ({wanted}; it says it is signed by {said}): "
                "the bundle was changed, or somebody else signed it",
                code="bundle.signature",
                operator="The firmware bundle is not genuine. Call the security officer.",
            )
        return cls(contents, found)

    @property
    def product(self) -> str:
        """Model that it is for."""
        return self.contents.manifest.product

    @property
    def version(self) -> Version:
        """Of the firmware."""
        return self.contents.manifest.version

    @property
    def digest(self) -> bytes:
        """SHA-256 of ``bundle.toml``: what an order names; 32 bytes."""
        return self.contents.digest

    @property
    def payload(self) -> Payload:
        """What a board has to hold, the data of one unit aside."""
        return self.contents.payload

    @property
    def minimum_bootloader(self) -> Version | None:
        """The oldest bootloader that takes it."""
        return self.contents.manifest.minimum_bootloader

    @property
    def lock_plan(self) -> tuple[LockStep, ...]:
        """Steps of the lock-down, in their order."""
        return self.contents.manifest.lock_plan

    @property
    def unit_files(self) -> tuple[UnitFile, ...]:
        """Files that are made for each unit (``firmware_tools.unit_files``)."""
        return self.contents.manifest.unit_files


def read_contents(path: Path) -> Contents:
    """Read a bundle and check all of it but who signed it.

    Raises:
        BundleError: as ``Bundle.open``.
    """
    return contents_of(read_members(path), str(path))


def contents_of(members: Mapping[str, bytes], name: str) -> Contents:
    """Do as ``read_contents`` with the members of the zip."""
    if MANIFEST not in members:
        raise BundleError(f"{name}: there is no {MANIFEST} in it, so it is no firmware bundle", code="bundle.manifest")
    manifest_bytes = members[MANIFEST]
    manifest = read_manifest(manifest_bytes, name=f"{name}: {MANIFEST}")
    _check_details(manifest, name)
    files = {image.file for image in manifest.images}
    for file in files - members.keys():
        raise BundleError(f"{name}: image {file} is missing; ask for the bundle again", code="bundle.missing_image")
    for file in members.keys() - files - {MANIFEST, SIGNATURE}:
        raise BundleError(f"{name}: {MANIFEST} does not name {file}, which is in it", code="bundle.member")
    placed = tuple(_placed(image, members[image.file], name) for image in manifest.images)
    _check_images(manifest, placed, name)
    signatures = read_signatures(members[SIGNATURE]) if SIGNATURE in members else ()
    return Contents(manifest, manifest_bytes, _payload(manifest, placed), signatures)


def pack(plan: bytes, read: Callable[[str], bytes], *, name: str = "the plan") -> Contents:
    """Make a bundle that nobody has signed yet.

    Args:
        plan: TOML, see ``read_manifest``.
        read: returns the content of the file that an image names; may raise OSError.
        name: how the plan is named in complaints.

    Raises:
        BundleError: the plan can't be used, or an image is not what it says.
        OSError: from ``read``.
    """
    wanted = read_manifest(plan, name=name, is_plan=True)
    _check_details(wanted, name)
    entries, placed = [], []
    for image in wanted.images:
        content = read(image.file)
        entry = replace(
            image,
            file=f"{image.name}{suffix[0] if (suffix := _SUFFIX.search(image.file)) else ''}",
            size=image.size or len(content),
            sha256=image.sha256 or hashlib.sha256(content).digest(),
        )
        entries.append(entry)
        placed.append(_placed(entry, content, name))
    _check_images(wanted, tuple(placed), name)
    manifest = with_images(wanted, tuple(entries), _running(wanted, placed))
    content = write_manifest(manifest)
    return contents_of(
        {MANIFEST: content} | dict(zip((one.file for one in entries), (one.content for one in placed), strict=True)),
        name,
    )


def _placed(image: ImageEntry, content: bytes, name: str) -> Placed:
    sha256 = hashlib.sha256(content).digest()
    if not content:
        raise BundleError(f"{name}: image {image.file} is empty", code="bundle.image")
    if len(content) != image.size or sha256 != image.sha256:
        raise BundleError(
            f"{name}: image {image.file} is not what {MANIFEST} lists ({len(content)} bytes, SHA-256 "
            f"{sha256.hex()[:16]}…, instead of {image.size} and {(image.sha256 or b'').hex()[:16]}…); ask for the "
            "bundle again",
            code="bundle.digest",
        )
    return Placed(image.name, content, image.address, sha256)


def _check_images(manifest: BundleManifest, placed: Sequence[Placed], name: str) -> None:
    for image in placed:
        if (fault := check_image(manifest.kind, manifest.chip, image)) is not None:
            raise BundleError(f"{name}: image {image.name!r} {fault}", code="bundle.image")
    for image in placed:
        is_told = manifest.running is not None and image.address == 0 and is_mcuboot(image.content)
        if is_told and read_mcuboot(image.content).sha256 != manifest.running:
            raise BundleError(
                f"{name}: 'running' is not the hash in the trailer of image {image.name!r}", code="bundle.image"
            )


def _check_details(manifest: BundleManifest, name: str) -> None:
    """Refuse what a flasher, or the first unit, would stumble over."""
    if (fault := options_fault(manifest.kind, manifest.options)) is not None:
        raise BundleError(f"{name}: {fault}", code="bundle.manifest")
    for step in manifest.lock_plan:
        if (fault := lock_fault(step)) is not None:
            raise BundleError(f"{name}: [[lock]] {step.name!r}: {fault}", code="bundle.manifest")
    try:
        for unit_file in manifest.unit_files:
            check_unit_file(unit_file)
    except UnitFileError as error:
        raise BundleError(f"{name}: {error}", code="bundle.manifest") from None


def _running(manifest: BundleManifest, placed: Sequence[Placed]) -> bytes | None:
    """Find what a board says of itself that runs the bundle's first image."""
    if manifest.running is not None or manifest.kind is not FlasherKind.SMP:
        return manifest.running
    first = next((image for image in placed if image.address == 0), None)
    return read_mcuboot(first.content).sha256 if first is not None else None


def _payload(manifest: BundleManifest, placed: tuple[Placed, ...]) -> Payload:
    minimum = manifest.minimum_bootloader
    return Payload(
        kind=manifest.kind,
        chip=manifest.chip,
        version=str(manifest.version),
        images=placed,
        running=manifest.running,
        minimum_bootloader=None if minimum is None else str(minimum),
        options=manifest.options,
    )

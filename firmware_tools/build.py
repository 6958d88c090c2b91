"""Builds the reference device: for this machine, and for an emulated microcontroller.

``build_device`` and ``build_firmware`` run ``reference_device/Makefile`` in a folder of its own for each variant. They
may be called by many processes at once (pytest workers): one builds, the others wait, and who comes later finds what
was built as it is. A build is made anew when a source file, the compiler, the library or an option has changed.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firmware_tools.errors import BuildError, SourceMissing, ToolMissing

__all__ = ["SOURCE", "Firmware", "build_device", "build_firmware", "fetch_mbedtls", "system_mbedtls_version"]

SOURCE: Final = Path(__file__).parent / "reference_device"
"""The C sources."""

PROGRAM: Final = "reference-device"

_OUT: Final = "out"
"""Where make puts things, in the folder of a variant."""

CROSS_COMPILER: Final = "arm-none-eabi-gcc"

PACKAGES: Final = "gcc make libmbedtls-dev"
"""What a build needs, by the names of Debian and Ubuntu."""

_FETCH: Final = SOURCE / "fetch-mbedtls-3.6.sh"


CROSS_PACKAGES: Final = "make gcc-arm-none-eabi libnewlib-arm-none-eabi"
"""What firmware for an emulated microcontroller needs."""


@dataclass(frozen=True, slots=True)
class Firmware:
    """What runs on an emulated microcontroller."""

    bootloader: Path
    """ELF file, for QEMU."""
    application: Path
    """Unsigned and without a header, as ``imgtool sign --pad-header`` takes it."""
    header_size: int = 0x200
    """Bytes that the header of the signed image has to take: the application is linked to lie behind it."""
    slot_size: int = 0x40000
    """Bytes of a slot: a signed image has to fit."""
    align: int = 8
    """Bytes that the flash programs at once."""


def build_device(
    build_dir: Path,
    *,
    mbedtls_source: Path | None = None,
    sanitize: bool = False,
    legacy_csr: bool = False,
    test_entropy: bool = False,
) -> Path:
    """Build the reference device, unless that was done before.

    Args:
        build_dir: folder for all builds; each variant gets a folder in it.
        mbedtls_source: source tree of Mbed TLS 3.6 to build against; None: the system's library.
        sanitize: with the address and undefined behaviour sanitizers, in the device and in ``mbedtls_source``.
        legacy_csr: with the CSR writer of Mbed TLS 2.28, for testing stations.
        test_entropy: a fixed sequence in place of randomness: every device makes the same key. For documents only.

    Returns:
        The program.

    Raises:
        ToolMissing: no compiler, no make, or no Mbed TLS.
        SourceMissing: ``mbedtls_source`` is no source tree of Mbed TLS.
        BuildError: the compiler refuses, or the folder can't be made.
    """
    for tool in ("cc", "make"):
        if shutil.which(tool) is None:
            raise ToolMissing(f"{tool} is missing: apt-get install {PACKAGES}", tool=tool)
    if mbedtls_source is not None and not (mbedtls_source / "library" / "ecp.c").is_file():
        raise SourceMissing(f"{mbedtls_source} is no source tree of Mbed TLS: run {_FETCH}", path=mbedtls_source)
    options = {"SANITIZE": sanitize, "LEGACY_CSR": legacy_csr, "TEST_ENTROPY": test_entropy}
    named = [name.lower().replace("_", "-") for name, wanted in options.items() if wanted]
    variant = "-".join(["mbedtls-source" if mbedtls_source else "mbedtls-system", *named])
    arguments = [f"{name}=1" for name, wanted in options.items() if wanted]
    return _build(build_dir, variant, arguments, mbedtls_source, compiler="cc", made=[PROGRAM])[0]


def build_firmware(build_dir: Path, *, machine: str = "ast1030", mbedtls_source: Path | None = None) -> Firmware:
    """Build bootloader and application for a microcontroller, unless that was done before.

    Args:
        build_dir: as for ``build_device``.
        machine: a folder in ``reference_device/port`` that has a ``machine.mk``.
        mbedtls_source: source tree of Mbed TLS 3.6; None: fetched, see ``fetch_mbedtls``.

    Raises:
        ToolMissing: no cross compiler, or no make.
        SourceMissing: the source of Mbed TLS can't be fetched, or there is no such machine.
        BuildError: the compiler refuses.
    """
    makefile = SOURCE / "port" / machine / "machine.mk"
    if not makefile.is_file():
        raise SourceMissing(f"there is no firmware for the machine {machine!r}", path=makefile)
    for tool in (CROSS_COMPILER, "make"):
        if shutil.which(tool) is None:
            raise ToolMissing(f"{tool} is missing: apt-get install {CROSS_PACKAGES}", tool=tool)
    source = fetch_mbedtls(build_dir) if mbedtls_source is None else mbedtls_source
    made = ["bootloader.elf", "application.bin"]
    arguments = [f"MACHINE={machine}"]
    bootloader, application = _build(build_dir, machine, arguments, source, compiler=CROSS_COMPILER, made=made)
    return Firmware(bootloader, application)


def _build(  # noqa: PLR0913 - what tells one build from another
    build_dir: Path,
    variant: str,
    arguments: list[str],
    mbedtls_source: Path | None,
    *,
    compiler: str,
    made: list[str],
) -> list[Path]:
    """Run make in the folder of a variant, unless what it makes is there and up to date; return what it made."""
    # The sources' own path is part of the name: two checkouts that share a build folder do not undo each other's work.
    place = hashlib.sha256(f"{SOURCE}\0{mbedtls_source}".encode()).hexdigest()[:8]
    folder = build_dir.resolve() / "reference-device" / f"{variant}-{place}"
    _make_folder(folder)
    with _locked(folder / "lock"):
        digest = _digest(mbedtls_source, compiler)
        stamp = folder / "digest"
        results = [folder / _OUT / name for name in made]
        if stamp.is_file() and stamp.read_text() == digest and all(path.is_file() for path in results):
            return results
        _clear(folder)
        arguments = [f"BUILD={_OUT}", *arguments]
        # make gets names for folders: a path in a Makefile can't have blanks, quotes or dollars.
        (folder / "device").symlink_to(SOURCE)
        if mbedtls_source is not None:
            (folder / "mbedtls").symlink_to(mbedtls_source.resolve())
            arguments.append("MBEDTLS=mbedtls")
        _make(folder, arguments)
        stamp.write_text(digest)
    return results


def _make_folder(folder: Path) -> None:
    """Make a folder to build in.

    Raises:
        BuildError: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"{folder} can't be made ({error.strerror}): name another folder") from error


def fetch_mbedtls(build_dir: Path) -> Path:
    """Fetch the source of Mbed TLS 3.6 into ``build_dir/mbedtls-3.6``, unless it is there.

    Raises:
        BuildError: the folder can't be made.
        SourceMissing: it can't be fetched; the message says why.
    """
    target = build_dir.resolve() / "mbedtls-3.6"
    _make_folder(target.parent)
    with _locked(target.parent / "mbedtls-3.6.lock"):
        done = subprocess.run(["sh", _FETCH, target], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise SourceMissing(f"Mbed TLS 3.6 can't be fetched: {reason}", path=target)
    return target


def system_mbedtls_version() -> tuple[int, int, int]:
    """Return the version of the Mbed TLS that the system's compiler finds.

    Raises:
        ToolMissing: there is no compiler, or no Mbed TLS.
    """
    source = "#include <mbedtls/version.h>\nMBEDTLS_VERSION_MAJOR MBEDTLS_VERSION_MINOR MBEDTLS_VERSION_PATCH\n"
    try:
        done = subprocess.run(
            ["cc", "-E", "-P", "-x", "c", "-"], input=source, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ToolMissing(f"cc is missing: apt-get install {PACKAGES}", tool="cc") from None
    if done.returncode != 0:
        raise ToolMissing(f"Mbed TLS is missing: apt-get install {PACKAGES}", tool="libmbedtls-dev")
    major, minor, patch = (int(word) for word in done.stdout.split()[-3:])
    return major, minor, patch


def _clear(folder: Path) -> None:
    """Take away what an earlier build left, of whatever version of this module; the lock is held."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != "lock":
            entry.unlink()


def _make(folder: Path, arguments: list[str]) -> None:
    # -B: make sees changed files, but neither a changed flag nor another library.
    command = ["make", "-s", "-B", "-f", "device/Makefile", f"-j{os.cpu_count() or 1}", *arguments]
    # Variables of a make that runs us (./run, a package build) are not for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    if done.returncode == 0:
        return
    if "mbedtls/" in done.stderr and "No such file" in done.stderr:
        raise ToolMissing(f"Mbed TLS is missing: apt-get install {PACKAGES}", tool="libmbedtls-dev")
    lines = [line for line in done.stderr.splitlines() if "error" in line or "undefined" in line]
    reason = (lines or done.stderr.splitlines() or ["make failed"])[0].strip()
    raise BuildError(f"the reference device does not build: {reason}", output=done.stderr)


def _digest(mbedtls_source: Path | None, compiler: str) -> str:
    """Return a digest over all that a build depends on."""
    digest = hashlib.sha256()
    files = sorted(
        path for path in SOURCE.rglob("*") if path.suffix in {".c", ".h", ".ld", ".mk"} or path.name == "Makefile"
    )
    for path in files:
        digest.update(f"{path.relative_to(SOURCE)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    digest.update(version)
    digest.update(os.environ.get("CFLAGS", "").encode())
    library = "".join(map(str, system_mbedtls_version())) if mbedtls_source is None else _tree_version(mbedtls_source)
    digest.update(library.encode())
    return digest.hexdigest()


def _tree_version(mbedtls_source: Path) -> str:
    header = mbedtls_source / "include" / "mbedtls" / "build_info.h"
    if not header.is_file():
        raise SourceMissing(f"{mbedtls_source} is not Mbed TLS 3: {header.name} is missing", path=mbedtls_source)
    return hashlib.sha256(header.read_bytes()).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

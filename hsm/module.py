"""The vendor's library: loaded once, initialised once, with locking.

python-pkcs11 calls ``C_Initialize(NULL)``, which tells the library that the process has one thread, and yet releases
the GIL in every call. SoftHSM then works without mutexes and crashes under threads. So a module is finalised and
initialised again right after it was loaded, with ``CKF_OS_LOCKING_OK`` (PKCS#11 2.40, 5.4), before any session
exists. That goes through ctypes on the function list of the same library: the loader hands out one handle for one
path.

A module is used by any number of signers of one process. The last one that leaves finalises it; the next one
initialises it again, and may then give it another environment.
"""

import ctypes
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import pkcs11
from pkcs11.exceptions import PKCS11Error

from hsm.errors import ModuleError, SignerError
from hsm.uri import TokenUri

CKF_OS_LOCKING_OK: Final = 0x2
"""The library may use the locks of the operating system (PKCS#11 2.40, ``CK_C_INITIALIZE_ARGS``)."""

FOLDERS: Final = (
    "/usr/lib/pkcs11",
    "/usr/lib64/pkcs11",
    "/usr/lib/x86_64-linux-gnu/pkcs11",
    "/usr/lib/aarch64-linux-gnu/pkcs11",
    "/usr/lib/arm-linux-gnueabihf/pkcs11",
    "/usr/lib/softhsm",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib/pkcs11",
    "/usr/local/lib/softhsm",
    "/usr/local/lib",
)
"""Where ``module-name`` is looked for."""


class Library(Protocol):
    """What we use of ``pkcs11.lib``, which ships no usable types."""

    manufacturer_id: str
    library_description: str

    @property
    def library_version(self) -> tuple[int, int]:
        """Version of the vendor's library."""

    def get_slots(self, token_present: bool = ...) -> list[pkcs11.Slot]:  # noqa: FBT001 - theirs
        """Return the slots."""

    def finalize(self) -> None:
        """Finalise the library."""


class _InitializeArgs(ctypes.Structure):
    """``CK_C_INITIALIZE_ARGS``."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


_Initialize = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)


class _FunctionList(ctypes.Structure):
    """The start of ``CK_FUNCTION_LIST``."""

    _fields_ = (("version", ctypes.c_ubyte * 2), ("initialize", _Initialize), ("finalize", _Initialize))


@dataclass(slots=True)
class _Loaded:
    library: Library
    environment: dict[str, str]
    users: int


FORKED: Final = "the HSM's library does not survive fork; start child processes with spawn"
"""What a forked child is told."""

_lock = threading.Lock()
_forked = False
_loaded: Final[dict[str, _Loaded]] = {}


class Module:
    """One use of a module; ``close`` it."""

    def __init__(self, path: Path, library: Library) -> None:
        """Use ``open_module``."""
        self.path = path
        self.library = library
        self._open = True

    def close(self) -> None:
        """Leave the module; the last one finalises it."""
        with _lock:
            if not self._open:
                return
            self._open = False
            loaded = _loaded[str(self.path)]
            loaded.users -= 1
            if loaded.users == 0:
                del _loaded[str(self.path)]
                try:
                    loaded.library.finalize()
                except PKCS11Error:
                    # It was finalised behind our back, or the device is gone: nothing is left to be undone.
                    return


def module_path(uri: TokenUri) -> Path:
    """Return the path of the module that a URI names.

    Raises:
        ModuleError: the URI names none, or it does not exist.
    """
    if uri.module_path is not None:
        path = Path(uri.module_path)
        if path.is_file():
            return path
        raise ModuleError(
            f"the PKCS#11 module {path} does not exist; install the vendor's library or correct module-path",
            code="module.missing",
        )
    if uri.module_name is not None:
        for folder in FOLDERS:
            for name in (f"{uri.module_name}.so", f"lib{uri.module_name}.so", f"lib{uri.module_name}2.so"):
                if "/" not in uri.module_name and (Path(folder) / name).is_file():
                    return Path(folder) / name
        raise ModuleError(
            f"no PKCS#11 module is called {uri.module_name!r}; give its path with module-path", code="module.missing"
        )
    raise ModuleError("the URI names no PKCS#11 module: add ?module-path=/path/to/module.so", code="module.missing")


def open_module(path: Path, environment: Mapping[str, str]) -> Module:
    """Load and initialise a module, or join those who use it already.

    Args:
        path: the shared library.
        environment: variables that the library reads when it is initialised; they are set in this process.

    Raises:
        ModuleError: it can't be loaded or initialised, or is in use with another environment.
    """
    real = path.resolve()
    if _forked:
        raise SignerError(FORKED, code="signer.forked")
    with _lock:
        loaded = _loaded.get(str(real))
        if loaded is None:
            os.environ.update(environment)
            loaded = _Loaded(_load(real), dict(environment), 0)
            _loaded[str(real)] = loaded
        elif any(os.environ.get(name) != value for name, value in environment.items()):
            raise ModuleError(
                f"{real} is in use in this process with another environment; close the other signers first",
                code="module.environment",
                in_use=loaded.environment,
                wanted=dict(environment),
            )
        loaded.users += 1
        return Module(real, loaded.library)


def _load(path: Path) -> Library:
    try:
        library: Library = pkcs11.lib(str(path))
        _initialise_with_locking(path)
    except (PKCS11Error, OSError, AttributeError) as error:
        asks = "SOFTHSM2_CONF, and directories.tokendir in that file" if "softhsm" in path.name else "of the vendor"
        raise ModuleError(
            f"{path} can't be used as a PKCS#11 module: {str(error) or type(error).__name__}; "
            f"check the path and the environment ({asks})",
            code="module.load",
        ) from error
    return library


def _initialise_with_locking(path: Path) -> None:
    functions = ctypes.POINTER(_FunctionList)()
    ctypes.CDLL(str(path)).C_GetFunctionList(ctypes.byref(functions))
    functions.contents.finalize(None)
    arguments = _InitializeArgs(flags=CKF_OS_LOCKING_OK)
    answer = functions.contents.initialize(ctypes.byref(arguments))
    if answer:
        raise ModuleError(
            f"{path} refuses to work with threads: C_Initialize answered 0x{answer:08x}", code="module.initialise"
        )


def _after_fork() -> None:
    """Let a forked child load nothing (PKCS#11 2.40, 5.4: the library's state belongs to the parent)."""
    global _lock, _forked  # noqa: PLW0603 - the state of the process
    _lock = threading.Lock()  # another thread of the parent may have held it
    _forked = _forked or bool(_loaded)


os.register_at_fork(after_in_child=_after_fork)

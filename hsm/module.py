"""The vendor's library: loaded once, initialised once, with locking; and initialised again when a token needs it.

python-pkcs11 calls ``C_Initialize(NULL)``, which tells the library that the process has one thread, and yet releases
the GIL in every call. SoftHSM then works without mutexes and crashes under threads; NSS refuses such a call. So the two
calls are made here, through ctypes on the function list of the same library (the loader hands out one handle for one
path), with ``CKF_OS_LOCKING_OK`` (PKCS#11 2.40, 5.4) and with the text that some libraries want in ``pReserved``
(``x-init-reserved`` in the URI, as p11-kit calls it).

A module is used by any number of signers of one process. The last one that leaves finalises it; the next one
initialises it again, and may then give it another environment.

**Reloading.** Most faults of a token are cured by ``C_Finalize`` and ``C_Initialize`` only, and these end the sessions
of every signer on the module. So a module has a *generation*. A signer remembers in which one it logged in; when the
module's is another one, its session and handles are gone and it logs in anew. Nobody may be inside the library while
it is finalised: each piece of work goes on inside ``using``, and ``reload`` waits until all have come out.
"""

import ctypes
import os
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, Self

import pkcs11
from pkcs11 import _pkcs11
from pkcs11.exceptions import PKCS11Error

from hsm.errors import ModuleError, Recovery, SignerError, TokenError
from hsm.uri import TokenUri

CKF_OS_LOCKING_OK: Final = 0x2
"""The library may use the locks of the operating system (PKCS#11 2.40, ``CK_C_INITIALIZE_ARGS``)."""

INIT_RESERVED: Final = "x-init-reserved"
"""Attribute of the URI whose text is handed to ``C_Initialize``."""

RELOAD_PATIENCE: Final = 20.0
"""Seconds that a reload waits for other signers to come out of the library."""

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

_ALREADY_INITIALISED: Final = 0x191
_ARGUMENTS_BAD: Final = 0x7


class Library(Protocol):
    """What we use of ``pkcs11.lib``, which ships no usable types."""

    manufacturer_id: str
    library_description: str

    @property
    def library_version(self) -> tuple[int, int]:
        """Version of the vendor's library."""

    @property
    def cryptoki_version(self) -> tuple[int, int]:
        """Version of PKCS#11 that it speaks."""

    def get_slots(self, token_present: bool = ...) -> list[pkcs11.Slot]:  # noqa: FBT001 - theirs
        """Return the slots."""

    def initialize(self) -> None:
        """Initialise the library."""

    def finalize(self) -> None:
        """Finalise the library."""


class _InitializeArgs(ctypes.Structure):
    """``CK_C_INITIALIZE_ARGS``; NSS calls the field that others reserve ``LibraryParameters``, and adds one."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_char_p),
        ("nss_reserved", ctypes.c_void_p),
    )


class TokenCounts(ctypes.Structure):
    """``CK_TOKEN_INFO`` (PKCS#11 2.40, 3.3), for the counts that python-pkcs11 does not show."""

    _fields_ = (
        ("names", ctypes.c_ubyte * 96),
        ("flags", ctypes.c_ulong),
        ("max_sessions", ctypes.c_ulong),
        ("sessions", ctypes.c_ulong),
        ("max_rw_sessions", ctypes.c_ulong),
        ("rw_sessions", ctypes.c_ulong),
        ("max_pin", ctypes.c_ulong),
        ("min_pin", ctypes.c_ulong),
        ("public_memory", ctypes.c_ulong * 2),
        ("private_memory", ctypes.c_ulong * 2),
        ("versions", ctypes.c_ubyte * 4),
        ("time", ctypes.c_ubyte * 16),
    )


_Initialize = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)
_GetTokenInfo = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.POINTER(TokenCounts))


class _FunctionList(ctypes.Structure):
    """The start of ``CK_FUNCTION_LIST``."""

    _fields_ = (
        ("version", ctypes.c_ubyte * 2),
        ("initialize", _Initialize),
        ("finalize", _Initialize),
        ("get_info", ctypes.c_void_p),
        ("get_function_list", ctypes.c_void_p),
        ("get_slot_list", ctypes.c_void_p),
        ("get_slot_info", ctypes.c_void_p),
        ("get_token_info", _GetTokenInfo),
    )


class _Loaded(_pkcs11.lib):
    """A library of python-pkcs11 that is initialised and finalised by us.

    python-pkcs11 calls its own ``initialize`` when it has loaded the library, and that is overridden here.
    """

    def __new__(cls, path: Path, reserved: str | None) -> Self:  # noqa: ARG004 - __init__ takes both
        """Load the library; nothing of it is called yet."""
        return super().__new__(cls, str(path))  # type: ignore[call-arg]  # compiled: it loads in __cinit__

    def __init__(self, path: Path, reserved: str | None) -> None:
        self._path = path
        self._reserved = None if reserved is None else reserved.encode()
        self._functions = ctypes.POINTER(_FunctionList)()
        ctypes.CDLL(str(path)).C_GetFunctionList(ctypes.byref(self._functions))
        super().__init__(str(path))

    def initialize(self) -> None:
        """Initialise with locks, and with the text that the URI gives."""
        arguments = _InitializeArgs(flags=CKF_OS_LOCKING_OK, reserved=self._reserved)
        answer = self._functions.contents.initialize(ctypes.byref(arguments))
        if answer in {0, _ALREADY_INITIALISED}:
            return
        advice = "the vendor's documentation says what it needs; doctor and docs/real-hsm.md list what is known"
        if "softhsm" in self._path.name:
            advice = "check SOFTHSM2_CONF, and directories.tokendir in that file"
        elif answer == _ARGUMENTS_BAD and self._reserved is None:
            advice = f"it may want a text at its start: add {INIT_RESERVED}=... to the URI (docs/real-hsm.md)"
        raise ModuleError(
            f"{self._path} can't be initialised: C_Initialize answered 0x{answer:08x}; {advice}",
            code="module.initialise",
            answer=f"0x{answer:08x}",
        )

    def finalize(self) -> None:
        """Finalise; what it answers changes nothing: it was finalised behind our back, or the device is gone."""
        self._functions.contents.finalize(None)

    def token_counts(self, slot_id: int) -> TokenCounts | None:
        """Return the counts of a token, or None if it does not tell."""
        counts = TokenCounts()
        return None if self._functions.contents.get_token_info(slot_id, ctypes.byref(counts)) else counts


@dataclass(slots=True, eq=False)
class _Shared:
    """A loaded library and those who use it."""

    library: _Loaded
    environment: dict[str, str]
    reserved: str | None
    users: int = 0
    generation: int = 0
    inside: int = 0
    reloading: bool = False
    turn: threading.Lock = field(default_factory=threading.Lock)
    turned: threading.Condition = field(init=False)

    def __post_init__(self) -> None:
        self.turned = threading.Condition(self.turn)


class _Using:
    """Surrounds each piece of work, so it is written to be quick."""

    __slots__ = ("_shared",)

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared

    def __enter__(self) -> None:
        shared = self._shared
        with shared.turn:
            while shared.reloading:
                shared.turned.wait()
            shared.inside += 1

    def __exit__(self, *_: object) -> None:
        shared = self._shared
        with shared.turn:
            shared.inside -= 1
            if shared.reloading:
                shared.turned.notify_all()


FORKED: Final = "the HSM's library does not survive fork; start child processes with spawn"
"""What a forked child is told."""

_lock = threading.Lock()
_forked = False
_shared: Final[dict[str, _Shared]] = {}


class Module:
    """One use of a module; ``close`` it."""

    def __init__(self, path: Path, shared: _Shared) -> None:
        """Use ``open_module``."""
        self.path = path
        self._shared = shared
        self._using = _Using(shared)
        self._open = True

    @property
    def library(self) -> Library:
        """The library, for work inside ``using``."""
        library: Library = self._shared.library
        return library

    @property
    def generation(self) -> int:
        """How often the module was reloaded in this process."""
        return self._shared.generation

    @property
    def shared_by(self) -> int:
        """How many use the module in this process."""
        return self._shared.users

    def using(self) -> AbstractContextManager[None]:
        """Keep the library from being finalised inside a ``with`` block."""
        return self._using

    def reload(self, generation: int) -> None:
        """Finalise and initialise, unless somebody did so since ``generation``. Not from inside ``using``.

        Raises:
            TokenError: another signer's call hangs in the library (``module.busy``).
            ModuleError: the library can't be initialised.
        """
        shared = self._shared
        with shared.turned:
            shared.turned.wait_for(lambda: not shared.reloading)
            if shared.generation != generation:
                return
            shared.reloading = True  # nobody enters any more
            if not shared.turned.wait_for(lambda: not shared.inside, RELOAD_PATIENCE):
                shared.reloading = False
                shared.turned.notify_all()
                raise TokenError(
                    f"{self.path} can't be reloaded: a call of another signer hangs in it; restart the station",
                    code="module.busy",
                    operator="The HSM hangs. Stop the station, unplug the HSM for ten seconds, start again.",
                    recovery=Recovery.RELOAD,
                )
        try:
            shared.library.finalize()
            shared.library.initialize()
        finally:
            with shared.turned:
                shared.generation += 1
                shared.reloading = False
                shared.turned.notify_all()

    def token_counts(self, slot_id: int) -> TokenCounts | None:
        """Return what a token says about sessions, or None."""
        counts: TokenCounts | None = self._shared.library.token_counts(slot_id)
        return counts

    def close(self, *, finalise: bool = True) -> None:
        """Leave the module; the last one finalises it, unless a call hangs in it (``finalise=False``)."""
        with _lock:
            if not self._open:
                return
            self._open = False
            self._shared.users -= 1
            if self._shared.users == 0 and _shared.get(str(self.path)) is self._shared:
                del _shared[str(self.path)]
                if finalise and not self._shared.inside:
                    self._shared.library.finalize()


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


def init_reserved(uri: TokenUri) -> str | None:
    """Return the text for ``C_Initialize`` that a URI gives, or None."""
    return dict(uri.vendor).get(INIT_RESERVED)


def open_module(path: Path, environment: Mapping[str, str], reserved: str | None = None) -> Module:
    """Load and initialise a module, or join those who use it already.

    Args:
        path: the shared library.
        environment: variables that the library reads when it is initialised; they are set in this process.
        reserved: text for ``C_Initialize``.

    Raises:
        ModuleError: it can't be loaded or initialised, or is in use with another environment.
    """
    real = path.resolve()
    if _forked:
        raise SignerError(FORKED, code="signer.forked")
    with _lock:
        shared = _shared.get(str(real))
        if shared is None:
            os.environ.update(environment)
            shared = _Shared(_load(real, reserved), dict(environment), reserved)
            _shared[str(real)] = shared
        elif shared.reserved != reserved or any(os.environ.get(name) != value for name, value in environment.items()):
            raise ModuleError(
                f"{real} is in use in this process with another environment; close the other signers first",
                code="module.environment",
                in_use=shared.environment,
                wanted=dict(environment),
            )
        shared.users += 1
        return Module(real, shared)


def _load(path: Path, reserved: str | None) -> _Loaded:
    try:
        return _Loaded(path, reserved)
    except (PKCS11Error, OSError, AttributeError) as error:
        asks = "SOFTHSM2_CONF, and directories.tokendir in that file" if "softhsm" in path.name else "of the vendor"
        raise ModuleError(
            f"{path} can't be used as a PKCS#11 module: {str(error) or type(error).__name__}; "
            f"check the path and the environment ({asks})",
            code="module.load",
        ) from error


def _after_fork() -> None:
    """Let a forked child load nothing (PKCS#11 2.40, 5.4: the library's state belongs to the parent)."""
    global _lock, _forked  # noqa: PLW0603 - the state of the process
    _lock = threading.Lock()  # another thread of the parent may have held it
    _forked = _forked or bool(_shared)


os.register_at_fork(after_in_child=_after_fork)

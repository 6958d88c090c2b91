"""A folder of requests, signed: fast, and to be continued after any end.

Requests go through in chunks. While the token signs one chunk, the next is parsed, drafted and linted; the intents of a
chunk are one commit, its certificates another, so the disk is waited for twice a chunk and not twice a certificate.
Memory holds ``IN_FLIGHT`` chunks, whatever the folder holds; a chunk is gone through in columns (``hsm.columns``). On a
single core a token that computes in this process, like SoftHSM, and the preparing of requests take turns: side by side
they would only take the core from each other, at each signature anew.

After a crash the same command finishes: what is recorded is written out again, what was intended is signed as it was
intended, and the rest is signed as ever.
"""

import asyncio
import gc
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from enum import Enum
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from hsm.authority import LintedTbs
from hsm.certificate_files import Form, write_or_find, written
from hsm.columns import each
from hsm.csr import MAX_CSR, Csr
from hsm.errors import CsrError, HsmError, JournalError
from hsm.issuing import Asked, Desk
from hsm.journal import Intent, IssuanceRecord, IssuanceState, Issued, JournalReader, Reservation
from hsm.journal.operations import record_all, reserve_each
from hsm.warrant import Warrant

Result = TypeVar("Result")

CHUNK: Final = 256
"""Requests at most that share their commits: the more do, the fewer pages of the journal are written for each."""

CHUNK_SECONDS: Final = 1.0
"""How long a token may be busy with a chunk: what is told of and what ctrl-C waits for comes in such steps."""

CHUNK_LEAST: Final = 4
CHUNK_FIRST: Final = 32

JUDGED_SECONDS: Final = 0.05
"""How long a token has to be busy with a chunk to be judged by it: for less, another program may be to blame."""

IN_FLIGHT: Final = 3
"""Chunks in work: one at the token, one at the disk, one being prepared."""

SUFFIXES: Final = frozenset({".csr", ".req", ".p10", ".pem", ".der"})
"""Ends of names of files that hold requests."""

SWITCH_SECONDS: Final = 0.00001
"""How long one thread may keep the interpreter to itself: the token's thread wants it back after each signature, and
would wait 5 ms for it (Python's default) while a request is being parsed."""

GARBAGE: Final = 100_000
"""Objects that are made before the collector looks for cycles among them; Python's default is 700."""

_READ_MOST: Final = 2 * MAX_CSR + 1


class End(Enum):
    """What became of a request."""

    SIGNED = "signed"
    DONE_BEFORE = "done before"
    """An earlier run signed it; its file was written again if it was not there."""
    REFUSED = "refused"
    """Nothing came of it, or, where the outcome has a serial number, its certificate has no file yet."""


class Outcome(NamedTuple):
    """What became of one request."""

    request: str
    """Name of its file without the end."""
    end: End
    serial: int | None = None
    code: str = ""
    """Of the error, if it was refused."""
    sentence: str = ""


class _Work(NamedTuple):
    """One request on its way."""

    request: str
    draft: LintedTbs
    wanted: Reservation | None = None
    open: IssuanceRecord | None = None
    """What an earlier run intended."""
    warrant: Warrant | None = None


def request_files(folder: Path) -> Iterator[str]:
    """Iterate over the paths of the files in a folder that hold requests, as the folder lists them."""
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, end = os.path.splitext(entry.name)  # noqa: PTH122 - a Path each would cost as much as reading it
            if end.lower() in SUFFIXES and stem:
                yield entry.path


class Batch:
    """Signs the requests of a batch at a ``Desk``."""

    def __init__(
        self,
        desk: Desk,
        out: Path,
        *,
        form: Form = Form.PEM,
        fields: Mapping[str, Mapping[str, str]] | None = None,
        tell: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        """Prepare to sign.

        Args:
            desk: with the name of the batch.
            out: folder for the certificates; it exists. No file in it is overwritten.
            form: how they are written.
            fields: for single requests, by their names.
            tell: is told of each request, once, when its certificate is durable and written.
        """
        assert desk.batch is not None  # noqa: S101 - the caller's part
        self._desk = desk
        self._name = desk.batch
        self._out = out
        self._form = form
        self._fields = fields or {}
        self._tell = tell
        self._reader: JournalReader | None = None
        self._crowded = True
        self._chunk = CHUNK_FIRST
        self._turns: AbstractAsyncContextManager[None] = asyncio.Lock() if _cores() == 1 else nullcontext()
        """Whether somebody prepares requests or the token signs; nobody has to wait for it on two cores."""

    async def sign(self, files: Iterable[str]) -> None:
        """Sign the requests in files. A request that is refused does not stop the others.

        Raises:
            HsmError: nothing more can be signed: the token or the journal refuses. What was told of is done.
            OSError: a certificate can't be written; it is in the journal.
        """
        with self._desk.journal.reader() as reader:
            self._reader = reader if any(one.name == self._name for one in reader.batches()) else None
            with os.scandir(self._out) as there:
                self._crowded = next(there, None) is not None
            try:
                with _hurried():
                    await self._sign(iter(files))
            except BaseExceptionGroup as group:
                raise _first(group) from None

    async def _sign(self, files: Iterator[str]) -> None:
        free = asyncio.Semaphore(IN_FLIGHT)
        try:
            async with asyncio.TaskGroup() as group:
                while chunk := list(islice(files, self._chunk)):
                    await free.acquire()
                    async with self._turns:
                        work = self._prepared(chunk)
                    task = group.create_task(self._finish(work))
                    task.add_done_callback(lambda _: free.release())
                    await asyncio.sleep(0)  # let the chunk before hand its signatures in
        finally:
            # What a chunk that was cancelled had asked of the journal is done all the same: whoever looks into the
            # journal after us has to find it there.
            with suppress(HsmError):
                await self._desk.journal.perform(_nothing)

    # -- before the token

    def _prepared(self, paths: Sequence[str]) -> list[_Work]:
        """Read, check and draft requests, in columns; return what is to be signed."""
        names = [os.path.splitext(path[path.rfind("/") + 1 :])[0] for path in paths]  # noqa: PTH122 - as above
        asked = [
            csr if isinstance(csr, HsmError) else Asked(csr, name, self._fields.get(name))
            for name, csr in zip(names, Csr.parse_all(each(_read, paths)), strict=True)
        ]
        begun = self._accepted(names, each(self._begun, asked))
        for one, found in begun:
            if found is not None and found.certificate is not None:
                self._deliver(one.request, found.certificate, End.DONE_BEFORE, found.serial)
        left = [(one, found) for one, found in begun if found is None or found.certificate is None]
        work = [
            prepared if isinstance(prepared, HsmError) else (one.csr, found, *prepared)
            for (one, found), prepared in zip(left, self._desk.prepare_all([one for one, _ in left]), strict=True)
        ]
        return self._accepted([one.request for one, _ in left], each(self._work, work))

    def _accepted(self, names: Sequence[str], results: Iterable[Result | HsmError]) -> list[Result]:
        """Refuse the requests whose results are errors; return the results of the others."""
        found: list[Result] = []
        for name, result in zip(names, results, strict=True):
            if isinstance(result, HsmError):
                self._refuse(name, result)
            else:
                found.append(result)
        return found

    def _begun(self, asked: Asked) -> tuple[Asked, IssuanceRecord | None]:
        """Return a request with what an earlier run did for it.

        Raises:
            JournalError: it did something else: ``batch.request_differs``.
            HsmError: there is a file where the certificate is to be (``batch.file_in_the_way``).
        """
        name, desk = asked.request, self._desk
        found = [] if self._reader is None else self._reader.by_request(self._name, name)
        live = [one for one in found if one.state is not IssuanceState.VOID]
        if not live:
            if self._crowded and os.path.lexists(out := self._path(name)):
                raise _in_the_way(out, "nothing was signed")
            return asked, None
        if live[-1].spki_sha256 != asked.csr.spki_sha256:
            raise JournalError(
                f"request {name!r} of batch {self._name} was for another key; give this one another name",
                code="batch.request_differs",
            )
        if (live[-1].profile, live[-1].issuer) != (desk.profile.name, desk.issuer):
            raise JournalError(
                f"request {name!r} of batch {self._name} was for profile {live[-1].profile!r} and its issuer then; "
                "give the same ones, or another --batch",
                code="batch.request_differs",
            )
        return asked, live[-1]

    def _work(self, prepared: tuple[Csr, IssuanceRecord | None, LintedTbs, Reservation]) -> _Work:
        csr, found, draft, wanted = prepared
        if found is None:
            return _Work(wanted.request, draft, wanted, warrant=self._desk.warrant(csr))
        self._desk.check_same(found, wanted)
        draft = self._desk.authority.redraft(self._desk.profile, found.tbs)
        return _Work(wanted.request, draft, open=found, warrant=self._desk.warrant(csr))

    # -- the token, and after

    async def _finish(self, work: list[_Work]) -> None:
        """Write the intents of a chunk, sign them, record and write the certificates."""
        journal = self._desk.journal
        fresh = [(one, one.wanted) for one in work if one.wanted is not None]
        intents = await journal.perform(partial(reserve_each, wanted=[wanted for _, wanted in fresh]))
        ready: list[tuple[_Work, Intent]] = []
        for (one, wanted), intent in zip(fresh, intents, strict=True):
            if isinstance(intent, HsmError):
                if self._desk.refused is not None:
                    self._desk.refused(wanted.spki_sha256, intent)
                self._refuse(one.request, intent)
            else:
                ready.append((one, intent))
        for one in work:
            if one.open is not None:
                ready.append((one, await journal.attempt(one.open.id)))  # noqa: PERF401 - it waits
        async with self._turns:
            began, worked = time.monotonic(), time.process_time()
            ends = await self._desk.authority.issue_all(
                [one.draft for one, _ in ready],
                warrants=[one.warrant for one, _ in ready],
                again=lambda at: journal.attempt(ready[at][1].issuance_id),
            )
            self._adapt(time.monotonic() - began, time.process_time() - worked)
        # A token that fails in the middle of a chunk has signed the first of it: they are worth keeping.
        signed = [(intent, end) for (_, intent), end in zip(ready, ends, strict=True) if isinstance(end, bytes)]
        issued: list[Issued] = await journal.perform(partial(record_all, signed=signed))
        for (one, _), certificate in zip(ready, issued, strict=False):  # the signed ones come first
            self._deliver(one.request, certificate.der, End.SIGNED, certificate.serial)
        if (error := next((end for end in ends if isinstance(end, HsmError)), None)) is not None:
            raise error

    def _adapt(self, seconds: float, worked: float) -> None:
        """Make chunks so large that the token is busy with one for a moment: a slow one gets few at once.

        Args:
            seconds: that the token took for a chunk.
            worked: seconds that this process computed meanwhile.
        """
        if seconds > JUDGED_SECONDS and worked < seconds / 2:  # it computes elsewhere
            self._turns = nullcontext()
        if seconds > CHUNK_SECONDS:
            self._chunk = max(CHUNK_LEAST, self._chunk // 2)
        elif seconds < CHUNK_SECONDS / 4:
            self._chunk = min(CHUNK, self._chunk * 2)

    def _deliver(self, request: str, der: bytes, end: End, serial: int) -> None:
        """Write a certificate that is on record, and tell what became of its request."""
        content = written(der, self._desk.authority.chain, self._form)
        try:
            write_or_find(self._path(request), content)
        except FileExistsError as error:
            refusal = _in_the_way(str(error.filename), "the certificate is on record")
            self._tell(Outcome(request, End.REFUSED, serial, refusal.code, str(refusal)))
        else:
            self._tell(Outcome(request, end, serial))

    def _path(self, request: str) -> str:
        return f"{self._out}/{request}{self._form.suffix}"

    def _refuse(self, request: str, error: HsmError) -> None:
        self._tell(Outcome(request, End.REFUSED, None, error.code, str(error)))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@contextmanager
def _hurried() -> Iterator[None]:
    """Let the interpreter change threads quickly, and look for garbage rarely: drafts hold no cycles."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(GARBAGE, *thresholds[1:])
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)


def _nothing(_connection: object, _at: str) -> None:
    """Do nothing, after everything that was asked before."""


def _in_the_way(path: str, so_far: str) -> HsmError:
    return HsmError(
        f"{path} is there already and holds something else; {so_far}. Move that file away, or name another --out, and "
        "give the same command again",
        code="batch.file_in_the_way",
    )


def _read(path: str) -> bytes:
    """Read a request, and no more of it than one may have.

    Raises:
        CsrError: it can't be read, or its name can't stand in a journal and on a screen.
    """
    if not path[path.rfind("/") + 1 :].isprintable():  # nor is a name that is not UTF-8
        raise CsrError(
            "the name of the file holds characters that can't be printed; rename it", code="batch.request_name"
        )
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)  # a FIFO would wait
        try:
            content = os.read(descriptor, _READ_MOST)
            if not content and not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CsrError(f"{path}: not a file", code="csr.unreadable")
            return content
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CsrError(f"{path}: can't be read ({error.strerror})", code="csr.unreadable") from error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first thing that went wrong in a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

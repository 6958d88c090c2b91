"""Doing a ceremony: all of it, or nothing.

1. What must be free is looked at: labels, files, the transcript. Then the transcript begins.
2. Each step is done, each act noted before and after (``bench.py``).
3. The transcript is sealed by the first key that was made or used.

Whatever goes wrong, ctrl-C too, undoes all acts of this run; its transcript keeps the name of an undone one, since a
key that was there before may have signed. If the machine dies, the transcript stays unfinished, no other ceremony
begins over it, and ``undo_killed`` takes back what it says was begun.
"""

import datetime as dt
import getpass
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from hsm.ceremony.bench import PATIENCE, Bench, spki_sha256
from hsm.ceremony.copying import LeftKey, discard, left_key
from hsm.ceremony.interrupts import Interrupts
from hsm.ceremony.modes import perform
from hsm.ceremony.plan import Backup, Plan, Step, TokenChoice
from hsm.ceremony.rehearsal import Rehearsal
from hsm.ceremony.transcript import Transcript, unfinished
from hsm.errors import CeremonyError, HsmError
from hsm.key_store import label_taken
from hsm.signer import Signer

MALFORMED: Final = (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.ExtensionNotFound)
"""What pyca raises at files that others made."""


def utc_now() -> dt.datetime:
    """Return the clock's time."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class DoneCeremony:
    """What a ceremony left."""

    files: tuple[Path, ...]
    transcript: Path
    verify_with: Path
    """The certificate or request whose key sealed the transcript."""
    rehearsal: bool


def run_ceremony(  # noqa: PLR0913 - what a ceremony depends on
    plan: Plan,
    *,
    operators: Sequence[str] = (),
    rehearsal: Rehearsal | None = None,
    clock: Callable[[], dt.datetime] = utc_now,
    report: Callable[[str], None] = lambda _: None,
    ask: Callable[[str], str] = getpass.getpass,
) -> DoneCeremony:
    """Do a ceremony. Blocks.

    Args:
        plan: from ``load_plan``.
        operators: who is there, besides those that the plan names.
        rehearsal: tokens and folder that take the place of the plan's.
        clock: tells the time; certificates begin when the ceremony does.
        report: gets a line for people, one an act.
        ask: asks a human for a PIN.

    Raises:
        CeremonyError: something is in the way and nothing was done, or a step failed and all was undone.
        HsmError: a token can't be opened; nothing was done.
        KeyboardInterrupt: somebody asked to stop; all was undone.
    """
    present = tuple(dict.fromkeys((*plan.operators, *operators)))
    if not present or not all(name.strip() and name.isprintable() for name in present):
        raise CeremonyError(
            'a transcript names who was there: give --operator NAME, or operators = ["…"] in [ceremony]',
            code="ceremony.no_operator",
        )
    folder = rehearsal.folder if rehearsal else plan.folder
    _check_files(folder, plan)
    with ExitStack() as opened, Interrupts() as interrupts:
        signers = _open(rehearsal.tokens if rehearsal else plan.tokens, plan.used_tokens, opened, interrupts, ask)
        for token, label in plan.new_labels:
            _check_label(signers[token], label)
        start = clock()
        transcript = Transcript.begin(
            folder / plan.transcript,
            clock,
            ceremony=plan.name,
            file=plan.path.name,
            file_sha256=plan.sha256.hex(),
            operators=list(present),
            rehearsal=rehearsal is not None,
        )
        opened.callback(transcript.close)
        bench = Bench(
            folder=folder,
            stand_ins=rehearsal.stand_ins if rehearsal else MappingProxyType({}),
            signers=signers,
            transcript=transcript,
            now=start.astimezone(dt.UTC).replace(microsecond=0),
            rehearsal=rehearsal is not None,
            report=report,
            pause=interrupts.check,
        )
        try:
            verify_with = _work(plan, bench, signers)
            interrupts.check()
            _seal(bench, verify_with)
        except BaseException as error:
            _undone(bench, error, report)
            raise  # only what _undone has no words for
    files = tuple(folder / file for file in plan.outputs)
    return DoneCeremony(files, transcript.path, bench.path(verify_with), rehearsal is not None)


def undo_killed(
    plan: Plan,
    *,
    confirm: Callable[[Sequence[LeftKey]], bool],
    clock: Callable[[], dt.datetime] = utc_now,
    report: Callable[[str], None] = lambda _: None,
    ask: Callable[[str], str] = getpass.getpass,
) -> Path:
    """Take back what a ceremony began that was killed. Blocks.

    Keys are destroyed by token serial, label and ``CKA_ID``, which was drawn for that ceremony alone; files go only if
    they hold what it was about to write, or the start of it. An unfinished transcript has no seal, so anybody may have
    written it, over a ceremony that was done too: that is why somebody is asked.

    Args:
        plan: from ``load_plan``.
        confirm: gets the keys that are about to be destroyed, as the tokens hold them; False: nothing is done.
        clock: tells the time.
        report: gets a line for people, one an act.
        ask: asks a human for a PIN.

    Returns:
        The transcript, under the name of an undone one.

    Raises:
        CeremonyError: there is no unfinished transcript, it is of another file, or it was not confirmed.
        HsmError: a token can't be opened.
    """
    path = plan.folder / plan.transcript
    if path.exists():
        raise CeremonyError(f"{path} is sealed: the ceremony was done, and what it made stays", code="ceremony.done")
    if not unfinished(path).exists():
        raise CeremonyError(
            f"there is nothing to undo: {unfinished(path)} is not there, so no ceremony of this file was killed in "
            "this folder; if it was another file or folder, name that one",
            code="ceremony.nothing_to_undo",
        )
    transcript, entries = Transcript.resume(path, clock)
    with closing(transcript):
        return _take_all_back(plan, transcript, entries, confirm, report, ask)


def _take_all_back(  # noqa: PLR0913, PLR0917 - what undo_killed was given
    plan: Plan,
    transcript: Transcript,
    entries: Sequence[Mapping[str, Any]],
    confirm: Callable[[Sequence[LeftKey]], bool],
    report: Callable[[str], None],
    ask: Callable[[str], str],
) -> Path:
    if entries and entries[0].get("file_sha256") != plan.sha256.hex():
        raise CeremonyError(
            f"{transcript.unfinished} is of another version of {plan.path}: undo with the file as it was",
            code="ceremony.other_file",
        )
    with ExitStack() as opened, Interrupts() as interrupts:
        signers = _open(plan.tokens, plan.used_tokens, opened, interrupts, ask)
        ours = {(signers[token].token.serial, label): signers[token] for token, label in plan.new_labels}
        places = [_place(entry, ours) for entry in entries if entry["event"] == "make-key"]
        keys = [key for signer, label, key_id in places if (key := left_key(signer, label, key_id)) is not None]
        if keys and not confirm(keys):
            raise CeremonyError(
                "it was not confirmed that these keys may be destroyed; nothing was removed",
                code="ceremony.not_confirmed",
            )
        done: list[str] = []
        for entry in reversed(entries):
            what = _take_back(entry, ours, plan)
            if what is not None:
                done.append(what)
                report(f"removed {what}")
        transcript.add("undone", reason="killed", removed=done, left=[])
        return transcript.withdraw()


def _take_back(entry: Mapping[str, Any], ours: Mapping[tuple[str, str], Signer], plan: Plan) -> str | None:
    if entry["event"] == "make-key":
        signer, label, key_id = _place(entry, ours)
        return f"key {label!r} in token {signer.token.label!r}" if discard(signer, label, key_id) else None
    if entry["event"] == "output" and entry["file"] in plan.outputs:
        path = plan.folder / str(entry["file"])
        if path.is_file():
            content = path.read_bytes()
            if len(content) < int(entry["size"]) or hashlib.sha256(content).hexdigest() == entry["sha256"]:
                path.unlink()
                return f"file {path}"
    return None


def _place(entry: Mapping[str, Any], ours: Mapping[tuple[str, str], Signer]) -> tuple[Signer, str, bytes]:
    """Return where a key is that a transcript announces."""
    label = str(entry["label"])
    signer = ours.get((str(entry["token"]), label))
    if signer is None:  # somebody put it there, or another token is plugged in
        raise CeremonyError(
            f"the file makes no key {label!r} in a token with serial {entry['token']}; nothing is removed",
            code="ceremony.other_file",
        )
    try:
        return signer, label, bytes.fromhex(entry["id"])
    except (KeyError, TypeError, ValueError):
        raise CeremonyError(
            f"the transcript does not tell the CKA_ID of the key {label!r}, so an older version wrote it, or nobody "
            "did; nothing is removed. If nothing was signed with that key, destroy it with the vendor's tool",
            code="ceremony.no_key_id",
        ) from None


def _check_files(folder: Path, plan: Plan) -> None:
    transcript = folder / plan.transcript
    begun = unfinished(transcript)
    if begun.exists():
        raise CeremonyError(
            f"{begun} is there: a ceremony was killed, or still runs. If it does not run any more, "
            f"'station ca ceremony --undo {plan.path}' removes what it made",
            code="ceremony.unfinished",
        )
    for path in (*(folder / file for file in plan.outputs), transcript):
        if path.exists() or path.is_symlink():
            raise CeremonyError(
                f"{path} is there already, and a ceremony overwrites nothing: choose another name or folder",
                code="ceremony.file_exists",
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        transcript.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CeremonyError(
            f"{folder} can't be written: {error.strerror}; nothing was done", code="ceremony.folder"
        ) from error


def _open(
    tokens: Mapping[str, TokenChoice],
    names: Sequence[str],
    opened: ExitStack,
    interrupts: Interrupts,
    ask: Callable[[str], str],
) -> dict[str, Signer]:
    """Open the tokens. A human at a PIN prompt may press ctrl-C: nothing is made yet."""
    found = {}
    for name in names:
        with interrupts.let_through():
            choice = tokens[name]
            found[name] = opened.enter_context(
                Signer.open(choice.uri, environment=choice.environment, writable=True, ask=ask, timing=PATIENCE)
            )
    return found


def _check_label(signer: Signer, label: str) -> None:
    if label_taken(signer, label):
        raise CeremonyError(
            f"token {signer.token.label!r} holds a key called {label!r} already, and a ceremony overwrites nothing: "
            "choose another label",
            code="ceremony.label_taken",
        )


def _work(plan: Plan, bench: Bench, signers: Mapping[str, Signer]) -> str:
    """Do the steps; return the file that the transcript is verified with."""
    for name, signer in signers.items():
        token = signer.token
        bench.transcript.add(
            "token",
            name=name,
            label=token.label,
            serial=token.serial,
            model=token.model,
            manufacturer=token.manufacturer,
        )
    for number, step in enumerate(plan.steps, start=1):
        bench.transcript.add("step", step=number, mode=step.mode, line=step.line)
        bench.say(f"step {number} of {len(plan.steps)}: {step.mode}")
        try:
            perform(step, bench, last_backup=not _backed_up_later(plan.steps[number:], step))
        except HsmError as error:
            raise CeremonyError(f"step {number} ({step.mode}, line {step.line}): {error}", code=error.code) from error
        except MALFORMED as error:
            raise CeremonyError(
                f"step {number} ({step.mode}, line {step.line}): what was read breaks X.509: {error}",
                code="ceremony.malformed",
            ) from error
        except OSError as error:
            raise CeremonyError(
                f"step {number} ({step.mode}, line {step.line}): {error.filename or 'a file'} can't be read or "
                f"written: {error.strerror}",
                code="ceremony.folder",
            ) from error
    assert bench.first_key is not None  # noqa: S101 - every mode uses a key
    return bench.first_key[1]


def _backed_up_later(steps: Sequence[Step], step: Step) -> bool:
    return isinstance(step, Backup) and any(isinstance(other, Backup) and other.of == step.of for other in steps)


def _seal(bench: Bench, verify_with: str) -> None:
    assert bench.first_key is not None  # noqa: S101 - see _work
    key, _ = bench.first_key
    token = key.signer.token.serial
    try:
        bench.transcript.add("sign", what="transcript", token=token, label=key.label)
        bench.transcript.add("end", result="done")
        spki = spki_sha256(key.public_key())
        bench.transcript.seal(key, token=token, label=key.label, spki_sha256=spki, verify_with=verify_with)
    except OSError as error:
        raise CeremonyError(f"the transcript can't be written: {error.strerror}", code="ceremony.folder") from error


def _undone(bench: Bench, error: BaseException, report: Callable[[str], None]) -> None:
    """Take everything back, and raise what tells so."""
    done, left = bench.undo()
    reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    try:
        bench.transcript.add("undone", reason=reason, removed=done, left=left)
        kept = bench.transcript.withdraw()
    except OSError:  # a full disk is often why we are here
        kept = bench.transcript.unfinished
    rest = f"; could NOT be removed: {', '.join(left)}" if left else ""
    sentence = f"undone: keys and files of this run are removed{rest}; its transcript is {kept}"
    report(sentence)
    if isinstance(error, HsmError):
        raise CeremonyError(f"{error} ({sentence})", code=error.code, operator=error.operator) from error

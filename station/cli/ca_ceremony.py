"""``station ca ceremony``."""

import datetime as dt
import shlex
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from hsm.algorithms import PublicKey, family_of
from hsm.ceremony import (
    DoneCeremony,
    LeftKey,
    Plan,
    load_plan,
    prepare_rehearsal,
    run_ceremony,
    undo_killed,
    verify_transcript,
)
from hsm.testing import ceremony_tokens
from station.cli.commands import Command, json_option
from station.cli.output import print_json
from station.errors import StationError

_EXAMPLES: Final = [
    "station ca ceremony acme.toml --rehearse",
    "station ca ceremony acme.toml --operator 'Ada Lovelace' --operator 'Grace Hopper'",
    "station ca ceremony --verify acme.transcript.jsonl --certificate acme-root.pem",
    "station ca ceremony --undo acme.toml",
]


@click.command("ceremony", cls=Command, examples=_EXAMPLES)
@click.argument("file", type=click.Path(dir_okay=False), metavar="FILE")
@click.option("--operator", "operators", multiple=True, metavar="NAME", help="Who is there; may be given again.")
@click.option("--rehearse", is_flag=True, help="Do it on SoftHSM tokens in a temporary folder.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False),
    help="With --rehearse: a new folder that keeps what the rehearsal makes.",
)
@click.option("--undo", is_flag=True, help="Remove what a ceremony made that was killed.")
@click.option("--yes", is_flag=True, help="With --undo: don't ask before keys are destroyed.")
@click.option("--verify", is_flag=True, help="Check FILE, a transcript; needs --certificate and no token.")
@click.option(
    "--certificate",
    type=click.Path(dir_okay=False),
    metavar="CERT",
    help="With --verify: certificate (or request) of the key that sealed the transcript.",
)
@json_option("Write one JSON object: what was made or verified.")
def ceremony(  # noqa: PLR0913 (one option each)
    *,
    file: str,
    operators: tuple[str, ...],
    rehearse: bool,
    folder: str | None,
    undo: bool,
    yes: bool,
    verify: bool,
    certificate: str | None,
    as_json: bool,
) -> None:
    """Make, sign, renew or copy keys of a CA.

    FILE is a TOML file with one or more steps, which docs/ceremony.md tells. All of it is done, or nothing: what
    fails on the way, or is stopped with ctrl-C, is undone. No label and no file is ever overwritten. What was done
    stands in a transcript that is chained by digests and sealed by the first key of the ceremony.
    """
    if sum((rehearse, undo, verify)) > 1:
        raise click.UsageError("--rehearse, --undo and --verify can't be combined")
    if folder is not None and not rehearse:
        raise click.UsageError("--folder goes with --rehearse; a ceremony's folder stands in its file")
    if yes and not undo:
        raise click.UsageError("--yes goes with --undo")
    if (certificate is not None) is not verify:
        raise click.UsageError("--verify and --certificate go together")
    if verify:
        _verify(Path(file), Path(certificate or ""), as_json=as_json)
        return
    plan = load_plan(Path(file), now=dt.datetime.now(dt.UTC))
    if undo:
        _undo(plan, yes=yes, as_json=as_json)
    elif rehearse:
        _rehearse(plan, operators, folder, as_json=as_json)
    else:
        done = run_ceremony(plan, operators=operators, report=_reporter(as_json=as_json))
        _tell(done, as_json=as_json)


def _rehearse(plan: Plan, operators: tuple[str, ...], folder: str | None, *, as_json: bool) -> None:
    with ExitStack() as kept:
        home = Path(folder or kept.enter_context(tempfile.TemporaryDirectory(prefix="rehearsal-"))).absolute()
        if folder is not None and home.exists() and any(home.iterdir()):
            raise StationError(f"{folder} is not empty: choose a new folder for the rehearsal")
        tokens = ceremony_tokens(home / "tokens", plan.used_tokens)
        rehearsal = prepare_rehearsal(plan, home, tokens)
        present = operators or (() if plan.operators else ("nobody: a rehearsal",))
        done = run_ceremony(plan, operators=present, rehearsal=rehearsal, report=_reporter(as_json=as_json))
        _tell(done, as_json=as_json, kept=folder is not None)


def _undo(plan: Plan, *, yes: bool, as_json: bool) -> None:
    def confirm(keys: Sequence[LeftKey]) -> bool:
        for key in keys:
            click.echo(
                f"key '{key.label}' in token '{key.token}', SHA-256 of its SPKI {key.spki_sha256 or '?'}", err=True
            )
        return yes or click.confirm("destroy these keys for good? No certificate of theirs may be in use", err=True)

    transcript = undo_killed(plan, confirm=confirm, report=_reporter(as_json=as_json))
    if as_json:
        print_json({"undone": True, "transcript": transcript})
    else:
        click.echo(f"undone; its transcript is {transcript}")


def _verify(transcript: Path, certificate: Path, *, as_json: bool) -> None:
    verified = verify_transcript(transcript, _public_key(certificate))
    begin = verified.begin
    if as_json:
        print_json(
            {
                "verified": True,
                "rehearsal": verified.rehearsal,
                "ceremony": begin["ceremony"],
                "file_sha256": begin["file_sha256"],
                "operators": begin["operators"],
                "entries": len(verified.entries),
                "began": begin["time"],
                "sealed": verified.entries[-1]["time"],
            }
        )
        return
    mark = "REHEARSAL: " if verified.rehearsal else ""
    click.echo(
        f"{mark}{transcript}: {len(verified.entries)} lines, chain and seal hold; '{begin['ceremony']}' of "
        f"{begin['time']}, by {', '.join(begin['operators'])}"
    )


def _public_key(path: Path) -> PublicKey:
    content = path.read_bytes()
    try:
        found: CertificatePublicKeyTypes = x509.load_pem_x509_certificate(content).public_key()
    except ValueError:
        try:
            found = x509.load_pem_x509_csr(content).public_key()
        except ValueError:
            raise StationError(f"{path}: neither certificate nor request in PEM") from None
    if family_of(found) is None:
        raise StationError(f"{path}: its key is of a kind that seals no transcript")
    return found  # type: ignore[return-value]  # family_of knows no others


def _reporter(*, as_json: bool) -> Callable[[str], None]:
    """Return what prints progress: to stderr when a program reads stdout."""
    return lambda line: click.echo(line, err=as_json)


def _tell(done: DoneCeremony, *, as_json: bool, kept: bool = True) -> None:
    if as_json:
        print_json(
            {
                "rehearsal": done.rehearsal,
                "files": list(done.files),
                "transcript": done.transcript,
                "verify_with": done.verify_with,
            }
        )
        return
    made = f"{'REHEARSED' if done.rehearsal else 'done'}: files made: {len(done.files)}"
    if not kept:
        click.echo(f"{made}, and removed with the temporary folder; to look at them, rehearse with --folder DIR")
        return
    click.echo(f"{made}; transcript {done.transcript}")
    paths = ("--verify", str(done.transcript), "--certificate", str(done.verify_with))
    click.echo(f"check it: station ca ceremony {shlex.join(paths)}")

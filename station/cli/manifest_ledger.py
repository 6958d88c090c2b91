"""``station manifest``, the ledger: ``ledger-key``, ``checkpoint``, ``accept``, ``verify``, ``prove``, ``check-proof``.

``verify`` and ``check-proof`` are for people who have neither a station nor its configuration: they take files.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import click
from cryptography import x509
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from hsm import TokenUri
from hsm.files import replace_file
from station.cli.commands import command, config_option, json_option
from station.cli.identity import IDENTITY
from station.cli.output import print_fields, print_json
from station.cli.root import EXIT_FAILURE
from station.config import Config, load
from station.config.certificates import load_certificate
from station.errors import StationError, printable
from station.ledger.anchor import SUFFIX as CHECKPOINT_SUFFIX
from station.ledger.errors import LedgerError, NotYetSealed
from station.ledger.keying import make_ledger_key, open_ledger, read_ledger_key
from station.ledger.leaf import leaf_of
from station.ledger.ledger import Ledger
from station.ledger.note import LedgerPublicKey, VerifierKey
from station.ledger.proof import PROOF_LIMIT, SUFFIX, LedgerProof, check
from station.ledger.store import LedgerReader
from station.ledger.tiles import Tree
from station.ledger.verify import Verdict, verify
from station.line.control import user_name
from station.manifest import Manifest, ManifestReader
from station.manifest.life import check_actor
from station.signing import open_signer, open_token

_PEM: Final = b"-----BEGIN"

key_option = click.option(
    "--key",
    "keys",
    required=True,
    multiple=True,
    type=click.Path(dir_okay=False),
    help="Public ledger key: a vkey as 'checkpoint --vkey' prints it, or PEM. May be given again, for older keys.",
)


def _read(path: str) -> str:
    """Read a small text file."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(PROOF_LIMIT + 1)
    except UnicodeDecodeError:
        raise LedgerError(f"{path}: not a text file", code="ledger.file_form") from None


def read_keys(paths: Sequence[str]) -> list[VerifierKey | LedgerPublicKey]:
    """Read public keys, each a vkey or PEM."""
    keys: list[VerifierKey | LedgerPublicKey] = []
    for path in paths:
        if Path(path).read_bytes()[:64].lstrip().startswith(_PEM):
            keys.append(read_ledger_key(Path(path)))
            continue
        try:
            keys += [VerifierKey.parse(line) for line in _read(path).splitlines() if line.strip()]
        except LedgerError as error:
            raise LedgerError(f"{path}: {error}", code=error.code) from error
    if not keys:
        raise LedgerError("the file holds no key; give a vkey, or a public key in PEM", code="ledger.key_form")
    return keys


@command(
    "ledger-key", examples=["station manifest ledger-key", "station manifest ledger-key --config line-1/station.toml"]
)
@config_option
def ledger_key(config_path: str) -> None:
    """Make the ledger key.

    It signs checkpoints.

    It is made in the token of [ca], can't leave it, and signs nothing but heads of the ledger. Its public half is
    written to the file that [ledger] key names. A key that the token holds already is used, not replaced.
    """
    config = load(Path(config_path))
    uri = TokenUri.parse(config.ca.tokens.uris[0])
    with closing(open_token(config.ca, config.ca.tokens.uris[0], writable=True)) as signer:
        public = make_ledger_key(signer, config.ledger.key)
    kind = "Ed25519" if VerifierKey("x", public).kind == 1 else "ECDSA P-256"
    click.echo(f"wrote {config.ledger.key}: the public half of an {kind} key in the token '{uri.token}'")
    click.echo("next: give it to whoever checks the manifest, and keep a copy off this machine")


@contextmanager
def _opened(config: Config) -> Iterator[Ledger]:
    """Open manifest, token and ledger."""
    if not config.ledger.key.exists():
        raise LedgerError(
            f"{config.ledger.key}: no ledger key; make one with 'station manifest ledger-key'", code="ledger.no_key"
        )
    if not config.station.manifest.exists():
        raise LedgerError(
            f"{config.station.manifest}: no manifest yet; 'station run' makes it", code="ledger.no_manifest"
        )
    with (
        closing(Manifest.open(config.station.manifest)) as manifest,
        closing(open_signer(config.ca)) as signer,
    ):
        yield open_ledger(config.ledger.key, manifest, signer)


@command(
    "checkpoint",
    examples=[
        "station manifest checkpoint",
        "station manifest checkpoint --show > line-1.checkpoint",
        "station manifest checkpoint --vkey > line-1.vkey",
    ],
)
@config_option
@click.option("--show", is_flag=True, help="Only print the newest one; may be done while the station runs.")
@click.option(
    "--vkey", is_flag=True, help="Only print the public key of this manifest's ledger, as others' tools read it."
)
def checkpoint(config_path: str, *, show: bool, vkey: bool) -> None:
    """Seal what is on record.

    Prints the signed head of the ledger. The station seals by itself, at intervals and when it stops; by hand it is for
    the moment before a manifest is handed over. The format is C2SP tlog-checkpoint.
    """
    config = load(Path(config_path))
    if vkey:
        with LedgerReader(config.station.manifest) as reader:
            click.echo(VerifierKey(reader.origin(), read_ledger_key(config.ledger.key)).vkey())
        return
    if not show:
        with _opened(config) as ledger:
            ledger.check()
            if ledger.seal("by hand") is None:
                click.echo("nothing happened since the last checkpoint", err=True)
    with LedgerReader(config.station.manifest) as reader:
        newest = reader.newest_checkpoint()
    if newest is None or newest.note is None:
        raise LedgerError(
            "there is no checkpoint yet; 'station manifest checkpoint' makes one", code="ledger.not_sealed"
        )
    click.echo(newest.note, nl=False)


@command(
    "accept", examples=["station manifest accept --actor 'R. Vogel' --reason 'disk died, backup of 12 May, ticket 88'"]
)
@config_option
@click.option("--reason", required=True, help="Why it is in order that this manifest is not the newest.")
@click.option("--actor", required=True, help="Who answers for it; one of [life] actors, if there are any.")
def accept(config_path: str, *, reason: str, actor: str) -> None:
    """Go on with an older manifest.

    For the security officer, after a restore: the station refuses a manifest that lacks what the token, or the file
    beside it, says was sealed. Events that are lost stay lost; who accepted that, and why, becomes an event, and a new
    checkpoint is made.
    """
    config = load(Path(config_path))
    check_actor(actor, config.life.actors)
    with _opened(config) as ledger:
        try:
            ledger.check()
        except LedgerError as error:
            click.echo(f"accepted: {error}", err=True)
        else:
            raise LedgerError(
                "nothing is to be accepted: this manifest is the newest one", code="ledger.nothing_to_accept"
            )
        made = ledger.accept(reason, f"{actor} ({user_name()})")
    if made is not None:
        click.echo(f"sealed {made.tree_size} events; the station may run", err=True)


@command(
    "verify",
    examples=[
        "station manifest verify manifest.db --key ledger.pem",
        "station manifest verify copy.db --key line-1.vkey --checkpoint line-1.checkpoint --json",
    ],
)
@click.argument("file", type=click.Path(dir_okay=False))
@key_option
@click.option(
    "--checkpoint",
    "outside",
    type=click.Path(dir_okay=False),
    help=f"A checkpoint that was kept elsewhere; by default FILE{CHECKPOINT_SUFFIX}, if it is there.",
)
@json_option("Write one JSON object a finding, and one with the result.")
def verify_command(file: str, keys: tuple[str, ...], outside: str | None, *, as_json: bool) -> None:
    """Check a manifest, or a copy.

    Needs a public key and nothing else. Looks at each checkpoint's signature and root, and each row of every table
    against the events that were signed. Rows that were changed, removed, put in or moved are named. Exit 1 if there is
    one, or if no checkpoint vouches for the file.
    """
    path = Path(file)
    beside = path.with_name(path.name + CHECKPOINT_SUFFIX)
    note = _read(outside) if outside else _read(str(beside)) if beside.exists() else None
    with _progress() as told:
        verdict = verify(path, read_keys(keys), outside=note, told=told)
    if as_json:
        for damage in verdict.damages:
            print_json(damage)
        print_json(_summary(verdict))
    else:
        for damage in verdict.damages:
            click.echo(f"FAIL  {printable(damage, 1000)}")
        if verdict.damage_count > len(verdict.damages):
            click.echo(f"FAIL  and {verdict.damage_count - len(verdict.damages)} more")
        click.echo(_sentence(verdict))
    if not verdict.sound:
        sys.exit(EXIT_FAILURE)


def _summary(verdict: Verdict) -> dict[str, object]:
    names = ("origin", "events", "units", "checkpoints", "sealed", "damage_count", "sound")
    return {name: getattr(verdict, name) for name in names}


def _sentence(verdict: Verdict) -> str:
    about = f"{verdict.events} events, {verdict.units} units, {verdict.checkpoints} checkpoints"
    if verdict.damage_count:
        return (
            f"NOT SOUND: {verdict.damage_count} findings in {about}; keep the file as it is, call the security officer"
        )
    if not verdict.checkpoints:
        return f"NOT PROVEN: nothing is wrong in {about}, and no checkpoint vouches for that"
    rest = verdict.events - verdict.sealed
    return f"sound: {about}; {verdict.sealed} events are sealed, {rest} came later and are not yet"


@contextmanager
def _progress() -> Iterator["partial[None]"]:
    """Show a bar on a terminal."""
    columns = (TextColumn("checking"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def told(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        yield partial(told)


@command(
    "prove",
    examples=["station manifest prove SN000001", f"station manifest prove SN000001 --output board{SUFFIX}"],
)
@click.argument("identity", type=IDENTITY)
@config_option
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False), help=f"File to write; by default SERIAL{SUFFIX}. '-': stdout."
)
@click.option("--force", is_flag=True, help="Write over another file of that name.")
def prove(identity: str, config_path: str, output: str | None, *, force: bool) -> None:
    """Write the proof that a unit passed.

    For the customer who has the board.

    IDENTITY is its product serial, its hardware id, the serial of one of its certificates (hex), or the SHA-256 of its
    public key (hex). The file holds the event of the pass, its way up the ledger and the signed head; it is checked
    with 'station manifest check-proof', or any tool for C2SP tlog-proof. May be done while the station runs. A file
    that is there is not overwritten, unless it holds this very proof.
    """
    path = load(Path(config_path)).station.manifest
    with ManifestReader(path) as manifest:
        history = manifest.unit(identity)
    if history is None:
        raise StationError(f"no unit is known as '{identity}'; 'station unit list' shows those that are")
    with LedgerReader(path) as reader:
        number = reader.pass_event(history.unit.id)
        row = None if number is None else reader.event(number)
        if number is None or row is None:
            raise StationError(f"unit {history.unit.hardware_id} has not passed: there is nothing to prove")
        newest = reader.newest_checkpoint(covering=number)
        if newest is None or newest.note is None:
            raise NotYetSealed(
                f"unit {history.unit.hardware_id} passed after the last checkpoint; wait for the next one, or make "
                "one with 'station manifest checkpoint'"
            )
        way = tuple(Tree(reader).inclusion(number - 1, newest.tree_size))
        proof = LedgerProof(leaf_of(row), number - 1, way, newest.note)
    if output == "-":
        click.echo(proof.serialize(), nl=False)
        return
    target = Path(output or f"{history.unit.product_serial}{SUFFIX}")
    if target.resolve() == path.resolve():
        raise StationError(f"{target} is the manifest itself; name another file")
    text = proof.serialize().encode()
    if target.exists() and not force and target.read_bytes() != text:
        raise StationError(
            f"{target} is there already, and holds something else: an earlier proof, maybe, which stays as good as "
            "it was. Name another file with --output, or add --force to write over it"
        )
    replace_file(target, text)
    click.echo(f"wrote {target}", err=True)


@command(
    "check-proof",
    examples=[
        f"station manifest check-proof SN000001{SUFFIX} --key line-1.vkey",
        f"station manifest check-proof SN000001{SUFFIX} --key ledger.pem --certificate leaf.pem --json",
    ],
)
@click.argument("file", type=click.Path(dir_okay=False))
@key_option
@click.option("--certificate", type=click.Path(dir_okay=False), help="The board's certificate (PEM): is it the one?")
@json_option("Write one JSON object: what was proven.")
def check_proof(file: str, keys: tuple[str, ...], certificate: str | None, *, as_json: bool) -> None:
    """Check the proof that a unit passed.

    Needs the public key and nothing else.

    With --certificate also that the proof is about this certificate, and that the board signed its challenge with the
    key in it. Exit 1 if any of that is not so, or the event is not that of a pass.
    """
    leaf: x509.Certificate | None = load_certificate(Path(certificate)) if certificate else None
    proven = check(LedgerProof.parse(_read(file)), read_keys(keys), leaf)
    event, head = proven.event, proven.checkpoint.checkpoint
    facts = {
        "event": event.id,
        "at": event.at,
        "step": event.step,
        **{name: event.facts.get(name, "") for name in ("product_serial", "hardware_id", "certificate_sha256")},
        "log": head.origin,
        "sealed_events": head.size,
        "key": proven.checkpoint.key.vkey(),
    }
    if leaf is not None:
        facts |= {"certificate_matches": True, "board_signature_checked": proven.board_signed}
    if as_json:
        print_json(facts)
        return
    print_fields([(name.replace("_", " "), printable(value)) for name, value in facts.items()])
    click.echo("proven: this event is in the ledger that the key signed", err=True)

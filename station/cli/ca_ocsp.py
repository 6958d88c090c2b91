"""``station ca ocsp``."""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hsm import Authority, KeyKind, KeyMissing, Profile, Signer, TokenGroup, find_key
from hsm.algorithms import scheme_of
from hsm.files import replace_file
from hsm.journal import CaJournal, certificate_sha256
from hsm.journal.operations import tally_signatures
from hsm.key_store import destroy_key
from hsm.ocsp import (
    OcspApplication,
    OcspResponder,
    PresignedFolder,
    Presigning,
    Progress,
    Signing,
    presign,
)
from hsm.ocsp.admission import PER_CLIENT, Admission
from hsm.ocsp.delegation import PROFILE, delegate
from hsm.ocsp.presigned import window_of
from hsm.ocsp.responder import MAX_WAITING
from hsm.ocsp.server import listen, serve
from station.cli.ca_journal import Records, open_journal
from station.cli.ca_responder import Speaker
from station.cli.commands import Group, config_option, json_option
from station.cli.output import print_json
from station.config import Config, span
from station.errors import StationError
from station.signing import open_signer, rules_of

_KEYS: Final = [kind.value for kind in KeyKind if kind is not KeyKind.ED25519]


class _Span(click.ParamType[timedelta]):
    """A span of time on the command line."""

    name = "SPAN"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        found = value if isinstance(value, timedelta) else span(str(value))
        if found is None:
            self.fail(f"'{value}' is not a span of time; write 90m, 12h or 7d", param, ctx)
        return found


_certificate_option = click.option(
    "--certificate", type=click.Path(dir_okay=False), metavar="PEM", help="The responder's; left out: ca/ocsp.pem."
)
_issuer_option = click.option(
    "--issuer", type=click.Path(dir_okay=False), metavar="PEM", help="Certificate of an [[issuer]] in place of [ca]."
)
_token_option = click.option(
    "--token",
    metavar="URI",
    envvar="STATION_OCSP_TOKEN",
    help="Token with the responder's key; left out: the CA's own. A responder on the web has one of its own.",
)


@click.group(
    "ocsp",
    cls=Group,
    examples=["station ca ocsp init", "station ca ocsp presign /srv/ocsp", "station ca ocsp serve --listen [::]:8080"],
)
def ocsp() -> None:
    """Answer by OCSP whether certificates are good."""


@ocsp.command(
    "init",
    examples=[
        "station ca ocsp init",
        "station ca ocsp init --renew --token 'pkcs11:token=ocsp?module-name=softhsm2&pin-source=prompt:'",
    ],
)
@config_option
@_issuer_option
@_token_option
@click.option("--key", type=click.Choice(_KEYS), default=KeyKind.P256.value, show_default=True, help="Kind of the key.")
@_certificate_option
@click.option("--renew", is_flag=True, help="Make a new key and certificate in place of those that are there.")
@json_option("Write one JSON object.")
def init_command(  # noqa: PLR0913 (one option each)
    *,
    config_path: str,
    issuer: str | None,
    token: str | None,
    key: str,
    certificate: str | None,
    renew: bool,
    as_json: bool,
) -> None:
    """Make the key that signs OCSP answers.

    The key is made in the token and stays there; the CA certifies that it may sign OCSP answers and nothing else
    (profile ocsp-signer, 30 days). Renew it in time: keys of certificates that have expired are destroyed then.
    """
    speaker = Speaker.of(config_path, issuer, token, certificate)
    out = speaker.certificate
    if out.exists() and not renew:
        raise StationError(f"{out} is there already; add --renew for a new key and a new certificate")
    made, destroyed = asyncio.run(_delegate(speaker, KeyKind(key)))
    replace_file(out, made.public_bytes(Encoding.PEM))
    until = made.not_valid_after_utc
    if as_json:
        print_json({"file": out, "serial": f"{made.serial_number:032x}", "not_after": until, "destroyed": destroyed})
        return
    click.echo(f"made {made.subject.rfc4514_string()}, valid until {until:%Y-%m-%d}: {out}")
    if destroyed:
        click.echo(f"destroyed {destroyed} keys whose certificates have expired")
    if renew:
        click.echo("next: start 'station ca ocsp serve' again, and presign again")


async def _delegate(speaker: Speaker, kind: KeyKind) -> tuple[x509.Certificate, int]:
    config, place = speaker.config, speaker.place
    with open_journal(config) as journal, ExitStack() as opened:
        own = opened.enter_context(speaker.open_token(writable=True))
        signing: Signer | TokenGroup = own
        if speaker.token not in place.tokens.uris:
            signing = open_signer(config.ca, place.tokens)
            opened.callback(signing.close)
        authority = await Authority.open(signing, issuer=place.issuer, rules=rules_of(place.tokens))
        now = datetime.now(UTC)
        profile = Profile.load(PROFILE)
        if place.pss or scheme_of(place.issuer).pss:
            profile = replace(profile, rsa_pss=True)
        made = await delegate(
            authority, journal, own, station_id=config.station.id, now=now, kind=kind, profile=profile
        )
        with journal.reader() as reader:
            expired = [
                record.certificate
                for record in reader.issuances(issuer=certificate_sha256(place.issuer))
                if record.profile == PROFILE and record.certificate is not None and record.not_after < now
            ]
        destroyed = 0
        for certificate in expired:
            try:
                public = x509.load_der_x509_certificate(certificate).public_key()
                destroy_key(find_key(own, public))  # type: ignore[arg-type]  # the profile allows no other keys
                destroyed += 1
            except KeyMissing:
                continue
        return made, destroyed


@ocsp.command("presign", examples=["station ca ocsp presign /srv/ocsp", "station ca ocsp presign ocsp/ --valid 3d"])
@click.argument("folder", type=click.Path(file_okay=False), metavar="DIR")
@config_option
@_issuer_option
@_token_option
@_certificate_option
@click.option("--valid", type=_Span(), default="7d", show_default=True, help="How long an answer is valid.")
@click.option(
    "--renew-within", type=_Span(), default="2d", show_default=True, help="Leave answers alone that are valid longer."
)
@json_option("Write one JSON object.")
def presign_command(  # noqa: PLR0913 (one option each)
    folder: str,
    *,
    config_path: str,
    issuer: str | None,
    token: str | None,
    certificate: str | None,
    valid: timedelta,
    renew_within: timedelta,
    as_json: bool,
) -> None:
    """Sign OCSP answers ahead.

    One about every certificate on record. DIR can be handed out by any web server: each file's path is that of the GET
    request that it answers. Run it again, from a timer and after a revocation: what still says the right thing and is
    valid long enough is left alone. It can be broken off at any moment.
    """
    speaker = Speaker.of(config_path, issuer, token, certificate)
    began = datetime.now(UTC)
    with _bar(as_json=as_json) as watch:
        progress = asyncio.run(_presign(speaker, Path(folder), (valid, renew_within), watch))
    seconds = (datetime.now(UTC) - began).total_seconds()
    if as_json:
        print_json({"signed": progress.signed, "fresh": progress.fresh, "seconds": round(seconds, 3)})
    else:
        click.echo(f"signed {progress.signed}, left {progress.fresh} as they are, in {seconds:.1f} s: {folder}")


async def _presign(
    speaker: Speaker, folder: Path, spans: tuple[timedelta, timedelta], watch: Callable[[Progress], None]
) -> Progress:
    with Records(speaker.config) as records:
        serials = [*records.recorded(speaker.issuer)]
    with speaker.statuses() as statuses:
        async with speaker.responder() as responder:
            count = partial(_count_in_turn, speaker.config, certificate_sha256(responder.certificate))
            items = ((serial, statuses.status(serial)) for serial in serials)
            place = PresignedFolder(folder, speaker.issuer)
            return await presign(place, Presigning(responder, *spans, count), items, lambda: datetime.now(UTC), watch)


async def _count_in_turn(config: Config, signer: bytes, number: int) -> None:
    """Count signatures in the CA's journal, which is open only meanwhile: others have their turn between."""

    def count() -> None:
        with open_journal(config) as journal:
            journal.perform_blocking(partial(tally_signatures, kind="ocsp", issuer=signer, number=number))

    await asyncio.to_thread(count)


@ocsp.command(
    "serve", examples=["station ca ocsp serve --listen 127.0.0.1:8080", "station ca ocsp serve --presigned /srv/ocsp"]
)
@config_option
@_issuer_option
@_token_option
@_certificate_option
@click.option(
    "--listen", "address", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", help="Where to listen."
)
@click.option("--path", default="/", show_default=True, help="Path of the URL in the certificates.")
@click.option("--presigned", type=click.Path(file_okay=False), metavar="DIR", help="Folder of 'ca ocsp presign'.")
@click.option("--valid", type=_Span(), default="12h", show_default=True, help="How long a fresh answer is valid.")
@click.option("--max-age", type=_Span(), default="1h", show_default=True, help="How long caches may keep an answer.")
@click.option(
    "--per-client",
    type=click.FloatRange(0, 1_000_000),
    default=PER_CLIENT,
    show_default=True,
    help="Answers a second for one address; 0: no limit.",
)
@click.option(
    "--waiting",
    type=click.IntRange(1, 100_000),
    default=MAX_WAITING,
    show_default=True,
    help="Answers that may wait for the token at once.",
)
def serve_command(  # noqa: PLR0913 (one option each)
    *,
    config_path: str,
    issuer: str | None,
    token: str | None,
    certificate: str | None,
    address: str,
    path: str,
    presigned: str | None,
    valid: timedelta,
    max_age: timedelta,
    per_client: float,
    waiting: int,
) -> None:
    """Answer OCSP requests over HTTP.

    It works until it is told to stop. RFC 6960 by GET and POST, with nonces; what caches are told is RFC 5019's. Every
    answer follows the CA's journal as it is at that moment. A certificate that was never issued is 'unknown', one of
    another CA 'unauthorized'. Who asks too often, or while too many wait for the token, gets HTTP 503 and is told when
    to ask again.
    """
    host, port = _address(address)
    speaker = Speaker.of(config_path, issuer, token, certificate)
    folder = None if presigned is None else PresignedFolder(Path(presigned), speaker.issuer)
    application = partial(OcspApplication, path=path, max_age=max_age, admission=Admission(per_client))
    responding = partial(OcspResponder, presigned=folder, most_waiting=waiting)
    number = asyncio.run(_serve(speaker, (host, port), valid, responding, application))
    if number == signal.SIGINT:
        raise KeyboardInterrupt


async def _serve(
    speaker: Speaker,
    address: tuple[str, int],
    valid: timedelta,
    responding: Callable[..., OcspResponder],
    application: Callable[[OcspResponder], OcspApplication],
) -> int:
    with listen(*address) as listening, CaJournal.open(speaker.counts) as counts, speaker.statuses() as statuses:
        async with speaker.responder() as responder:
            window_of(responder.certificate, datetime.now(UTC), valid)  # with one that is over there is no answer
            count = partial(counts.count_signature, "ocsp", certificate_sha256(responder.certificate))
            answering = responding(
                speaker.issuer, Signing(responder, count, valid), statuses, clock=lambda: datetime.now(UTC)
            )
            told = f"answering at http://{address[0]}:{listening.getsockname()[1]}"
            return await serve(application(answering), listening, ready=lambda: click.echo(told))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 (16 bits)
        raise click.UsageError(f"'{text}' is not HOST:PORT, like 127.0.0.1:8080 or [::]:8080")
    return host.strip("[]"), int(port)


@contextmanager
def _bar(*, as_json: bool) -> Iterator[Callable[[Progress], None]]:
    """Show how far it is, on a terminal."""
    if as_json or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 (only where there is a terminal to draw on)

    console = Console(stderr=True)
    with console.status("signing") as status:
        yield lambda progress: status.update(f"signed {progress.signed}, {progress.fresh} left as they are")

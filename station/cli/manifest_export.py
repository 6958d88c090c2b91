"""``station manifest export``, the parcels: folders of files for a cloud, recorded and signed."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from hsm import Signer, TokenUri
from station.cli.commands import Command, config_option, json_option
from station.cli.output import print_json
from station.config import Config, load
from station.config.certificates import load_certificate
from station.config.section import nearest
from station.errors import StationError
from station.exports.aws import Accounts, Bulk
from station.exports.azure import Azure
from station.exports.handover import ExportTarget, Terms, check_parcel, hand_over
from station.exports.jws_manifest import JwsManifest
from station.exports.leaf import Issuer
from station.exports.matter import Matter
from station.exports.naming import Naming
from station.exports.nrfcloud import FIRMWARE_TYPES, NrfCloud
from station.exports.signature import KEY_FILE, TokenSeal, make_export_key, open_seal, read_export_key, thumbprint
from station.exports.tables import Form, Table
from station.line.asked_book import opened_book
from station.manifest import ManifestReader, UnitState
from station.manifest.handing import Lacking, Which
from station.signing import open_signer

_DEFAULT_NAME: Final = "{product_serial}"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What all parcels are asked with."""

    config: Config
    out: Path
    naming: Naming
    recipient: str | None
    which: Which
    order: str | None
    issuer_file: str | None
    sign: bool
    as_json: bool

    def issuer(self) -> Issuer:
        """Load the CA's certificate."""
        path = self.config.ca.certificate if self.issuer_file is None else Path(self.issuer_file)
        return Issuer.of(load_certificate(path))


def key_file(config: Config) -> Path:
    """Return where the public half of the export key lies."""
    return config.ca.certificate.with_name(KEY_FILE)


def _parcel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all parcels share; the function gets them as one ``_Asked``."""

    @wraps(function)  # click keeps a command's options at the function
    def run(**options: Any) -> None:  # noqa: ANN401 (click's)
        asked = _Asked(
            load(Path(options.pop("config_path"))),
            Path(options.pop("output")),
            Naming.parse(options.pop("naming")),
            options.pop("recipient"),
            Which(options.pop("which")),
            options.pop("order"),
            options.pop("issuer_file"),
            options.pop("sign"),
            options.pop("as_json"),
        )
        function(asked, **options)

    shared = (
        config_option,
        click.option("--output", "-o", required=True, type=click.Path(), help="Folder to make; must not be there yet."),
        click.option(
            "--to", "recipient", metavar="NAME", help="Who gets it: then it is recorded, and holds what is new."
        ),
        click.option(
            "--which",
            type=click.Choice([which.value for which in Which]),
            default=Which.NEW.value,
            show_default=True,
            help="With --to: what was never handed to it, what it rejected, or all.",
        ),
        click.option("--order", help="Only units of this order."),
        click.option(
            "--name", "naming", default=_DEFAULT_NAME, show_default=True, metavar="TEXT", help="What a unit is called."
        ),
        click.option(
            "--issuer",
            "issuer_file",
            type=click.Path(dir_okay=False),
            help="The CA's certificate, if not that of [ca].",
        ),
        click.option("--sign/--no-sign", default=True, help="Whether the export key signs, where there is one."),
        json_option("Write one JSON object: folder, units, export, signed."),
    )
    for option in reversed(shared):
        run = option(run)
    return run


@click.command("aws", cls=Command, examples=["station manifest export aws --policy devices --to acme-prod -o aws-0001"])
@_parcel
@click.option("--policy", required=True, metavar="NAME", help="AWS IoT policy that the certificates get.")
@click.option("--thing-type", metavar="NAME", help="Thing type.")
@click.option("--thing-group", "thing_groups", multiple=True, metavar="NAME", help="Thing group; may be repeated.")
@click.option("--billing-group", metavar="NAME", help="Billing group.")
def export_aws(
    asked: _Asked, *, policy: str, thing_type: str | None, thing_groups: tuple[str, ...], billing_group: str | None
) -> None:
    """Write units for AWS IoT's bulk registration.

    things.ndjson and template.json are for start-thing-registration-task, in an account in which the CA (ca.pem) is
    registered; 'station ca verification' makes the certificate that registering it takes.
    """
    target = Bulk(asked.issuer(), asked.naming, policy, thing_type, thing_groups, billing_group)
    _hand_over(asked, target)


@click.command(
    "aws-accounts", cls=Command, examples=["station manifest export aws-accounts --to acme-eu -o aws-eu-0001"]
)
@_parcel
def export_aws_accounts(asked: _Asked) -> None:
    """Write units for many AWS accounts.

    For those that don't know the CA. Each line of registrations.ndjson holds what register-certificate-without-ca
    takes.
    """
    _hand_over(asked, Accounts(asked.issuer(), asked.naming))


@click.command(
    "azure",
    cls=Command,
    examples=[
        "station manifest export azure --group sensors --to dps-eu -o azure-0001",
        "station manifest export azure --group sensors --individual --hub eu.azure-devices.net -o azure-0001",
    ],
)
@_parcel
@click.option("--group", required=True, metavar="ID", help="Id of the enrolment group.")
@click.option("--hub", metavar="HOST", help="Host name of the IoT Hub.")
@click.option("--individual", is_flag=True, help="Single enrolments too, ten a bulk call.")
def export_azure(asked: _Asked, *, group: str, hub: str | None, individual: bool) -> None:
    """Write units for Azure DPS.

    That is Azure's Device Provisioning Service. An enrolment group needs no list of devices, but each has to register
    under its certificate's CN: that is checked here, and by the profile azure-dps before a certificate is signed.
    """
    _hand_over(asked, Azure(asked.issuer(), asked.naming, group, hub, individual))


@click.command(
    "nrfcloud",
    cls=Command,
    examples=["station manifest export nrfcloud --name 'nrf-{hardware_id}' --tag line-2 --to nrf-team -o nrf-0001"],
)
@_parcel
@click.option("--sub-type", default="", metavar="TEXT", help="Sub type of the devices.")
@click.option("--tag", "tags", multiple=True, metavar="TEXT", help="A tag; may be repeated.")
@click.option(
    "--firmware-type", "firmware_types", multiple=True, type=click.Choice(FIRMWARE_TYPES), help="May be repeated."
)
def export_nrfcloud(asked: _Asked, *, sub_type: str, tags: tuple[str, ...], firmware_types: tuple[str, ...]) -> None:
    """Write onboarding files for nRF Cloud.

    A thousand units each.
    """
    _hand_over(asked, NrfCloud(asked.issuer(), asked.naming, sub_type, tags, firmware_types))


@click.command(
    "matter", cls=Command, examples=["station manifest export matter --issuer ca/pai.pem --to pki-team -o dacs-0001"]
)
@_parcel
@click.option("--onboarding", is_flag=True, help="Draw passcode, discriminator and verifier for each unit; needs --to.")
def export_matter(asked: _Asked, *, onboarding: bool) -> None:
    """Write Matter attestation certificates.

    DACs, their PAI and their CNs. With --onboarding also passcodes, which are secret, and drawn here and never again:
    so the export is recorded, and no unit gets a second one by mistake.
    """
    if onboarding and (asked.recipient is None or asked.which is not Which.NEW):
        raise StationError(
            "--onboarding draws each unit's passcode once, so it needs --to, and --which new", code="export.onboarding"
        )
    _hand_over(asked, Matter(asked.issuer(), asked.naming, onboarding))


@click.command(
    "jws", cls=Command, examples=["station manifest export jws --organization 'Acme GmbH' --to cloud -o jws-0001"]
)
@_parcel
@click.option("--organization", required=True, metavar="NAME", help="Who makes the units.")
def export_jws(asked: _Asked, *, organization: str) -> None:
    """Write units as signed objects.

    One a unit, in the form of Microchip's manifests for secure elements. The export key signs each ('station manifest
    export-key').
    """
    with ExitStack() as stack:
        seal = _seal(asked, stack)
        if seal is None:
            raise StationError(
                f"this target is made of signatures: {key_file(asked.config)} has to be there, and --no-sign left out; "
                "'station manifest export-key' makes the key",
                code="export.key",
            )
        _hand_over(asked, JwsManifest(asked.issuer(), asked.naming, seal, organization), seal)


@click.command(
    "table", cls=Command, examples=["station manifest export table --form parquet --to warehouse -o units-0001"]
)
@_parcel
@click.option(
    "--form",
    type=click.Choice([form.value for form in Form]),
    default=Form.CSV.value,
    show_default=True,
    help="parquet needs the extra of that name.",
)
def export_table(asked: _Asked, *, form: str) -> None:
    """Write units as a table, recorded and signed.

    The columns are those of 'export csv', which is for a look without a record.
    """
    _hand_over(asked, Table(Form(form), asked.naming))


def _hand_over(asked: _Asked, target: ExportTarget, seal: TokenSeal | None = None) -> None:
    config = asked.config
    lacking = None if asked.recipient is None else Lacking(target.name, _recipient(asked.recipient), asked.which)
    with ExitStack() as stack:
        book = None if lacking is None else stack.enter_context(opened_book(config.station.manifest))
        if seal is None:
            seal = _seal(asked, stack)
        reader = stack.enter_context(ManifestReader(config.station.manifest))
        check_order(reader, asked.order)
        units = reader.export(state=UnitState.PASSED, order=asked.order, lacking=lacking)
        terms = Terms(asked.recipient or "", config.station.id, asked.order)
        done = hand_over(target, units, asked.out, terms, book=book, seal=seal)
    if asked.as_json:
        print_json({"folder": done.path, "units": done.units, "export": done.export_id, "signed": done.signed})
    elif done.path is None:
        whom = f" for {asked.recipient}" if asked.recipient else ""
        click.echo(f"nothing{whom}: no unit to hand out; no folder was made", err=True)
    else:
        what = (
            f"export {done.export_id} to {asked.recipient}"
            if done.export_id
            else "not recorded: name who gets it with --to"
        )
        signed = "signed" if done.signed else "not signed"
        click.echo(f"{done.path}: {done.units} units, {signed}; {what}", err=True)


def check_order(reader: ManifestReader, name: str | None) -> None:
    """Refuse an order that is not there: a mistyped one would have no units, and nobody would notice.

    Raises:
        StationError: names the orders that are.
    """
    known = reader.order_names()
    if name is not None and name not in known:
        raise StationError(
            f"there is no order '{name}' in this manifest; {nearest(name, known)}", code="export.no_order"
        )


def _recipient(text: str) -> str:
    if not 0 < len(text) <= 64 or not (text.isascii() and text.isprintable()):  # noqa: PLR2004 - as the schema has it
        raise StationError(
            f"--to {text!r}: a recipient has 1 to 64 printable ASCII characters", code="export.recipient"
        )
    return text


def _seal(asked: _Asked, stack: ExitStack) -> TokenSeal | None:
    path = key_file(asked.config)
    if not asked.sign or not path.exists():
        return None
    signer = stack.enter_context(closing(open_signer(asked.config.ca)))
    return open_seal(signer, path)


@click.command("export-key", cls=Command, examples=["station manifest export-key"])
@config_option
def export_key(config_path: str) -> None:
    """Make the key that signs exports.

    It is made in the token of [ca] and can't leave it. Its public half is written beside the CA's certificate as
    export.pem: give that to those who check what they get. From then on exports are signed.
    """
    config = load(Path(config_path))
    path = key_file(config)
    uri = TokenUri.parse(config.ca.token)
    with closing(
        Signer.open(uri, environment=config.ca.environment, counts=config.ca.signatures, writable=True)
    ) as signer:
        public = make_export_key(signer, path)
    click.echo(f"export key {thumbprint(public)}: {path}")


@click.command("check-export", cls=Command, examples=["station manifest check-export aws-0001 --key export.pem"])
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option("--key", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Public half of the key.")
@json_option("Write the statement as one JSON object.")
def check_export(folder: Path, key: Path, *, as_json: bool) -> None:
    """Check a parcel as its recipient does.

    The signature of export.json, and each file against it. Needs no configuration and no token.
    """
    statement = check_parcel(folder, read_export_key(key))
    if as_json:
        print_json(statement)
    else:
        files: Sequence[object] = statement["files"]  # type: ignore[assignment]  # check_parcel walked over them
        click.echo(
            f"{folder}: signed, and whole: {statement['units']} units in {len(files)} files for "
            f"{statement['recipient'] or 'nobody named'}, made {statement['made_at']}"
        )


COMMANDS: Final = (
    export_aws,
    export_aws_accounts,
    export_azure,
    export_nrfcloud,
    export_matter,
    export_jws,
    export_table,
)
"""What ``station manifest export`` has besides the plain tables."""

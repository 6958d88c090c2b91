"""A certificate would live past its issuer's end, and its profile wants none such: nobody gets a number for it."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from bench.copied_ca import with_copied_ca

from station.manifest import ManifestReader

DAY = timedelta(days=1)
LIFE = 3650
"""Days of a certificate of ``tls-client``, whose profile refuses one that outlives its issuer."""


@pytest.fixture
def under_tls_client(line):
    """The line, under an order for such certificates."""
    text = line.config.read_text().replace('profile = "idevid"', 'profile = "tls-client"')
    line.config.write_text(text.replace('name = "WO-0001"', 'name = "WO-2"'))
    terms = ("--product", "reference-device", "--profile", "tls-client", "--quantity", "9", "--first", "1000")
    made = line.typed(
        *("order", "create", "--name", "WO-2", *terms, "--until", "2099-01-01"),
        *("--station", "1:9", "--station-key", "1=ca/ledger.pem"),
    )
    assert made.returncode == 0, made.stderr
    token = re.search(r'token = "pkcs11:token=intermediate(.*)"', text)[1].replace("intermediate", "oem")
    key = f"pkcs11:token=oem;object=order-key{token}"
    signed = line.typed("order", "sign", "WO-2.order.json", "--yes", "--key", key)
    assert signed.returncode == 0, signed.stderr
    return line


def serials(line):
    with ManifestReader(line.manifest) as reader:
        return {unit.product_serial for unit in reader.units()}


def test_an_issuer_that_ends_too_soon_costs_no_number_and_boards_pass_once_it_is_renewed(under_tls_client):
    line = under_tls_client
    ca = with_copied_ca(line.folder, ["intermediate"], datetime.now(UTC) + (LIFE - 1) * DAY)
    imported = line.typed("order", "import", "WO-2.order.json")
    assert imported.returncode == 0, imported.stderr

    done = line.station("run", "--once", "--json")
    events = [json.loads(text) for text in done.stdout.splitlines()]
    failed = [event for event in events if event.get("state") == "failed"]
    assert done.returncode == 1
    assert {event["code"] for event in failed} == {"issuance.past_issuer"}
    assert {event["sentence"] for event in failed} == {
        "The CA ends too soon to sign for this board. Put the board aside and call the line engineer."
    }
    assert any(event.get("code") == "line.station_fault" for event in events)
    assert serials(line) == {None}
    assert json.loads(line.typed("order", "show", "--json").stdout)["begun"] == 0
    assert "the certificate would be valid until" in line.typed("doctor").stdout

    ca.issue(datetime.now(UTC) + (LIFE + 1) * DAY)
    again = line.station("run", "--once")
    assert again.returncode == 0, again.stdout + again.stderr
    assert serials(line) == {f"SN{number:06d}" for number in range(1000, 1004)}
    audit = line.typed("ca", "audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr

"""One key, one certificate, across the line's record and the CA's: each side looks into the other's."""

import asyncio
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from hsm.testing import make_csr
from station.cli.root import root
from station.config import load
from station.devices.smp import SmpDriver
from station.events import SlotState
from station.key_holders import KeyHolders
from station.line.daemon import opened
from station.line.unit import UnitRun
from station.manifest import Manifest
from station.manifest.testing import ORDER, SoftBoard, issue
from station.testing import ScriptedBoard

CLIENT = ("--profile", "tls-client", "--field", "product_serial=x")


def station(*arguments, exit_code=0):
    result = CliRunner().invoke(root, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Make the folder of a line with a CA on SoftHSM; each test brings keys of its own."""
    folder = tmp_path_factory.mktemp("line") / "line"
    station("init", folder, "--softhsm", "--rehearsal", "2")
    return folder


@pytest.fixture
def config(line):
    return "--config", line / "station.toml"


@pytest.fixture
def key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def csr(key, tmp_path):
    path = tmp_path / "requests" / "x.csr"
    path.parent.mkdir()
    path.write_bytes(make_csr(key))
    return path


async def provision(line, key, name):
    """Run a board with this key through the line."""
    config = load(line / "station.toml")
    config = replace(config, product=replace(config.product, firmware_version=None))
    async with opened(config) as shop:
        board = ScriptedBoard(hardware_id=name)
        board.key = key
        link = board.plug()
        end = await UnitRun(shop, SmpDriver(link), "1", lambda _: None).run()
        link.close()
        return end


def test_key_of_a_unit_gets_no_second_certificate_from_the_ca(line, config, key, csr):
    end = asyncio.run(provision(line, key, "unit"))
    assert end.state is SlotState.PASSED
    refused = station("ca", "issue", *config, *CLIENT, "--csr", csr, exit_code=1).stderr
    assert refused.count("\n") == 1
    assert "this key is that of unit SN" in refused
    assert "(manifest.db); renew its certificate on purpose (--renew)" in refused


def test_key_of_a_unit_is_refused_in_a_batch_with_its_code(line, config, key, csr):
    asyncio.run(provision(line, key, "batch"))
    (csr.parent / "other.csr").write_bytes(make_csr())
    said = station("ca", "sign-batch", csr.parent, *config, *CLIENT, "--batch", "b", "--json", exit_code=1).stdout
    found = {one["request"]: one["code"] for one in map(json.loads, said.splitlines()) if "request" in one}
    assert found == {"x": "issuance.key_certified", "other": ""}


def test_key_of_a_unit_is_renewed_on_purpose(line, config, key, csr, tmp_path):
    asyncio.run(provision(line, key, "renewed"))
    station("ca", "issue", *config, *CLIENT, "--csr", csr, "--renew", "--out", tmp_path / "new.pem")


def test_board_with_a_key_that_the_ca_certified_is_refused_before_anything_is_reserved(
    line, config, key, csr, tmp_path
):
    station("ca", "issue", *config, *CLIENT, "--csr", csr, "--out", tmp_path / "x.pem")
    end = asyncio.run(provision(line, key, "stolen"))
    assert (end.state, end.code) == (SlotState.FAILED, "unit.key_certified")
    assert "call the security officer" in end.sentence
    history = json.loads(station("unit", "show", *config, "--json", "stolen").stdout)
    assert history["product_serial"] is None


async def test_what_is_written_after_the_look_before_is_seen(tmp_path):
    """The record is read as it lies while nobody writes, beside the writer while one does, and as it lies again."""
    first, second = SoftBoard("first"), SoftBoard("second")
    path = tmp_path / "manifest.db"
    holder = KeyHolders.units(path)
    assert holder(first.spki_sha256) is None  # no manifest yet
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
        assert holder(first.spki_sha256) is None
        await issue(manifest, first)
        assert holder(first.spki_sha256) == "unit SN000001 (manifest.db)"
    assert holder(second.spki_sha256) is None  # reads it as it lies
    with Manifest.open(path) as manifest:
        await issue(manifest, second)
        assert holder(second.spki_sha256) == "unit SN000002 (manifest.db)"
    holder.close()
    assert holder(first.spki_sha256) == "unit SN000001 (manifest.db)"
    holder.close()

"""``station order``: the OEM's desk and the line, with real tokens."""

import asyncio
import contextlib
import io
import json
import os
import pwd
import shutil
import subprocess
from contextlib import closing
from types import SimpleNamespace
from unittest import mock

import pytest
from cryptography import x509

from hsm import KeyKind, TokenUri
from hsm.data_objects import read_notes
from hsm.key_store import find_key, generate_key
from hsm.profile_file import FOLDER
from softhsm import make_tokens
from station.cli.root import root
from station.config import load
from station.config.folder import make_line
from station.ledger.keying import read_ledger_key
from station.manifest import Manifest, ManifestReader
from station.manifest.testing import begin
from station.orders import jws
from station.signing import open_signer, open_token
from station.testing.orders import APPROVER, order_of

DEFAULT = ("--product", "reference-device", "--quantity", "5", "--until", "2040-01-01")


class Line:
    """A folder with tokens, a CA and an order, and who works in it."""

    def __init__(self, folder):
        self.folder = folder
        self.tokens = make_tokens(folder / "tokens", ["root", "intermediate", "oem", "second"])

    def __call__(self, *arguments, code=0):
        """Type a command here; it runs in this process, which saves most of a second each."""
        stdout, stderr = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.tokens.environment),
            mock.patch("sys.stdin", io.StringIO()),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            pytest.raises(SystemExit) as left,
        ):
            root.main(arguments, prog_name="station")
        assert left.value.code == code, stderr.getvalue()
        return SimpleNamespace(stdout=stdout.getvalue(), stderr=stderr.getvalue())

    def refused(self, *arguments):
        """Return the one line of a refusal."""
        done = self(*arguments, code=1)
        assert (done.stdout, done.stderr.count("\n")) == ("", 1)
        return done.stderr

    def key(self, token="oem"):  # noqa: S107 - a label
        return str(TokenUri.parse(self.tokens.uri(token)))

    def order(self, name, *arguments, signed=True):
        """Create an order, and sign it with the OEM's key."""
        self("order", "create", "--name", name, *DEFAULT, "--serial", name.replace("-", "") + "{number}", *arguments)
        if signed:
            self("order", "sign", f"{name}.order.json", "--key", self.key(), "--yes")
        return f"{name}.order.json"

    def edit(self, old, new):
        path = self.folder / "station.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orders") / "line"
    make_line(folder, ca_name="DEVELOPMENT", boards=1)
    line = Line(folder)
    line("order", "key", "--token", line.key("second"), "--out", "second.pem")
    return folder


@pytest.fixture
def line(made, tmp_path):
    shutil.copytree(made, tmp_path / "line")
    for path in (tmp_path / "line" / "station.toml", tmp_path / "line" / "tokens" / "softhsm2.conf"):
        path.write_text(path.read_text().replace(str(made), str(tmp_path / "line")))
    return Line(tmp_path / "line")


def orders(line):
    with ManifestReader(line.folder / "manifest.db") as reader:
        return {record.terms.name: record for record in reader.orders()}


def test_an_order_goes_from_the_oem_to_the_line(line):
    said = line("order", "import", line.order("WO-2")).stdout
    assert said.startswith("imported WO-2: 5 units, WO21 the first, signed by oem.pem\n")
    assert orders(line)["WO-2"].terms.quantity == 5
    assert json.loads(line("order", "show", "WO-2", "--json").stdout)["state"] == "ok"
    listed = line("order", "list", "--json").stdout.splitlines()
    assert [json.loads(row)["name"] for row in listed] == ["WO-0001", "WO-2"]


def test_an_order_imported_twice_changes_nothing(line):
    file = line.order("WO-2")
    line("order", "import", file)
    before = orders(line)
    said = json.loads(line("order", "import", file, "--json").stdout)
    assert said["new"] is False
    assert orders(line) == before


def test_the_token_remembers_in_which_manifest_an_order_is_used(line):
    line("order", "import", line.order("WO-2"))
    seal = orders(line)["WO-2"].terms.seal
    with closing(open_signer(load(line.folder / "station.toml").ca)) as signer:
        (note,) = read_notes(signer, f"order {seal.uid}")
    with ManifestReader(line.folder / "manifest.db") as reader:
        assert json.loads(note)["manifest"] == reader.identity()


def test_an_order_is_not_used_again_in_a_fresh_manifest(line):
    for path in line.folder.glob("manifest.db*"):
        path.unlink()
    assert "an order is used once" in line.refused("order", "import", "WO-0001.order.json")
    assert orders(line) == {}


def test_a_manifest_that_was_put_into_the_place_of_another_does_not_run(line, tmp_path):
    shutil.copytree(line.folder, tmp_path / "other")
    other = Line(tmp_path / "other")
    config = other.folder / "station.toml"
    for path in (config, other.folder / "tokens" / "softhsm2.conf"):
        path.write_text(path.read_text().replace(str(line.folder), str(other.folder)))
    for path in other.folder.glob("manifest.db*"):
        path.unlink()
    order = order_of("WO-0001", serial_format="X{number}")
    (other.folder / "oem.pem").write_bytes(APPROVER.pem)
    (other.folder / "x.order.json").write_text(APPROVER.sign(order).text())
    other("order", "import", "x.order.json")
    for path in other.folder.glob("manifest.db*"):
        shutil.copy(path, line.folder)
    shutil.copy(other.folder / "oem.pem", line.folder)
    assert "the token does not know this order" in line.refused("run", "--once")


def test_an_order_of_somebody_else_is_refused_and_no_token_woken(line):
    (line.folder / "x.order.json").write_text(APPROVER.sign(order_of("WO-2")).text())
    line.edit("pins/intermediate", "pins/nothing")
    assert "somebody else signed it" in line.refused("order", "import", "x.order.json")


def test_an_order_that_is_over_is_refused(line):
    file = line.order("WO-2", "--from", "2020-01-01", "--until", "2021-01-01")
    assert "order WO-2 ended on 2021-01-01" in line.refused("order", "import", file)


def test_an_order_that_has_not_begun_is_imported_and_not_run(line):
    line("order", "import", line.order("WO-2", "--from", "2039-01-01"))
    assert "order WO-2 begins on 2039-01-01" in line.refused("run", "--once", "--order", "WO-2")


def test_an_order_for_other_stations_is_refused(line):
    file = line.order("WO-2", "--station", "8:3", "--station", "9:2")
    assert "order WO-2 is for station 8, 9, and this is station 1" in line.refused("order", "import", file)


def test_two_stations_on_one_order_never_give_one_serial(line, tmp_path):
    file = line.order("WO-2", "--station", "1:3:1", "--station", "2:2")
    line("order", "import", file)
    second = tmp_path / "second"
    make_line(second, ca_name="DEVELOPMENT", boards=1)
    shutil.copy(line.folder / "oem.pem", second)
    shutil.copy(line.folder / file, second)
    two = Line(second)
    two.edit("id = 1 ", "id = 2 ")
    two("order", "import", file)
    mine, theirs = (orders(one)["WO-2"].terms for one in (line, two))
    assert [mine.product_serial(n) for n in range(4)] == ["WO21", "WO22", "WO23", "WO24"]
    assert [theirs.product_serial(n) for n in range(2)] == ["WO25", "WO26"]


def test_two_approvers_sign_where_the_policy_asks(line):
    line.edit('trusted = ["oem.pem"]', 'trusted = ["oem.pem", "second.pem"]')
    line.edit("approvals = 1 ", "approvals = 2 ")
    file = line.order("WO-2")
    assert "approved by oem.pem, and 2 different keys" in line.refused("order", "import", file)
    assert "signed this order before" in line.refused("order", "sign", file, "--key", line.key(), "--yes")
    line("order", "sign", file, "--key", line.key("second"), "--yes")
    assert "signed by oem.pem, second.pem" in line("order", "import", file).stdout


def test_another_order_of_the_same_name_is_refused_before_the_token_is_told(line):
    line("order", "import", line.order("WO-2"))
    (line.folder / "WO-2.order.json").unlink()
    assert "is in the manifest with other terms" in line.refused("order", "import", line.order("WO-2", "--first", "9"))


def test_an_order_that_would_give_serials_of_another_is_refused(line):
    line("order", "create", "--name", "WO-3", *DEFAULT, "--first", "50")
    line("order", "sign", "WO-3.order.json", "--key", line.key(), "--yes")
    assert "would give serials that order WO-0001 gives" in line.refused("order", "import", "WO-3.order.json")


def test_an_order_that_would_give_addresses_of_another_is_refused(line):
    line("order", "import", line.order("WO-2", "--mac", "02:00:5e:00:00:00-02:00:5e:00:00:ff"))
    other = line.order("WO-3", "--mac", "02:00:5e:00:00:04-02:00:5e:00:00:ff")
    refusal = line.refused("order", "import", other)
    assert "would give MAC addresses that order WO-2 gives (02:00:5e:00:00:04 is one of both)" in refusal


def test_an_order_is_remembered_by_all_tokens_or_not_imported(line):
    away = line.key().replace("token=oem", "token=unplugged")
    line.edit("[ca]\n", f'[ca]\ntokens = ["{away}"]\n')
    assert "each token of [ca] has to remember the order, and one is away" in line.refused(
        "order", "import", line.order("WO-2")
    )
    assert set(orders(line)) == {"WO-0001"}


def test_a_closed_order_does_not_run(line):
    assert line("order", "close", "WO-0001", "--reason", "delivered").stdout == "closed WO-0001\n"
    assert "was closed before" in line("order", "close", "WO-0001", "--reason", "again").stdout
    assert "delivered)" in line.refused("run", "--once")
    assert json.loads(line("order", "show", "--json", code=1).stdout)["state"] == "order.closed"


def test_an_order_is_closed_by_those_whom_the_configuration_names(line):
    path = line.folder / "station.toml"
    path.write_text(path.read_text() + '\n[life]\nactors = ["R. Vogel"]\n')
    asked = ("order", "close", "WO-0001", "--reason", "delivered")
    assert "may not do this here" in line.refused(*asked)
    assert "'mallory' may not do this here" in line.refused(*asked, "--actor", "mallory")
    line(*asked, "--actor", "R. Vogel")
    user = pwd.getpwuid(os.getuid()).pw_name
    assert orders(line)["WO-0001"].closed_reason == f"R. Vogel ({user}): delivered"


def test_an_order_for_another_product_does_not_run(line):
    line.edit('model = "reference-device"', 'model = "toaster"')
    assert "[product] model is 'toaster', and order WO-0001 is for 'reference-device'" in line.refused("run", "--once")


def test_an_order_for_another_file_of_the_profiles_name_does_not_run(line):
    own = line.folder / "idevid.toml"
    own.write_text((FOLDER / "idevid.toml").read_text().replace("max_size = 1536", "max_size = 1535"))
    line("order", "import", line.order("WO-3", "--profile", "idevid.toml"))
    line.edit('name = "WO-0001"', 'name = "WO-3"')
    assert "the SHA-256 of [ca] profile is" in line.refused("run", "--once")


def test_an_order_names_the_bundle_that_boards_get(line):
    file = line.order("WO-2", "--bundle-sha256", "ab" * 32)
    assert json.loads(line("order", "show", file, "--json").stdout)["bundle_sha256"] == "ab" * 32
    assert f"bundle sha256  {'ab' * 32}" in line("order", "show", file).stdout


def test_an_order_is_made_of_a_file(line):
    (line.folder / "wo.toml").write_text(
        'name = "WO-5"\nproduct = "sensor"\nquantity = 7\nstations = ["1:4:1", "3:3"]\nuntil = "2040-01-01"\n'
        'serial = "A{number:04d}{check}"\ncheck = "luhn"\nmac = "02:00:5e:00:00:00-02:00:5e:00:00:ff"\n'
    )
    said = json.loads(line("order", "create", "--from-file", "wo.toml", "--json").stdout)
    assert said["stations"]["3"] == {"quantity": 3, "first_number": 6, "scrap_allowance": 0}
    assert "signatures     none" in line("order", "show", "WO-5.order.json").stdout


WRONG = {
    "no budget": (["order", "create", "--name", "X", *DEFAULT, "--quantity", "0"], "an order is for 1 to"),
    "no end": (["order", "create", "--name", "X", "--product", "x", "--quantity", "5"], "'until' is missing"),
    "an end that is none": (["order", "create", "--name", "X", *DEFAULT, "--until", "soon"], "'until' is 'soon'"),
    "shares that don't add up": (["order", "create", "--name", "X", *DEFAULT, "--station", "1:4"], "add up to 4 units"),
    "a share that is none": (["order", "create", "--name", "X", *DEFAULT, "--station", "one"], "is no share"),
    "a station twice": (["order", "create", "--name", "X", *DEFAULT, "--station", "1:2", "--station", "1:3"], "twice"),
    "a check that is unknown": (["order", "create", "--name", "X", *DEFAULT, "--check", "md5"], "unknown check scheme"),
    "a file that is no TOML": (["order", "create", "--from-file", "oem.pem"], "not TOML"),
    "a file that is not there": (["order", "import", "none.order.json"], "No such file"),
    "a key as an order": (["order", "import", "oem.pem"], "not a JWS"),
    "an order that is binary": (["order", "import", "/bin/true"], "not a text file"),
    "an order that is unknown": (["order", "show", "WO-9"], "'WO-9' is not in the manifest"),
    "closing what is unknown": (["order", "close", "WO-9", "--reason", "x"], "no order 'WO-9'"),
    "running what is unknown": (["run", "--once", "--order", "WO-9"], "'WO-9' is not in the manifest"),
    "a key file that is there": (
        ["order", "key", "--token", "pkcs11:token=oem", "--out", "oem.pem"],
        "there already",
    ),
    "signing what is no order": (["order", "sign", "oem.pem", "--key", "pkcs11:token=oem", "--yes"], "not a JWS"),
    "a file as a key": (["order", "sign", "WO-0001.order.json", "--key", "oem.pem", "--yes"], "pkcs11:"),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_one_line(line, arguments, said):
    assert said in line.refused(*arguments)


def test_nobody_signs_without_having_seen_the_order(line):
    file = line.order("WO-2", signed=False)
    done = line("order", "sign", file, "--key", line.key(), code=130)  # nobody answers
    assert "WO-2" in done.stdout
    assert jws.parse((line.folder / file).read_text()).signatures == ()


def test_a_station_without_its_key_says_which_file(line):
    (line.folder / "oem.pem").unlink()
    assert "oem.pem: No such file or directory" in line.refused("run", "--once")


# -- the desk


def request(line, name="r"):
    subprocess.run(
        [
            *("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=x"),
        ],
        cwd=line.folder,
        check=True,
        capture_output=True,
    )
    return f"{name}.csr"


def test_the_desk_issues_identities_under_an_order_only(line):
    csr = request(line)
    issue = ("ca", "issue", "--profile", "idevid", "--csr", csr, "--field", "hardware_id=H1")
    assert "--order NAME" in line.refused(*issue, "--out", "a.pem")
    assert "SN000001" in line(*issue, "--out", "a.pem", "--order", "WO-0001").stdout
    assert orders(line)["WO-0001"].reserved == 1


def test_a_profile_file_of_ones_own_needs_an_order_unless_the_configuration_names_it(line):
    ours, own = (FOLDER / "idevid.toml").read_text(), line.folder / "mine.toml"
    rule = next(text for text in ours.splitlines(keepends=True) if text.startswith("order = "))
    fields = ("--field", "hardware_id=H1", "--field", "product_serial=X1", "--field", "model=m")
    issue = ("ca", "issue", "--profile", "mine.toml", "--csr", request(line), *fields, "--out", "a.pem")
    own.write_text(ours.replace(rule, ""))
    assert "--order NAME" in line.refused(*issue)
    own.write_text(ours.replace(rule, 'order = "none"\n'))
    assert "[ca] unordered in station.toml does not name it" in line.refused(*issue)
    line.edit("[ca]\n", '[ca]\nunordered = ["mine.toml"]\n')
    assert "X1" in line(*issue).stdout


def test_an_ordered_identity_is_not_renewed(line):
    issue = ("ca", "issue", "--profile", "idevid", "--csr", request(line), "--field", "hardware_id=H1")
    line(*issue, "--out", "a.pem", "--order", "WO-0001")
    assert "don't go together" in line.refused(*issue, "--out", "b.pem", "--order", "WO-0001", "--renew")
    batch = ("ca", "sign-batch", ".", "--profile", "idevid", "--order", "WO-0001", "--renew")
    assert "don't go together" in line.refused(*batch)


def test_a_hardware_id_that_the_desk_certified_gets_no_other_certificate(line):
    issue = ("ca", "issue", "--profile", "idevid", "--field", "hardware_id=H1", "--order", "WO-0001")
    line(*issue, "--csr", request(line, "a"), "--out", "a.pem")
    told = line.refused(*issue, "--csr", request(line, "b"), "--out", "b.pem")
    assert "hardware id 'H1' is that of the request with key" in told
    assert orders(line)["WO-0001"].reserved == 1


async def test_a_hardware_id_of_a_unit_gets_no_certificate_at_the_desk(line):
    with Manifest.open(line.folder / "manifest.db") as manifest:
        await begin(manifest, "H1", order="WO-0001")
    issue = ("ca", "issue", "--profile", "idevid", "--field", "hardware_id=H1", "--order", "WO-0001")
    told = await asyncio.to_thread(line.refused, *issue, "--csr", request(line), "--out", "a.pem")
    assert "hardware id 'H1' is that of a unit of the line" in told
    assert orders(line)["WO-0001"].reserved == 0


def test_the_desk_stops_where_the_order_ends(line):
    line("order", "import", line.order("WO-2", "--quantity", "1"))
    issue = ("ca", "issue", "--profile", "idevid", "--order", "WO-2", "--field")
    line(*issue, "hardware_id=H1", "--csr", request(line, "a"), "--out", "a.pem")
    told = line.refused(*issue, "hardware_id=H2", "--csr", request(line, "b"), "--out", "b.pem")
    assert "would be number 2 of 1" in told


def test_a_request_that_lacks_a_field_costs_the_order_no_number(line):
    issue = ("ca", "issue", "--profile", "idevid", "--order", "WO-0001", "--csr", request(line), "--out", "a.pem")
    assert "needs the field 'hardware_id'" in line.refused(*issue)
    assert orders(line)["WO-0001"].taken == 0


def test_a_key_that_the_ca_certified_without_an_order_costs_the_order_no_number(line):
    csr = request(line)
    other = ("ca", "issue", "--profile", "tls-client", "--field", "product_serial=X", "--csr", csr, "--out", "a.pem")
    line(*other)
    issue = ("ca", "issue", "--profile", "idevid", "--order", "WO-0001", "--field", "hardware_id=H1", "--csr", csr)
    assert "certified this key before" in line.refused(*issue, "--out", "b.pem")
    assert orders(line)["WO-0001"].taken == 0


def test_a_request_that_is_refused_with_a_number_is_shown_with_the_reason_until_it_is_issued(line):
    csr = request(line)
    issue = ("ca", "issue", "--profile", "idevid", "--order", "WO-0001", "--csr", csr, "--out", "a.pem", "--field")
    line.refused(*issue, f"hardware_id={'H' * 2000}")
    (refused,) = json.loads(line("order", "show", "--json").stdout)["refused_at_desk"]
    assert refused["product_serial"] == "SN000001"
    assert "SN000001" in line("order", "show").stdout
    assert "SN000001" in line(*issue, "hardware_id=H1").stdout
    assert json.loads(line("order", "show", "--json").stdout)["refused_at_desk"] == []


def sign_batch(line, *requests):
    """Sign requests, of which one is refused, under an order for a profile without hardware ids."""
    profile = (FOLDER / "tls-client.toml").read_text()
    (line.folder / "mine.toml").write_text(profile.replace('order = "none"', 'order = "required"'))
    line("order", "import", line.order("WO-2", "--profile", "mine.toml"))
    (line.folder / "batch").mkdir()
    for name, content in requests:
        (line.folder / "batch" / name).write_bytes(content)
    line("ca", "sign-batch", "batch", "--profile", "mine.toml", "--order", "WO-2", code=1)


def test_a_request_that_the_journal_refuses_with_a_number_is_shown_with_the_reason(line):
    sign_batch(line, *((name, (line.folder / request(line)).read_bytes()) for name in ("a.csr", "a.pem")))
    assert orders(line)["WO-2"].taken == 2
    (refused,) = json.loads(line("order", "show", "WO-2", "--json").stdout)["refused_at_desk"]
    assert refused["code"] == "journal.request_signed"


def test_a_second_request_of_a_key_that_gets_its_certificate_is_no_refusal_of_its_number(line):
    csr = (line.folder / request(line)).read_bytes()
    sign_batch(line, ("a.csr", csr), ("b.csr", csr))
    assert orders(line)["WO-2"].taken == 1
    with ManifestReader(line.folder / "manifest.db") as reader:
        assert reader.desk_refusals("WO-2") == ()


def test_a_hardware_id_in_another_case_gets_no_other_certificate_at_the_desk(line):
    issue = ("ca", "issue", "--profile", "idevid", "--order", "WO-0001")
    line(*issue, "--field", "hardware_id=AB12", "--csr", request(line, "a"), "--out", "a.pem")
    told = line.refused(*issue, "--field", "hardware_id=ab12", "--csr", request(line, "b"), "--out", "b.pem")
    assert "is that of the request with key" in told


# -- a share is that of a key


def test_a_share_is_made_by_the_station_whose_key_it_names(line):
    file = line.order("WO-2", "--station-key", "1=station.toml")
    assert "key " in line("order", "show", file).stdout
    line("order", "import", file)
    issue = ("ca", "issue", "--profile", "idevid", "--order", "WO-2", "--field", "hardware_id=H1", "--out", "a.pem")
    assert "WO21" in line(*issue, "--csr", request(line)).stdout


@pytest.mark.parametrize("key", ["ca/ledger.pem", "ca/intermediate.pem"])
def test_another_station_of_the_same_number_makes_nothing_of_it(line, tmp_path, key):
    file = line.order("WO-2", "--station-key", f"1={key}")
    twin = tmp_path / "twin"
    make_line(twin, ca_name="DEVELOPMENT", boards=1)
    for name in (file, "oem.pem"):
        shutil.copy(line.folder / name, twin)
    assert "it to the right station" in Line(twin).refused("order", "import", file)


def test_a_station_that_lost_its_key_takes_no_number(line):
    line("order", "import", line.order("WO-2", "--station-key", "1=ca/ledger.pem"))
    (line.folder / "ca" / "ledger.pem").unlink()
    issue = ("ca", "issue", "--profile", "idevid", "--order", "WO-2", "--field", "hardware_id=H1", "--out", "a.pem")
    for _ in range(2):  # a number that was taken would be finished the next time
        assert "with another key" in line.refused(*issue, "--csr", request(line))
    assert orders(line)["WO-2"].taken == 0


def test_a_key_that_was_given_the_id_of_another_stations_is_not_that_key(line, tmp_path):
    file = line.order("WO-2", "--station-key", "1=station.toml")
    twin = tmp_path / "twin"
    make_line(twin, ca_name="DEVELOPMENT", boards=1)
    for name in (file, "oem.pem", "ca/ledger.pem"):
        shutil.copy(line.folder / name, twin / name)
    public = read_ledger_key(twin / "ca" / "ledger.pem")
    with contextlib.chdir(twin):
        ca = load(twin / "station.toml").ca
        with closing(open_token(ca, ca.tokens.uris[0], writable=True)) as signer:
            digest = x509.SubjectKeyIdentifier.from_public_key(public).digest
            generate_key(signer, KeyKind.ED25519, "mine", key_id=digest)
            assert find_key(signer, public).label == "mine"
    assert "it to the right station" in Line(twin).refused("order", "import", file)


def test_a_share_without_a_key_says_so_to_who_writes_it(line):
    said = line("order", "create", "--name", "WO-2", *DEFAULT).stderr
    assert "the share of station 1 names no key" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--station-key", "2=ca/ledger.pem"), "names station '2', which has no share"),
        (("--station-key", "1=nothing.pem"), "nothing.pem: No such file"),
        (("--station-key", "1=station.key"), "neither a public key nor a certificate"),
    ],
)
def test_a_key_that_is_none_is_one_line(line, arguments, said):
    (line.folder / "station.key").write_text("x")
    assert said in line.refused("order", "create", "--name", "WO-2", *DEFAULT, *arguments)

"""``station ca audit``, and the tokens of a configuration as ``doctor`` and the line open them."""

import asyncio
import contextlib
import hashlib
import json
import shutil
import sqlite3
from dataclasses import replace

import pytest
from click.testing import CliRunner
from cryptography import x509

from hsm import State, find_key
from hsm.journal import CaJournal
from station.cli.root import root
from station.config import load
from station.devices.smp import SmpDriver
from station.events import SlotState
from station.line.daemon import opened
from station.line.unit import UnitRun
from station.signing import open_signer
from station.testing import ScriptedBoard


def station(*arguments, exit_code=0):
    result = CliRunner().invoke(root, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "line"
    station("init", folder, "--softhsm", "--rehearsal", "2")
    return folder


@pytest.fixture
def line(made, tmp_path):
    """A line of this test's own; its CA has signed nothing yet."""
    folder = tmp_path / "line"
    shutil.copytree(made, folder)
    for path in (folder / "station.toml", folder / "tokens" / "softhsm2.conf"):
        path.write_text(path.read_text().replace(str(made), str(folder)))
    return folder


def audit(folder, *options, exit_code=0):
    return station("ca", "audit", "--config", folder / "station.toml", *options, exit_code=exit_code)


def audited(folder, *options, exit_code=0):
    """Return what is said of the CA's key; the ledger key has its own line (tests/ledger)."""
    keys = map(json.loads, audit(folder, "--json", *options, exit_code=exit_code).stdout.splitlines())
    (key,) = (key for key in keys if key["name"] != "the ledger key")
    return key


async def provision(folder, boards=1):
    """Run units of scripted boards through the CA of the configuration."""
    config = load(folder / "station.toml")
    config = replace(config, product=replace(config.product, firmware_version=None))
    async with opened(config) as shop:
        for number in range(boards):
            board = ScriptedBoard(hardware_id=f"{folder.name}-{number}")
            link = board.plug()
            end = await UnitRun(shop, SmpDriver(link), "1", lambda _: None).run()
            link.close()
            assert end.state is SlotState.PASSED, end


def sign_behind_the_records(folder, times=1):
    """Let the CA's key sign what no journal knows of."""
    config = load(folder / "station.toml")
    issuer = x509.load_pem_x509_certificate(config.ca.certificate.read_bytes())
    with open_signer(config.ca) as signer:
        key = find_key(signer, issuer.public_key())
        for _ in range(times):
            key.sign_message_blocking(b"x")


def test_new_line_has_nothing_to_compare(line):
    assert audited(line)["asked"] == 0


def test_all_that_was_signed_is_on_record(line):
    asyncio.run(provision(line, boards=3))
    key = audited(line)
    assert (key["asked"], key["tries"], key["certain"], key["differences"]) == (3, 3, 3, [])
    assert key["claims"] == [{"source": "manifest.db", "tries": 3, "certain": 3}]
    assert key["probes"] == 1


def test_revocation_lists_are_on_record_too(line):
    asyncio.run(provision(line))
    station("ca", "crl", "make", "--config", line / "station.toml", line / "list.crl")
    key = audited(line)
    assert key["differences"] == []
    assert "ca.db: crl" in [claim["source"] for claim in key["claims"]]
    assert key["asked"] == key["tries"] >= 2


def test_signature_that_nobody_knows_of_is_told_and_exits_1(line):
    asyncio.run(provision(line))
    sign_behind_the_records(line, times=2)
    key = audited(line, exit_code=1)
    assert [(one["code"], one["signatures"]) for one in key["differences"]] == [("audit.unrecorded", 2)]
    said = audit(line, exit_code=1).stdout
    assert "2 more than anybody knows of" in said
    assert "call the security officer" in said


def test_certificate_that_was_not_counted_is_told_and_exits_1(line):
    asyncio.run(provision(line, boards=2))
    shutil.rmtree(line / "ca" / "signatures")
    key = audited(line, exit_code=1)
    assert [(one["code"], one["signatures"]) for one in key["differences"]] == [("audit.uncounted", -2)]


def test_difference_that_somebody_answers_for_is_told_once(line):
    sign_behind_the_records(line)
    audit(line, exit_code=1)
    audit(line, "--accept", "tried by hand on 3 May, see the log")
    assert audited(line)["accepted"] == 1
    sign_behind_the_records(line)
    assert [one["signatures"] for one in audited(line, exit_code=1)["differences"]] == [1]


def test_responders_are_known_by_the_certificates_that_the_ca_gave_them_earlier_ones_too(line):
    config = ("--config", line / "station.toml")
    asyncio.run(provision(line))
    station("ca", "ocsp", "init", *config)
    station("ca", "ocsp", "presign", *config, line / "answers")
    station("ca", "ocsp", "init", "--renew", *config)
    station("ca", "ocsp", "presign", *config, line / "answers", "--valid", "9d", "--renew-within", "8d")
    keys = [json.loads(text) for text in audit(line, "--json").stdout.splitlines()]
    assert [(one["name"], one["differences"]) for one in keys if "OCSP" in one["name"]] == [
        ("CN=DEVELOPMENT ONLY Intermediate CA 1 OCSP", [])
    ] * 2
    assert all(one["asked"] == one["tries"] for one in keys)


def test_responder_that_answered_without_being_counted_is_a_difference(line):
    config = ("--config", line / "station.toml")
    station("ca", "ocsp", "init", *config)
    station("ca", "ocsp", "init", "--renew", *config)  # the first one's certificate stands in the journal only
    with CaJournal.open(line / "ca" / "ca.db") as journal:
        with journal.reader() as reader:
            first = next(reader.issuances()).certificate
        journal.count_signature_blocking("ocsp", hashlib.sha256(first).digest())
    (line / "ca" / "signatures").rename(line / "ca" / "elsewhere")
    keys = [json.loads(text) for text in audit(line, "--json", exit_code=1).stdout.splitlines()]
    assert [one["name"] for one in keys].count("CN=DEVELOPMENT ONLY Intermediate CA 1 OCSP") == 1


def test_key_that_is_named_nowhere_is_told(line, tmp_path):
    sign_behind_the_records(line)
    (count,) = (line / "ca" / "signatures").iterdir()
    other = bytes(32)
    content = bytearray(count.read_bytes())
    content[8:40] = other
    (count.parent / f"{other.hex()}.count").write_bytes(content)
    keys = [json.loads(text) for text in audit(line, "--json", exit_code=1).stdout.splitlines()]
    assert [one["code"] for one in keys[-1]["differences"]] == ["audit.unknown_key"]


def test_try_that_did_not_reach_the_token_is_no_difference(line):
    asyncio.run(provision(line))
    asyncio.run(_attempt_only(line))
    key = audited(line)
    assert (key["asked"], key["tries"], key["unasked"], key["differences"]) == (1, 2, 1, [])
    assert "1 tries on record did not reach the token" in audit(line).stdout


def test_tries_that_did_not_reach_the_token_are_closed_and_hide_no_signature(line):
    asyncio.run(provision(line))
    asyncio.run(_attempt_only(line))
    audit(line, "--accept", "the line was killed on 3 May")
    key = audited(line)
    assert (key["closed"], key["unasked"], key["differences"]) == (1, 0, [])
    sign_behind_the_records(line)
    assert [one["signatures"] for one in audited(line, exit_code=1)["differences"]] == [1]


def test_nothing_is_accepted_while_the_line_is_at_work(line):
    async def both():
        async with opened(load(line / "station.toml")):
            return await asyncio.to_thread(audit, line, "--accept", "x", exit_code=1)

    asyncio.run(provision(line))
    assert "manifest.db" in asyncio.run(both()).stderr
    assert audited(line)["accepted"] == 0


def test_revocation_list_that_was_not_counted_is_told(line):
    counts, config = line / "ca" / "signatures", ("--config", line / "station.toml")
    station("ca", "crl", "make", *config, line / "list.crl")
    shutil.copytree(counts, line / "old")
    for _ in range(2):
        station("ca", "crl", "make", *config, line / "list.crl")
    shutil.rmtree(counts)
    (line / "old").rename(counts)
    key = audited(line, exit_code=1)
    assert [(one["code"], one["signatures"]) for one in key["differences"]] == [("audit.uncounted", -2)]


def publish_one(line):
    config = ("--config", line / "station.toml")
    with (line / "station.toml").open("a") as file:
        file.write("\n[crl]\n")
    station("ca", "revoke", "abcdef", "--unknown", "--reason", "keyCompromise", *config)
    station("ca", "crl", "publish", *config)


def without_rules(line, *statements):
    """Do what somebody does who owns the file: its rules out of the way first."""
    with contextlib.closing(sqlite3.connect(line / "ca" / "ca.db")) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)


def test_revocation_that_was_removed_is_told_and_nobody_can_answer_for_it(line):
    publish_one(line)
    without_rules(line, "DELETE FROM revocation")
    assert "audit.tampered" in audit(line, "--json", exit_code=1).stdout
    assert "that act is gone" in audit(line, "--accept", "it was nothing", exit_code=1).stdout


def test_published_revocation_is_missed_though_the_journal_fits_itself(line):
    publish_one(line)
    without_rules(line, "DELETE FROM revocation", "DELETE FROM crl_head", "UPDATE crl SET last_act = 0")
    said = audit(line, exit_code=1).stdout
    assert "that act is gone" not in said
    assert f"tells of 1 certificates that the journal has no act on, the first of them {'abcdef':0>32}" in said


async def _attempt_only(folder):
    """Reserve a certificate for another board, and stop there, as a station that is killed."""
    config = load(folder / "station.toml")
    async with opened(config) as shop:
        authority = shop.authority

        async def killed(*_, **__):
            raise asyncio.CancelledError

        authority.issue = killed
        board = ScriptedBoard(hardware_id="killed")
        link = board.plug()
        with pytest.raises(asyncio.CancelledError):
            await UnitRun(shop, SmpDriver(link), "1", lambda _: None).run()
        link.close()


def test_it_works_while_the_station_writes(line):
    async def both():
        config = load(line / "station.toml")
        async with opened(config):
            return await asyncio.to_thread(audited, line)

    asyncio.run(provision(line))
    assert asyncio.run(both())["differences"] == []


# -- several tokens


@pytest.fixture
def spare(line):
    """The same line, whose [ca] names a second token that is not there."""
    path = line / "station.toml"
    text = path.read_text()
    (token,) = [text_line for text_line in text.splitlines() if text_line.startswith("token = ")]
    missing = token.replace("token=intermediate", "token=spare").removeprefix("token = ")
    path.write_text(text.replace(token, f"{token}\ntokens = [{missing}]"))
    return line


def findings(folder, exit_code=0):
    said = station("doctor", "--json", "--config", folder / "station.toml", exit_code=exit_code)
    return {entry["check"]: entry for entry in map(json.loads, said.stdout.splitlines())}


def test_doctor_tells_quirks_and_sessions(line):
    found = findings(line)
    assert "SoftHSM: " in found["quirks"]["text"]
    assert "public points are wrapped" in found["quirks"]["text"]
    assert found["sessions"]["level"] == "ok"


def test_doctor_examines_each_token(spare):
    found = findings(spare, exit_code=1)
    assert (found["token"]["level"], found["token 2"]["level"]) == ("ok", "fail")
    assert "'spare' is not there" in found["token 2"]["text"]


def test_line_runs_while_the_spare_token_is_away(spare):
    asyncio.run(provision(spare))
    with open_signer(load(spare / "station.toml").ca) as group:
        assert [signer.state for signer in group.signers] == [State.AWAKE, State.ASLEEP]
    assert audited(spare)["asked"] == 1


def test_further_issuer_is_read_with_its_profiles_and_orders(line):
    token = load(line / "station.toml").ca.token
    path = line / "station.toml"
    path.write_text(
        path.read_text() + f'\n[[issuer]]\ntoken = "{token}"\ncertificate = "ca/other.pem"\norders = ["WO-9"]\n'
    )
    (issuer,) = load(path).issuers
    assert (issuer.orders, issuer.profiles, issuer.tokens.uris) == (frozenset({"WO-9"}), frozenset(), (token,))
    assert (issuer.certificate, issuer.root) == (line / "ca" / "other.pem", line / "ca" / "root.pem")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ('tokens = ["pkcs11:token=a", "pkcs11:token=a"]', "a token stands here twice"),
        ('tokens = ["softhsm"]', "starts with 'pkcs11:'"),
        ('spread = "fastest"', "unknown spread 'fastest'"),
    ],
)
def test_wrong_tokens_are_told_with_their_line(line, written, told):
    path = line / "station.toml"
    path.write_text(path.read_text().replace('profile = "idevid"', f'profile = "idevid"\n{written}'))
    said = CliRunner().invoke(root, ["check", "--config", str(path)])
    assert said.exit_code == 1
    assert told in said.output


def test_check_looks_at_each_token(spare):
    path = spare / "station.toml"
    path.write_text(path.read_text().replace("token=spare?module-path=/usr", "token=spare?module-path=/nowhere"))
    said = CliRunner().invoke(root, ["check", "--json", "--config", str(path)])
    found = {entry["check"]: entry for entry in map(json.loads, said.stdout.splitlines())}
    assert (found["module"]["level"], found["module 2"]["level"]) == ("ok", "fail")
    assert found["PIN source 2"]["level"] == "ok"

"""What ``station check`` says about revocation lists: the folder, the URLs, what is out there, and its numbers."""

import datetime as dt
import json
import shutil

import pytest
from click.testing import CliRunner

from hsm.journal import CaJournal
from hsm.profile_file import FOLDER
from station.checks.crls import examine
from station.checks.findings import Level
from station.cli.root import root
from station.config import load
from station.testing.orders import reorder

URL = "http://lists.example.com/acme"
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


def station(*arguments, exit_code=0):
    result = CliRunner().invoke(root, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "line"
    station("init", folder, "--softhsm", "--rehearsal", "1")
    urls = f'\n[urls]\ncrl = ["{URL}/shards/{{shard}}.crl"]\n'
    (folder / "mine.toml").write_text((FOLDER / "idevid.toml").read_text() + urls)
    text = (folder / "station.toml").read_text()
    (folder / "station.toml").write_text(text.replace('"idevid"', '"./mine.toml"'))
    reorder(folder / "station.toml", "WO-2")
    return folder


@pytest.fixture
def line(made, tmp_path):
    """A line whose profile names the place of the lists that ``[crl]`` publishes."""
    folder = tmp_path / "line"
    shutil.copytree(made, folder)
    for path in (folder / "station.toml", folder / "tokens" / "softhsm2.conf"):
        path.write_text(path.read_text().replace(str(made), str(folder)))
    text = (folder / "station.toml").read_text()
    (folder / "station.toml").write_text(f'{text}\n[crl]\nurl = "{URL}"\n')
    return folder


def change(line, before, after):
    text = (line / "station.toml").read_text()
    assert before in text
    (line / "station.toml").write_text(text.replace(before, after))


def findings(line, command="check", exit_code=0):
    said = station(command, "--json", "--config", line / "station.toml", exit_code=exit_code).stdout
    found = map(json.loads, said.splitlines())
    return {one["check"]: (one["level"], one["text"]) for one in found if one["check"].startswith("crl")}


def published_full(line, *, age, every="1d", overlap="1d"):
    """Publish a list, and return what is said of it when it has an age."""
    station("ca", "crl", "publish", "--config", line / "station.toml")
    change(line, f'url = "{URL}"', f'url = "{URL}"\nevery = "{every}"\noverlap = "{overlap}"')
    later = dt.datetime.now(dt.UTC) + age
    return {one.check: one for one in examine(load(line / "station.toml"), later)}["crl full"]


def test_line_without_lists_says_nothing(line):
    change(line, f'[crl]\nurl = "{URL}"\n', "")
    change(line, '"./mine.toml"', '"idevid"')
    reorder(line / "station.toml", "WO-3")
    assert findings(line) == {}


def test_profile_that_sends_its_readers_to_a_list_that_nobody_publishes_is_told(line):
    change(line, f'[crl]\nurl = "{URL}"\n', "")
    level, text = findings(line)["crl"]
    assert level == "warn"
    assert "the station publishes no list" in text


def test_all_is_well_before_and_after_the_first_list(line):
    before = findings(line)
    assert {level for level, _ in before.values()} == {"ok"}
    assert "not there yet" in before["crl full"][1]
    assert before["crl number"][1] == "the next list is number 1"
    station("ca", "crl", "publish", "--config", line / "station.toml")
    after = findings(line)
    assert {level for level, _ in after.values()} == {"ok"}
    assert "holds until" in after["crl full"][1]
    assert after["crl number"][1] == "the next list is number 2"


def test_doctor_says_the_same(line):
    assert findings(line, "doctor") == findings(line)


def test_folder_that_is_a_file_fails(line):
    (line / "crl").write_text("")
    level, text = findings(line, exit_code=1)["crl"]
    assert (level, text) == ("fail", f"{line}/crl is not a folder")


def test_profile_without_the_url_of_a_list_is_told(line):
    change(line, '"./mine.toml"', '"idevid"')
    reorder(line / "station.toml", "WO-3")
    level, text = findings(line)["crl url"]
    assert level == "warn"
    assert "nobody finds the lists" in text


def test_profile_that_names_another_place_is_told(line):
    change(line, URL, "http://elsewhere.example.com")
    assert findings(line)["crl url"][1].endswith("which is not below http://elsewhere.example.com")


def test_shards_without_a_url_are_told(line):
    change(line, f'url = "{URL}"', 'every = "1d"')
    assert "only full.crl is made" in findings(line)["crl url"][1]


def test_list_whose_successor_is_due_is_told(line):
    found = published_full(line, age=DAY + HOUR)
    assert found.level is Level.WARN
    assert "the next one is due since" in found.text


def test_list_that_ended_fails(line):
    found = published_full(line, age=2 * DAY + HOUR)
    assert found.level is Level.FAIL
    assert "clients refuse every device" in found.text


def test_list_that_ends_before_the_schedule_makes_the_next_is_told(line):
    found = published_full(line, age=HOUR, every="7d")
    assert found.level is Level.WARN
    assert "which is later" in found.text


def test_list_from_the_future_fails(line):
    found = published_full(line, age=-HOUR)
    assert (found.level, found.advice) == (Level.FAIL, "set this machine's clock")


def test_journal_that_is_behind_what_is_published_fails(line):
    station("ca", "crl", "publish", "--config", line / "station.toml")
    (line / "ca" / "ca.db").unlink()
    level, text = findings(line, exit_code=1)["crl number"]
    assert level == "fail"
    assert "it is an older copy" in text


def test_clock_behind_the_journal_is_told_by_the_doctor(line):
    ahead = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    with CaJournal.open(line / "ca" / "ca.db", clock=lambda: ahead) as journal:
        journal.count_signature_blocking("probe", bytes(32))
    said = station("doctor", "--json", "--config", line / "station.toml", exit_code=1).stdout
    found = {one["check"]: one["text"] for one in map(json.loads, said.splitlines())}
    assert "is before the last event on record" in found["clock"]

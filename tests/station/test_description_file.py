"""Driver files: what is wrong in one is named with its line."""

import re
import time

import pytest

from station.config.languages import EXAMPLES
from station.devices.description_file import load, problems
from station.devices.patterns import Pattern
from station.errors import ConfigError

GOOD = """\
about = "a widget"

[console]
line_end = "LF"
done = 'ok'
limit = 100

[[identify]]
send = "id"
answer = ['id=(?P<hardware_id>\\S+) model=(?P<model>\\S+) fw=(?P<firmware_version>\\S+) x=(?P<leaf_sha256>[0-9a-f]*)']

[[make_key]]
send = "csr"
pem = "csr"

[[install]]
send = "cert {chain_size} {chain_sha256:hex}"

[[install]]
send = "cert add {piece:hex}"

[[read_back]]
send = "cert show"
rows.chain = '[0-9a-f]+'

[[prove]]
send = "sign {challenge:hex}"
answer = ['sig=(?P<signature>[0-9a-f]+)']

[forms]
leaf_sha256 = "hex"
chain = "hex"
signature = "hex"

[chain]
piece = 40

[proof]
signs = ["challenge", "leaf_sha256"]
"""


@pytest.fixture
def write(tmp_path):
    def write_it(text):
        path = tmp_path / "widget.toml"
        path.write_text(text)
        return path

    return write_it


def test_a_good_file_is_read(write):
    read = load(write(GOOD))
    assert (read.name, read.about, read.line_end, read.limit) == ("widget", "a widget", b"\n", 100)
    assert [exchange.send for exchange in read.of("install")] == [
        "cert {chain_size} {chain_sha256:hex}",
        "cert add {piece:hex}",
    ]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_examples_have_no_fault(path):
    assert problems(path) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('about = "a widget"', "", "add about ="),
        ("done = 'ok'", "done = '.*'", ":5: '.*' would end an answer at the line 'MIHV"),
        ("done = 'ok'", "done = '-----.*'", ":5: '-----.*' would end an answer at the line '-----BEGIN"),
        ("done = 'ok'", r"done = '(a)\1'", r":5: '(a)\1' is no pattern of RE2"),
        ("done = 'ok'", "done = '(?=a)b'", "without looking around or back"),
        ("done = 'ok'", "done = 'a{1000}{1000}'", ":5: 'a{1000}{1000}' is no pattern of RE2"),
        ('line_end = "LF"', 'line_end = "\\\\n"', "known: CR, LF, CRLF"),
        ("limit = 100", "limit = 80", ":20: this command has 89 characters, and the board takes 80"),
        (
            "<hardware_id>",
            "<hardwareid>",
            "tells 'hardwareid', which nobody asks for there; did you mean 'hardware_id'",
        ),
        ("model=(?P<model>\\S+)", "", "nobody tells 'model'"),
        ('pem = "csr"', "", "no answer of [[make_key]] tells 'csr'"),
        ('send = "sign {challenge:hex}"', 'send = "sign {chalenge:hex}"', "did you mean 'challenge'"),
        ('send = "sign {challenge:hex}"', 'send = "sign {challenge}"', "say how to write them: {challenge:hex}"),
        ('send = "sign {challenge:hex}"', 'send = "sign {challenge:hex"', "is left open"),
        ('send = "cert {chain_size} ', 'send = "cert {chain_size:hex} ', "{chain_size} is text"),
        ('signs = ["challenge", "leaf_sha256"]', 'signs = ["challenge"]', "has no 'leaf_sha256'"),
        ('signs = ["challenge", "leaf_sha256"]', 'signs = ["chalenge", "leaf_sha256"]', "'chalenge' is no part"),
        ('chain = "hex"\n', "", "add to [forms]: chain ="),
        ('chain = "hex"\n', 'chain = "hexx"\n', "did you mean 'hex'"),
        ("[[prove]]", "[[proove]]", "unknown section 'proove'"),
        ("piece = 40", "pieces = 40", "did you mean 'piece'"),
    ],
)
def test_a_fault_is_named_with_what_to_write(write, old, new, fault):
    assert old in GOOD
    found = problems(write(GOOD.replace(old, new, 1)))
    assert any(fault in str(problem) for problem in found), [str(problem) for problem in found]


def test_all_faults_are_listed_in_the_order_of_lines(write):
    text = GOOD.replace("done = 'ok'", "done = '.*'").replace("piece = 40", "pieces = 40")
    lines = [int(re.search(r"toml:(\d+):", str(problem))[1]) for problem in problems(write(text))]
    assert lines == [5, 20, 36]  # without a piece of 40 bytes, the command is too long


@pytest.mark.parametrize("content", [b"\xff\xfe", b"about = ", b"x" * 70_000])
def test_what_is_no_driver_file_is_one_problem(tmp_path, content):
    path = tmp_path / "widget.toml"
    path.write_bytes(content)
    assert len(problems(path)) == 1


def test_a_file_that_is_not_there_is_one_problem(tmp_path):
    with pytest.raises(ConfigError, match="can't read driver file"):
        load(tmp_path / "nothing.toml")


def test_a_pattern_that_never_ends_elsewhere_ends_here():
    """With Python's ``re`` this takes years; the time must not double with each letter."""
    pattern = Pattern("(a+)+b")
    began = time.process_time()
    assert pattern.whole("a" * 8000) is None
    assert pattern.search("a" * 8000) is None
    assert time.process_time() - began < 1.0

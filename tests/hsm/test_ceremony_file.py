"""A ceremony's file is refused with its line, and with what to write instead, before any token is asked."""

import datetime as dt

import pytest

from hsm import CeremonyError, KeyKind
from hsm.ceremony import load_plan
from hsm.ceremony.plan import Lifetime

NOW = dt.datetime(2026, 11, 24, 9, tzinfo=dt.UTC)

HEAD = """\
[ceremony]
name = "Test"

[token.root]
uri = "pkcs11:token=root?module-name=softhsm2&pin-source=prompt:"
[token.line]
uri = "pkcs11:token=line?module-name=softhsm2&pin-source=prompt:"

"""

ROOT = """\
[[step]]
mode = "root"
token = "root"
label = "root-1"
key = "p256"
subject = { CN = "Root" }
years = 20
certificate = "root.pem"
"""

BELOW = """\
[[step]]
mode = "intermediate"
issuer = "root.pem"
token = "line"
label = "line-1"
key = "p256"
subject = { CN = "Line" }
years = 10
certificate = "line.pem"
"""


def load(folder, *parts):
    path = folder / "x.toml"
    path.write_text("".join(parts))
    return load_plan(path, now=NOW)


def complaint(folder, *parts):
    with pytest.raises(CeremonyError) as caught:
        load(folder, *parts)
    assert caught.value.code == "ceremony.file"
    return str(caught.value).removeprefix(f"{folder}/")


def changed(text, before, after):
    assert before in text
    return text.replace(before, after)


def test_a_whole_file_is_a_plan(tmp_path):
    plan = load(tmp_path, HEAD, ROOT, BELOW)
    assert [step.mode for step in plan.steps] == ["root", "intermediate"]
    assert plan.used_tokens == ("root", "line")
    assert plan.outputs == ("root.pem", "line.pem")
    assert plan.new_labels == (("root", "root-1"), ("line", "line-1"))
    assert plan.transcript == "x.transcript.jsonl"
    assert plan.steps[0].key.kind is KeyKind.P256


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ('label = "root-1"', 'lable = "root-1"', "x.toml:9: [[step]] has no 'label'"),
        ("years = 20", "years = 20\nyear = 3", "x.toml:16: unknown key 'year' in [[step]]; did you mean 'years'?"),
        ('mode = "root"', 'mode = "rot"', "x.toml:10: unknown mode 'rot'; did you mean 'root'?"),
        ('token = "root"', 'token = "rooot"', "x.toml:11: there is no [token.rooot]; did you mean 'root'?"),
        (
            'key = "p256"',
            'key = "rsa2048"',
            "'rsa2048' is no key for this step; take one of rsa4096, p384, p256",
        ),
        ('key = "p256"', 'key = "ed25519"', "x.toml:13: 'ed25519' is no key for this step"),
        ("years = 20", "years = 9", "x.toml:15: 'years' in [[step]] is 9; write a number from 10 to 20"),
        ("years = 20", "years = 21", "x.toml:15: 'years' in [[step]] is 21; write a number from 10 to 20"),
        ("years = 20", 'not_after = "2050"', 'x.toml:15: not_after is "99991231235959Z" (no end)'),
        ("{ CN =", "{ comonname =", "x.toml:14: unknown attribute 'comonname' in [step.subject]; known: C, ST"),
        ('{ CN = "Root" }', "{}", "x.toml:14: the subject is empty"),
        ('"root.pem"', '"../root.pem"', "x.toml:16: '../root.pem' leaves the ceremony's folder"),
        ('"root.pem"', '"/etc/root.pem"', "x.toml:16: '/etc/root.pem' leaves the ceremony's folder"),
        ("years = 20", "years = 20\npathlen = 9", "x.toml:16: 'pathlen' in [[step]] is 9; write a number from 0 to 4"),
        ("years = 20", "years = 20\nbackup = true", "x.toml:16: no later step copies this key"),
        ("years = 20", 'years = 20\ncrl_urls = ["https://x"]', "x.toml:16: 'https://x' is not a plain http:// URL"),
        ("years = 20", 'years = 20\nextended_key_usage = ["clientaut"]', "did you mean 'clientAuth'?"),
        ("years = 20", "years = 20\npermitted = {}", "x.toml:16: 'permitted' names nothing"),
        ("years = 20", 'years = 20\npermitted = { ip = ["10.0.0.1/8"] }', "'10.0.0.1/8' is no ip constraint"),
        ("years = 20", 'years = 20\npermitted = { dns = ["*.x"] }', "'*.x' is no dns constraint"),
        ("years = 20", 'years = 20\npermitted = { dsn = ["x"] }', "unknown key 'dsn'"),
    ],
)
def test_a_root_is_refused_with_its_line(tmp_path, before, after, line):
    assert line in complaint(tmp_path, HEAD, changed(ROOT, before, after))


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (
            'issuer = "root.pem"',
            'issuer = "rot.pem"',
            "No such file or directory; put it into",
        ),
        ("years = 10", 'not_after = "99991231235959Z"', "x.toml:24: it would end after its issuer, which ends on 2046"),
        ('token = "line"', 'token = "root"', "x.toml:20: token 'root' holds the root, which rests in a safe"),
        ('"line.pem"', '"root.pem"', "x.toml:25: an earlier step makes or reads 'root.pem'"),
        ('"intermediate"', '"sub-ca"', "x.toml:18: a sub-ca is held to names or usages"),
        ("years = 10", "years = 10\npathlen = 0", "x.toml:25: unknown key 'pathlen' in [[step]]"),
    ],
)
def test_an_intermediate_is_refused_with_its_line(tmp_path, before, after, line):
    assert line in complaint(tmp_path, HEAD, ROOT, changed(BELOW, before, after))


def test_a_ca_does_not_stand_deeper_than_its_issuer_allows(tmp_path):
    sub = changed(BELOW, '"intermediate"', '"sub-ca"').replace("years", 'extended_key_usage = ["clientAuth"]\nyears')
    assert load(tmp_path, HEAD, ROOT, sub)
    deep = sub.replace("years", "pathlen = 1\nyears")
    assert "its pathlen (1) must be below its issuer's (1)" in complaint(tmp_path, HEAD, ROOT, deep)
    third = sub.replace("line", "third").replace("root.pem", "line.pem").replace('token = "third"', 'token = "root"')
    assert "its pathlen (0) must be below its issuer's (0)" in complaint(tmp_path, HEAD, ROOT, sub, third)


def test_a_subject_may_hold_what_x520_does_not_know(tmp_path):
    """A Matter vendor id."""
    vendor = ROOT.replace('{ CN = "Root" }', '{ CN = "Root", "1.3.6.1.4.1.37244.2.1" = "FFF1" }')
    subject = load(tmp_path, HEAD, vendor).steps[0].subject
    assert subject.rfc4514_string() == "1.3.6.1.4.1.37244.2.1=FFF1,CN=Root"


def test_a_label_is_not_made_twice(tmp_path):
    again = ROOT.replace("root.pem", "root-2.pem")
    assert "an earlier step makes a key 'root-1' in token 'root'" in complaint(tmp_path, HEAD, ROOT, again)


def test_a_copy_is_of_a_key_that_was_made_for_it(tmp_path):
    backup = '[[step]]\nmode = "backup"\nof = "root.pem"\nto = "line"\n'
    assert "add backup = true to its step" in complaint(tmp_path, HEAD, ROOT, backup)
    kept = ROOT.replace("years", "backup = true\nyears")
    assert load(tmp_path, HEAD, kept, backup).steps[1].label == "root-1"
    assert "holds the key already" in complaint(tmp_path, HEAD, kept, backup.replace('"line"', '"root"'))


def test_an_issuer_of_an_earlier_ceremony_needs_its_token(tmp_path, made_ca):
    (tmp_path / "root.pem").write_bytes((made_ca.folder / "root.pem").read_bytes())
    assert "[[step]] has no 'issuer_token'" in complaint(tmp_path, HEAD, BELOW)
    known = BELOW.replace("issuer =", 'issuer_token = "root"\nissuer =')
    assert load(tmp_path, HEAD, known).used_tokens == ("root", "line")


def test_what_is_no_certificate_of_a_ca_is_no_issuer(tmp_path):
    (tmp_path / "root.pem").write_text("nothing")
    assert "x.toml:11: 'root.pem' is not the PEM of a certificate" in complaint(tmp_path, HEAD, BELOW)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[ceremony\n", "x.toml:1: not TOML"),
        ("", "section [ceremony] is missing"),
        (HEAD, "there is no [[step]]"),
        (HEAD.replace("uri", "urin", 1) + ROOT, "[token.root] has no 'uri'"),
        (HEAD.replace("pkcs11:token=root", "pkcs11:tokn=root") + ROOT, "did you mean 'token'?"),
        (HEAD.replace("pin-source=prompt:", "pin-value=1234", 1) + ROOT, "pin-value is not accepted"),
    ],
)
def test_a_broken_head_is_refused(tmp_path, text, line):
    assert line in complaint(tmp_path, text)


def test_a_pin_in_the_file_is_not_repeated(tmp_path):
    assert "1234" not in complaint(tmp_path, HEAD.replace("pin-source=prompt:", "pin-value=1234", 1) + ROOT)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(CeremonyError, match=r"no\.toml can't be read: No such file"):
        load_plan(tmp_path / "no.toml", now=NOW)


@pytest.mark.parametrize(
    ("years", "start", "end"),
    [
        (10, dt.datetime(2026, 11, 24, 9, tzinfo=dt.UTC), dt.datetime(2036, 11, 24, 8, 59, 59, tzinfo=dt.UTC)),
        (1, dt.datetime(2028, 2, 29, tzinfo=dt.UTC), dt.datetime(2029, 2, 27, 23, 59, 59, tzinfo=dt.UTC)),
        (None, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)),
    ],
)
def test_years_end_a_second_before_they_are_over(years, start, end):
    assert Lifetime(years).end(start) == end


PAA = """\
[[step]]
mode = "root"
profile = "matter-paa"
token = "root"
label = "paa"
key = "p256"
subject = { CN = "Acme PAA", VID = "FFF1" }
not_after = "99991231235959Z"
certificate = "paa.pem"
"""


def test_subject_of_a_profile_has_the_profiles_own_attributes_by_name(tmp_path):
    step = load(tmp_path, HEAD, PAA).steps[0]
    assert step.subject.rfc4514_string() == "1.3.6.1.4.1.37244.2.1=FFF1,CN=Acme PAA"
    assert (step.profile.name, step.limits.pathlen) == ("matter-paa", 1)


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ('"FFF1"', '"fff1"', "x.toml:15: VID has to be [0-9A-F]{4}, not 'fff1'"),
        (
            'VID = "FFF1"',
            'VID = "FFF1", PID = "8000"',
            "has these attributes, in this order: CN, VID (may be left out)",
        ),
        ('CN = "Acme PAA", ', "", "has these attributes, in this order: CN, VID (may be left out)"),
        ('"p256"', '"p384"', "x.toml:14: 'p384' is no key for this step; take one of p256"),
        ('"matter-paa"', '"matter-pai"', "x.toml:11: profile 'matter-pai' is not that of a root"),
        ('"matter-paa"', '"matter-dac"', "x.toml:11: profile 'matter-dac' is not that of a root"),
        ('"matter-paa"', '"matter"', "x.toml:11: there is no profile 'matter'"),
        ('profile = "matter-paa"', "", "x.toml:15: unknown attribute 'VID'"),
    ],
)
def test_step_that_does_not_fit_its_profile_is_refused_with_its_line(tmp_path, before, after, line):
    assert line in complaint(tmp_path, HEAD, changed(PAA, before, after))

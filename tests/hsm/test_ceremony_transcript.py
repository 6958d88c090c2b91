"""Nobody changes a transcript without being seen, and the first bad line is named."""

import datetime as dt
import hashlib
import json
import re
from contextlib import closing

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from hsm import CeremonyError, KeyKind, generate_key
from hsm.ceremony import verify_transcript
from hsm.ceremony.certificates import Wish, draft, extensions_of, pem, sign
from hsm.ceremony.plan import Limits
from hsm.ceremony.transcript import SEAL_PREFIX, Transcript
from hsm.profiles import NO_EXPIRY
from hsm.testing import open_signer

START = dt.datetime(2026, 11, 24, 9, tzinfo=dt.UTC)


def clock():
    return START


@pytest.fixture(scope="module")
def sealed(scratch, tmp_path_factory):
    """Return a sealed transcript of six lines, and the certificate of the key that sealed it."""
    folder = tmp_path_factory.mktemp("transcript")
    with open_signer(scratch, "other", writable=True) as signer:
        key = generate_key(signer, KeyKind.P256, "transcripts")
        name = x509.Name.from_rfc4514_string("CN=Root")
        wish = Wish(name, key.public_key(), START, NO_EXPIRY, extensions_of(Limits(1)))
        certificate = sign(draft(wish, None, key.public_key()), key)
        transcript = Transcript.begin(folder / "x.jsonl", clock, ceremony="Test", operators=["Ada"], rehearsal=False)
        for number in range(3):
            transcript.add("step", step=number, who="Zoë")
        transcript.add("end", result="done")
        transcript.seal(key, verify_with="root.pem")
    (folder / "root.pem").write_bytes(pem(certificate))
    return folder / "x.jsonl", certificate.public_key()


@pytest.fixture
def lines(sealed):
    return sealed[0].read_bytes().splitlines(keepends=True)


def refused(folder, public, lines):
    path = folder / "changed.jsonl"
    path.write_bytes(b"".join(lines))
    with pytest.raises(CeremonyError) as caught:
        verify_transcript(path, public)
    line = re.match(rf"{path}:(\d+): ", str(caught.value))
    return int(line[1]), caught.value.code


def test_one_that_nobody_touched_is_accepted(sealed):
    verified = verify_transcript(*sealed)
    assert [entry["event"] for entry in verified.entries] == ["begin", "step", "step", "step", "end", "seal"]
    assert verified.begin["operators"] == ["Ada"]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_a_line_that_was_changed_is_named(sealed, lines, tmp_path, number):
    lines[number - 1] = lines[number - 1].replace(b"2026-11-24", b"2026-11-25")
    assert refused(tmp_path, sealed[1], lines) == (number, "transcript.chain")


def test_a_changed_seal_is_named(sealed, lines, tmp_path):
    lines[5] = lines[5].replace(b"2026-11-24", b"2026-11-25")
    assert refused(tmp_path, sealed[1], lines) == (6, "transcript.signature")


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_a_line_that_is_missing_is_named(sealed, lines, tmp_path, number):
    del lines[number - 1]
    assert refused(tmp_path, sealed[1], lines) == (number, "transcript.chain")


def test_lines_that_were_swapped_are_named(sealed, lines, tmp_path):
    lines[2], lines[3] = lines[3], lines[2]
    assert refused(tmp_path, sealed[1], lines) == (3, "transcript.chain")


def test_a_line_that_was_put_in_is_named(sealed, lines, tmp_path):
    lines.insert(3, lines[2])
    assert refused(tmp_path, sealed[1], lines) == (4, "transcript.chain")


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b'"step": 1', b'"step":  1'),
        lambda line: line.replace(b'"step": 1', b'"step": 1, "step": 1'),
        lambda line: b" " + line,
        lambda line: line.replace(b"Zo\\u00eb", "Zoë".encode()),
        lambda _: b"\n",
        lambda _: b"[]\n",
        lambda _: b"\xff\n",
    ],
)
def test_a_line_is_written_in_one_way_only(sealed, lines, tmp_path, change):
    lines[2] = change(lines[2])
    number, code = refused(tmp_path, sealed[1], lines)
    assert (number, code) == (3, "transcript.chain")


def rechained(lines):
    """Return lines whose digests were calculated anew, as somebody would who changed one."""
    previous = "0" * 64
    found = []
    for line in lines:
        entry = {**json.loads(line), "previous": previous}
        if "signature" in entry:
            entry["signature"] = entry.pop("signature")
        new = json.dumps(entry).encode()
        previous = hashlib.sha256(new).hexdigest()
        found.append(new + b"\n")
    return found


def test_a_chain_that_was_made_anew_lacks_the_signature(sealed, lines, tmp_path):
    assert rechained(lines) == lines
    lines[1] = lines[1].replace(b'"step": 0', b'"step": 9')
    assert refused(tmp_path, sealed[1], rechained(lines)) == (6, "transcript.signature")


@pytest.mark.parametrize("kept", [0, 1, 3, 5])
def test_one_that_was_cut_has_no_seal(sealed, lines, tmp_path, kept):
    assert refused(tmp_path, sealed[1], lines[:kept]) == (kept, "transcript.no_seal")


def test_one_that_was_cut_inside_a_line_names_it(sealed, lines, tmp_path):
    assert refused(tmp_path, sealed[1], [*lines[:3], lines[3][:20]]) == (4, "transcript.chain")


def test_lines_after_the_seal_are_named(sealed, lines, tmp_path):
    extra = {"n": 7, "event": "step", "previous": hashlib.sha256(lines[-1].rstrip()).hexdigest()}
    assert refused(tmp_path, sealed[1], [*lines, json.dumps(extra).encode() + b"\n"]) == (7, "transcript.chain")


def test_another_key_did_not_seal_it(sealed, lines, tmp_path):
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    assert refused(tmp_path, other, lines) == (6, "transcript.signature")


def test_what_is_signed_is_no_der():
    """No certificate can be made of the signature of a transcript."""
    assert SEAL_PREFIX[0] != 0x30


def test_an_unfinished_one_goes_on_after_a_cut_line(tmp_path):
    with closing(Transcript.begin(tmp_path / "x", clock)) as transcript:
        transcript.add("step", step=1)
    with transcript.unfinished.open("ab") as file:
        file.write(b'{"n": 3, "ti')
    again, entries = Transcript.resume(tmp_path / "x", clock)
    with closing(again):
        again.add("undone")
    assert [entry["event"] for entry in entries] == ["begin", "step"]
    last, entries = Transcript.resume(tmp_path / "x", clock)
    last.close()
    assert [entry["n"] for entry in entries] == [1, 2, 3]


def test_two_do_not_begin_at_one_place(tmp_path):
    with closing(Transcript.begin(tmp_path / "x", clock)), pytest.raises(FileExistsError):
        Transcript.begin(tmp_path / "x", clock)


def test_one_that_is_being_written_is_not_taken_over(tmp_path):
    with closing(Transcript.begin(tmp_path / "x", clock)), pytest.raises(CeremonyError, match="still runs") as caught:
        Transcript.resume(tmp_path / "x", clock)
    assert caught.value.code == "ceremony.running"

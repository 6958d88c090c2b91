"""The signer's count of signatures: never too low, whatever dies."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pkcs11.exceptions import MechanismInvalid

from hsm import AuditError, KeyKind, SignatureCounts, Signer, TokenUri, generate_key, read_counts
from hsm.counting import BLOCK
from hsm.fake_token import FAKE_URI, FakeToken
from hsm.request import Purpose, message_request
from hsm.testing import open_signer

KEY = bytes(range(32))


def counted(folder, boot_id=None):
    (count,) = read_counts(folder, boot_id=boot_id).values()
    return count


def test_each_is_counted_by_its_purpose(tmp_path):
    with SignatureCounts(tmp_path) as counts:
        for _ in range(3):
            counts.count(KEY, Purpose.SIGNATURE)
        counts.count(KEY, Purpose.PROBE)
        assert (counted(tmp_path).signatures, counted(tmp_path).probes) == (3, 1)
    count = counted(tmp_path)
    assert (count.spki_sha256, count.signatures, count.probes, count.lost_at_most) == (KEY, 3, 1, 0)


def test_it_goes_on_where_it_was(tmp_path):
    for _ in range(3):
        with SignatureCounts(tmp_path) as counts:
            counts.count(KEY, Purpose.SIGNATURE)
    assert counted(tmp_path).signatures == 3


def test_each_key_has_a_count_of_its_own(tmp_path):
    with SignatureCounts(tmp_path) as counts:
        counts.count(KEY, Purpose.SIGNATURE)
        counts.count(bytes(32), Purpose.SIGNATURE)
    assert [count.signatures for count in read_counts(tmp_path).values()] == [1, 1]


def test_threads_and_programs_count_together(tmp_path):
    code = """
        import sys
        from pathlib import Path
        from hsm import SignatureCounts
        from hsm.request import Purpose
        with SignatureCounts(Path(sys.argv[1])) as counts:
            for _ in range(500):
                counts.count(bytes(range(32)), Purpose.SIGNATURE)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command) as other, SignatureCounts(tmp_path) as counts, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: counts.count(KEY, Purpose.SIGNATURE), range(500)))
        assert other.wait(30) == 0
    assert counted(tmp_path).signatures == 1000


def test_program_that_is_killed_at_the_signature_has_counted_it(scratch, watched, tmp_path):
    """The module ends the process at the seventh signature, before it is made."""
    with open_signer(scratch, "scratch", writable=True) as signer:
        generate_key(signer, KeyKind.P256, "counted-to-death")
    code = """
        import sys
        from dataclasses import replace
        from pathlib import Path
        from hsm import Signer, TokenUri, find_key
        from hsm.key_rules import objects, public_key
        from hsm import KeyFamily
        from pkcs11.constants import Attribute, ObjectClass
        uri = replace(TokenUri.parse(sys.argv[1]), module_path=sys.argv[2])
        signer = Signer.open(uri, counts=Path(sys.argv[3]))
        wanted = {Attribute.LABEL: "counted-to-death", Attribute.CLASS: ObjectClass.PUBLIC_KEY}
        public = signer.call_blocking(lambda session: public_key(objects(session, wanted)[0], KeyFamily.P256))
        key = find_key(signer, public)
        while True:
            key.sign_message_blocking(b"x")
    """
    environment = {**scratch.environment, **watched, "WATCHED_HARM": "die", "WATCHED_AT": "7", "PATH": ""}
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(code),
        scratch.uri("scratch"),
        watched["WATCHED_SO"],
        str(tmp_path),
    ]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 9, done.stderr
    assert Path(watched["WATCHED_LOG"]).read_text().split().count("sign") == 7
    assert counted(tmp_path).signatures == 7


def test_power_cut_is_told_with_what_it_may_hide(tmp_path):
    """Another start of the machine, and the last program had not closed the file."""
    counts = SignatureCounts(tmp_path, boot_id="a" * 36)
    for _ in range(10):
        counts.count(KEY, Purpose.SIGNATURE)
    with SignatureCounts(tmp_path, boot_id="b" * 36) as after:
        after.count(KEY, Purpose.SIGNATURE)
        count = counted(tmp_path, "b" * 36)
    assert (count.signatures, count.lost_at_most) == (11, BLOCK - 10)
    counts._files.clear()


def test_many_in_one_go_are_made_sure_of_once(tmp_path, monkeypatch):
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced.append(1), real(descriptor)))
    counts = SignatureCounts(tmp_path, boot_id="a" * 36)
    counts.count(KEY, Purpose.SIGNATURE, 5 * BLOCK)
    assert len(synced) == 1
    assert (counted(tmp_path).signatures, counted(tmp_path, "b" * 36).lost_at_most) == (5 * BLOCK, 0)
    counts._files.clear()


async def test_what_a_token_was_not_asked_for_after_all_is_not_counted(tmp_path):
    token = FakeToken()
    token.at("sign", 3, MechanismInvalid())
    with Signer.on(token, FAKE_URI, counts=tmp_path) as signer:
        await signer.sign_all([message_request(token.name, b"x")] * 5)
    (count,) = read_counts(tmp_path).values()
    assert (count.signatures, token.calls["sign"]) == (3, 3)


def test_power_cut_after_a_clean_end_hides_nothing(tmp_path):
    with SignatureCounts(tmp_path, boot_id="a" * 36) as counts:
        counts.count(KEY, Purpose.SIGNATURE)
    with SignatureCounts(tmp_path, boot_id="b" * 36) as counts:
        counts.count(KEY, Purpose.SIGNATURE)
    assert (counted(tmp_path).signatures, counted(tmp_path).lost_at_most) == (2, 0)


def test_program_that_was_killed_before_the_power_was_cut_is_seen(tmp_path):
    """Nobody has opened the file since; reading it must not hide what may be lost."""
    counts = SignatureCounts(tmp_path, boot_id="a" * 36)
    counts.count(KEY, Purpose.SIGNATURE)
    assert counted(tmp_path).lost_at_most == BLOCK - 1
    counts.close()


def test_damaged_count_is_not_counted_on(tmp_path):
    with SignatureCounts(tmp_path) as counts:
        counts.count(KEY, Purpose.SIGNATURE)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"x" * 128)
    with pytest.raises(AuditError, match="damaged") as caught:
        read_counts(tmp_path)
    assert caught.value.code == "audit.count_damaged"
    with SignatureCounts(tmp_path) as counts, pytest.raises(AuditError):
        counts.count(KEY, Purpose.SIGNATURE)


def test_program_that_was_killed_before_it_wrote_its_file_leaves_one_that_counts_nothing(tmp_path):
    (tmp_path / f"{KEY.hex()}.count").touch()
    assert read_counts(tmp_path) == {}
    with SignatureCounts(tmp_path) as counts:
        counts.count(KEY, Purpose.SIGNATURE)
    assert counted(tmp_path).signatures == 1


async def test_signature_that_can_not_be_counted_is_not_made(tmp_path):
    token = FakeToken()
    (tmp_path / f"{token.name.spki_sha256.hex()}.count").mkdir()  # a folder where the file should be
    told = pytest.raises(AuditError, match="nothing is signed that is not counted")
    with Signer.on(token, FAKE_URI, counts=tmp_path) as signer, told:
        await signer.sign(message_request(token.name, b"x"))
    assert token.calls["sign"] == 0


def test_folder_without_counts_has_none(tmp_path):
    assert read_counts(tmp_path / "nowhere") == {}


def test_signer_closes_its_counts(scratch, tmp_path):
    with Signer.open(
        TokenUri.parse(scratch.uri("scratch")), environment=scratch.environment, writable=True, counts=tmp_path
    ) as signer:
        key = generate_key(signer, KeyKind.P256, "counted")
        key.sign_message_blocking(b"x")
    with SignatureCounts(tmp_path, boot_id="b" * 36):
        pass
    assert (counted(tmp_path).signatures, counted(tmp_path).lost_at_most) == (1, 0)

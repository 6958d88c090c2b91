"""Signed notes, checkpoints and proofs as others write and read them, and what is refused."""

import json
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from station.ledger.checkpoint import Checkpoint, open_checkpoint
from station.ledger.errors import NoteInvalid, ProofInvalid
from station.ledger.leaf import leaf_of, parse_leaf
from station.ledger.note import Note, VerifierKey
from station.ledger.proof import LedgerProof, check
from station.ledger.tree import inclusion_path, leaf_hash, range_root

# From the documentation and the tests of Go's golang.org/x/mod/sumdb/note.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_that_go_signed_is_read():
    assert Note.parse(PETER_NOTE).signed_by([VerifierKey.parse(PETER)]).name == "PeterNeumann"


def test_a_key_that_go_wrote_is_written_the_same():
    assert VerifierKey.parse(PETER).vkey() == PETER


def test_a_note_that_was_changed_is_refused():
    with pytest.raises(NoteInvalid) as refused:
        Note.parse(PETER_NOTE.replace("cryptography", "Cryptography")).signed_by([VerifierKey.parse(PETER)])
    assert refused.value.code == "ledger.note_signature"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "no signature\n",
        "text\n\nPeterNeumann x08go/ZJ\n",
        "text\n\n— PeterNeumann !!!!\n",
        "text\n\n— PeterNeumann x08gow==\n",
        "bell \x07\n\n— PeterNeumann x08go/ZJkuBS\n",
        PETER_NOTE.rstrip("\n"),
        PETER_NOTE + "— x AAAAAAAA\n" * 101,
        "x" * 100_000,
    ],
)
def test_what_is_no_note_is_refused(note):
    with pytest.raises(NoteInvalid):
        Note.parse(note)


@pytest.mark.parametrize(
    "text", ["", "x", "a+b", PETER.replace("c74f", "c74e"), PETER.replace("AR", "A0"), "a b+c74f20a3+AA==", PETER + "="]
)
def test_what_is_no_key_is_refused(text):
    with pytest.raises(NoteInvalid):
        VerifierKey.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "log\n1\nAAAA\n",
        "log\n01\n" + "A" * 43 + "=\n",
        "log\n-1\n" + "A" * 43 + "=\n",
        "\n1\n" + "A" * 43 + "=\n",
        "log\n1\n",
        "log\n1\n" + "A" * 43 + "=\n\n",
        "log\n1\n" + "A" * 42 + "B=\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text):
    with pytest.raises(NoteInvalid):
        Checkpoint.parse(text)


ED25519 = ed25519.Ed25519PrivateKey.generate()
P256 = ec.generate_private_key(ec.SECP256R1())


def signed(checkpoint, key=ED25519):
    text = checkpoint.text().encode()
    signature = key.sign(text) if key is ED25519 else key.sign(text, ec.ECDSA(hashes.SHA256()))
    return checkpoint.signed(key.public_key(), signature)


EVENTS = [
    (number, b"2026-01-01T00:00:00.000Z", 1, b"1", b"pass", b"journal", b'{"product_serial":"SN%d"}' % number)
    for number in range(1, 12)
]
LEAVES = [leaf_of(row) for row in EVENTS]


def node(level, number):
    if level == 0:
        return leaf_hash(LEAVES[number])
    from station.ledger.tree import node_hash  # noqa: PLC0415

    return node_hash(node(level - 1, 2 * number), node(level - 1, 2 * number + 1))


HEAD = Checkpoint("example.org/log", len(LEAVES), range_root(node, 0, len(LEAVES)))


def proof_of(index, key=ED25519):
    return LedgerProof(LEAVES[index], index, tuple(inclusion_path(node, index, len(LEAVES))), signed(HEAD, key))


@pytest.mark.parametrize("key", [ED25519, P256], ids=["ed25519", "p256"])
def test_a_checkpoint_is_read_back_with_its_key_or_its_vkey(key):
    note = signed(HEAD, key)
    public = key.public_key()
    vkey = VerifierKey.parse(VerifierKey(HEAD.origin, public).vkey())
    assert open_checkpoint(note, [public]).checkpoint == open_checkpoint(note, [vkey]).checkpoint == HEAD


def test_a_checkpoint_with_a_witness_of_whom_nobody_knows_is_read():
    note = signed(HEAD) + PETER_NOTE.rpartition("\n\n")[2]
    assert open_checkpoint(note, [ED25519.public_key()]).checkpoint == HEAD


@pytest.mark.parametrize("index", range(len(LEAVES)))
def test_a_proof_is_read_back_and_holds(index):
    proof = LedgerProof.parse(proof_of(index).serialize())
    assert check(proof, [ED25519.public_key()]).event.facts == {"product_serial": f"SN{index + 1}"}


def test_a_proof_for_another_event_does_not_hold():
    proof = proof_of(3)
    with pytest.raises(ProofInvalid):
        check(LedgerProof(LEAVES[4], proof.index, proof.path, proof.note), [ED25519.public_key()])


def proof_of_event(step, kind, facts):
    """Prove the only event of a log."""
    leaf = leaf_of((1, b"2026-01-01T00:00:00.000Z", 1, b"1", step, kind, json.dumps(facts).encode()))
    return LedgerProof(leaf, 0, (), signed(Checkpoint("example.org/log", 1, leaf_hash(leaf))))


@pytest.mark.parametrize(("step", "kind"), [(b"record", b"journal"), (b"fail", b"journal"), (b"pass", b"note")])
def test_an_event_that_is_no_pass_proves_nothing(step, kind):
    with pytest.raises(ProofInvalid) as refused:
        check(proof_of_event(step, kind, {}), [ED25519.public_key()])
    assert refused.value.code == "ledger.proof_no_pass"


@pytest.mark.parametrize("parts", [{}, {"challenge": "00", "message": 7, "signature": "00"}], ids=["none", "malformed"])
def test_a_pass_without_the_boards_signature_proves_nothing_of_its_certificate(parts):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "board")])
    day = datetime(2026, 1, 1, tzinfo=UTC)
    leaf = x509.CertificateBuilder(name, name, P256.public_key(), 1, day, day).sign(P256, hashes.SHA256())
    facts = {"certificate_sha256": leaf.fingerprint(hashes.SHA256()).hex(), **parts}
    with pytest.raises(ProofInvalid, match="own signature is not in the event"):
        check(proof_of_event(b"pass", b"journal", facts), [ED25519.public_key()], leaf)


def test_a_proof_under_another_key_does_not_hold():
    with pytest.raises(NoteInvalid) as refused:
        check(proof_of(3, P256), [ED25519.public_key()])
    assert refused.value.code == "ledger.note_unknown_key"


@pytest.mark.parametrize("at", range(0, len(proof_of(3).serialize()), 7))
def test_a_proof_with_any_character_changed_does_not_hold(at):
    text = proof_of(3).serialize()
    spoiled = text[:at] + ("B" if text[at] != "B" else "C") + text[at + 1 :]
    with pytest.raises((ProofInvalid, NoteInvalid)):
        check(LedgerProof.parse(spoiled), [ED25519.public_key()])


@pytest.mark.parametrize(
    "text", ["", "c2sp.org/tlog-proof@v1\n", "x" * 1_000_000, "c2sp.org/tlog-proof@v1\nindex 0\n\nx"]
)
def test_what_is_no_proof_is_refused(text):
    with pytest.raises(ProofInvalid):
        LedgerProof.parse(text)


@pytest.mark.parametrize(
    "leaf", [b"", b"event/1\n", b"\xff\xfe", LEAVES[0] + b"\n", LEAVES[0].replace(b"event/1", b"event/2")]
)
def test_what_is_no_event_is_refused(leaf):
    with pytest.raises(ProofInvalid):
        parse_leaf(leaf)


def test_an_event_reads_as_it_was_written():
    assert leaf_of(EVENTS[0]) == (
        b'event/1\n1\n2026-01-01T00:00:00.000Z\n1\n1\npass\njournal\n{"product_serial":"SN1"}'
    )

"""The reference device's bootloader: what it runs, what it refuses, and what it does while nothing may run."""

import struct
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from smp.error import MGMT_ERR
from smp.image_management import IMG_MGMT_ERR
from smp.os_management import OS_MGMT_RET_RC
from smpclient.requests.image_management import ImageErase, ImageStatesRead, ImageStatesWrite, ImageUploadWrite
from smpclient.requests.os_management import BootloaderInformationRead, EchoWrite, MCUMgrParametersRead, ResetWrite

from firmware_tools.provisioning import Locks
from firmware_tools.provisioning_group import IdentRead, LockRead, LockWrite

OTHER = ec.derive_private_key(8, ec.SECP256R1())
POWER_GONE = (ConnectionResetError, BrokenPipeError)
MANY = 60
"""More flash operations than the story of the power cuts has."""


@pytest.fixture
def boot(power_on, image_key_file):
    """Start a board with a bootloader: ``boot(program, *options, storage="board")``."""
    return lambda program, *options, **where: power_on(
        program, "--bootloader", "--image-key", image_key_file, *options, **where
    )


@pytest.fixture
def board(boot, device):
    return boot(device)


def upload(board, image, *, size=1500):
    """Upload in pieces; return the last answer."""
    for offset in range(0, len(image), size):
        first = {"len": len(image), "sha": sha256(image).digest()} if offset == 0 else {}
        answer = board.ask(ImageUploadWrite(off=offset, data=image[offset : offset + size], **first))
        if getattr(answer, "off", None) is None:
            break
    return answer


def hash_of(image):
    header_size, _, body_size = struct.unpack_from("<HHI", image, 8)
    return sha256(image[: header_size + body_size]).digest()


def states(board):
    """Return (slot, version, flags) of each image that the board lists."""
    flags = ("bootable", "pending", "confirmed", "active")
    images = board.ask(ImageStatesRead()).images
    return [(image.slot, image.version, {name for name in flags if getattr(image, name)}) for image in images]


def running(board):
    """Version of the application; None: there is none, only the bootloader."""
    return getattr(board.ask(IdentRead()), "fw", None)


def in_recovery(board):
    return running(board) is None


def reset(board):
    board.ask(ResetWrite())


def install(board, image):
    """Bring a board to run an image and to keep it."""
    assert upload(board, image).off == len(image)
    if not in_recovery(board):
        board.ask(ImageStatesWrite(hash=hash_of(image), confirm=True))
    reset(board)


def try_out(board, image):
    assert upload(board, image).off == len(image)
    board.ask(ImageStatesWrite(hash=hash_of(image)))
    reset(board)


def rot(board, image):
    """Change one bit of an image in the flash of a board that has no power."""
    flash = board.storage / "flash.bin"
    at = flash.read_bytes().rindex(image[:-100]) + 60
    content = bytearray(flash.read_bytes())
    content[at] ^= 1
    flash.write_bytes(content)


# Recovery


def test_a_blank_board_stays_in_recovery(board):
    assert states(board) == []
    assert b"bootloader 1.0.0: no image to run, serial recovery" in board.noise


def test_recovery_answers_echo_and_parameters(board):
    assert board.ask(EchoWrite(d="hello")).r == "hello"
    assert board.ask(MCUMgrParametersRead()).buf_size == 2048


def test_recovery_knows_no_provisioning(board):
    assert board.ask(IdentRead()).rc is MGMT_ERR.ENOTSUP


def test_a_reset_does_not_end_recovery(board):
    reset(board)
    assert in_recovery(board)


@pytest.mark.parametrize(
    ("query", "told"), [(None, None), ("version", "1.0.0"), ("mode", {"mode": 6, "no-downgrade": True})]
)
def test_the_bootloader_says_what_it_is(board, signed_image, query, told):
    in_bootloader = board.ask(BootloaderInformationRead(query=query))
    install(board, signed_image((1, 0, 0, 0)))
    in_application = board.ask(BootloaderInformationRead(query=query))
    for answer in (in_bootloader, in_application):
        assert (answer.bootloader, answer.response) == ("reference-device", told)


def test_a_query_that_it_does_not_know_has_a_code(board):
    answer = board.ask(BootloaderInformationRead(query="colour"))
    assert answer.err.rc is OS_MGMT_RET_RC.QUERY_YIELDS_NO_ANSWER


def test_a_board_without_bootloader_tells_of_none(power_on, plain):
    assert power_on(plain).ask(BootloaderInformationRead()).rc is MGMT_ERR.ENOTSUP


def test_a_signed_image_runs_after_the_reset_and_is_confirmed(board, signed_image):
    image = signed_image((1, 2, 3, 4))
    assert upload(board, image).off == len(image)
    assert states(board) == [(1, "1.2.3.4", {"bootable"})]
    reset(board)
    assert states(board) == [(0, "1.2.3.4", {"bootable", "confirmed", "active"})]
    assert board.ask(IdentRead()).img == hash_of(image)


def test_a_power_cut_does_what_a_reset_does(boot, plain, signed_image):
    board = boot(plain)
    upload(board, signed_image((1, 2, 3, 0)))
    board.kill()
    assert running(boot(plain)) == "1.2.3"


def test_an_uploaded_image_can_be_erased_again(board, signed_image):
    upload(board, signed_image((1, 0, 0, 0)))
    board.ask(ImageErase())
    reset(board)
    assert in_recovery(board)


def test_an_image_marked_in_recovery_runs(board, signed_image):
    image = signed_image((1, 0, 0, 0))
    try_out(board, image)
    assert running(board) == "1.0.0"


def test_raw_messages_reach_the_bootloader(boot, plain):
    board = boot(plain, "--raw")
    board.wire.sendall(EchoWrite(d="raw").BYTES)
    assert board.wire.recv(100).endswith(b"\xa1arcraw")


# Signatures


def test_an_image_with_the_signature_of_a_second_key_runs_too(board, image_key, signed_image):
    install(board, signed_image((1, 0, 0, 0), keys=(OTHER, image_key)))
    assert running(board) == "1.0.0"


def test_a_signature_without_padding_is_good(board, image_key, signed_image):
    body = next(bytes(200) + bytes([i]) for i in range(200))

    def trim(tlvs):
        signature = tlvs[2][4:]
        size = 2 + signature[1]
        return [*tlvs[:2], struct.pack("<HH", 0x22, size) + signature[:size]]

    install(board, signed_image((1, 0, 0, 0), body=body, spoil=trim))
    assert running(board) == "1.0.0"


def without_signature(tlvs):
    return tlvs[:1]


def without_key_hash(tlvs):
    return [tlvs[0], tlvs[2]]


def key_hash_behind(tlvs):
    return [tlvs[0], tlvs[2], tlvs[1]]


def turn_bit(of, at):
    def spoil(tlvs):
        tlv = bytearray(tlvs[of])
        tlv[at] ^= 1
        return [*tlvs[:of], bytes(tlv), *tlvs[of + 1 :]]

    return spoil


def foreign_signature(tlvs):
    der = OTHER.sign(b"something else", ec.ECDSA(hashes.SHA256()))
    return [*tlvs[:2], struct.pack("<HH", 0x22, len(der)) + der]


def zero_signature(tlvs):
    der = bytes.fromhex("3006020100020100")
    return [*tlvs[:2], struct.pack("<HH", 0x22, len(der)) + der]


def junk_behind_signature(tlvs):
    return [*tlvs[:2], tlvs[2][:-1] + b"\x01"] if tlvs[2][-1] == 0 else [*tlvs[:2], b"\x22\0\x01\0\x30"]


@pytest.mark.parametrize(
    "spoil",
    [
        without_signature,
        without_key_hash,
        key_hash_behind,
        foreign_signature,
        zero_signature,
        junk_behind_signature,
        turn_bit(1, 10),
        *(turn_bit(2, at) for at in (4, 5, 6, 7, 8, 20, 39, 40, 41, 42, 60)),
    ],
)
def test_what_is_not_signed_by_the_key_is_refused_and_forgotten(board, signed_image, spoil):
    assert upload(board, signed_image((1, 0, 0, 0), spoil=spoil)).rc == MGMT_ERR.EACCESSDENIED
    assert states(board) == []
    reset(board)
    assert in_recovery(board)


def test_an_image_signed_by_another_key_is_refused(board, signed_image):
    assert upload(board, signed_image((1, 0, 0, 0), keys=(OTHER,))).rc == MGMT_ERR.EACCESSDENIED


def test_the_application_refuses_what_the_bootloader_would(board, signed_image):
    install(board, signed_image((1, 0, 0, 0)))
    assert upload(board, signed_image((2, 0, 0, 0), keys=(OTHER,))).rc == MGMT_ERR.EACCESSDENIED
    assert [state[:2] for state in states(board)] == [(0, "1.0.0")]


@pytest.mark.parametrize("at", [9, 24, 40, 150])
def test_one_turned_bit_in_header_or_body_is_found(board, signed_image, at):
    image = bytearray(signed_image((1, 0, 0, 0)))
    image[at] ^= 4
    assert upload(board, bytes(image)).err.rc in {IMG_MGMT_ERR.INVALID_HASH, IMG_MGMT_ERR.NO_TLVS}
    assert states(board) == []


@pytest.mark.parametrize("signature", [b"", bytes(73)])
def test_a_signature_of_impossible_size_is_a_malformed_tlv(board, signed_image, signature):
    image = signed_image(
        (1, 0, 0, 0), spoil=lambda tlvs: [*tlvs[:2], struct.pack("<HH", 0x22, len(signature)) + signature]
    )
    assert upload(board, image).err.rc is IMG_MGMT_ERR.INVALID_TLV


@pytest.mark.parametrize("flags", [0x04, 0x08, 0x10])
def test_an_image_that_is_encrypted_or_not_to_be_booted_is_refused(board, signed_image, flags):
    assert upload(board, signed_image((1, 0, 0, 0), flags=flags)).err.rc is IMG_MGMT_ERR.INVALID_IMAGE_HEADER


def test_an_image_that_rots_is_not_run(boot, plain, signed_image):
    board = boot(plain)
    image = signed_image((1, 0, 0, 0))
    install(board, image)
    board.kill()
    rot(board, image)
    assert in_recovery(boot(plain))


# Trial and return


def test_an_image_on_trial_says_so(board, signed_image):
    install(board, signed_image((1, 0, 0, 0)))
    try_out(board, signed_image((2, 0, 0, 0)))
    assert states(board) == [(0, "2.0.0", {"bootable", "active"}), (1, "1.0.0", {"bootable", "confirmed"})]
    assert b"2.0.0 booted on trial" in board.noise


def test_a_trial_that_is_not_confirmed_goes_back(board, signed_image):
    install(board, signed_image((1, 0, 0, 0)))
    try_out(board, signed_image((2, 0, 0, 0)))
    reset(board)
    assert running(board) == "1.0.0"


def test_a_trial_that_is_confirmed_stays(board, signed_image):
    install(board, signed_image((1, 0, 0, 0)))
    try_out(board, signed_image((2, 0, 0, 0)))
    board.ask(ImageStatesWrite(confirm=True))
    reset(board)
    assert running(board) == "2.0.0"


def test_a_pending_image_that_rots_is_not_tried(boot, plain, signed_image):
    board = boot(plain)
    install(board, signed_image((1, 0, 0, 0)))
    image = signed_image((2, 0, 0, 0))
    upload(board, image)
    board.ask(ImageStatesWrite(hash=hash_of(image)))
    board.kill()
    rot(board, image)
    assert running(boot(plain)) == "1.0.0"


# No way back


@pytest.mark.parametrize("older", [(1, 9, 9, 9), (2, 2, 9, 9), (2, 3, 3, 9), (2, 3, 0x0103, 9), (2, 3, 0x0104, 4)])
def test_an_older_image_is_refused_at_its_first_piece(board, signed_image, older):
    install(board, signed_image((2, 3, 0x0104, 5)))
    spare = signed_image((3, 0, 0, 0))
    upload(board, spare)
    assert upload(board, signed_image(older)).err.rc is IMG_MGMT_ERR.CURRENT_VERSION_IS_NEWER
    assert states(board)[1][1] == "3.0.0"  # nothing was erased for it


def test_an_older_image_in_pieces_too_small_for_its_version_is_refused_at_its_end(board, signed_image):
    install(board, signed_image((2, 0, 0, 0)))
    assert upload(board, signed_image((1, 0, 0, 0)), size=20).err.rc is IMG_MGMT_ERR.CURRENT_VERSION_IS_NEWER
    assert len(states(board)) == 1


def test_the_same_version_may_come_again(board, signed_image):
    install(board, signed_image((2, 0, 0, 0)))
    install(board, signed_image((2, 0, 0, 0), body=b"another build"))
    assert running(board) == "2.0.0"


def test_a_trial_takes_nothing_away_before_it_is_confirmed(board, signed_image):
    install(board, signed_image((1, 0, 0, 0)))
    try_out(board, signed_image((3, 0, 0, 0)))
    reset(board)
    install(board, signed_image((2, 0, 0, 0)))
    assert running(board) == "2.0.0"


@pytest.fixture
def updated(board, signed_image):
    """A board that runs 2.0.0, confirmed, with 1.0.0 in its other slot."""
    install(board, signed_image((1, 0, 0, 0)))
    try_out(board, signed_image((2, 0, 0, 0)))
    board.ask(ImageStatesWrite(confirm=True))
    return board


def test_what_ran_before_the_confirmed_image_runs_no_more(updated, signed_image):
    assert states(updated)[1] == (1, "1.0.0", set())
    answer = updated.ask(ImageStatesWrite(hash=hash_of(signed_image((1, 0, 0, 0)))))
    assert answer.err.rc is IMG_MGMT_ERR.CURRENT_VERSION_IS_NEWER


def test_rather_than_an_older_image_the_board_runs_nothing(updated, boot, device, signed_image):
    updated.kill()
    rot(updated, signed_image((2, 0, 0, 0))[:150])
    again = boot(device)
    assert in_recovery(again)
    assert states(again) == [(1, "1.0.0", set())]
    assert upload(again, signed_image((1, 5, 0, 0))).err.rc is IMG_MGMT_ERR.CURRENT_VERSION_IS_NEWER
    install(again, signed_image((2, 0, 1, 0)))
    assert running(again) == "2.0.1"


def test_a_board_without_bootloader_runs_older_images_as_before(power_on, plain, signed_image):
    board = power_on(plain)
    install(board, signed_image((0, 9, 0, 0)))
    assert running(board) == "0.9.0"


# Power cuts


@pytest.mark.parametrize("torn", [0, 8, 16, 1000])
def test_a_cut_in_any_flash_operation_from_blank_to_updated_loses_nothing(boot, plain, ca, signed_image, torn):
    first, second = (signed_image((major, 0, 0, 0), body=bytes(3000)) for major in (1, 2))

    def story(board, seen):
        """Go on from whatever is there: to 1.0.0, a key, a lock, and 2.0.0 by way of a trial."""
        if running(board) is None:
            assert upload(board, first).off == len(first)
            reset(board)
        seen["key"] = board.csr().public_key()
        board.install(ca.chain(seen["key"]))
        seen["locks"] = board.ask(LockWrite(locks=Locks.DEBUG)).locks
        if running(board) == "1.0.0":
            try_out(board, second)
        board.ask(ImageStatesWrite(confirm=True))
        seen["version"] = "2.0.0"

    for operation in range(1, MANY):
        name, seen = f"board-{operation}", {}
        board = boot(plain, "--die-after-writes", str(operation), "--torn", str(torn), storage=name)
        try:
            story(board, seen)
        except POWER_GONE:
            assert board.join() == -9
        else:
            board.kill()
            assert operation > 20  # the story has that many: the cuts did happen
            return
        again = boot(plain, storage=name)
        assert running(again) in ({"2.0.0"} if "version" in seen else {None, "1.0.0", "2.0.0"})
        assert running(again) or "key" not in seen
        if "key" in seen:
            assert again.csr().public_key() == seen["key"]
        if "locks" in seen:
            assert again.ask(LockRead()).locks & Locks.DEBUG
        story(again, seen)
        reset(again)
        assert running(again) == "2.0.0"
        again.unplug()
    pytest.fail(f"more than {MANY} flash operations")


# The key


def point(key):
    return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_the_key_may_be_a_bare_point(power_on, plain, tmp_path, image_key, signed_image):
    path = tmp_path / "point"
    path.write_bytes(point(image_key))
    board = power_on(plain, "--bootloader", "--image-key", path)
    install(board, signed_image((1, 0, 0, 0)))
    assert running(board) == "1.0.0"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x04" + bytes(63),
        pem(ec.derive_private_key(9, ec.SECP384R1())),
        pem(rsa.generate_private_key(65537, 2048)),
        pem(OTHER)[:-40],
        pem(OTHER).replace(b"M", b"!"),
        bytes(5000),
    ],
)
def test_a_file_that_is_no_key_is_named(board_class, plain, tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    board = board_class(plain, tmp_path / "board", "--bootloader", "--image-key", path)
    board.wire.close()
    _, errors = board.process.communicate(timeout=10)
    assert board.process.returncode == 1
    assert f"{path} is no public key of P-256" in errors


@pytest.mark.parametrize("options", [["--bootloader"], ["--image-key", "/dev/null"]])
def test_a_bootloader_and_its_key_come_together(board_class, plain, tmp_path, options):
    board = board_class(plain, tmp_path / "board", *options)
    board.wire.close()
    _, errors = board.process.communicate(timeout=10)
    assert (board.process.returncode, errors[:6]) == (2, "Usage:")

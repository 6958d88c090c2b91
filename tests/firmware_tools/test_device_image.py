"""Images: upload, trial, confirmation, return; and what is refused."""

import struct
from hashlib import sha256

import pytest
from smp.image_management import IMG_MGMT_ERR
from smpclient.requests.image_management import ImageErase, ImageStatesRead, ImageStatesWrite, ImageUploadWrite
from smpclient.requests.os_management import ResetWrite

from firmware_tools.provisioning_group import IdentRead

SLOT = 256 * 1024


@pytest.fixture
def board(power_on, device):
    return power_on(device)


def upload(board, image, *, start=0, size=1000, stop=None, sha=True):
    """Upload from ``start`` to ``stop``; return the last answer."""
    offset = start
    answer = None
    while offset < (len(image) if stop is None else stop):
        first = {"len": len(image), "sha": sha256(image).digest() if sha else None} if offset == 0 else {}
        answer = board.ask(ImageUploadWrite(off=offset, data=image[offset : offset + size], **first))
        if getattr(answer, "off", None) in {None, offset} or answer.match is False:
            break
        offset = answer.off
    return answer


def states(board):
    return [(i.slot, i.version, i.pending, i.confirmed, i.active) for i in board.ask(ImageStatesRead()).images]


def reset(board):
    board.ask(ResetWrite())


def code(answer):
    return answer.err.rc


def test_a_blank_board_runs_the_image_it_came_with(board):
    assert states(board) == [(0, "1.0.0", False, True, True)]


@pytest.mark.parametrize("size", [4, 7, 8, 100, 1000, 1901])
def test_an_upload_in_pieces_of_any_size_is_whole(board, mcuboot_image, size):
    image, digest = mcuboot_image((2, 3, 4, 0), size=1501)
    assert upload(board, image, size=size).off == len(image)
    stored = board.ask(ImageStatesRead()).images[1]
    assert (stored.version, stored.hash) == ("2.3.4", digest)


@pytest.mark.parametrize("protected", [False, True])
def test_an_image_that_fills_the_slot_is_taken(board, mcuboot_image, protected):
    overhead = len(mcuboot_image((2, 0, 0, 0), size=0, protected=protected)[0])
    image, _ = mcuboot_image((2, 0, 0, 0), size=SLOT - overhead, protected=protected)
    assert upload(board, image, size=1900).off == SLOT


def test_a_version_with_a_build_number_is_told_whole(board, mcuboot_image):
    image, _ = mcuboot_image((255, 255, 65535, 4294967295))
    upload(board, image)
    assert states(board)[1][1] == "255.255.65535.4294967295"


def test_an_image_on_trial_runs_after_the_reset(board, mcuboot_image):
    image, digest = mcuboot_image((2, 0, 0, 0))
    upload(board, image)
    board.ask(ImageStatesWrite(hash=digest))
    assert states(board)[1] == (1, "2.0.0", True, False, False)
    reset(board)
    assert states(board) == [(0, "2.0.0", False, False, True), (1, "1.0.0", False, True, False)]
    assert (board.ask(IdentRead()).fw, board.ask(IdentRead()).img) == ("2.0.0", digest)


def test_a_trial_that_is_not_confirmed_goes_back(board, mcuboot_image):
    image, digest = mcuboot_image((2, 0, 0, 0))
    upload(board, image)
    board.ask(ImageStatesWrite(hash=digest))
    reset(board)
    reset(board)
    assert states(board) == [(0, "1.0.0", False, True, True), (1, "2.0.0", False, False, False)]


def test_a_trial_that_is_confirmed_stays(board, mcuboot_image):
    image, digest = mcuboot_image((2, 0, 0, 0))
    upload(board, image)
    board.ask(ImageStatesWrite(hash=digest))
    reset(board)
    board.ask(ImageStatesWrite(confirm=True))
    reset(board)
    assert states(board)[0] == (0, "2.0.0", False, True, True)


def test_an_image_confirmed_by_its_hash_stays(board, mcuboot_image):
    image, digest = mcuboot_image((2, 0, 0, 0))
    upload(board, image)
    board.ask(ImageStatesWrite(hash=digest, confirm=True))
    reset(board)
    reset(board)
    assert states(board)[0] == (0, "2.0.0", False, True, True)


def test_a_power_cut_does_what_a_reset_does(power_on, device, mcuboot_image):
    board = power_on(device)
    image, digest = mcuboot_image((2, 0, 0, 0))
    upload(board, image)
    board.ask(ImageStatesWrite(hash=digest, confirm=True))
    board.kill()
    assert states(power_on(device))[0] == (0, "2.0.0", False, True, True)


def test_images_follow_each_other_in_both_slots(board, mcuboot_image):
    for major in range(2, 6):
        image, digest = mcuboot_image((major, 0, 0, 0))
        upload(board, image)
        board.ask(ImageStatesWrite(hash=digest, confirm=True))
        reset(board)
        assert states(board)[0][1] == f"{major}.0.0"


def test_an_upload_goes_on_where_it_was(board, mcuboot_image):
    image, _ = mcuboot_image((2, 0, 0, 0), size=3000)
    upload(board, image, stop=2000)
    answer = board.ask(ImageUploadWrite(off=0, data=image[:100], len=len(image), sha=sha256(image).digest()))
    assert answer.off == 2000
    assert upload(board, image, start=2000).off == len(image)


def test_a_piece_at_another_offset_is_told_where_to_go_on(board, mcuboot_image):
    image, _ = mcuboot_image((2, 0, 0, 0), size=3000)
    upload(board, image, stop=1000)
    assert board.ask(ImageUploadWrite(off=2000, data=image[2000:2100])).off == 1000


def test_another_image_begins_anew(board, mcuboot_image):
    upload(board, mcuboot_image((2, 0, 0, 0), size=3000)[0], stop=2000)
    other, _ = mcuboot_image((3, 0, 0, 0), size=100)
    assert upload(board, other).off == len(other)


def test_a_transfer_with_another_digest_does_not_match(board, mcuboot_image):
    image, _ = mcuboot_image((2, 0, 0, 0))
    answer = board.ask(ImageUploadWrite(off=0, data=image, len=len(image), sha=bytes(32)))
    assert (answer.off, answer.match) == (len(image), False)
    assert len(states(board)) == 1


def spoil_magic(image):
    return b"\0" + image[1:]


def spoil_body(image):
    return image[:40] + bytes([image[40] ^ 1]) + image[41:]


def without_tlvs(image):
    return image[:-40]


def with_two_hashes(image):
    return image[:-40] + struct.pack("<HH", 0x6907, 76) + 2 * image[-36:]


def without_hash(image):
    return image[:-40] + struct.pack("<HH", 0x6907, 4)


def with_endless_tlv(image):
    return image[:-40] + struct.pack("<HHHH", 0x6907, 40, 0x50, 0xFFFF) + image[-32:]


def with_huge_body(image):
    return image[:12] + struct.pack("<I", 0xFFFFFFFF) + image[16:]


def with_small_header(image):
    return image[:8] + struct.pack("<H", 31) + image[10:]


@pytest.mark.parametrize("sha", [True, False])
@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (spoil_magic, IMG_MGMT_ERR.INVALID_IMAGE_HEADER_MAGIC),
        (spoil_body, IMG_MGMT_ERR.INVALID_HASH),
        (without_tlvs, IMG_MGMT_ERR.NO_TLVS),
        (with_two_hashes, IMG_MGMT_ERR.TLV_MULTIPLE_HASHES_FOUND),
        (without_hash, IMG_MGMT_ERR.HASH_NOT_FOUND),
        (with_endless_tlv, IMG_MGMT_ERR.INVALID_TLV),
        (with_huge_body, IMG_MGMT_ERR.INVALID_IMAGE_HEADER),
        (with_small_header, IMG_MGMT_ERR.INVALID_IMAGE_HEADER),
    ],
)
def test_a_broken_image_is_refused_and_forgotten(board, mcuboot_image, spoil, error, sha):
    image, _ = mcuboot_image((2, 0, 0, 0))
    assert code(upload(board, spoil(image), sha=sha)) is error
    assert len(states(board)) == 1


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (ImageUploadWrite(off=0, data=b"x"), IMG_MGMT_ERR.INVALID_LENGTH),
        (ImageUploadWrite(off=0, data=b"x", len=0), IMG_MGMT_ERR.INVALID_LENGTH),
        (ImageUploadWrite(off=0, data=b"x", len=SLOT + 1), IMG_MGMT_ERR.INVALID_IMAGE_TOO_LARGE),
        (ImageUploadWrite(off=0, data=b"x", len=2**40), IMG_MGMT_ERR.INVALID_IMAGE_TOO_LARGE),
        (ImageUploadWrite(off=0, data=b"x", len=9, sha=b"short"), IMG_MGMT_ERR.INVALID_HASH),
        (ImageUploadWrite(off=0, data=b"xxx", len=2), IMG_MGMT_ERR.INVALID_IMAGE_DATA_OVERRUN),
        (ImageUploadWrite(off=0, data=b"", len=9), IMG_MGMT_ERR.INVALID_IMAGE_HEADER),
        (ImageUploadWrite(off=0, data=b"x", len=9, image=2), IMG_MGMT_ERR.INVALID_SLOT),
        (ImageUploadWrite(off=9, data=b"x"), IMG_MGMT_ERR.INVALID_OFFSET),
        (ImageUploadWrite(off=2**40, data=b"x"), IMG_MGMT_ERR.INVALID_OFFSET),
        (ImageStatesWrite(hash=bytes(32)), IMG_MGMT_ERR.HASH_NOT_FOUND),
        (ImageStatesWrite(hash=b"short"), IMG_MGMT_ERR.INVALID_HASH),
        (ImageStatesWrite(), IMG_MGMT_ERR.INVALID_HASH),
        (ImageErase(slot=0), IMG_MGMT_ERR.INVALID_SLOT),
    ],
)
def test_a_request_out_of_range_gets_its_code(board, request_, error):
    assert code(board.ask(request_)) is error


def test_the_running_image_can_not_be_put_on_trial(board):
    running = board.ask(ImageStatesRead()).images[0].hash
    assert code(board.ask(ImageStatesWrite(hash=running))) is IMG_MGMT_ERR.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED


def test_while_a_trial_runs_the_way_back_can_not_be_overwritten(board, mcuboot_image):
    image, digest = mcuboot_image((2, 0, 0, 0))
    upload(board, image)
    board.ask(ImageStatesWrite(hash=digest))
    reset(board)
    assert code(upload(board, mcuboot_image((3, 0, 0, 0))[0])) is IMG_MGMT_ERR.NO_FREE_SLOT
    assert code(board.ask(ImageErase())) is IMG_MGMT_ERR.NO_FREE_SLOT


def test_an_erased_image_is_gone_and_no_longer_pending(board, mcuboot_image):
    image, digest = mcuboot_image((2, 0, 0, 0))
    upload(board, image)
    board.ask(ImageStatesWrite(hash=digest))
    board.ask(ImageErase(slot=1))
    reset(board)
    assert states(board) == [(0, "1.0.0", False, True, True)]


def test_an_image_that_rotted_in_flash_does_not_run(power_on, device, mcuboot_image):
    board = power_on(device)
    image, digest = mcuboot_image((2, 0, 0, 0))
    upload(board, image)
    board.ask(ImageStatesWrite(hash=digest, confirm=True))
    board.kill()
    flash = board.storage / "flash.bin"
    content = flash.read_bytes()
    flash.write_bytes(content.replace(image, spoil_body(image)))
    assert states(power_on(device)) == [(0, "1.0.0", False, True, True)]


def test_the_key_stays_over_a_new_image(board, mcuboot_image):
    key = board.csr().public_key()
    image, digest = mcuboot_image((2, 0, 0, 0))
    upload(board, image)
    board.ask(ImageStatesWrite(hash=digest, confirm=True))
    reset(board)
    assert board.csr().public_key() == key

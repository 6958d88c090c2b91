"""Power cuts: kill -9 at random moments, and in the middle of each flash operation there is.

After each cut the board has to boot, and to be in the state before or after what was going on, never between. The
promises that must hold whatever happened: a key that was handed out in a CSR is still there; a chain is whole or
absent; a lock that was answered for is still set.
"""

import random
from contextlib import suppress
from hashlib import sha256

import pytest
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite, ImageUploadWrite
from smpclient.requests.os_management import ResetWrite

from firmware_tools.provisioning import DeviceState, Locks
from firmware_tools.provisioning_group import ChainRead, ChainReadResponse, IdentRead, LockRead, LockWrite, ProveWrite

ALL = Locks.DEBUG | Locks.CREDENTIALS
POWER_GONE = (ConnectionResetError, BrokenPipeError)
MANY = 40
"""More flash operations than any of the stories below has; a story that has more fails its test."""


class Promises:
    """What a board has said so far."""

    def __init__(self):
        self.key = self.chain = None
        self.locks = Locks.NONE
        self.finished = False

    def hold(self, board, ca):
        """Check that the board is consistent, and stands by its word."""
        ident = board.ask(IdentRead())
        answer = board.ask(ChainRead(off=0))
        stored = answer.data if isinstance(answer, ChainReadResponse) else None
        assert (stored is None) == (ident.st < DeviceState.PROVISIONED)
        if self.key is not None:
            assert ident.st >= DeviceState.KEYED
        key = board.csr().public_key()
        assert self.key in (None, key)
        assert stored in {None, ca.chain(key), ca.leaf(key)}
        if self.chain is not None:
            assert stored is not None
        if stored is not None:
            assert ident.leaf == sha256(ca.leaf(key)).digest()
        assert board.ask(LockRead()).locks & self.locks == self.locks


def provision(board, ca, promises):
    """Key, a first chain, the whole chain, proof, lock; until the end or a power cut."""
    promises.key = board.csr().public_key()
    for chain in (ca.leaf(promises.key), ca.chain(promises.key)):
        assert board.install(chain, piece=500).off == len(chain)
        promises.chain = chain
    assert board.ask(ProveWrite(nonce=bytes(32))).sig
    for locks in (Locks.DEBUG, ALL):
        promises.locks |= board.ask(LockWrite(locks=locks)).locks
    promises.finished = True


def finish(board, ca):
    """What the station does when the board comes back: it ends with the same key and the whole chain."""
    key = board.csr().public_key()
    assert board.install(ca.chain(key)).off > 0
    assert board.ask(LockWrite(locks=ALL)).locks == ALL
    assert board.ask(IdentRead()).st is DeviceState.LOCKED


def cut_at(power_on, program, operation, torn, story, *, storage):
    """Tell the story to a board that dies in its nth flash operation; True: it came to its end before."""
    board = power_on(program, "--die-after-writes", str(operation), "--torn", str(torn), storage=storage)
    try:
        story(board)
    except POWER_GONE:
        assert board.join() == -9
        return False
    board.kill()
    return True


@pytest.mark.parametrize("torn", [0, 1, 5, 8, 15, 16, 17, 200])
def test_a_cut_in_any_flash_operation_of_a_provisioning_loses_nothing(power_on, plain, ca, torn):
    for operation in range(1, MANY):
        promises = Promises()
        name = f"board-{operation}"
        done = cut_at(power_on, plain, operation, torn, lambda board, p=promises: provision(board, ca, p), storage=name)
        assert promises.finished == done
        again = power_on(plain, storage=name)
        promises.hold(again, ca)
        finish(again, ca)
        again.unplug()
        if done:
            assert operation > 10  # the story has that many: the cuts did happen
            return
    pytest.fail(f"more than {MANY} flash operations")


def generation(flash):
    """Return the generation of the newest half of the store, as store.h has it."""
    halves = (flash[:16], flash[16384:16400])
    return max(int.from_bytes(half[4:8], "little") for half in halves if half[:4] == b"PRV1")


@pytest.mark.parametrize("torn", [0, 9, 16, 300])
def test_a_cut_while_the_store_moves_to_its_other_half_loses_nothing(power_on, plain, ca, torn):
    promises = Promises()

    def fill(board):
        promises.key = board.csr().public_key()
        for turn in range(60):  # more chains than one half has room for
            chain = ca.chain(promises.key) if turn % 2 else ca.leaf(promises.key)
            assert board.install(chain).off == len(chain)
            promises.chain = chain

    generations = []
    for operation in range(80, 150):  # where the move lies depends on the sizes of signatures, so look for it
        promises.__init__()
        name = f"board-{operation}"
        assert not cut_at(power_on, plain, operation, torn, fill, storage=name)
        again = power_on(plain, storage=name)
        generations.append(generation((again.storage / "flash.bin").read_bytes()))
        promises.hold(again, ca)
        finish(again, ca)
        again.unplug()
        if generations.count(2) == 5:
            break
    assert set(generations) == {1, 2}  # cuts before and after the move, so also all those in it


def test_a_cut_and_a_cut_in_what_follows_lose_nothing(power_on, sanitized, ca):
    for first in range(3, 14):
        promises = Promises()
        name = f"board-{first}"
        for operation in (first, 1, 2, 3, 4, 5, 6, 7):
            cut_at(power_on, sanitized, operation, 12, lambda board, p=promises: provision(board, ca, p), storage=name)
        again = power_on(sanitized, storage=name)
        promises.hold(again, ca)
        finish(again, ca)
        again.unplug()


@pytest.mark.parametrize("torn", [0, 16, 1000])
def test_a_cut_in_any_flash_operation_of_an_update_leaves_one_of_the_images(power_on, plain, mcuboot_image, torn):
    image, digest = mcuboot_image((2, 0, 0, 0), size=3001)

    def update(board):
        if board.ask(ImageStatesRead()).images[0].hash == digest:  # it runs, perhaps on trial: only to be confirmed
            board.ask(ImageStatesWrite(confirm=True))
            return
        for offset in range(0, len(image), 1500):
            first = {"len": len(image), "sha": sha256(image).digest()} if offset == 0 else {}
            board.ask(ImageUploadWrite(off=offset, data=image[offset : offset + 1500], **first))
        board.ask(ImageStatesWrite(hash=digest))
        board.ask(ResetWrite())
        board.ask(ImageStatesWrite(confirm=True))

    for operation in range(1, MANY):
        name = f"board-{operation}"
        done = cut_at(power_on, plain, operation, torn, update, storage=name)
        again = power_on(plain, storage=name)
        assert again.ask(ImageStatesRead()).images[0].version in {"1.0.0", "2.0.0"}
        update(again)
        assert again.ask(ImageStatesRead()).images[0].version == "2.0.0"
        again.unplug()
        if done:
            assert operation > 10
            return
    pytest.fail(f"more than {MANY} flash operations")


def test_a_kill_at_any_moment_loses_nothing(power_on, plain, ca):
    source = random.Random(9)  # noqa: S311 - not for secrets; the same each time, so that a failure repeats
    for turn in range(60):
        promises = Promises()
        board = power_on(plain, storage=f"board-{turn}")
        board.wire.settimeout(source.uniform(0.0005, 0.008))  # a cut after so many seconds without an answer
        with suppress(TimeoutError):
            provision(board, ca, promises)
        board.kill()
        again = power_on(plain, storage=f"board-{turn}")
        promises.hold(again, ca)
        finish(again, ca)
        again.unplug()


def test_only_one_device_uses_a_storage(power_on, plain, board_class):
    board = power_on(plain)
    board.ask(IdentRead())
    second = board_class(plain, board.storage)
    _, errors = second.process.communicate(timeout=10)
    second.wire.close()
    assert (second.process.returncode, errors) == (1, "reference-device: another device uses this storage\n")

"""The one thread that owns a token."""

import asyncio
import hashlib
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from hsm import KeyKind, Recovery, Signer, SignerError, TokenError, generate_key
from hsm.algorithms import verify
from hsm.fake_token import FAKE_URI, FakeToken
from hsm.key_store import destroy_key, read_facts
from hsm.request import message_request
from hsm.testing import open_signer


@pytest.fixture
def quick():
    """A signer on a token that signs at once: what it was given to sign is in the list."""
    token, seen = FakeToken(), []
    token.sign = lambda _, request: (seen.append(request.ways[0].message), bytes(64))[1]
    with Signer.on(token, FAKE_URI) as signer:
        yield signer, token, seen


@pytest.fixture
def key(signer):
    made = generate_key(signer, KeyKind.P256, "signer-test")
    yield made
    if not signer.closed:
        destroy_key(made)


async def test_all_work_is_done_by_one_thread(signer):
    names = await asyncio.gather(*[signer.call(lambda _: threading.current_thread().name) for _ in range(20)])
    assert set(names) == {"hsm-signer"}


async def test_work_is_done_in_the_order_it_came(signer):
    seen = []
    await asyncio.gather(*[signer.call(lambda _, n=n: seen.append(n)) for n in range(100)])
    assert seen == list(range(100))


async def test_signatures_are_made_in_the_order_they_were_asked_for(quick):
    signer, token, seen = quick
    await asyncio.gather(*[signer.sign(message_request(token.name, bytes([n]))) for n in range(100)])
    assert seen == [hashlib.sha256(bytes([n])).digest() for n in range(100)]


async def test_eight_tasks_sign_at_once(key):
    async def sign_many(number):
        for turn in range(50):
            message = f"{number} {turn}".encode()
            verify(key.public_key(), await key.sign_message(message), message, hashes.SHA256())

    await asyncio.gather(*[sign_many(number) for number in range(8)])


async def test_results_come_back_together(quick):
    """Many signatures wake the loop few times."""
    signer, token, _ = quick
    loop = asyncio.get_running_loop()
    woken = []
    wake = loop.call_soon_threadsafe
    loop.call_soon_threadsafe = lambda *arguments: (woken.append(1), wake(*arguments))[1]
    try:
        await asyncio.gather(*[signer.sign(message_request(token.name, b"x")) for _ in range(160)])
    finally:
        loop.call_soon_threadsafe = wake
    assert len(woken) < 80


async def test_quick_result_does_not_wait_for_slow_work(quick):
    """A signature's result is handed over before other work starts, not after it."""
    signer, token, _ = quick
    held = threading.Event()
    signature = asyncio.ensure_future(signer.sign(message_request(token.name, b"x")))
    await asyncio.sleep(0)
    slow = asyncio.ensure_future(signer.call(lambda _: held.wait(30)))
    assert await asyncio.wait_for(signature, 10)
    held.set()
    assert await slow


def test_several_event_loops_share_a_signer(key):
    async def sign():
        message = b"loop"
        signatures = await asyncio.gather(*[key.sign_message(message) for _ in range(20)])
        for signature in signatures:
            verify(key.public_key(), signature, message, hashes.SHA256())
        return len(signatures)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: asyncio.run(sign()), range(4))) == [20] * 4


def test_threads_that_sign_and_read_attributes_do_not_crash(key):
    def hammer(number):
        for turn in range(60):
            message = bytes([number, turn])
            key.public_key().verify(key.sign(message, ec.ECDSA(hashes.SHA256())), message, ec.ECDSA(hashes.SHA256()))
            assert not read_facts(key).broken
            key.signer.call_blocking(lambda session: session.generate_random(128))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(hammer, range(6)))


async def test_cancelled_work_is_not_done(signer):
    held = threading.Event()
    done = []
    blocker = asyncio.ensure_future(signer.call(lambda _: held.wait(30)))
    await asyncio.sleep(0)
    cancelled = asyncio.ensure_future(signer.call(lambda _: done.append(1)))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    held.set()
    await blocker
    await signer.call(lambda _: None)
    assert done == []


async def test_error_of_the_work_is_raised_where_it_was_asked_for(signer):
    with pytest.raises(ZeroDivisionError):
        await signer.call(lambda _: 1 // 0)


async def test_error_of_the_token_is_classified(signer):
    def forge(session):
        from pkcs11.exceptions import SessionHandleInvalid  # noqa: PLC0415 - only here

        raise SessionHandleInvalid

    with pytest.raises(TokenError, match="SessionHandleInvalid") as caught:
        await signer.call(forge)
    assert (caught.value.code, caught.value.recovery) == ("token.session_handle_invalid", Recovery.RELOAD)
    await signer.awake()


async def test_close_finishes_what_was_handed_in(scratch):
    signer = open_signer(scratch, "scratch", writable=True)
    key = generate_key(signer, KeyKind.P256, "drain")
    work = [asyncio.ensure_future(key.sign_message(b"x")) for _ in range(50)]
    tidy = asyncio.ensure_future(signer.call(lambda session: [o.destroy() for o in session.get_objects({3: "drain"})]))
    await asyncio.sleep(0)
    await asyncio.to_thread(signer.close)
    signatures = await asyncio.gather(*work)
    await tidy
    assert len(signatures) == 50
    verify(key.public_key(), signatures[-1], b"x", hashes.SHA256())


async def test_close_from_the_loop_finishes_too(scratch):
    signer = open_signer(scratch, "scratch")
    work = [asyncio.ensure_future(signer.call(lambda _, n=n: n)) for n in range(20)]
    await asyncio.sleep(0)
    signer.close()
    assert await asyncio.gather(*work) == list(range(20))


async def test_every_call_after_close_is_refused(scratch):
    signer = open_signer(scratch, "scratch")
    signer.close()
    signer.close()
    name = FakeToken().name
    for attempt in (
        lambda: signer.call(lambda _: None),
        lambda: signer.sign(message_request(name, b"x")),
        lambda: signer.find(name),
        signer.awake,
    ):
        with pytest.raises(SignerError) as caught:
            await attempt()
        assert caught.value.code == "signer.closed"
    for blocking in (
        lambda: signer.call_blocking(lambda _: None),
        lambda: signer.sign_blocking(message_request(name, b"x")),
        lambda: signer.find_blocking(name),
        signer.awake_blocking,
    ):
        with pytest.raises(SignerError):
            blocking()
    with pytest.raises(SignerError):
        generate_key(signer, KeyKind.P256, "never")
    assert signer.closed


def test_closing_while_threads_sign_ends_every_call(scratch):
    signer = open_signer(scratch, "scratch")
    busy = threading.Barrier(5)

    def use():
        signer.call_blocking(lambda session: session.generate_random(64))
        busy.wait(30)
        try:
            while True:
                signer.call_blocking(lambda session: session.generate_random(64))
        except SignerError as error:
            return error.code

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(use) for _ in range(4)]
        busy.wait(30)
        signer.close()
        assert [thread.result(timeout=30) for thread in running] == ["signer.closed"] * 4


def test_signer_closes_itself_at_exit(scratch):
    code = """
        import sys
        from hsm import Signer, TokenUri
        from hsm.testing import open_signer
        signer = Signer.open(TokenUri.parse(sys.argv[1]), environment={"SOFTHSM2_CONF": sys.argv[2]})
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), scratch.uri("scratch"), str(scratch.conf)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_repr_names_the_token_only(scratch):
    signer = open_signer(scratch, "scratch")
    assert repr(signer) == "<Signer 'scratch'>"
    signer.close()
    assert repr(signer) == "<Signer 'scratch' closed>"

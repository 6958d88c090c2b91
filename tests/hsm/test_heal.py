"""What a signer does when its token fails: on a token that fails on demand, with a clock that is moved by hand."""

import asyncio
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pkcs11 import exceptions as p11

from hsm import IssuanceError, KeyUnfit, PinError, Recovery, Signer, SignerError, State, Timing, TokenError
from hsm.algorithms import verify
from hsm.errors import RECOVERY
from hsm.fake_token import FAKE_URI, FakeToken, ManualClock
from hsm.jobs import Job
from hsm.request import message_request

MESSAGE = b"the same bytes"


class Bench:
    """A signer on a fake, and a clock."""

    def __init__(self, **fake):
        self.token = FakeToken(**fake)
        self.clock = ManualClock()
        self.signer = Signer.on(self.token, FAKE_URI, timing=Timing(clock=self.clock))

    @property
    def request(self):
        return message_request(self.token.name, MESSAGE)

    async def sign(self, **options):
        signature = await self.signer.sign(self.request, **options)
        verify(self.token.public, signature, MESSAGE, hashes.SHA256())
        return signature

    async def settled(self):
        """Wait until the signer's thread has done what is due, without using the token."""
        passed = threading.Event()
        self.signer._worker._jobs.put("tick")
        self.signer._worker._jobs.put(Job(lambda _: None, Passing(passed), None))
        await asyncio.to_thread(passed.wait, 10)


class Passing(Future):
    """Of work that is not to be done, and tells when its turn came."""

    def __init__(self, passed):
        super().__init__()
        self._passed = passed

    def cancelled(self):
        self._passed.set()
        return True


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.token.release()
    made.signer.close()


RELOADED = ["reload", "connect", "log_in", "find", "sign"]
"""A reload: and the last signature is the probe."""

CURABLE = [answer for answer, recovery in RECOVERY.items() if recovery in {Recovery.RELOAD, Recovery.TOKEN_GONE}]


@pytest.mark.parametrize("answer", CURABLE, ids=lambda answer: answer.__name__)
async def test_caller_sees_one_slow_answer_where_a_reload_helps(bench, answer):
    await bench.sign()
    bench.token.at("sign", 2, answer())
    await bench.sign()
    assert bench.token.order == ["connect", "log_in", "find", "sign", "sign", *RELOADED, "sign"]
    assert bench.signer.state is State.AWAKE


@pytest.mark.parametrize("call", ["connect", "log_in", "find", "sign"])
async def test_fault_at_any_call_of_a_reload_is_met_by_the_next_one(bench, call):
    await bench.sign()
    bench.token.at("sign", 2, p11.DeviceError())
    bench.token.at(call, {"connect": 2, "log_in": 2, "find": 2, "sign": 3}[call], p11.DeviceError())
    with pytest.raises(TokenError, match="is asleep, and is tried again every 30 s") as caught:
        await bench.sign()
    assert caught.value.code == "token.asleep"
    assert "goes on by itself" in caught.value.operator
    with pytest.raises(TokenError, match="is asleep"):
        await bench.sign()  # at once: nobody is kept waiting for a token that stays away
    waiting = asyncio.ensure_future(bench.signer.awake())
    await bench.settled()
    assert not waiting.done()
    bench.clock.advance(30)
    await waiting
    await bench.sign()
    assert bench.signer.reloads == 2


async def test_retry_is_of_the_same_bytes_and_is_counted_before_it_is_made(bench):
    asked = []
    real = bench.token.sign
    bench.token.sign = lambda found, request: (asked.append(request.ways), real(found, request))[1]
    bench.token.at("sign", 1, p11.SessionHandleInvalid())

    async def again():
        asked.append("again")

    await bench.sign(again=again)
    first, probe, *rest = asked
    assert rest == ["again", first]
    assert probe[0].message != first[0].message


async def test_try_that_can_not_be_counted_is_not_made(bench):
    bench.token.at("sign", 1, p11.SessionHandleInvalid())

    async def again():
        raise RuntimeError("the journal is full")

    with pytest.raises(RuntimeError):
        await bench.sign(again=again)
    assert bench.token.calls["sign"] == 2  # the one that failed, and the probe


async def test_eight_callers_share_one_reload(bench):
    await bench.sign()
    bench.token.from_("sign", 2, p11.GeneralError(), times=1)
    await asyncio.gather(*[bench.sign() for _ in range(8)])
    assert bench.token.calls["reload"] == 1


async def test_blocking_caller_is_healed_too(bench):
    bench.token.at("sign", 1, p11.SessionHandleInvalid())
    signature = await asyncio.to_thread(bench.signer.sign_blocking, bench.request)
    verify(bench.token.public, signature, MESSAGE, hashes.SHA256())


@pytest.mark.parametrize("answer", [p11.MechanismInvalid, p11.DataLenRange, p11.ArgumentsBad, p11.KeyTypeInconsistent])
async def test_error_that_no_reload_cures_is_raised_at_once(bench, answer):
    bench.token.at("sign", 1, answer())
    with pytest.raises(TokenError) as caught:
        await bench.sign()
    assert caught.value.recovery is Recovery.PERMANENT
    assert bench.token.calls["reload"] == 0
    await bench.sign()


# -- many in one go


def different(bench, count):
    return [message_request(bench.token.name, b"%d" % number) for number in range(count)]


async def test_many_are_signed_in_their_order(bench):
    for number, signature in enumerate(await bench.signer.sign_all(different(bench, 40))):
        verify(bench.token.public, signature, b"%d" % number, hashes.SHA256())


async def test_fault_in_the_middle_costs_one_more_try_of_that_one_only(bench):
    bench.token.at("sign", 3, p11.SessionHandleInvalid())
    again = []

    async def count(place):
        again.append(place)

    signatures = await bench.signer.sign_all(different(bench, 5), again=count)
    for number, signature in enumerate(signatures):
        verify(bench.token.public, signature, b"%d" % number, hashes.SHA256())
    assert again == [2]
    assert bench.token.order[3:] == ["sign", "sign", "sign", *RELOADED, "sign", "sign", "sign"]


async def test_each_of_many_may_fail_once(bench):
    bench.token.at("sign", 2, p11.SessionHandleInvalid())
    bench.token.at("sign", 5, p11.SessionHandleInvalid())  # the probe is the third
    waiting = asyncio.ensure_future(bench.signer.sign_all(different(bench, 5)))
    while bench.token.calls["sign"] < 5:  # then it waits for the next reload
        await bench.settled()
    await bench.settled()
    bench.clock.advance(30)
    assert all(isinstance(one, bytes) for one in await waiting)
    assert bench.token.calls["reload"] == 2


async def test_what_was_signed_before_a_fault_that_stays_is_kept(bench):
    bench.token.from_("sign", 3, p11.MechanismInvalid())
    signed, also, refused, not_asked = await bench.signer.sign_all(different(bench, 4))
    verify(bench.token.public, signed, b"0", hashes.SHA256())
    verify(bench.token.public, also, b"1", hashes.SHA256())
    assert (refused.recovery, not_asked) == (Recovery.PERMANENT, refused)
    assert bench.token.calls["sign"] == 3


async def test_what_was_signed_before_a_call_that_hangs_is_kept(bench):
    bench.token.at("sign", 3, bench.token.hang)
    waiting = asyncio.ensure_future(bench.signer.sign_all(different(bench, 5)))
    await asyncio.to_thread(bench.token.hangs)
    bench.clock.advance(16)
    ends = await waiting
    assert [isinstance(end, bytes) for end in ends] == [True, True, False, False, False]
    assert ends[2].code == "token.hung"
    bench.token.release()
    await bench.signer.awake()
    assert bench.token.order[-6:] == ["sign", *RELOADED]  # the others were not begun


async def test_time_of_one_signature_is_watched_and_not_that_of_all(bench):
    real = bench.token.sign

    def slow(found, request):
        bench.clock.advance(14)
        return real(found, request)

    bench.token.sign = slow
    assert all(isinstance(one, bytes) for one in await bench.signer.sign_all(different(bench, 5)))


async def test_token_is_asked_for_no_more_of_what_nobody_waits_for(bench):
    bench.token.at("sign", 3, bench.token.hang)
    waiting = asyncio.ensure_future(bench.signer.sign_all(different(bench, 5)))
    await asyncio.to_thread(bench.token.hangs)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    bench.token.release()
    await bench.settled()
    assert bench.token.calls["sign"] == 3


async def test_many_wait_as_many(bench):
    bench.token.at("sign", 1, bench.token.hang)
    waiting = asyncio.ensure_future(bench.signer.sign_all(different(bench, 5)))
    await asyncio.to_thread(bench.token.hangs)
    assert bench.signer.waiting == 5
    bench.token.release()
    await waiting
    assert bench.signer.waiting == 0


# -- not too often


async def test_module_is_reloaded_at_most_once_in_thirty_seconds(bench):
    await bench.sign()
    bench.token.from_("sign", 2, p11.DeviceError())
    with pytest.raises(TokenError):
        await bench.sign()
    for seconds in range(1, 91):
        bench.clock.advance(1)
        await bench.settled()
        assert bench.token.calls["reload"] == 1 + seconds // 30


async def test_token_that_fails_again_after_a_reload_waits_for_the_next(bench):
    bench.token.at("sign", 1, p11.DeviceError())
    await bench.sign()
    bench.token.at("sign", bench.token.calls["sign"] + 1, p11.DeviceError())
    waiting = asyncio.ensure_future(bench.sign())
    await bench.settled()
    assert (waiting.done(), bench.token.calls["reload"]) == (False, 1)
    bench.clock.advance(29.9)
    await bench.settled()
    assert not waiting.done()
    bench.clock.advance(0.1)
    await waiting
    assert bench.token.calls["reload"] == 2


async def test_token_that_comes_back_is_used_without_anybody_asking(bench):
    await bench.sign()
    bench.token.from_("sign", 2, p11.DeviceRemoved())
    with pytest.raises(TokenError):
        await bench.sign()
    bench.token.mend()
    bench.clock.advance(30)
    await bench.settled()
    assert bench.signer.state is State.AWAKE


async def test_token_that_shares_its_module_and_stays_away_disturbs_the_others_less_and_less(bench):
    await bench.sign()
    bench.token.shared_by = 2
    bench.token.from_("connect", 2, p11.TokenNotPresent())
    bench.token.at("sign", 2, p11.DeviceRemoved())
    with pytest.raises(TokenError):
        await bench.sign()
    times = []
    for second in range(1, 1500):
        bench.clock.advance(1)
        await bench.settled()
        if bench.token.calls["reload"] > len(times) + 1:
            times.append(second)
    assert times == [30, 90, 210, 450, 750, 1050, 1350]


async def test_a_reload_that_fails_while_the_caller_finds_the_token_asleep_is_not_waited_out(bench, monkeypatch):
    def refuse():
        bench.token.hang()
        raise p11.DeviceError

    bench.token.at("sign", 1, p11.DeviceError())
    bench.token.at("reload", 1, refuse)
    first = asyncio.ensure_future(bench.sign())
    await asyncio.to_thread(bench.token.hangs)
    look = bench.signer._worker.is_ready

    def and_then_the_reload_fails():
        seen = look()
        bench.token.release()
        until_in_vain(bench)
        return seen

    monkeypatch.setattr(bench.signer._worker, "is_ready", and_then_the_reload_fails)
    async with asyncio.timeout(10):
        ends = await asyncio.gather(first, bench.sign(), return_exceptions=True)
    assert [end.code for end in ends] == ["token.asleep"] * 2


async def test_a_token_that_is_lost_right_after_the_caller_found_it_awake_is_not_waited_for(bench, monkeypatch):
    bench.token.at("sign", 1, p11.DeviceError())
    bench.token.at("reload", 1, p11.DeviceError())
    look = bench.signer._worker.is_ready

    def and_then_it_is_lost():
        seen = look()
        with suppress(TokenError):
            bench.signer.sign_once_blocking(bench.request)
        until_in_vain(bench)
        return seen

    monkeypatch.setattr(bench.signer._worker, "is_ready", and_then_it_is_lost)
    async with asyncio.timeout(10):
        with pytest.raises(TokenError) as caught:
            await bench.sign()
    assert caught.value.code == "token.asleep"


def until_in_vain(bench):
    """Keep the caller's thread until a reload has come to nothing."""
    while not bench.signer._worker.health.in_vain:
        time.sleep(0.001)


async def test_work_that_is_no_signature_fails_at_once_while_the_token_is_asleep(bench):
    bench.token.from_("reload", 1, p11.DeviceError())
    bench.token.at("sign", 1, p11.DeviceError())
    with pytest.raises(TokenError):
        await bench.sign()
    with pytest.raises(TokenError) as caught:
        await bench.signer.call(lambda _: pytest.fail("it was done"))
    assert caught.value.code == "token.asleep"


async def test_closing_ends_those_who_wait(bench):
    await bench.sign()
    bench.token.from_("sign", 2, p11.DeviceError())
    with pytest.raises(TokenError):
        await bench.sign()
    waiting = asyncio.ensure_future(bench.signer.awake())
    await bench.settled()
    await asyncio.to_thread(bench.signer.close)
    with pytest.raises(SignerError):
        await waiting


# -- the PIN


@pytest.mark.parametrize(
    "answer", [answer for answer, recovery in RECOVERY.items() if recovery is Recovery.PIN], ids=lambda a: a.__name__
)
async def test_after_a_pin_error_nothing_is_tried_again(bench, answer):
    await bench.sign()
    bench.token.at("sign", 2, p11.SessionHandleInvalid())
    bench.token.at("log_in", 2, answer())
    with pytest.raises(PinError):
        await bench.sign()
    for _ in range(5):
        bench.clock.advance(1000)
        await bench.settled()
        with pytest.raises(PinError, match="waking the token"):
            await bench.sign()
    assert bench.token.calls["log_in"] == 2
    assert bench.signer.state is State.REFUSED


async def test_reload_logs_in_once_and_unattended(bench):
    bench.token.at("sign", 1, p11.SessionHandleInvalid())
    await bench.sign()
    first, second = bench.token.logins
    assert not first.again
    assert (second.again, second.attended, second.pin) == (True, False, first.pin)


# -- what must be the same after a reload


async def test_other_token_of_the_same_name_is_not_used(bench):
    await bench.sign()
    bench.token.serial = "0002"
    bench.token.at("sign", 2, p11.SessionHandleInvalid())
    with pytest.raises(TokenError, match="another token is there: 'fake', serial 0002, and not serial 0001"):
        await bench.sign()
    assert bench.token.calls["log_in"] == 1
    bench.token.serial = "0001"
    bench.clock.advance(30)
    await bench.settled()
    await bench.sign()


async def test_key_that_does_not_sign_as_before_is_never_used_again(bench):
    await bench.sign()
    name, other = bench.token.name, ec.generate_private_key(ec.SECP256R1())
    real = bench.token._find
    bench.token.at("sign", 2, p11.SessionHandleInvalid())

    def find(key):
        found = real(key)
        return replace(found, handle=replace(found.handle, private=other))

    bench.token.find = find
    with pytest.raises(IssuanceError, match="signs wrongly") as caught:
        await bench.signer.sign(message_request(name, MESSAGE))
    assert "Stop the line" in caught.value.operator
    assert bench.signer.state is State.REFUSED


async def test_key_that_can_leave_the_token_after_a_reload_is_never_used_again(bench):
    await bench.sign()

    def find(_):
        raise KeyUnfit("EXTRACTABLE is true")

    bench.token.find = find
    bench.token.at("sign", 2, p11.SessionHandleInvalid())
    with pytest.raises(KeyUnfit):
        await bench.sign()
    assert bench.signer.state is State.REFUSED


async def test_key_that_has_gone_is_waited_for(bench):
    await bench.sign()
    public, mine = bench.token.name, bench.token.private
    bench.token.at("sign", 2, p11.ObjectHandleInvalid())
    bench.token.private = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(TokenError, match="a key has gone"):
        await bench.signer.sign(message_request(public, MESSAGE))
    bench.token.private = mine
    bench.clock.advance(30)
    await bench.settled()
    await bench.sign()


async def test_session_that_another_signer_ended_is_opened_again_without_a_reload(bench):
    await bench.sign()
    bench.token.stale = True
    await bench.sign()
    assert bench.token.order[4:] == ["drop", "connect", "log_in", "find", "sign", "sign"]


async def test_rsa_key_is_probed_too():
    bench = Bench(private=rsa.generate_private_key(65537, 2048))
    with bench.signer:
        bench.token.at("sign", 1, p11.SessionHandleInvalid())
        await bench.sign()


# -- keepalive


async def test_idle_token_is_asked_something_cheap_every_twenty_seconds(bench):
    await bench.sign()
    beats = []
    for _ in range(50):
        bench.clock.advance(1)
        await bench.settled()
        beats.append(bench.token.calls["beat"])
    assert [beats.index(1), beats.index(2)] == [19, 39]
    assert bench.token.calls["reload"] == 0


async def test_busy_token_is_asked_nothing_more(bench):
    for _ in range(5):
        await bench.sign()
        bench.clock.advance(19)
        await bench.settled()
    assert bench.token.calls["beat"] == 0


async def test_token_that_was_lost_while_idle_is_back_before_it_is_needed(bench):
    await bench.sign()
    bench.token.at("beat", 1, p11.SessionHandleInvalid())
    bench.clock.advance(20)
    await bench.settled()
    assert bench.token.order[-6:] == ["beat", *RELOADED]
    assert bench.signer.state is State.AWAKE


# -- a call that hangs


async def test_call_that_hangs_is_given_up_and_further_work_is_refused_at_once(bench):
    await bench.sign()
    bench.token.at("sign", 2, bench.token.hang)
    waiting = [asyncio.ensure_future(bench.sign()) for _ in range(5)]
    await asyncio.to_thread(bench.token.hangs)
    bench.clock.advance(15)
    bench.clock.advance(0.1)
    for ended in await asyncio.gather(*waiting, return_exceptions=True):
        assert (ended.code, "Unplug it for ten seconds" in ended.operator) == ("token.hung", True)
    before = len(bench.token.order)
    for refused in (bench.sign(), bench.signer.call(lambda _: None)):
        with pytest.raises(TokenError) as caught:
            await refused
        assert caught.value.code == "token.hung"
    assert len(bench.token.order) == before
    assert bench.signer.state is State.HUNG


async def test_call_that_takes_its_time_is_not_given_up(bench):
    await bench.sign()
    bench.token.at("sign", 2, bench.token.hang)
    waiting = asyncio.ensure_future(bench.sign())
    await asyncio.to_thread(bench.token.hangs)
    bench.clock.advance(15)
    bench.token.release()
    await waiting
    assert bench.token.calls["reload"] == 0


async def test_result_that_comes_too_late_is_thrown_away_and_the_token_is_reloaded(bench):
    await bench.sign()
    bench.token.at("sign", 2, bench.token.hang)
    waiting = asyncio.ensure_future(bench.sign())
    await asyncio.to_thread(bench.token.hangs)
    bench.clock.advance(16)
    with pytest.raises(TokenError):
        await waiting
    back = asyncio.ensure_future(bench.signer.awake())
    await asyncio.sleep(0)
    bench.token.release()
    await back
    assert bench.token.order[-6:] == ["sign", *RELOADED]
    await bench.sign()


async def test_results_that_were_ready_are_handed_over_though_the_next_call_hangs(bench):
    bench.token.at("sign", 3, bench.token.hang)
    waiting = [asyncio.ensure_future(bench.sign()) for _ in range(3)]
    await asyncio.to_thread(bench.token.hangs)
    bench.clock.advance(16)
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(end, bytes) for end in ends] == [True, True, False]


async def test_reload_that_hangs_is_given_up_too(bench):
    await bench.sign()
    bench.token.at("sign", 2, p11.DeviceError())
    bench.token.at("reload", 1, bench.token.hang)
    waiting = asyncio.ensure_future(bench.sign())
    await asyncio.to_thread(bench.token.hangs)
    bench.clock.advance(91)
    with pytest.raises(TokenError) as caught:
        await waiting
    assert caught.value.code == "token.hung"


async def test_making_a_key_may_take_as_long_as_it_wants(bench):
    held = threading.Event()
    working = asyncio.ensure_future(bench.signer.call(lambda _: held.wait(10)))
    await asyncio.sleep(0.01)
    bench.clock.advance(1000)
    held.set()
    assert await working
    assert bench.signer.state is State.AWAKE


async def test_signer_whose_call_hangs_can_be_closed(bench):
    bench.token.at("sign", 1, bench.token.hang)
    waiting = asyncio.ensure_future(bench.sign())
    await asyncio.to_thread(bench.token.hangs)
    bench.clock.advance(16)
    with pytest.raises(TokenError):
        await waiting
    await asyncio.to_thread(bench.signer.close)
    assert bench.token.order[-1] == "leave_hung"


# -- a token that is not there yet


async def test_signer_may_begin_without_its_token():
    token, clock = FakeToken(), ManualClock()
    token.at("connect", 1, TokenError("not there", code="token.missing", recovery=Recovery.TOKEN_GONE))
    token.at("connect", 2, TokenError("not there", code="token.missing", recovery=Recovery.TOKEN_GONE))
    with Signer.on(token, FAKE_URI, timing=Timing(clock=clock), may_be_absent=True) as signer:
        with pytest.raises(TokenError, match="not there"):
            await signer.awake()
        waiting = asyncio.ensure_future(signer.awake())
        await asyncio.sleep(0.01)
        clock.advance(30)
        await waiting
        signature = await signer.sign(message_request(token.name, MESSAGE))
        verify(token.public, signature, MESSAGE, hashes.SHA256())


def test_signer_that_needs_its_token_does_not_begin_without():
    token = FakeToken()
    token.at("connect", 1, TokenError("not there", code="token.missing", recovery=Recovery.TOKEN_GONE))
    with pytest.raises(TokenError, match="not there"):
        Signer.on(token, FAKE_URI)
    assert token.order[-1] == "leave"


async def test_work_that_found_the_token_asleep_counts_as_no_try(bench):
    """Of eight in the queue one fails; the others were not begun, and their journals count one try each."""
    await bench.sign()
    bench.token.at("sign", 2, p11.GeneralError())
    again = []

    async def count():
        again.append(1)

    await asyncio.gather(*[bench.sign(again=count) for _ in range(8)])
    assert len(again) == 1
    assert bench.token.calls["sign"] == 1 + 8 + len(again) + bench.signer.reloads

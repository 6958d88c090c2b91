from hashlib import sha256

import pytest

from station.devices import Capability, DeviceState, Identity, Locks
from station.errors import DeviceError, Garbled, NoAnswer, UnitRefused, Unplugged
from station.line import policy
from station.line.policy import PACE_WINDOW, Party, Way

CERTIFICATE = b"a certificate"
ALL = Capability.MAKE_KEY | Capability.READ_BACK | Capability.PROVE | Capability.LOCK | Capability.OBSERVE_LOCK


def board(*, leaf: bytes | None = None, model="sensor", version="1.0.0", digest=b"\1" * 32) -> Identity:
    state = DeviceState.BLANK if leaf is None else DeviceState.PROVISIONED
    return Identity("B-1", model, version, digest, state, None if leaf is None else sha256(leaf).digest())


class AnyDriver:
    def __init__(self, capabilities):
        self.capabilities = capabilities


def test_a_new_board_is_provisioned():
    assert policy.choose_way(board(), passed=False, certificate=None) is Way.PROVISION


def test_a_board_that_lost_power_before_install_goes_on():
    assert policy.choose_way(board(), passed=False, certificate=CERTIFICATE) is Way.PROVISION


def test_a_board_that_lost_power_after_install_goes_on():
    assert policy.choose_way(board(leaf=CERTIFICATE), passed=False, certificate=CERTIFICATE) is Way.PROVISION


def test_a_board_that_passed_and_holds_its_certificate_is_left_alone():
    assert policy.choose_way(board(leaf=CERTIFICATE), passed=True, certificate=CERTIFICATE) is Way.DONE_BEFORE


@pytest.mark.parametrize("recorded", [None, CERTIFICATE])
@pytest.mark.parametrize("passed", [False, True])
def test_a_certificate_that_nobody_recorded_is_refused(recorded, passed):
    with pytest.raises(UnitRefused) as refused:
        policy.choose_way(board(leaf=b"from elsewhere"), passed=passed, certificate=recorded)
    assert refused.value.code == "unit.foreign_certificate"


def test_a_board_that_passed_and_was_erased_is_refused():
    with pytest.raises(UnitRefused) as refused:
        policy.choose_way(board(), passed=True, certificate=CERTIFICATE)
    assert refused.value.code == "unit.lost_certificate"


def test_another_product_is_refused():
    with pytest.raises(UnitRefused) as refused:
        policy.check_product(board(model="toaster"), model="sensor", version=None, digest=None)
    assert refused.value.code == "unit.wrong_model"
    assert refused.value.facts["got"] == "toaster"


@pytest.mark.parametrize(("version", "digest"), [("1.0.1", None), (None, b"\2" * 32)])
def test_other_firmware_is_refused(version, digest):
    with pytest.raises(UnitRefused) as refused:
        policy.check_product(board(), model="sensor", version=version, digest=digest)
    assert refused.value.code == "unit.wrong_firmware"


def test_the_right_firmware_is_accepted():
    policy.check_product(board(), model="sensor", version="1.0.0", digest=b"\1" * 32)


@pytest.mark.parametrize("missing", [Capability.MAKE_KEY, Capability.READ_BACK, Capability.PROVE])
def test_a_device_that_can_not_prove_its_key_is_refused_before_it_is_touched(missing):
    with pytest.raises(UnitRefused) as refused:
        policy.check_driver(AnyDriver(ALL & ~missing), Locks.NONE)
    assert missing.name in str(refused.value)


def test_a_device_without_locks_is_fine_where_the_product_wants_none():
    policy.check_driver(AnyDriver(ALL & ~Capability.LOCK & ~Capability.OBSERVE_LOCK), Locks.NONE)


def test_a_device_whose_locks_can_not_be_observed_is_refused_where_the_product_wants_them():
    with pytest.raises(UnitRefused):
        policy.check_driver(AnyDriver(ALL & ~Capability.OBSERVE_LOCK), Locks.DEBUG)


MODEM = Capability.MAKE_KEY | Capability.COMPARE | Capability.ATTEST


def test_what_stands_in_is_enough_where_the_product_accepts_it():
    policy.check_driver(AnyDriver(MODEM), Locks.NONE, Capability.COMPARE | Capability.ATTEST)


@pytest.mark.parametrize(("accepts", "missing"), [(Capability.COMPARE, "attestation"), (Capability.ATTEST, "digest")])
def test_what_stands_in_is_refused_where_the_product_does_not_accept_it(accepts, missing):
    with pytest.raises(UnitRefused, match=missing) as refused:
        policy.check_driver(AnyDriver(MODEM), Locks.NONE, accepts)
    assert refused.value.code == "unit.not_accepted"


def test_nothing_stands_in_for_a_key_or_for_locks():
    everything = Capability.COMPARE | Capability.ATTEST
    for able, locks in ((MODEM & ~Capability.MAKE_KEY, Locks.NONE), (MODEM, Locks.DEBUG)):
        with pytest.raises(UnitRefused) as refused:
            policy.check_driver(AnyDriver(able), locks, everything)
        assert refused.value.code == "unit.device_incapable"


def test_an_open_lock_is_refused_and_named():
    with pytest.raises(DeviceError, match="CREDENTIALS") as refused:
        policy.check_locks(Locks.DEBUG | Locks.CREDENTIALS, Locks.DEBUG)
    assert refused.value.code == "device.lock_open"


def test_more_locks_than_asked_for_are_fine():
    policy.check_locks(Locks.DEBUG, Locks.DEBUG | Locks.CREDENTIALS)


@pytest.mark.parametrize(
    ("error", "again"),
    [(Garbled("noise"), True), (NoAnswer("silence"), True), (Unplugged("gone"), False), (DeviceError("no"), False)],
)
def test_only_a_bad_moment_on_the_wire_is_tried_again(error, again):
    assert policy.may_retry(error) is again


def test_the_hands_limit_of_new_boards_is_fine_and_one_more_is_not():
    came = [float(second) for second in range(0, 55, 5)]  # eleven
    policy.check_pace(came, 55.0, 12)
    with pytest.raises(UnitRefused) as refused:
        policy.check_pace([*came, 55.0], 59.9, 12)
    assert refused.value.code == "slot.too_many_new_boards"


def test_boards_of_the_minute_before_do_not_count():
    policy.check_pace([0.0] * 12, PACE_WINDOW, 12)


def test_a_rehearsal_may_be_as_fast_as_it_likes():
    policy.check_pace([0.0] * 10_000, 0.0, None)


@pytest.mark.parametrize(
    ("party", "code"),
    [(Party.BOARD, "step.deadline"), (Party.HSM, "hsm.no_answer"), (Party.MANIFEST, "manifest.no_answer")],
)
def test_a_deadline_is_told_of_the_one_who_let_it_pass(party, code):
    error = policy.deadline_error(policy.ISSUE, party)
    assert error.code == code
    assert ("Leave the boards in" in error.operator) is (party is not Party.BOARD)


def test_no_board_is_waited_for_where_the_certificate_and_the_record_are_made():
    assert {step.name for step in policy.STEPS if step.party is not Party.BOARD} == {"issue", "pass"}

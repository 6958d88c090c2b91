"""The lock-down plan: which steps fit together, and what counts as closed."""

import pytest

from firmware_tools.bundles.manifest import LockStep
from firmware_tools.flashers import FlasherKind
from firmware_tools.provisioning import Locks
from station.errors import ConfigError, DeviceError
from station.line.chip_locks import seen
from station.locking import plan_of, said

DEBUG = LockStep("debug", "device", (), True)
JTAG = LockStep("jtag", "esp", ("DIS_PAD_JTAG", "1"), True)
KEY_PURPOSE = LockStep("purpose", "esp", ("KEY_PURPOSE_0", "9"), False)
READOUT = LockStep("read-out", "stm32", ("readout",), True)


def test_what_the_product_and_its_bundle_want_closed_adds_up():
    plan = plan_of(Locks.CREDENTIALS, [DEBUG, JTAG], FlasherKind.ESP)
    assert (plan.locks, plan.chip) == (Locks.DEBUG | Locks.CREDENTIALS, (JTAG,))
    assert said(plan) == "debug, credentials, jtag (esp DIS_PAD_JTAG 1)"


def test_a_product_that_closes_nothing_has_no_plan():
    plan = plan_of(Locks.NONE, [], FlasherKind.SMP)
    assert not plan
    assert said(plan) == "nothing"


REFUSED = {
    "a lock that no board knows": ([LockStep("radio", "device", (), True)], "lock.unknown"),
    "a lock of the board with arguments": ([LockStep("debug", "device", ("now",), True)], "lock.unknown"),
    "another chip's tool": ([READOUT], "lock.unknown"),
    "a fuse without a value": ([LockStep("jtag", "esp", ("DIS_PAD_JTAG",), True)], "lock.unknown"),
    "a fuse without a name": ([LockStep("jtag", "esp", (), True)], "lock.unknown"),
    "what can be undone after what can't": ([JTAG, KEY_PURPOSE], "lock.order"),
    "the board's own lock after the chip's": ([JTAG, DEBUG], "lock.order"),
}


@pytest.mark.parametrize(("steps", "code"), REFUSED.values(), ids=REFUSED)
def test_a_plan_that_nobody_can_carry_out_is_refused_before_a_board_is_there(steps, code):
    with pytest.raises(ConfigError) as caught:
        plan_of(Locks.NONE, steps, FlasherKind.ESP)
    assert caught.value.code == code


def test_read_out_protection_is_a_step_of_its_own_kind():
    assert plan_of(Locks.NONE, [READOUT], FlasherKind.STM32).chip == (READOUT,)


@pytest.mark.parametrize(
    ("step", "state"),
    [
        (JTAG, {"DIS_PAD_JTAG": "1"}),
        (JTAG, {"DIS_PAD_JTAG": "True", "OTHER": "0"}),
        (JTAG, {"DIS_PAD_JTAG": "0x1"}),
        (READOUT, {"RDP": "on"}),
    ],
)
def test_what_reads_as_it_was_set_counts_as_closed(step, state):
    assert seen(step, state)


@pytest.mark.parametrize(
    ("step", "state"),
    [
        (JTAG, {"DIS_PAD_JTAG": "0"}),
        (JTAG, {}),
        (JTAG, {"DIS_PAD_JTAG": "?"}),
        (READOUT, {"RDP": "off"}),
        (READOUT, {}),
    ],
)
def test_what_reads_otherwise_is_open_whatever_the_tool_said(step, state):
    with pytest.raises(DeviceError) as caught:
        seen(step, state)
    assert caught.value.code == "device.lock_open"

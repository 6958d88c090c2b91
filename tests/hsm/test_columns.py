"""Steps that are taken for several things at once."""

import pytest

from hsm.columns import each, sole
from hsm.errors import CsrError, HsmError

ERROR = CsrError("not this one")


def half(number: int) -> int:
    """Refuse odd numbers."""
    if number % 2:
        raise CsrError(f"{number} is odd")
    return number // 2


def test_each_step_is_taken_for_all_before_the_next():
    taken = []
    each(lambda number: taken.append(("second", number)), each(lambda n: taken.append(("first", n)) or n, [1, 2]))
    assert taken == [("first", 1), ("first", 2), ("second", 1), ("second", 2)]


def test_what_fails_stands_in_its_place_to_the_end():
    found = each(half, each(half, [8, 6, 5, ERROR]))
    assert found[0] == 2
    assert [str(one) for one in found[1:]] == ["3 is odd", "5 is odd", "not this one"]


def test_an_error_of_the_program_is_not_kept():
    with pytest.raises(ZeroDivisionError):
        each(lambda number: 1 // number, [1, 0])


def test_the_sole_result():
    assert sole([7]) == 7
    with pytest.raises(HsmError, match="not this one"):
        sole([ERROR])

"""How many requests are on the way, and how large they are."""

from hypothesis import given
from hypothesis import strategies as st

from firmware_tools.flashers.smp_pace import LARGEST_GUESS, MOST_REQUESTS, SMALLEST, MessageSize, Window

steps = st.lists(st.booleans(), max_size=200)


def walked(pace, row):
    for taken in row:
        if taken and isinstance(pace, MessageSize):
            pace.taken(pace.size)
        elif taken:
            pace.taken()
        else:
            pace.lost()
    return pace


def test_the_first_request_is_alone():
    assert Window(8).size == 1


def test_a_server_with_buffers_gets_as_many_at_once_less_one_for_its_answer():
    assert walked(Window(3), [True]).size == 2


def test_a_server_with_one_buffer_is_tried_with_two():
    assert walked(Window(1), [True] * 50).size == 2


def test_a_server_that_does_not_tell_gets_more_and_more():
    assert walked(Window(None), [True] * 100).size == MOST_REQUESTS


def test_what_was_lost_at_once_is_not_tried_again():
    assert walked(Window(4), [True, False, *[True] * 100]).size == 2


def test_a_loss_after_many_good_answers_is_the_wire_and_not_the_server():
    assert walked(Window(4), [True] * 60 + [False] + [True] * 60).size == 3


@given(told=st.none() | st.integers(0, 1000), row=steps)
def test_one_request_may_always_be_sent_and_never_too_many(told, row):
    assert 1 <= walked(Window(told), row).size <= MOST_REQUESTS


def test_a_size_that_is_told_is_used_at_once():
    size = MessageSize(2044, 88)
    assert (size.size, size.is_settled) == (2044, True)


def test_a_size_that_is_not_told_is_tried():
    size = walked(MessageSize(None, 88), [True] * 60)
    assert (size.size, size.is_settled) == (LARGEST_GUESS, True)


def test_a_size_that_was_too_much_is_not_tried_again():
    size = walked(MessageSize(None, 88), [True] * 3 + [False] + [True] * 100)
    assert (size.size, size.is_settled) == (88, True)


def test_an_answer_to_a_smaller_request_proves_nothing_of_a_larger_one():
    size = walked(MessageSize(None, 88), [True] * 3)
    for _ in range(10):
        size.taken(88)
    size.lost()
    assert (size.size, size.is_settled) == (88, True)


def test_a_bad_wire_makes_requests_small():
    assert walked(MessageSize(2044, 88), [True, *[False] * 20]).size == SMALLEST


def test_a_wire_that_gets_better_makes_them_large_again():
    assert walked(MessageSize(2044, 88), [True, *[False] * 20, *[True] * 200]).size == 2044


@given(told=st.none() | st.integers(60, 4092), row=steps)
def test_no_size_is_larger_than_what_was_told_nor_vanishes(told, row):
    size = walked(MessageSize(told, 88), row)
    assert min(SMALLEST, told or SMALLEST) <= size.size <= (told or LARGEST_GUESS)

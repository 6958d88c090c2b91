"""Hypothesis against the real line: it chooses what a hostile board answers, and shrinks what does harm.

Two kinds of examples: answers of any shape (maps, bodies, bytes on the wire) to one kind of request, and the twists
and lies of ``station.testing``. The line is that of ``assault.py``, one for all examples.
"""

from pathlib import Path
from random import Random
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bench.assault import Assault, Tally
from station.testing import Verb
from station.testing.hostile_board import LIES, HostileBoard
from station.testing.twists import FIELDS, TWISTS, Pieces, Reply

_values: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.text(max_size=70) | st.binary(max_size=150),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_maps: Final = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), _values, max_size=6)
_changes: Final = st.dictionaries(st.sampled_from(FIELDS), _values, min_size=1, max_size=2)
_verbs: Final = st.sampled_from([verb for verb in Verb if verb.value[0]])

Answers = tuple[str, Any]

_answers: Final[st.SearchStrategy[Answers]] = (
    st.tuples(st.just("map"), _maps)
    | st.tuples(st.just("changed"), _changes)
    | st.tuples(st.just("body"), st.binary(max_size=300))
    | st.tuples(st.just("wire"), st.binary(max_size=600))
    | st.tuples(st.just("twist"), st.sampled_from(TWISTS))
    | st.tuples(st.just("lie"), st.sampled_from(LIES))
)


def arm(board: HostileBoard, verb: Verb, answers: Answers, *, rate: float) -> None:
    """Let a board answer like this."""
    kind, what = answers
    match kind:
        case "map":
            board.twist_with(lambda _dice, reply: reply.saying(what), verb, rate=rate)
        case "changed":
            board.twist_with(lambda _dice, reply: reply.saying({**reply.answer, **what}), verb, rate=rate)
        case "body":
            board.twist_with(lambda _dice, reply: reply.framing(what), verb, rate=rate)
        case "wire":
            board.twist_with(_on_the_wire(what), verb, rate=rate)
        case "twist":
            board.twist_with(what, verb, rate=rate)
        case _:
            board.lie(what)


def _on_the_wire(raw: bytes) -> Any:
    def say(_dice: Random, _reply: Reply) -> Pieces:
        return [(0, raw)]

    return say


def explore(folder: Path, examples: int) -> Tally:
    """Try so many examples, each one board: a visit in bad faith, and one as an honest board.

    Raises:
        AssertionError: one of them did harm; hypothesis names the smallest.
    """
    assault = Assault(folder)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**32), verb=_verbs, answers=_answers, rate=st.sampled_from([1.0, 0.5]))
    def try_one(seed: int, verb: Verb, answers: Answers, rate: float) -> None:
        board = assault.board(Random(seed))  # noqa: S311 - a hostile board, not a secret
        arm(board, verb, answers, rate=rate)
        before = len(assault.tally.faults)
        assault.visit(board)
        assault.judge(board)
        faults = assault.tally.faults[before:]
        assert not faults, faults

    with assault.opened():
        try_one()
    return assault.tally

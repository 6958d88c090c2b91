"""Several things at once, in columns: a step is taken for all of them before the next step is.

A processor is quick at what it did a moment ago. The arithmetic of a curve fills its caches with tables, and the next
lines of Python then take more than twice as long; code that takes DER apart does the same in small. So whoever has many
certificates to make goes through them step by step, and not one by one.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from hsm.errors import HsmError

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(step: Callable[[Item], Result], items: Iterable[Item | HsmError]) -> list[Result | HsmError]:
    """Take a step for each of several, and return what it makes of them, in their order.

    What one fails with stands in its place. An item that failed at an earlier step is that error already, and is handed
    on, so steps can follow each other.
    """
    results: list[Result | HsmError] = []
    for item in items:
        if isinstance(item, HsmError):
            results.append(item)
            continue
        try:
            results.append(step(item))
        except HsmError as error:
            results.append(error)
    return results


def sole(results: list[Result | HsmError]) -> Result:
    """Return the result of a step that was taken for one thing only.

    Raises:
        HsmError: it failed.
    """
    (result,) = results
    if isinstance(result, HsmError):
        raise result
    return result

"""CBOR (RFC 8949) from devices, decoded so that no device can make it cost: bounded depth, no tags, no double keys."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import cbor2


class _NoTags(Mapping[int, Callable[[Any, bool], Any]]):
    """Decoders for CBOR tags that refuse every tag: some of them cost memory without bound."""

    def __getitem__(self, tag: int) -> Callable[[Any, bool], Any]:
        def refuse(_decoder: object, _immutable: object) -> object:
            raise cbor2.CBORDecodeError(f"tag {tag} has no place here")

        return refuse

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


_NO_TAGS: Final = _NoTags()


def decode(data: bytes, *, depth: int, integer_keys: bool = False) -> object:
    """Decode one item that fills ``data``.

    Args:
        data: CBOR; maps may be of indefinite length, as Zephyr's encoder writes them.
        depth: containers within containers.
        integer_keys: keys of maps may be numbers, as in COSE; otherwise they are strings.

    Raises:
        ValueError: it is not CBOR, or not CBOR that a device may send.
    """
    try:
        return cbor2.loads(
            data,
            max_depth=depth,
            allow_duplicate_keys=False,
            strict_hashable_types=not integer_keys,
            semantic_decoders=_NO_TAGS,
        )
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(str(error)) from error

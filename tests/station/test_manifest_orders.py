"""Orders: terms that stay, a budget that only falls, serials that are given once."""

import asyncio
import dataclasses
import re

import pytest

from station.manifest import (
    Manifest,
    ManifestError,
    OrderDiffers,
    OrderExhausted,
    RecordedCertificate,
    RowRefused,
)
from station.manifest.testing import ORDER, SoftBoard, begin, issue, provision


@pytest.fixture
def path(tmp_path):
    return tmp_path / "manifest.db"


@pytest.fixture
async def manifest(path):
    with Manifest.open(path) as opened:
        await opened.open_order(ORDER)
        yield opened


async def test_unit_after_the_last_of_an_order_is_refused(path):
    with Manifest.open(path) as manifest:
        await manifest.open_order(dataclasses.replace(ORDER, quantity=2))
        await provision(manifest, "board-1")
        await provision(manifest, "board-2")
        with pytest.raises(OrderExhausted, match="number 3 of 2"):
            await provision(manifest, "board-3")


async def test_unit_that_comes_again_takes_budget_once(path):
    with Manifest.open(path) as manifest:
        await manifest.open_order(dataclasses.replace(ORDER, quantity=1))
        for _ in range(3):
            board = SoftBoard("board-1")
            await manifest.void((await issue(manifest, board)).issuance_id, "board was erased")


async def test_order_opens_again_with_the_same_terms(manifest):
    await manifest.open_order(ORDER)


@pytest.mark.parametrize(
    ("term", "value", "said"),
    [
        ("quantity", 2000, "the quantity"),
        ("serial_format", "X{number}", "the serial format"),
        ("first_number", 7, "the first number"),
        ("product", "toaster", "the product"),
        ("profile", "tls-client", "the profile"),
        ("mac_first", "02:00:00:00:00:01", "the first MAC address"),
        ("scrap_allowance", 3, "the scrap allowance"),
    ],
)
async def test_order_with_other_terms_is_refused_and_says_which(manifest, term, value, said):
    there = getattr(ORDER, term)
    with pytest.raises(OrderDiffers, match=re.escape(f"{said} is {there!r} there and {value!r} here")):
        await manifest.open_order(dataclasses.replace(ORDER, **{term: value}))


@pytest.mark.parametrize(
    "serial_format", ["SN", "SN{number", "SN{order}", "{number}{number}", "SN{number.real:x}", "{}"]
)
async def test_order_with_a_serial_format_that_can_not_count_is_refused(manifest, serial_format):
    with pytest.raises(ManifestError) as refused:
        await manifest.open_order(dataclasses.replace(ORDER, name="other", serial_format=serial_format))
    assert refused.value.code == "manifest.order_invalid"


async def test_orders_whose_serials_overlap_do_not_give_one_serial_twice(manifest):
    await manifest.open_order(dataclasses.replace(ORDER, name="other"))
    await provision(manifest, "board-1")
    with pytest.raises(RowRefused) as refused:
        await provision(manifest, "board-2", order="other")
    assert refused.value.code == "manifest.product_serial_taken"


async def test_unit_of_an_unknown_order_is_refused(manifest):
    with pytest.raises(ManifestError) as refused:
        await begin(manifest, "board-1", order="nobody's")
    assert refused.value.code == "manifest.order_unknown"


async def test_unit_with_a_serial_stays_with_its_order(manifest):
    await manifest.open_order(dataclasses.replace(ORDER, name="other", serial_format="X{number}"))
    await issue(manifest, SoftBoard("board-1"))
    assert (await begin(manifest, "board-1", order="other")).order == ORDER.name


async def test_unit_without_a_serial_moves_to_the_order_that_runs(manifest):
    await manifest.open_order(dataclasses.replace(ORDER, name="other", serial_format="X{number}"))
    await begin(manifest, "board-1")
    assert (await begin(manifest, "board-1", order="other")).order == "other"


async def test_order_of_500_gives_500_to_501_boards_at_once(path):
    with Manifest.open(path) as manifest:
        await manifest.open_order(dataclasses.replace(ORDER, quantity=500))
        ends = await asyncio.gather(
            *(issue(manifest, SoftBoard(f"board-{number}")) for number in range(501)), return_exceptions=True
        )
    refused = [end for end in ends if isinstance(end, Exception)]
    assert [str(error)[:13] for error in refused] == ["order order-1"]
    assert "would be number 501 of 500" in str(refused[0])
    serials = {end.product_serial for end in ends if isinstance(end, RecordedCertificate)}
    assert serials == {f"SN{number:06d}" for number in range(1, 501)}

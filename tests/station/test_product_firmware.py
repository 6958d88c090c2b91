"""The bundle of a line, held against product and order; and what ``station check`` says of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bench.images import Releases

from firmware_tools.provisioning import Locks
from station.checks import firmware as checks
from station.checks.findings import Level
from station.config import ProductSection, load
from station.devices import DeviceState, Identity
from station.errors import ConfigError, StationError
from station.line import policy
from station.orders import Order, OrderError, Share
from station.product_firmware import firmware_under, read_bundle

NOW = datetime.now(UTC)


@pytest.fixture
def releases(tmp_path):
    return Releases(tmp_path / "releases")


@pytest.fixture
def product(releases):
    return ProductSection(
        "reference-device", None, None, Locks.DEBUG, firmware=releases.bundle("1.2.0"), release_key=releases.release_key
    )


def order(**terms):
    named = {"name": "WO-1", "product": "reference-device", "profile": "idevid", "profile_sha256": b"p" * 32}
    times = {"not_before": NOW, "not_after": NOW + timedelta(1), "created": NOW}
    return Order(**named, quantity=1, stations={1: Share(1, 1)}, **times, **terms)


def test_a_bundle_is_read_and_verified_with_the_product_s_key(product):
    firmware = read_bundle(product)
    assert (str(firmware.bundle.version), firmware.plan.locks) == ("1.2.0", Locks.DEBUG)
    assert firmware.release.bundle_sha256 == firmware.bundle.digest


def test_a_line_whose_boards_come_flashed_has_none(product):
    assert read_bundle(replace(product, firmware=None, release_key=None)) is None


def wrong(product, releases, tmp_path):
    other = Releases(tmp_path / "other")
    cut = tmp_path / "cut.bundle"
    cut.write_bytes(product.firmware.read_bytes()[:-100])
    return {
        "another model": replace(product, model="pump"),
        "another version": replace(product, firmware_version="1.3.0"),
        "another image": replace(product, firmware_sha256=b"x" * 32),
        "another signer": replace(product, firmware=other.bundle("1.2.0")),
        "no file": replace(product, firmware=tmp_path / "nowhere.bundle"),
        "no key": replace(product, release_key=tmp_path / "nowhere.pem"),
        "cut off": replace(product, firmware=cut),
        "a lock that no board knows": replace(
            product, firmware=releases.bundle("1.2.0", name="b", lock=LOCK.format("radio"))
        ),
    }


LOCK = '[[lock]]\nname = "{}"\nby = "device"\nirreversible = true\n'


@pytest.mark.parametrize(
    "what",
    [
        *("another model", "another version", "another image", "another signer", "no file", "no key", "cut off"),
        "a lock that no board knows",
    ],
)
def test_a_bundle_that_does_not_fit_is_one_line(product, releases, tmp_path, what):
    with pytest.raises(StationError) as caught:
        read_bundle(wrong(product, releases, tmp_path)[what])
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_order_decides_which_bundle(product):
    firmware = read_bundle(product)
    assert firmware_under(order(bundle_sha256=firmware.bundle.digest), firmware).bundle is firmware.bundle
    for terms in ({"bundle_sha256": b"x" * 32}, {"firmware_version": "1.1.0"}, {"firmware_sha256": b"x" * 32}):
        with pytest.raises(OrderError) as caught:
            firmware_under(order(**terms), firmware)
        assert caught.value.code == "order.configuration"


def test_an_order_that_names_a_bundle_does_not_run_on_a_line_without_one():
    with pytest.raises(OrderError):
        firmware_under(order(bundle_sha256=b"x" * 32), None)
    assert firmware_under(order(), None) is None


def test_an_order_that_names_an_older_bundle_is_the_reason_for_its_return(product):
    firmware = read_bundle(product)
    assert firmware_under(order(), firmware).rollback_reason == ""
    assert "WO-1" in firmware_under(order(bundle_sha256=firmware.bundle.digest), firmware).rollback_reason


def identity(version="1.2.0", image=b"i" * 32):
    return Identity("A", "reference-device", version, image, DeviceState.BLANK, None)


def test_a_board_has_to_report_the_image_of_the_bundle(product):
    payload = read_bundle(product).bundle.payload
    policy.check_flashed(identity(image=payload.running), payload)
    with pytest.raises(StationError) as caught:
        policy.check_flashed(identity(), payload)
    assert caught.value.code == "device.firmware_differs"


def test_where_no_image_is_known_the_version_has_to_be_that_of_the_bundle(product):
    payload = replace(read_bundle(product).bundle.payload, running=None)
    policy.check_flashed(identity("1.2.0"), payload)
    with pytest.raises(StationError):
        policy.check_flashed(identity("1.2.1"), payload)


@pytest.fixture
def configured(tmp_path, config_text):
    """Write the configuration of a line with one slot; it may have more in ``[product]`` and ``[[slot]]``."""

    def write(product, slot=""):
        path = tmp_path / "station.toml"
        path.write_text(config_text(["/dev/ttyS0"], product=product, slot=slot))
        return path

    return write


def keys(bundle, key):
    return f'firmware = "{bundle}"\nrelease_key = "{key}"'


def found(path):
    return {finding.check: finding for finding in checks.examine(load(path))}


def test_the_check_says_what_is_flashed_and_closed(configured, releases):
    said = found(configured(keys(releases.bundle("1.2.0", lock=LOCK.format("debug")), releases.release_key)))
    assert "reference-device 1.2.0, by smp" in said["firmware"].text
    assert said["locks"].text.endswith(": debug")


def test_the_check_says_in_one_line_what_is_wrong_with_a_bundle(configured, releases):
    said = found(configured(keys(releases.bundle("1.2.0"), releases.image_key)))
    assert said["firmware"].level is Level.FAIL
    assert "no signature verifies" in said["firmware"].text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('firmware = "a.bundle"', "'firmware' needs the key that signed it"),
        ('release_key = "a.pem"', "'release_key' is for a bundle"),
        ('firmware = "a.bundle"\nrelease_key = "a.pem"\ndry_run_locks = 1', "dry_run_locks"),
    ],
)
def test_half_of_a_bundle_is_refused_with_its_line(configured, more, said):
    with pytest.raises(ConfigError, match=said) as caught:
        load(configured(more))
    assert caught.value.facts["line"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('framing = "cobs"', "unknown framing 'cobs'"),
        ("flash_baud = 460801", "460801 is not a baud rate in use"),
        ("probe = 7", "probe"),
    ],
)
def test_a_slot_with_a_mistake_is_refused_with_its_line(configured, releases, more, said):
    with pytest.raises(ConfigError, match=said):
        load(configured(keys(releases.bundle(), releases.release_key), slot=more))

"""Asking a station that runs: who asks, what is refused, and what is left behind."""

import asyncio
import json
import os
import pwd
import socket
from contextlib import suppress

import pytest

from station.errors import StationError, UnitRefused
from station.line.control import LINE_LIMIT, answering, ask, life_request, socket_of, user_name
from station.manifest import Act, LifeRequest


@pytest.fixture
def manifest(tmp_path):
    return tmp_path / "manifest.db"


async def echo(request, user):
    return {"got": request, "user": user}


async def test_an_answer_comes_back_and_says_who_asked(manifest):
    async with answering(manifest, echo):
        answer = await asyncio.to_thread(ask, manifest, {"do": "look"})
    assert answer == {"got": {"do": "look"}, "user": pwd.getpwuid(os.getuid()).pw_name}


def test_the_user_is_the_kernels_word_and_not_the_environments(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "mallory")
    assert user_name() == pwd.getpwuid(os.getuid()).pw_name


async def test_the_socket_is_its_owners_alone_and_goes_with_the_line(manifest):
    async with answering(manifest, echo):
        assert socket_of(manifest).stat().st_mode & 0o777 == 0o600
    assert not socket_of(manifest).exists()


async def test_a_socket_that_a_crash_left_is_replaced(manifest):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(socket_of(manifest)))
    async with answering(manifest, echo):
        assert (await asyncio.to_thread(ask, manifest, {}))["got"] == {}


async def test_a_folder_with_a_long_name_is_fine(tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    async with answering(folder / "manifest.db", echo):
        assert await asyncio.to_thread(ask, folder / "manifest.db", {})


async def test_a_refusal_comes_back_with_its_code_and_its_sentence(manifest):
    async def refuse(_request, _user):
        raise UnitRefused("no such thing", code="unit.nothing", operator="Call somebody.")

    async with answering(manifest, refuse):
        with pytest.raises(StationError, match="no such thing") as refused:
            await asyncio.to_thread(ask, manifest, {})
    assert (refused.value.code, refused.value.operator) == ("unit.nothing", "Call somebody.")


async def test_a_bug_in_an_answer_does_not_stop_the_line(manifest, caplog):
    async def stumble(_request, _user):
        raise RuntimeError("a bug")

    async with answering(manifest, stumble):
        with pytest.raises(StationError) as refused:
            await asyncio.to_thread(ask, manifest, {})
    assert refused.value.code == "station.bug"
    assert "a bug in the station" in caplog.text


@pytest.mark.parametrize(
    "line",
    [b"\n", b"what?\n", b"[]\n", b"\xff\xfe\n", b"[" * 60_000 + b"\n"],
    ids=["empty", "words", "list", "bytes", "deep"],
)
async def test_what_is_no_request_is_refused(manifest, line):
    async with answering(manifest, echo):
        reader, writer = await asyncio.open_unix_connection(socket_of(manifest))
        writer.write(line)
        answer = json.loads(await reader.readline())
        writer.close()
    assert answer["error"]["code"] == "control.malformed"


SCRAP = {"act": "scrap", "unit": "SN000001", "reason": "fell", "actor": "R. Vogel", "by": None}


def test_a_request_to_act_is_read_with_the_kernels_word_on_who_asks():
    replace = {**SCRAP, "act": "replace", "by": "SN000002"}
    assert life_request(SCRAP, "root") == LifeRequest(Act.SCRAP, "SN000001", "fell", "R. Vogel", "root")
    assert life_request(replace, "root").by == "SN000002"


@pytest.mark.parametrize(
    "wrong",
    [
        {"reason": None},
        {"reason": ["fell"]},
        {"actor": 7},
        {"unit": {}},
        {"act": "explode"},
        {"by": "SN000002"},
        {"act": "replace"},
        {"act": "replace", "by": 7},
    ],
    ids=str,
)
async def test_a_request_to_act_with_something_wrong_is_refused(manifest, wrong):
    async def act(request, user):
        return {"act": str(life_request(request, user))}

    async with answering(manifest, act):
        with pytest.raises(StationError) as refused:
            await asyncio.to_thread(ask, manifest, {**SCRAP, **wrong})
    assert refused.value.code == "control.malformed"


async def test_a_line_without_an_end_is_cut_off(manifest):
    async with answering(manifest, echo):
        reader, writer = await asyncio.open_unix_connection(socket_of(manifest))
        writer.write(b"x" * (LINE_LIMIT * 4))
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert await asyncio.to_thread(ask, manifest, {})


async def test_who_asks_and_says_nothing_does_not_keep_the_line_from_ending(manifest):
    async with asyncio.timeout(5):
        async with answering(manifest, echo):
            _, writer = await asyncio.open_unix_connection(socket_of(manifest))
            await asyncio.sleep(0)
        writer.close()


def test_nobody_there_is_said(manifest):
    with pytest.raises(StationError, match="no station runs with") as refused:
        ask(manifest, {})
    assert refused.value.code == "line.not_running"


async def test_a_place_that_takes_no_socket_leaves_the_line_at_work(manifest, caplog):
    socket_of(manifest).mkdir()
    async with answering(manifest, echo):
        pass
    assert "no socket there" in caplog.text

import asyncio
import errno
import fcntl
import os
import socket
import subprocess
import sys
import termios
import threading
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
import serial
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from station.errors import LinkError, PortBusy, Unplugged
from station.ports import link as link_module
from station.ports.link import OPEN_HANGS, open_link
from station.ports.link_buffer import BUFFER_LIMIT, HAND_OUT
from station.ports.link_serial import open_tty
from station.ports.transcript import NullTranscript
from station.testing import MemoryLink


async def read_all(link, size):
    data = b""
    async with asyncio.timeout(5):
        while len(data) < size:
            data += await link.read()
    return data


def group_of(path):
    return Path(path).group() if Path(path).stat().st_gid else "dialout"  # nobody is told to join root's group


async def test_bytes_pass_unchanged_in_both_directions(pty_port):
    every_byte = bytes(range(256))
    with closing(await open_link(pty_port.path, 115200)) as link:
        pty_port.say(every_byte)
        assert await read_all(link, 256) == every_byte
        await link.write(every_byte)
        assert pty_port.hear(256) == every_byte


async def test_what_the_board_says_is_not_echoed(pty_port):
    with closing(await open_link(pty_port.path, 115200)) as link:
        pty_port.say(b"boot\n")
        await read_all(link, 5)
        assert pty_port.hear(1, seconds=0.05) == b""


async def test_a_cancelled_read_loses_no_byte(pty_port):
    with closing(await open_link(pty_port.path, 115200)) as link:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await link.read()
        pty_port.say(b"late")
        assert await read_all(link, 4) == b"late"


async def test_a_read_that_is_cancelled_as_bytes_come_loses_none(pty_port):
    with closing(await open_link(pty_port.path, 115200)) as link:
        reading = asyncio.create_task(link.read())
        await asyncio.sleep(0)
        pty_port.say(b"now")
        while not link._buffer:  # the bytes are in, and the reader has not run yet
            await asyncio.sleep(0)
            if reading.done():
                break
        reading.cancel()
        results = await asyncio.gather(reading, return_exceptions=True)
        got = results[0] if isinstance(results[0], bytes) else b""
        assert got + (b"" if got else await read_all(link, 3)) == b"now"


async def test_unplug_while_reading_is_unplugged(pty_port):
    with closing(await open_link(pty_port.path, 115200)) as link:
        reading = asyncio.create_task(link.read())
        await asyncio.sleep(0)
        pty_port.unplug()
        with pytest.raises(Unplugged):
            await reading


async def test_what_came_before_the_unplug_is_read_first(pty_port):
    with closing(await open_link(pty_port.path, 115200)) as link:
        pty_port.say(b"last words")
        assert await read_all(link, 10) == b"last words"
        pty_port.unplug()
        with pytest.raises(Unplugged, match="is gone"):
            await link.read()


async def test_unplug_before_a_write_is_unplugged(pty_port):
    with closing(await open_link(pty_port.path, 115200)) as link:
        pty_port.unplug()
        with pytest.raises(Unplugged):
            await link.write(b"x")


async def test_unplug_in_the_middle_of_a_big_write_is_unplugged(pty_port):
    with closing(await open_link(pty_port.path, 115200)) as link:
        writing = asyncio.create_task(link.write(bytes(1 << 20)))
        await asyncio.sleep(0.01)
        pty_port.unplug()
        with pytest.raises(Unplugged):
            await writing


async def test_a_big_write_does_not_block_the_loop(pty_port):
    size = 1 << 18
    heard = 0
    all_heard = asyncio.Event()

    def hear():
        nonlocal heard
        heard += len(os.read(pty_port.master, 65536))
        if heard == size:
            all_heard.set()

    with closing(await open_link(pty_port.path, 115200)) as link:
        writing = asyncio.create_task(link.write(bytes(size)))
        await asyncio.sleep(0)
        assert not writing.done()
        asyncio.get_running_loop().add_reader(pty_port.master, hear)
        async with asyncio.timeout(5):
            await writing
            await all_heard.wait()
        asyncio.get_running_loop().remove_reader(pty_port.master)


async def test_closing_wakes_a_waiting_reader(pty_port):
    link = await open_link(pty_port.path, 115200)
    reading = asyncio.create_task(link.read())
    await asyncio.sleep(0)
    link.close()
    with pytest.raises(LinkError, match="is closed"):
        await reading


async def test_closing_wakes_a_waiting_writer(pty_port):
    link = await open_link(pty_port.path, 115200)
    writing = asyncio.create_task(link.write(bytes(1 << 20)))
    await asyncio.sleep(0.01)
    link.close()
    with pytest.raises(LinkError, match="is closed"):
        await writing


async def test_close_twice_is_fine_and_then_nothing_works(pty_port):
    link = await open_link(pty_port.path, 115200)
    link.close()
    link.close()
    for verb in (link.read(), link.write(b"x")):
        with pytest.raises(LinkError) as refused:
            await verb
        assert refused.value.code == "link.closed"


async def test_closing_gives_back_every_descriptor(pty_port):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for _ in range(5):
        (await open_link(pty_port.path, 115200)).close()
    assert descriptors() == before


async def test_a_port_that_is_held_is_busy(pty_port):
    with closing(await open_link(pty_port.path, 115200)), pytest.raises(PortBusy, match="held by another program"):
        await open_link(pty_port.path, 115200)


async def test_a_port_is_free_again_after_close(pty_port):
    (await open_link(pty_port.path, 115200)).close()
    (await open_link(pty_port.path, 115200)).close()


async def test_a_missing_port_says_what_to_do():
    with pytest.raises(Unplugged, match=r"does not exist: plug the board in, or correct the port in station\.toml"):
        await open_link("/dev/ttyUSB77", 115200)


async def test_a_file_is_no_port(tmp_path):
    path = tmp_path / "ttyUSB0"
    path.write_text("")
    with pytest.raises(LinkError, match="not a serial port") as refused:
        await open_link(str(path), 115200)
    assert refused.value.code == "link.not_a_port"


async def test_an_unknown_scheme_is_no_port():
    with pytest.raises(LinkError, match="write a path, socket://host:port or rfc2217://host:port"):
        await open_link("loop://", 115200)


async def test_a_port_without_permission_names_the_group(pty_port, monkeypatch):
    # Root may open anything, so the kernel's refusal is given by hand; all after it is real.
    def refuse(*_arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    group = group_of(pty_port.path)
    monkeypatch.setattr("serial.Serial.open", refuse)
    with pytest.raises(LinkError, match=rf"sudo usermod -aG {group} \$USER") as refused:
        await open_link(pty_port.path, 115200)
    assert refused.value.code == "link.forbidden"


async def test_an_open_port_does_not_hang_up_on_close(pty_port):
    with closing(await open_link(pty_port.path, 115200)) as link:
        assert not termios.tcgetattr(link._descriptor)[2] & termios.HUPCL


async def test_a_pty_does_not_keep_the_exclusive_mark(pty_port):
    with closing(await open_link(pty_port.path, 115200)) as link:
        exclusive = fcntl.ioctl(link._descriptor, 0x80045440, bytes(4))  # TIOCGEXCL
        assert exclusive == bytes(4)


async def test_reset_tolerates_a_port_without_lines(pty_port):
    with closing(await open_link(pty_port.path, 115200)) as link:
        await link.reset()
        pty_port.say(b"alive")
        assert await read_all(link, 5) == b"alive"


async def test_reset_of_a_port_that_is_gone_is_unplugged(pty_port):
    with closing(await open_link(pty_port.path, 115200)) as link:
        pty_port.unplug()
        with pytest.raises(Unplugged):
            await link.reset()


@pytest.mark.parametrize("baud", [9600, 115200, 921600, 1000000, 12345])
async def test_usual_and_unusual_bauds_open(pty_port, baud):
    with closing(await open_link(pty_port.path, baud)) as link:
        assert link.baud == baud


async def test_a_flood_that_nobody_reads_takes_bounded_memory(pty_port):
    os.set_blocking(pty_port.master, False)
    with closing(await open_link(pty_port.path, 115200)) as link:
        tracemalloc.start()
        for _ in range(200):
            try:
                while True:
                    os.write(pty_port.master, bytes(4096))
            except BlockingIOError:
                await asyncio.sleep(0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(link._buffer) < BUFFER_LIMIT + 65536
        assert peak < 1 << 20


async def test_after_a_flood_reading_goes_on(pty_port):
    os.set_blocking(pty_port.master, False)
    with closing(await open_link(pty_port.path, 115200)) as link:
        sent = received = 0
        while sent < 4 * BUFFER_LIMIT:
            try:
                sent += os.write(pty_port.master, bytes(4096))
            except BlockingIOError:
                await asyncio.sleep(0)
                if link._paused:
                    received += len(await link.read())
        async with asyncio.timeout(5):
            while received < sent:
                received += len(await link.read())
        assert received == sent


async def test_a_flood_is_handed_out_in_pieces_and_others_have_their_turn():
    turns = []

    async def other():
        while True:
            turns.append(len(pieces))
            await asyncio.sleep(0)

    pieces: list[bytes] = []
    link = MemoryLink()
    link.receive(b"x" * 10 * HAND_OUT)
    task = asyncio.ensure_future(other())
    while sum(map(len, pieces)) < 10 * HAND_OUT:
        pieces.append(await link.read())
    task.cancel()
    assert max(map(len, pieces)) == HAND_OUT
    assert set(range(8)) <= set(turns)


@pytest.mark.parametrize("port", ["socket://[::1:1", "rfc2217://[x:1", f"socket://{'a' * 70}:1", "/dev/tty\0"])
async def test_what_is_not_even_a_name_is_no_port(port):
    with pytest.raises(LinkError) as refused:
        await open_link(port, 115200)
    assert refused.value.code == "link.not_a_port"


async def test_an_idle_link_costs_no_wakeup_after_the_unplug(pty_port):
    with closing(await open_link(pty_port.path, 115200)) as link:
        pty_port.unplug()
        with pytest.raises(Unplugged):
            await link.read()
        spent = time.process_time()
        await asyncio.sleep(0.1)
        assert time.process_time() - spent < 0.05


async def test_an_open_that_is_cancelled_leaves_the_port_free(pty_port):
    opening = asyncio.create_task(open_link(pty_port.path, 115200))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    async with asyncio.timeout(5):
        while True:
            try:
                (await open_link(pty_port.path, 115200)).close()
                break
            except PortBusy:
                await asyncio.sleep(0.001)


async def test_an_open_that_hangs_has_an_end_and_leaves_nothing_open(pty_port, monkeypatch):
    answer, closed = threading.Event(), threading.Event()

    def hang(path, baud):
        answer.wait(30)
        return open_tty(path, baud)

    def close(port):
        port._really_close()
        closed.set()

    monkeypatch.setattr(link_module, "open_tty", hang)
    monkeypatch.setattr(link_module, "OPEN_DEADLINE", 0.05)
    monkeypatch.setattr(serial.Serial, "_really_close", serial.Serial.close, raising=False)
    monkeypatch.setattr(serial.Serial, "close", close)
    with pytest.raises(LinkError) as refused:
        await open_link(pty_port.path, 115200)
    assert refused.value.code == OPEN_HANGS
    answer.set()  # the driver comes back to life, hours later
    assert await asyncio.to_thread(closed.wait, 5)


def test_a_process_does_not_wait_for_an_open_that_hangs():
    script = """
import asyncio, threading
from station.ports import link
link.open_tty = lambda path, baud: threading.Event().wait()
link.OPEN_DEADLINE = 0.05
try:
    asyncio.run(link.open_link("/dev/null", 115200))
except link.LinkError as error:
    print(error.code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert (done.stdout, done.stderr) == ("link.open_hangs\n", "")


async def test_a_link_writes_its_transcript_and_closes_it(pty_port):
    class Tap(NullTranscript):
        def __init__(self):
            self.lines = []
            self.closed = False

        def sent(self, data):
            self.lines.append((">", data))

        def received(self, data):
            self.lines.append(("<", data))

        def close(self):
            self.closed = True

    tap = Tap()
    link = await open_link(pty_port.path, 115200, transcript=tap)
    await link.write(b"hello")
    pty_port.say(b"you")
    await link.read()
    link.close()
    assert tap.lines == [(">", b"hello"), ("<", b"you")]
    assert tap.closed


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(min_size=1, max_size=2000), max_size=8))
def test_any_bytes_in_any_pieces_come_through(pty_port, pieces):
    async def run():
        with closing(await open_link(pty_port.path, 115200)) as link:
            for piece in pieces:
                pty_port.say(piece)
                assert await read_all(link, len(piece)) == piece

    asyncio.run(run())


async def test_a_round_trip_over_a_tty_costs_well_under_a_millisecond(pty_port):
    def answer():
        os.write(pty_port.master, os.read(pty_port.master, 100))

    loop = asyncio.get_running_loop()
    loop.add_reader(pty_port.master, answer)
    with closing(await open_link(pty_port.path, 115200)) as link:
        times = []
        for _ in range(200):
            begin = time.perf_counter()
            await link.write(b"ping")
            await link.read()
            times.append(time.perf_counter() - begin)
    loop.remove_reader(pty_port.master)
    assert sorted(times)[100] < 0.001


async def test_tcp_carries_bytes_and_its_end_is_unplugged():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
        with closing(await open_link(url, 115200)) as link:
            board, _ = server.accept()
            with closing(board):
                board.sendall(b"from the board")
                assert await read_all(link, 14) == b"from the board"
                await link.write(b"to the board")
                assert board.recv(100) == b"to the board"
                await link.reset()
            with pytest.raises(Unplugged):
                await link.read()


async def test_tcp_sends_small_messages_at_once():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        link = await open_link(f"socket://127.0.0.1:{server.getsockname()[1]}", 115200)
        with closing(link):
            assert link._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_server_that_does_not_listen_is_unplugged():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(Unplugged, match="is its server running"):
        await open_link(url, 115200)


@pytest.mark.parametrize("url", ["socket://", "socket://host", "socket://:80", "socket://host:99999"])
async def test_a_socket_without_host_or_port_is_refused(url):
    with pytest.raises(LinkError, match="lacks a host or a port number"):
        await open_link(url, 115200)

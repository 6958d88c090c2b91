import asyncio
import socket
import threading
from contextlib import closing, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serial.rfc2217 import PortManager
from serial.urlhandler.protocol_loop import Serial as LoopPort

from station.errors import Garbled, LinkError, Unplugged
from station.ports.link import open_link
from station.ports.link_buffer import BUFFER_LIMIT
from station.ports.remote_port import SUBOPTION_LIMIT, TelnetReader

# pyserial 3.5 calls Thread.setDaemon and setName, which are deprecated since Python 3.10.
pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")


class RecordingPort(LoopPort):
    """The server's UART: answers with what it is sent, and notes its lines."""

    def __init__(self, *arguments, **settings):
        self.lines = []
        super().__init__(*arguments, **settings)

    def _update_dtr_state(self):
        super()._update_dtr_state()
        self.lines.append(("dtr", self._dtr_state))

    def _update_rts_state(self):
        super()._update_rts_state()
        self.lines.append(("rts", self._rts_state))


class Server:
    """A serial server for one client, made of pyserial's own parts."""

    def __init__(self):
        self.port = RecordingPort("loop://", timeout=0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"
        self._client = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def write(self, data):
        """Send to the client; PortManager wants it under this name."""
        with suppress(OSError):
            self._client.sendall(data)

    def say(self, data):
        self.write(b"".join(self._manager.escape(data)))

    def _serve(self):
        with suppress(OSError):
            self._client, _ = self._listener.accept()
            self._manager = PortManager(self.port, self)
            while data := self._client.recv(1024):
                self.port.write(b"".join(self._manager.filter(data)))
                self.say(self.port.read(self.port.in_waiting))

    def hang_up(self):
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._client:
            self.hang_up()
            self._client.close()
        self._thread.join(5)
        self.port.close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


async def read_all(link, size):
    data = b""
    async with asyncio.timeout(5):
        while len(data) < size:
            data += await link.read()
    return data


async def settle():
    """Let the threads that closed links leave behind end within the test."""
    for thread in threading.enumerate():
        if thread.name.startswith(("close ", "read ", "write ")):
            await asyncio.to_thread(thread.join, 5)


async def test_bytes_and_the_baud_reach_the_server(server):
    every_byte = bytes(range(256))  # 0xff is what telnet escapes
    with closing(await open_link(server.url, 57600)) as link:
        assert server.port.baudrate == 57600
        await link.write(every_byte)
        assert await read_all(link, 256) == every_byte
    await settle()


async def test_a_reset_pulses_the_lines_at_the_server(server):
    with closing(await open_link(server.url, 115200)) as link:
        server.port.lines.clear()
        await link.reset()
        assert server.port.lines == [("dtr", False), ("rts", True), ("rts", False), ("dtr", True)]
    await settle()


async def test_a_server_that_hangs_up_is_unplugged(server):
    with closing(await open_link(server.url, 115200)) as link:
        reading = asyncio.create_task(link.read())
        await asyncio.sleep(0)
        server.hang_up()
        with pytest.raises(Unplugged):
            await reading
    await settle()


async def test_a_cancelled_read_loses_no_byte(server):
    with closing(await open_link(server.url, 115200)) as link:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await link.read()
        server.say(b"late")
        assert await read_all(link, 4) == b"late"
    await settle()


async def test_a_flood_that_nobody_reads_is_cut_off(server):
    with closing(await open_link(server.url, 115200)) as link:
        flood = threading.Thread(target=server.say, args=(bytes(4 * BUFFER_LIMIT),))
        flood.start()
        async with asyncio.timeout(10):
            while link._failure is None:  # noqa: ASYNC110  the limit is met in pyserial's thread, which tells nobody
                await asyncio.sleep(0.01)
            with pytest.raises(Garbled, match="that nobody asked for"):
                await read_all(link, 2 * BUFFER_LIMIT)
        await asyncio.to_thread(flood.join)
    await settle()


async def test_close_twice_is_fine_and_does_not_block_the_loop(server):
    link = await open_link(server.url, 115200)
    begin = asyncio.get_running_loop().time()
    link.close()
    link.close()
    assert asyncio.get_running_loop().time() - begin < 0.2  # pyserial's own close sleeps 0.3 s
    with pytest.raises(LinkError, match="is closed"):
        await link.read()
    await settle()


HOSTILE = {
    "a suboption that never began": b"\xff\xf0",
    "an empty suboption": b"\xff\xfa\xff\xf0",
    "a suboption that holds nothing": b"\xff\xfa\x2c\xff\xf0",
    "an escaped byte in a command": b"\xff\xfa\x2c\x6b\xff\xff\xff\xf0",
    "an unknown option": b"\xff\xfd\xff",
}


@pytest.mark.parametrize("noise", HOSTILE.values(), ids=HOSTILE)
async def test_what_no_good_server_says_is_passed_over_or_ends_the_link(server, noise, capfd):
    with closing(await open_link(server.url, 115200)) as link:
        server.write(noise)
        server.say(b"and now?")
        try:
            assert await read_all(link, 8) == b"and now?"
        except Unplugged as gone:
            assert "is gone" in str(gone)  # noqa: PT017  either end is right
    await settle()
    assert capfd.readouterr().err == ""


async def test_a_reader_that_dies_ends_the_link_without_a_traceback(server, capfd, monkeypatch):
    with closing(await open_link(server.url, 115200)) as link:
        reading = asyncio.create_task(link.read())
        monkeypatch.setattr(link._port, "_telnet_process_subnegotiation", ord)  # raises at what it is given
        server.write(b"\xff\xfa\x2c\x6a\x00\xff\xf0")
        async with asyncio.timeout(5):
            with pytest.raises(Unplugged):
                await reading
    await settle()
    assert capfd.readouterr().err == ""


async def test_a_command_without_end_ends_the_link(server):
    with closing(await open_link(server.url, 115200)) as link:
        server.write(b"\xff\xfa" + bytes(4 * SUBOPTION_LIMIT))
        async with asyncio.timeout(5):
            with pytest.raises(Unplugged):
                await link.read()
        assert "more than" in link._port.fault
    await settle()


@given(data=st.binary(), cuts=st.lists(st.integers(0, 64), max_size=8))
def test_telnet_is_read_the_same_however_it_is_cut(data, cuts):
    stream = data.replace(b"\xff", b"\xff\xff") + b"\xff\xfa\x2c\x6a\xff\xff\xff\xf0" + b"\xff\xfb\xff" + b"end"
    reader, heard, at = TelnetReader(), b"", 0
    commands = []
    for size in (*cuts, len(stream)):
        for token in reader.feed(stream[at : at + size]):
            heard += token["data"] or token["escaped"] or b""
            commands += [part for part in (token["suboption"], token["option"]) if part is not None]
        at += size
    assert heard == data + b"end"
    assert commands == [b"\x2c\x6a\xff\xff", b"\xff"]


async def test_a_server_that_does_not_listen_is_unplugged():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"rfc2217://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(Unplugged, match="is its server running"):
        await open_link(url, 115200)

"""The responder on the web: GET and POST, what caches are told, and what a hostile client gets."""

import asyncio
import base64
import datetime as dt
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from hsm import OcspError, find_key
from hsm.ocsp import Failure, Good, OcspApplication, OcspResponder, Responder, Signing, Unknown
from hsm.ocsp.admission import Admission
from hsm.ocsp.identity import IssuerIdentity
from hsm.ocsp.server import listen, serve
from hsm.revocation import Reason, Revoked
from hsm.serials import new_serial

TYPE = "application/ocsp-request"


class Table:
    """Statuses that a test sets."""

    def __init__(self):
        self.known = {}

    def status(self, serial):
        return self.known.get(serial, Unknown())


class Web:
    """A responder that listens, and a client without manners."""

    def __init__(self, ca, port, statuses):
        self.port = port
        self.statuses = statuses
        self.identity = IssuerIdentity(ca.issuer)

    def issue(self, status=None):
        serial = new_serial(1)
        self.statuses.known[serial] = status or Good()
        return serial

    async def raw(self, content, *, half_close=False):
        """Send bytes; return status, headers and body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(content)
            if half_close:
                writer.write_eof()
            return await self.read(reader)
        finally:
            writer.close()
            await writer.wait_closed()

    @staticmethod
    async def read(reader):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {line.split(": ")[0].lower(): line.split(": ", 1)[1] for line in head[1:] if line}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body

    async def get(self, path, **headers):
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return await self.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())

    async def post(self, body, *, path="/", content_type=TYPE):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        return await self.raw(head.encode() + body)

    def path(self, serial):
        return "/" + quote(base64.b64encode(self.identity.request(serial)).decode(), safe="")


@pytest.fixture
async def web(ca, tmp_path):
    # The CA answers for itself here (RFC 6960 4.2.2.2 allows it): the web is what is tested.
    async def count():
        pass

    statuses = Table()
    signing = Signing(Responder(ca.issuer, find_key(ca.signer, ca.issuer.public_key())), count)
    responder = OcspResponder(ca.issuer, signing, statuses, clock=lambda: dt.datetime.now(dt.UTC))
    opened = listen("127.0.0.1", 0)
    port = opened.getsockname()[1]
    ready = asyncio.Event()
    task = asyncio.create_task(serve(OcspApplication(responder), opened, ready=ready.set))
    await ready.wait()
    yield Web(ca, port, statuses)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def status_of(body):
    return ocsp.load_der_ocsp_response(body).certificate_status.name


async def test_get_and_post_get_the_same_answer(web):
    serial = web.issue()
    by_get = await web.get(web.path(serial))
    by_post = await web.post(web.identity.request(serial))
    assert by_get[0] == by_post[0] == 200
    assert by_get[2] == by_post[2]
    assert by_get[1]["content-type"] == by_post[1]["content-type"] == "application/ocsp-response"


@pytest.mark.parametrize("form", ["encoded", "as it is", "space for plus", "without padding", "two slashes"])
async def test_get_is_understood_as_clients_and_proxies_write_it(web, form):
    text = ""
    while "+" not in text or "/" not in text:
        serial = web.issue()
        text = base64.b64encode(web.identity.request(serial)).decode()
    paths = {
        "encoded": "/" + quote(text, safe=""),
        "as it is": "/" + text,
        "space for plus": "/" + quote(text.replace("+", " "), safe="/="),
        "without padding": "/" + text.rstrip("="),
        "two slashes": "//" + text,
    }
    code, _, body = await web.get(paths[form])
    assert code == 200
    assert ocsp.load_der_ocsp_response(body).serial_number == serial


async def test_caches_are_told_how_long(web):
    """RFC 5019 6.2."""
    code, headers, body = await web.get(web.path(web.issue()))
    response = ocsp.load_der_ocsp_response(body)
    assert code == 200
    assert headers["cache-control"] == "max-age=3600, public, no-transform, must-revalidate"
    assert parsedate_to_datetime(headers["last-modified"]) == response.this_update_utc
    assert parsedate_to_datetime(headers["expires"]) == response.next_update_utc
    assert "date" in headers
    assert "server" not in headers


async def test_answer_that_a_client_has_is_not_sent_again(web):
    path = web.path(web.issue())
    _, headers, _ = await web.get(path)
    code, again, body = await web.get(path, If_None_Match=headers["etag"])
    assert (code, body) == (304, b"")
    assert again["etag"] == headers["etag"]


async def test_etag_changes_with_a_revocation(web):
    serial = web.issue()
    _, headers, _ = await web.get(web.path(serial))
    web.statuses.known[serial] = Revoked(serial, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), Reason.SUPERSEDED)
    code, _, body = await web.get(web.path(serial), If_None_Match=headers["etag"])
    assert (code, status_of(body)) == (200, "REVOKED")


async def test_answer_with_a_nonce_is_not_for_caches(web, ca):
    serial = web.issue()
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        web.identity.certificate(1).name_hash,
        web.identity.certificate(1).key_hash,
        serial,
        hashes.SHA1(),  # noqa: S303 - what clients name issuers by
    )
    request = builder.add_extension(x509.OCSPNonce(b"n" * 16), critical=False).build()
    code, headers, body = await web.post(request.public_bytes(serialization.Encoding.DER))
    assert (code, status_of(body)) == (200, "GOOD")
    assert headers["cache-control"] == "no-store"
    assert "etag" not in headers


@pytest.mark.parametrize("path", ["/MA", "/....", "/%00", "/abc%ff", "/" + "A" * 4000])
async def test_get_of_something_else_is_malformed(web, path):
    code, headers, body = await web.get(path)
    assert (code, body) == (200, Failure.MALFORMED_REQUEST.der)
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("body", [b"", b"x", bytes(4096)])
async def test_post_of_something_else_is_malformed(web, body):
    code, _, answer = await web.post(body)
    assert (code, answer) == (200, Failure.MALFORMED_REQUEST.der)


@pytest.mark.parametrize(
    ("request_line", "code"),
    [
        ("HEAD /", 405),
        ("PUT /", 405),
        ("DELETE /x", 405),
        ("GET /", 404),
        ("POST /elsewhere", 404),
        ("GET /" + "A" * 9000, 414),
    ],
)
async def test_what_is_not_for_a_responder_is_refused_by_http(web, request_line, code):
    content = f"{request_line} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Type: {TYPE}\r\n\r\n"
    assert (await web.raw(content.encode()))[0] == code


async def test_other_content_type_is_refused(web):
    assert (await web.post(web.identity.request(1), content_type="text/plain"))[0] == 415


async def test_content_type_may_have_parameters_and_capitals(web):
    assert (await web.post(web.identity.request(1), content_type="Application/OCSP-Request; x=y"))[0] == 200


async def test_body_that_is_announced_too_large_is_refused_before_it_comes(web):
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\nContent-Length: 1000000000\r\n\r\n"
    assert (await web.raw(head.encode()))[0] == 413


async def test_body_in_chunks_that_gets_too_large_is_refused(web):
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await web.raw(head.encode() + b"1000\r\n" + bytes(4096) + b"\r\n10\r\n" + bytes(16) + b"\r\n"))[0] == 413


async def test_endless_head_is_cut_off(web):
    assert (await web.raw(b"GET / HTTP/1.1\r\n" + b"X-Filler: " + b"a" * 40_000))[0] == 431


async def test_many_headers_are_cut_off(web):
    assert (await web.raw(b"GET / HTTP/1.1\r\n" + b"X-Filler: aaaaaaaaaaaaaaaaaa\r\n" * 3000))[0] == 431


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_client_that_is_slow_with_its_head_is_cut_off(web, monkeypatch, begun):
    monkeypatch.setattr("hsm.ocsp.protocol.HEAD_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(begun)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await writer.wait_closed()


async def test_client_that_is_slow_with_its_body_is_cut_off(web, monkeypatch):
    monkeypatch.setattr("hsm.ocsp.http.BODY_SECONDS", 0.1)
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\nContent-Length: 10\r\n\r\n"
    assert (await asyncio.wait_for(web.raw(head.encode()), 5))[0] == 408


async def test_client_that_leaves_in_the_middle_harms_nobody(web):
    for begun in (
        b"POST / HTTP/1.1\r\nContent-Type: application/ocsp-request\r\nContent-Length: 10\r\n\r\nabc",
        b"GET",
    ):
        _, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(begun)
        writer.close()
        await writer.wait_closed()
    assert (await web.get(web.path(web.issue())))[0] == 200


async def test_what_is_no_http_is_refused(web):
    assert (await web.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"))[0] == 400


async def test_one_connection_serves_many_requests(web):
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    serials = [web.issue() for _ in range(50)]
    for serial in serials:
        writer.write(f"GET {web.path(serial)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    found = [ocsp.load_der_ocsp_response((await web.read(reader))[2]).serial_number for _ in serials]
    assert found == serials
    writer.close()
    await writer.wait_closed()


async def test_path_below_which_it_is_found_is_that_of_the_certificates(ca):
    class Silent:
        def clock(self):
            return dt.datetime.now(dt.UTC)

        async def answer(self, request):
            raise AssertionError(request)

    seen = []

    async def send(message):
        seen.append(message)

    application = OcspApplication(Silent(), path="/acme/")
    for path in ("/", "/other", "/acmeX/MA"):
        await application({"type": "http", "method": "GET", "path": path, "headers": []}, None, send)
    assert [message["status"] for message in seen if "status" in message] == [404, 404, 404]


async def served(application):
    """Start an application on a port of its own; return the port and the task that serves."""
    opened = listen("127.0.0.1", 0)
    ready = asyncio.Event()
    task = asyncio.create_task(serve(application, opened, ready=ready.set))
    await ready.wait()
    return opened.getsockname()[1], task


class Held:
    """A responder whose token does nothing until it is let go."""

    def __init__(self, ca, **options):
        self.go, self.begun = asyncio.Event(), asyncio.Queue()
        statuses = Table()
        statuses.known = dict.fromkeys(range(1, 100), Good())
        signing = Signing(Responder(ca.issuer, find_key(ca.signer, ca.issuer.public_key())), self.count)
        clock = lambda: dt.datetime.now(dt.UTC)  # noqa: E731 - as the responder wants it
        self.responder = OcspResponder(ca.issuer, signing, statuses, clock=clock, **options)

    async def count(self):
        await self.begun.put(None)
        await self.go.wait()


async def test_full_queue_sheds_with_503_and_what_waits_is_answered(ca):
    held = Held(ca, most_waiting=2)
    port, task = await served(OcspApplication(held.responder))
    web = Web(ca, port, None)
    waiting = [asyncio.create_task(web.post(web.identity.request(number))) for number in (1, 2)]
    for _ in waiting:
        await held.begun.get()
    status, headers, body = await web.post(web.identity.request(3))
    assert (status, headers["retry-after"], headers["cache-control"]) == (503, "1", "no-store")
    assert body == Failure.TRY_LATER.der
    held.go.set()
    assert [status for status, _, _ in await asyncio.gather(*waiting)] == [200, 200]
    assert (await web.post(web.identity.request(3)))[0] == 200
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_client_that_asks_too_often_gets_503_and_another_does_not(ca):
    held = Held(ca)
    held.go.set()
    port, task = await served(OcspApplication(held.responder, admission=Admission(0.25)))
    web = Web(ca, port, None)
    path = web.path(1)
    first, second = await web.get(path), await web.get(path)
    assert (first[0], second[0], second[1]["retry-after"]) == (200, 503, "4")
    assert (await web.get(path, X_Forwarded_For="198.51.100.7"))[0] == 200  # a proxy on this machine is believed
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_connections_above_the_limit_get_503_and_those_below_go_on(web, monkeypatch):
    monkeypatch.setattr("hsm.ocsp.protocol.MAX_CONNECTIONS", 1)
    path = web.path(web.issue())
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(request)
    assert (await web.read(reader))[0] == 200
    status, headers, _ = await web.raw(request)
    assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
    writer.write(request)
    assert (await web.read(reader))[0] == 200
    writer.close()
    await writer.wait_closed()


class Hands:
    """A clock that is moved by hand."""

    now = 100.0

    def __call__(self):
        return self.now


def test_bucket_fills_at_its_rate_and_no_higher_than_its_rim():
    clock = Hands()
    admission = Admission(5, clock=clock)
    assert [admission.wait("192.0.2.1") for _ in range(11)] == [0] * 10 + [1]
    clock.now += 0.4
    assert [admission.wait("192.0.2.1") for _ in range(3)] == [0, 0, 1]
    clock.now += 3600
    assert [admission.wait("192.0.2.1") for _ in range(11)] == [0] * 10 + [1]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_customer_has_one_bucket(one, other, same):
    admission = Admission(0.5, clock=Hands())
    assert admission.wait(one) == 0
    assert (admission.wait(other) > 0) is same


def test_clients_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr("hsm.ocsp.admission.MAX_CLIENTS", 3)
    admission = Admission(0.5, clock=Hands())
    for number in range(10):
        admission.wait(f"192.0.2.{number}")
    assert len(admission._buckets) == 3
    assert admission.wait("192.0.2.9") > 0


def test_no_rate_is_no_limit():
    admission = Admission(0, clock=Hands())
    assert not any(admission.wait("192.0.2.1") for _ in range(1000))


def test_port_that_is_taken_is_told():
    with listen("127.0.0.1", 0) as opened, pytest.raises(OcspError) as caught:
        listen("127.0.0.1", opened.getsockname()[1])
    assert caught.value.code == "ocsp.listen"

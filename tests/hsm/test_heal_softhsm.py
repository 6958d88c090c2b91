"""Healing, on a real token under load: its folder is taken away, brought back and locked, and its module fails."""

import asyncio
import datetime as dt
import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from hsm import (
    Authority,
    Csr,
    IssuanceError,
    PinError,
    Profile,
    Signer,
    State,
    Timing,
    TokenError,
    TokenUri,
    find_key,
    new_serial,
    read_counts,
)
from hsm.algorithms import SCHEMES, verify
from hsm.testing import INTERMEDIATE_TOKEN, make_csr, temporary_ca, unordered

QUICK = Timing(keepalive=0.2, reload=0.3, answer=0.5, heal=1, tick=0.02)
"""The station's times, some hundred times faster."""

IDEVID = unordered(Profile.load("idevid"))
CSR = Csr.parse(make_csr())


@pytest.fixture
def made(tmp_path):
    """A CA of this test's own, to be harmed; its signer is closed."""
    with temporary_ca(tmp_path) as ca:
        pass
    return ca


@contextmanager
def opened(made, watched=None, harm="", **variables):
    uri = TokenUri.parse(made.softhsm.uri(INTERMEDIATE_TOKEN))
    environment = dict(made.softhsm.environment)
    if watched is not None:
        uri = replace(uri, module_path=watched["WATCHED_SO"])
        environment |= watched | {"WATCHED_HARM": harm} | variables
    with Signer.open(uri, environment=environment, timing=QUICK) as signer:
        yield signer


class Load:
    """Eight tasks that issue certificates until told to stop, and note what went wrong on the way."""

    def __init__(self, authority):
        self.authority = authority
        self.issued = []
        self.errors = []
        self.tries = 0
        self._more = asyncio.Event()
        self._stop = False

    async def __aenter__(self):  # noqa: D105
        self._tasks = [asyncio.ensure_future(self._issue()) for _ in range(8)]
        await self.more()
        return self

    async def __aexit__(self, *_):  # noqa: D105
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def more(self, count=20):
        """Wait until so many more were issued."""
        wanted = len(self.issued) + count
        async with asyncio.timeout(30):
            while len(self.issued) < wanted:
                self._more.clear()
                await self._more.wait()

    async def error(self):
        """Wait until somebody gets one."""
        before = len(self.errors)
        async with asyncio.timeout(30):
            while len(self.errors) == before:
                self._more.clear()
                await self._more.wait()
        return self.errors[-1]

    async def _again(self):
        self.tries += 1

    async def _issue(self):
        authority = self.authority
        while not self._stop:
            fields = {"model": "m", "product_serial": "SN1", "hardware_id": "00", "order": "PO-1"}
            draft = authority.draft(
                IDEVID, CSR.public_key, fields=fields, serial=new_serial(1), now=dt.datetime.now(dt.UTC)
            )
            while draft is not None:
                self.tries += 1
                try:
                    self.issued.append(await authority.issue(draft, again=self._again))
                except TokenError as error:
                    self.errors.append(error)
                    draft = authority.redraft(IDEVID, draft.tbs)
                    try:
                        await authority.key.signer.awake()
                    except TokenError as still:
                        self.errors.append(still)
                else:
                    draft = None
                self._more.set()

    def judge(self, issuer):
        """Each is signed by the issuer, none was lost, none is there twice."""
        leaves = [x509.load_der_x509_certificate(leaf) for leaf in self.issued]
        for leaf in leaves:
            leaf.verify_directly_issued_by(issuer)
        assert len({leaf.serial_number for leaf in leaves}) == len(leaves)


async def authority_on(signer, made):
    return await Authority.open(signer, issuer=made.issuer, chain=[made.root])


async def test_folder_that_goes_and_comes_back_costs_no_certificate(made):
    tokens = made.softhsm.directory / "tokens"
    with opened(made) as signer:
        async with Load(await authority_on(signer, made)) as load:
            for _ in range(2):
                tokens.rename(tokens.with_name("gone"))
                tokens.mkdir(mode=0o700)
                error = await load.error()
                assert (error.code, "goes on by itself" in error.operator) == ("token.asleep", True)
                tokens.rmdir()
                tokens.with_name("gone").rename(tokens)
                await load.more()
        load.judge(made.issuer)
    assert signer.reloads >= 2


async def test_folder_that_was_gone_for_a_moment_is_not_noticed_by_callers(made):
    """It is back before the reload: then one slow answer is all that anybody sees."""
    tokens = made.softhsm.directory / "tokens"
    with opened(made) as signer:
        authority = await authority_on(signer, made)
        tokens.rename(tokens.with_name("gone"))

        def bring_back():
            tokens.with_name("gone").rename(tokens)

        real = signer.port.reload
        signer.port.reload = lambda: (bring_back() if tokens.with_name("gone").exists() else None, real())[1]
        async with Load(authority) as load:
            await load.more()
        load.judge(made.issuer)
    assert load.errors == []
    assert signer.reloads == 1


@contextmanager
def locked(folder):
    """Let another process hold locks on all files of a folder."""
    code = """
        import fcntl, pathlib, sys
        files = [path.open("rb+") for path in pathlib.Path(sys.argv[1]).rglob("*") if path.is_file()]
        for file in files:
            fcntl.lockf(file, fcntl.LOCK_EX)
        print("locked", flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "locked\n"
            yield
        finally:
            holder.stdin.close()


async def test_folder_that_is_locked_hangs_the_token_and_costs_no_certificate(made):
    """SoftHSM waits for the lock inside the library; nobody can interrupt that."""
    with opened(made) as signer:
        async with Load(await authority_on(signer, made)) as load:
            with locked(made.softhsm.directory / "tokens"):
                _touch_all(made.softhsm.directory / "tokens")
                error = await load.error()
                assert error.code == "token.hung"
            await load.more()
        load.judge(made.issuer)


def _touch_all(folder):
    """Make SoftHSM believe that another process changed its files, so that it reads them again."""
    for path in folder.rglob("generation"):
        with path.open("rb+") as file:
            number = int.from_bytes(file.read(8)) + 1
            file.seek(0)
            file.write(number.to_bytes(8))


# -- behind a module that fails


async def until(condition):
    """Look again and again: what happens inside a module sends no event."""
    while not condition():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.005)


def log_of(watched):
    return Path(watched["WATCHED_LOG"]).read_text().split()


async def test_module_that_fails_until_it_is_initialised_again(made, watched):
    with opened(made, watched, "sticky", WATCHED_AT="40") as signer:
        async with Load(await authority_on(signer, made)) as load:
            await load.more(60)
        load.judge(made.issuer)
        reloads = signer.reloads
    assert reloads >= 1
    said = log_of(watched)
    assert said.count("initialize") == said.count("finalize") == said.count("login") == reloads + 1


async def test_idle_session_is_kept(made, watched):
    """The module drops a session after 0.6 s without a call; the signer asks for a random byte each 0.2 s."""
    with opened(made, watched, "idle", WATCHED_IDLE_MS="600") as signer:
        authority = await authority_on(signer, made)
        async with asyncio.timeout(30):
            await until(lambda: log_of(watched).count("random") >= 6)  # more than a second without any other call
        async with Load(authority) as load:
            await load.more(5)
    assert (load.errors, signer.reloads) == ([], 0)


async def test_session_that_was_dropped_is_back_before_anybody_asks(made, watched):
    """The module drops sessions faster than they are kept."""
    with opened(made, watched, "idle", WATCHED_IDLE_MS="50") as signer:
        authority = await authority_on(signer, made)
        async with asyncio.timeout(30):
            await until(lambda: signer.reloads >= 1 and signer.state is State.AWAKE)
        async with Load(authority) as load:
            await load.more(5)
    assert load.errors == []


async def test_signature_that_hangs_is_given_up_and_the_token_comes_back(made, watched, tmp_path):
    release = tmp_path / "release"
    with opened(made, watched, "hang", WATCHED_AT="40", WATCHED_RELEASE=str(release)) as signer:
        async with Load(await authority_on(signer, made)) as load:
            error = await load.error()
            assert error.code == "token.hung"
            release.touch()
            await load.more()
        load.judge(made.issuer)
        assert signer.reloads == 1


async def test_token_that_signs_wrongly_after_a_reload_signs_nothing_more(made, watched, monkeypatch):
    with opened(made, watched) as signer:
        authority = await authority_on(signer, made)
        monkeypatch.setenv("WATCHED_HARM", "session")
        signing = asyncio.ensure_future(authority.key.sign_message(b"x"))
        async with asyncio.timeout(30):
            await until(lambda: signer.state is not State.AWAKE)
            monkeypatch.setenv("WATCHED_HARM", "signature")
            with pytest.raises((IssuanceError, TokenError)):
                await signing
            await until(lambda: signer.state is State.REFUSED)
        with pytest.raises(IssuanceError, match="signs wrongly"):
            await authority.key.sign_message(b"x")


@pytest.mark.parametrize(("harm", "code"), [("final-try", "pin.final_try"), ("locked", "pin.locked")])
async def test_pin_flags_are_looked_at_before_the_login_of_a_reload(made, watched, monkeypatch, harm, code):
    with opened(made, watched, "sticky", WATCHED_AT="3") as signer:
        authority = await authority_on(signer, made)
        await authority.key.sign_message(b"x")
        monkeypatch.setenv("WATCHED_HARM", harm)
        signer.port.module.library.finalize()
        with pytest.raises(PinError) as caught:
            await authority.key.sign_message(b"x")
        assert caught.value.code == code
    assert log_of(watched).count("login") == 1


async def test_wrong_pin_given_by_somebody_else_stops_the_healing(made):
    """A station that logged in again by itself would spend the tries of whoever guesses."""
    with opened(made) as signer:
        authority = await authority_on(signer, made)
        guess = textwrap.dedent("""
            import sys, pkcs11
            token = next(t for t in pkcs11.lib(sys.argv[1]).get_tokens(token_label=sys.argv[2]))
            try:
                token.open(user_pin="guess")
            except pkcs11.PinIncorrect:
                print("refused")
        """)
        command = [sys.executable, "-c", guess, str(made.softhsm.module), INTERMEDIATE_TOKEN]
        said = await asyncio.to_thread(
            subprocess.run, command, env={**os.environ, **made.softhsm.environment}, capture_output=True, text=True
        )
        assert said.stdout == "refused\n", said.stderr
        signer.port.module.library.finalize()
        with pytest.raises(PinError) as caught:
            await authority.key.sign_message(b"x")
        assert caught.value.code == "pin.count_low"
        assert signer.state is State.REFUSED


# -- two signers on one module


async def test_reload_for_one_token_is_one_slow_answer_on_the_other(made):
    root = TokenUri.parse(made.softhsm.uri("root"))
    with opened(made) as signer, Signer.open(root, environment=made.softhsm.environment, timing=QUICK) as other:
        root_key = find_key(other, made.root.public_key())
        async with Load(await authority_on(signer, made)) as load:
            for _ in range(3):
                await asyncio.to_thread(other.port.reload)
                await load.more()
                message = os.urandom(8)
                signature = await root_key.sign_message(message)
                verify(root_key.public_key(), signature, message, SCHEMES[root_key.family].hash)
        load.judge(made.issuer)
    assert load.errors == []
    assert signer.reloads == 0


# -- what the journal says


async def test_every_try_is_counted_by_caller_and_signer_alike(made, watched, tmp_path):
    uri = replace(TokenUri.parse(made.softhsm.uri(INTERMEDIATE_TOKEN)), module_path=watched["WATCHED_SO"])
    environment = made.softhsm.environment | watched | {"WATCHED_HARM": "sticky", "WATCHED_AT": "30"}
    counts = tmp_path / "counts"
    with Signer.open(uri, environment=environment, timing=QUICK, counts=counts) as signer:
        async with Load(await authority_on(signer, made)) as load:
            await load.more(50)
    (count,) = read_counts(counts).values()
    assert count.signatures == load.tries > len(load.issued)
    assert count.probes == signer.reloads + 1
    assert count.signatures + count.probes >= log_of(watched).count("sign") > len(load.issued)

"""A login that is killed leaves SoftHSM's token file empty; the spare copy heals it."""

import pytest

from hsm import HsmError, Signer, TokenUri
from softhsm import keep_spare, make_tokens, mend_tokens


@pytest.fixture
def tokens(tmp_path):
    return make_tokens(tmp_path / "hsm", ["line"])


def token_file(tokens):
    (path,) = (tokens.directory / "tokens").glob("*/token.object")
    return path


def opened(tokens):
    mend_tokens(tokens.environment)
    signer = Signer.open(TokenUri.parse(tokens.uri("line")), environment=tokens.environment)
    keep_spare(tokens.environment)
    return signer


def test_an_empty_token_file_loses_the_token(tokens):
    """What SoftHSM does when nobody helps: if this fails, it was mended upstream and ``spare`` can go."""
    token_file(tokens).write_bytes(b"")
    with pytest.raises(HsmError):
        Signer.open(TokenUri.parse(tokens.uri("line")), environment=tokens.environment)


def test_a_killed_login_is_healed_at_the_next_start(tokens):
    with opened(tokens) as signer:
        serial = signer.token.serial
    token_file(tokens).write_bytes(b"")
    with opened(tokens) as signer:
        assert signer.token.serial == serial


def test_what_a_login_wrote_is_kept(tokens):
    with opened(tokens):
        pass
    whole = token_file(tokens).read_bytes()
    token_file(tokens).write_bytes(b"")
    assert mend_tokens(tokens.environment) == [token_file(tokens)]
    assert token_file(tokens).read_bytes() == whole
    assert token_file(tokens).stat().st_mode & 0o777 == 0o600


def test_a_whole_token_is_left_as_it_is(tokens):
    token_file(tokens).write_bytes(b"another state, written by a login that went well")
    assert mend_tokens(tokens.environment) == []
    assert token_file(tokens).read_bytes() == b"another state, written by a login that went well"


def test_an_empty_file_never_becomes_the_spare_copy(tokens):
    token_file(tokens).write_bytes(b"")
    keep_spare(tokens.environment)
    assert mend_tokens(tokens.environment) == [token_file(tokens)]


@pytest.mark.parametrize("environment", [{}, {"SOFTHSM2_CONF": "/etc/softhsm/softhsm2.conf"}])
def test_tokens_that_are_not_ours_are_left_alone(environment):
    assert mend_tokens(environment) == []
    keep_spare(environment)


def test_making_tokens_again_heals_too(tokens):
    token_file(tokens).write_bytes(b"")
    again = make_tokens(tokens.directory, ["line"])
    with opened(again):
        pass

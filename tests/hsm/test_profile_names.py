"""Names in a certificate: how they are written, and that the policy decides on the final list."""

import ipaddress

import pytest
from cryptography import x509

from hsm import FieldError, Profile, ProfileError
from hsm.names import NamePolicy, name_text, parse_name, pattern_fault


@pytest.mark.parametrize(
    "text",
    ["dns:host.example.com", "dns:*.example.com", "ip:10.0.0.1", "ip:fd00::1", "uri:urn:acme:7", "email:a@b.example"],
)
def test_name_is_read_and_written_alike(text):
    assert name_text(parse_name(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("host", "dns:", "dns:a..b", "dns:-a.example", "dns:a_b.example", "dns:a.*.example", "dns:é.example"),
        *(
            "dns:" + "a" * 64 + ".example",
            "dns:10.0.0.1",
            "ip:10.0.0",
            "ip:10.0.0.0/8",
            "uri:nothing",
            "uri:a b",
            "uri:a:<b>",
        ),
        *("email:a", "email:@b", "email:a@b@c", "other:1.99:x", "dns:a.example\n", "dns:a.example\0.evil"),
    ],
)
def test_name_that_is_none_is_refused(text):
    with pytest.raises(FieldError) as caught:
        parse_name(text)
    assert caught.value.code == "san.malformed"


POLICY = NamePolicy(
    dns=("www.example.com", "*.one.example", "**.deep.example"),
    ip=(*map(ipaddress.ip_network, ("10.0.0.0/8", "fd00::/8")),),
    uri=("https://example.com/*", "urn:acme:7"),
    email=("*@example.com", "ci@other.example"),
    other=(x509.ObjectIdentifier("1.3.6.1.4.1.32473.7"),),
)
ALLOWED = [
    *("dns:www.example.com", "dns:a.one.example", "dns:a.deep.example", "dns:a.b.deep.example", "ip:10.1.2.3"),
    *("ip:fd00::1", "uri:https://example.com/x", "uri:urn:acme:7", "email:a@example.com", "email:ci@other.example"),
    "other:1.3.6.1.4.1.32473.7:x",
]
NOT_ALLOWED = [
    *("dns:example.com", "dns:evilwww.example.com", "dns:a.b.one.example", "dns:one.example", "dns:evilone.example"),
    *("dns:deep.example", "dns:evildeep.example", "dns:*.one.example", "ip:11.0.0.1", "ip:fe80::1"),
    *(
        "uri:https://example.com.evil.example/",
        "uri:http://example.com/x",
        "uri:urn:acme:77",
        "email:a@sub.example.com",
    ),
    *("email:x@other.example", "email:a@evilexample.com", "other:1.3.6.1.4.1.32473.8:x"),
]


@pytest.mark.parametrize("text", ALLOWED)
def test_name_inside_the_policy_is_allowed(text):
    assert POLICY.refusal([parse_name(text)]) is None


@pytest.mark.parametrize("text", NOT_ALLOWED)
def test_name_outside_the_policy_is_named(text):
    assert "does not allow" in POLICY.refusal([parse_name(ALLOWED[0]), parse_name(text)])


@pytest.mark.parametrize(
    "name",
    [
        x509.RFC822Name._init_without_validation("ceo@bank.test\0@example.com"),
        x509.RFC822Name._init_without_validation("ceo@bank.test@example.com"),
        x509.RFC822Name._init_without_validation("ceo@bank.test,x@example.com"),
        x509.RFC822Name._init_without_validation("@example.com"),
        x509.UniformResourceIdentifier("https://example.com/\0"),
        x509.UniformResourceIdentifier("https://example.com/\n"),
        x509.UniformResourceIdentifier("https://example.com/<script>"),
        x509.UniformResourceIdentifier("https://example.com/" + "a" * 512),
    ],
    ids=ascii,
)
def test_malformed_name_is_not_allowed_though_its_end_or_beginning_fits(name):
    """They are as a request holds them: what is read from DER is not validated."""
    assert "does not allow" in POLICY.refusal([name])


def test_wildcard_needs_leave():
    assert NamePolicy(dns=("**",), wildcards=True).refusal([x509.DNSName("*.example.com")]) is None
    assert NamePolicy(dns=("**",)).refusal([x509.DNSName("*.example.com")])


def test_kind_without_a_pattern_is_refused():
    assert NamePolicy(dns=("**",)).refusal([x509.DirectoryName(x509.Name([]))])


def test_too_many_names_are_refused():
    many = [x509.DNSName(f"h{number}.example") for number in range(101)]
    assert "101 names" in NamePolicy(dns=("**",)).refusal(many)


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("dns", "*"),
        ("dns", "a*.example"),
        ("ip", "10.0.0.1/8"),
        ("uri", "https://example.com*"),
        ("email", "example.com"),
    ],
)
def test_pattern_that_would_let_too_much_through_is_refused(kind, pattern):
    assert pattern_fault(kind, pattern)


SERVER = Profile.load("tls-server")


def test_policy_decides_on_the_final_list_whoever_wished():
    rule = SERVER.alternative_names
    with pytest.raises(FieldError) as caught:
        rule.fill({}, [x509.DNSName("ok.example"), x509.RFC822Name("a@b.example")])
    assert caught.value.code == "san.outside_policy"


def test_required_name_has_to_be_there():
    with pytest.raises(FieldError, match="--san dns") as caught:
        SERVER.alternative_names.fill({})
    assert caught.value.code == "san.required"


def test_profile_without_given_names_takes_none():
    with pytest.raises(FieldError) as caught:
        Profile.load("idevid").alternative_names.fill({"hardware_id": "x"}, [x509.DNSName("a.example")])
    assert caught.value.code == "san.not_accepted"


def test_name_that_two_wish_for_stands_once():
    names = SERVER.alternative_names.fill({}, [x509.DNSName("a.example"), x509.DNSName("a.example")])
    assert len(list(names)) == 1


BASE = """\
keys = ["p256"]
max_size = 1024
[subject]
CN = "{name}"
[validity]
days = 30
[extensions]
basic_constraints = true
subject_key_identifier = true
key_usage = ["digitalSignature"]
"""


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("ca = true", r'ca = true needs "keyCertSign"'),
        ("path_length = 0", "need ca = true"),
        ('[subject_alternative_name]\ngiven = ["operator"]', "allow"),
        ("[subject_alternative_name]\nrequired = true", "need a template"),
        ('[subject_alternative_name]\ngiven = ["anybody"]', "'anybody' is not known in given"),
        ('[subject_alternative_name.allow]\ndns = ["*"]', ":12: '.*' is not a DNS name"),
        ('[subject_alternative_name.allow]\ndnss = ["**"]', "did you mean 'dns'"),
        ('[attributes.X]\noid = "1.2.3"\npattern = "["', "not a regular expression"),
        ('[attributes.CN]\noid = "1.2.3"\npattern = "x"', "everybody knows"),
        ('[issuer]\nsame = ["VID"]', "'VID' is not known in same"),
        ('[urls]\ncrl = ["http://x/{shard"]', "can't be read"),
        ('[name_constraints]\npermitted = ["dns:a.example"]', "need ca = true"),
        ("[subject.x]\ny = 1", "unknown attribute 'x'"),
    ],
)
def test_fault_in_the_newer_keys_is_told(tmp_path, more, told):
    path = tmp_path / "mine.toml"
    path.write_text(BASE + more)
    with pytest.raises(ProfileError, match=told) as caught:
        Profile.load(path)
    assert str(caught.value).startswith(f"{path}:")

"""The operations of EST without a network: who gets which certificate, and who gets none."""

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from cli.kit import EXAMPLE
from est_kit import (
    CLIENT,
    Enrolment,
    basic,
    body_of,
    certificates_in,
    csr,
    new_key,
    refusal,
)
from fwsign.errors import Failed
from fwsign.est import invites
from fwsign.est.http import HttpRequest
from fwsign.est.service import Client
from fwsign.files import exclusive
from fwsign.pki.extras import extras
from fwsign.pki.index import serial_text
from fwsign.pki.log import read_log
from fwsign.pki.renewal import renew
from fwsign.pki.rotation import replace_issuing
from pki_kit import (
    DAY,
    NEW,
    contents,
    hosts_of,
    issue,
    no_passphrase,
    refused,
    renew_lists,
    withdraw,
)

UNKNOWN = "no invitation of that name and password is open"
UNKEPT = "the client's certificate is not one that is kept here"


@pytest.fixture
def est(tmp_path: Path) -> Enrolment:
    return Enrolment(tmp_path)


def client_of(certificate: x509.Certificate) -> Client:
    return Client("192.0.2.9", certificate.public_bytes(Encoding.DER))


# --- what anybody may ask -------------------------------------------------------------------


def test_the_cas_are_for_everybody(est: Enrolment) -> None:
    answer = est.ask("cacerts", method="GET")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/pkcs7-mime; smime-type=certs-only"
    assert answer.headers["Content-Transfer-Encoding"] == "base64"
    assert b"\n" not in answer.body
    pki = est.pki
    assert set(certificates_in(answer.body)) == {pki.root, pki.certificate(pki.issuing("client"))}


def test_no_attributes_are_asked_for(est: Enrolment) -> None:
    assert est.ask("csrattrs", method="GET").status == 204


@pytest.mark.parametrize(
    ("method", "operation", "status", "message"),
    [
        ("POST", "cacerts", 405, "this is for GET"),
        ("GET", "simpleenroll", 405, "this is for POST"),
        ("HEAD", "simplereenroll", 405, "this is for POST"),
        ("POST", "fullcmc", 501, "fullcmc is not offered: keys stay where they are made"),
        ("POST", "serverkeygen", 501, "serverkeygen is not offered: keys stay where they are made"),
        ("GET", "label/cacerts", 404, "there is no operation of that name below /.well-known/est/"),
        ("GET", "../../ca.crt", 404, "there is no operation of that name below /.well-known/est/"),
        ("GET", "", 404, "there is no operation of that name below /.well-known/est/"),
    ],
)
def test_other_operations_are_refused(
    est: Enrolment, method: str, operation: str, status: int, message: str
) -> None:
    found = refusal(lambda: est.ask(operation, method=method), status, message)
    assert found.headers == ({"Allow": message.rpartition(" ")[2]} if status == 405 else {})


def test_another_place_is_refused(est: Enrolment) -> None:
    request = HttpRequest("GET", "/pki/ca.crt", {"host": "x"}, b"")
    words = "nothing is here; EST is at /.well-known/est/"
    refusal(lambda: est.service.answer(request, CLIENT), 404, words)


# --- a first certificate --------------------------------------------------------------------


def test_an_invited_client_gets_its_certificate(est: Enrolment) -> None:
    key, password = new_key(), est.invite("sensor-7")
    request = csr(key, "sensor-7")
    answer = est.enrol("sensor-7", password, request)
    (issued,) = certificates_in(answer.body)
    assert issued == est.pki.certificate("sensor-7")
    assert issued.public_key() == key.public_key()
    assert issued.subject.rfc4514_string() == "CN=sensor-7,O=Acme"
    line = list(read_log(est.pki.directory))[-1].content
    assert line["name"] == "sensor-7"
    assert line["who"].startswith('EST client 192.0.2.9, password of "sensor-7"')
    assert line["serial"] == f"{issued.serial_number:X}".zfill(len(line["serial"]))
    assert line["request"] is not None


def test_the_password_is_stored_nowhere(est: Enrolment) -> None:
    password = est.invite("sensor-7")
    assert len(password.replace("-", "")) == 25
    for name, data in contents(est.pki.directory).items():
        assert password.encode() not in data, name


def test_a_password_counts_once(est: Enrolment) -> None:
    key, password = new_key(), est.invite("sensor-7")
    assert est.enrol("sensor-7", password, csr(key, "sensor-7")).status == 200
    for another in (key, new_key()):
        request = csr(another, "sensor-7")
        found = refusal(lambda r=request: est.enrol("sensor-7", password, r), 401, UNKNOWN)
        assert found.headers == {"WWW-Authenticate": 'Basic realm="fwsign", charset="UTF-8"'}


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("sensor-7", "wrong"),
        ("sensor-7", ""),
        ("sensor-8", "right"),
        ("SENSOR-7", "right"),
        ("../sensor-7", "right"),
        ("../../pki/enrol/sensor-7", "right"),
        ("ca", "right"),
        ("issuing", "right"),
        ("sensor-7\n", "right"),
        ("sensor-7\0", "right"),
        ("", "right"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "right"),
        ("x" * 70_000, "right"),
    ],
)
def test_whoever_is_not_known_learns_nothing(est: Enrolment, name: str, password: str) -> None:
    right = est.invite("sensor-7")
    given = right if password == "right" else password
    refusal(lambda: est.enrol(name, given, csr(new_key(), "sensor-7")), 401, UNKNOWN)
    assert est.enrol("sensor-7", right, csr(new_key(), "sensor-7")).status == 200


@pytest.mark.parametrize("said", ["Bearer x", "Basic", "Basic !", "Basic eA==", "Basic /w==", ""])
def test_a_bad_authorization_is_unknown(est: Enrolment, said: str) -> None:
    call = lambda: est.ask("simpleenroll", body_of(csr(new_key(), "x")), authorization=said)  # noqa: E731
    refusal(call, 401, UNKNOWN)


def test_nobody_enrols_without_a_password(est: Enrolment) -> None:
    refusal(lambda: est.ask("simpleenroll", body_of(csr(new_key(), "x"))), 401, UNKNOWN)


def test_a_late_password_does_not_count(est: Enrolment) -> None:
    password = est.invite("sensor-7", until=est.now + DAY)
    est.now += DAY + timedelta(seconds=1)
    refusal(lambda: est.enrol("sensor-7", password, csr(new_key(), "sensor-7")), 401, UNKNOWN)


def test_a_new_invitation_ends_the_one_before(est: Enrolment) -> None:
    old, new = est.invite("sensor-7"), est.invite("sensor-7")
    refusal(lambda: est.enrol("sensor-7", old, csr(new_key(), "sensor-7")), 401, UNKNOWN)
    assert est.enrol("sensor-7", new, csr(new_key(), "sensor-7")).status == 200


# --- what is asked for ----------------------------------------------------------------------


def test_another_name_is_refused_and_the_password_stays(est: Enrolment) -> None:
    password = est.invite("sensor-7")
    words = 'the request is for "{}", the invitation for "sensor-7"'
    for name, shown in (("sensor-8", "sensor-8"), ("\x1b[31m\r\nx", r"\x1b[31m\r\nx")):
        request = csr(new_key(), name)
        call = lambda r=request: est.enrol("sensor-7", password, r)  # noqa: E731
        refusal(call, 403, words.format(shown))
    assert est.enrol("sensor-7", password, csr(new_key(), "sensor-7")).status == 200


def test_a_request_may_leave_the_name_to_the_ca(est: Enrolment) -> None:
    answer = est.enrol("sensor-7", est.invite("sensor-7"), csr(new_key()))
    (issued,) = certificates_in(answer.body)
    assert issued.subject.rfc4514_string() == "CN=sensor-7,O=Acme"


def test_names_of_a_server_are_those_invited(est: Enrolment) -> None:
    invited = {"kind": "server", "domains": ["a.acme.example", "b.acme.example"]}
    password = est.invite("broker", **invited)
    for name, words in (
        (x509.DNSName("c.acme.example"), '"broker" is not invited as "c.acme.example"'),
        (x509.DNSName("*.acme.example"), '"broker" is not invited as "*.acme.example"'),
        (x509.RFC822Name("x@acme.example"), '"broker" is not invited as "x@acme.example"'),
    ):
        request = csr(new_key(), "broker", names=[x509.DNSName("a.acme.example"), name])
        refusal(lambda r=request: est.enrol("broker", password, r), 403, words)
    request = csr(new_key(), "broker", names=[x509.DNSName("a.acme.example")])
    (issued,) = certificates_in(est.enrol("broker", password, request).body)
    assert hosts_of(issued) == ["a.acme.example", "b.acme.example"]


def test_a_client_gets_no_names_of_hosts(est: Enrolment) -> None:
    request = csr(new_key(), "sensor-7", names=[x509.DNSName("a.acme.example")])
    words = '"sensor-7" is not invited as "a.acme.example"'
    password = est.invite("sensor-7")
    refusal(lambda: est.enrol("sensor-7", password, request), 403, words)


def test_two_thousand_names_are_refused(est: Enrolment) -> None:
    names = [x509.DNSName(f"h{number}.acme.example") for number in range(2000)]
    password = est.invite("sensor-7")
    words = '"sensor-7" is not invited as "h0.acme.example"'
    request = csr(new_key(), "sensor-7", names=names)
    refusal(lambda: est.enrol("sensor-7", password, request), 403, words)


def test_a_request_with_another_keys_signature_is_refused(est: Enrolment) -> None:
    der = bytearray(csr(new_key(), "sensor-7").public_bytes(Encoding.DER))
    der[-1] ^= 1
    words = (
        "the signature of the request is not by the key in it: it was changed, or the key copied"
    )
    password = est.invite("sensor-7")
    refusal(lambda: est.enrol("sensor-7", password, bytes(der)), 400, words)


def test_published_keys_are_refused(est: Enrolment) -> None:
    key = load_pem_private_key((EXAMPLE / "private/release.key").read_bytes(), None)
    words = "the request has a key of fwsign's keys.example, whose private half is published"
    password = est.invite("sensor-7")
    refusal(lambda: est.enrol("sensor-7", password, csr(key, "sensor-7")), 400, words)


def test_rsa_2048_needs_compat(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    est = Enrolment(tmp_path)
    password = est.invite("sensor-7")
    with pytest.raises(Exception, match="the key of the request is RSA-2048, expected"):
        est.enrol("sensor-7", password, csr(key, "sensor-7"))
    est.start(compat=True)
    assert est.enrol("sensor-7", password, csr(key, "sensor-7")).status == 200


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"", "application/pkcs10", 400, "the body is not base64 of a request in DER"),
        (b"AAA=", "application/pkcs10", 400, "the body is not base64 of a request in DER"),
        (
            b"MAAA",
            "application/pkcs10",
            400,
            "the request is not a certificate request in PEM or DER",
        ),
        (b"MA*A", "application/pkcs10", 400, "the body is not base64 of a request in DER"),
        (b"MAA", "application/pkcs10", 400, "the body is not base64 of a request in DER"),
        (b"\xff\xfe", "application/pkcs10", 400, "the body is not base64 of a request in DER"),
        (b"MAAA", "text/plain", 415, "a request is application/pkcs10"),
        (b"MAAA", "", 415, "a request is application/pkcs10"),
        (b"MAAA", "application/pkcs10x", 415, "a request is application/pkcs10"),
        (b"MAAA", "application/pkcs7-mime", 415, "a request is application/pkcs10"),
    ],
)
def test_a_bad_body_is_refused(
    est: Enrolment, body: bytes, kind: str, status: int, message: str
) -> None:
    said = basic("sensor-7", est.invite("sensor-7"))
    call = lambda: est.ask("simpleenroll", body, authorization=said, content_type=kind)  # noqa: E731
    refusal(call, status, message)


def test_pem_in_base64_is_no_request(est: Enrolment) -> None:
    pem = csr(new_key(), "sensor-7").public_bytes(Encoding.PEM)
    password = est.invite("sensor-7")
    words = "the body is not base64 of a request in DER"
    refusal(lambda: est.enrol("sensor-7", password, pem), 400, words)


def test_parameters_of_the_content_type_do_not_matter(est: Enrolment) -> None:
    said, kind = basic("s", est.invite("s")), "Application/PKCS10; charset=x"
    body = body_of(csr(new_key(), "s"))
    assert est.ask("simpleenroll", body, authorization=said, content_type=kind).status == 200


def test_two_common_names_are_refused(est: Enrolment) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one) for one in ("s", "t")])
    from cryptography.hazmat.primitives import hashes

    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    request = builder.sign(new_key(), hashes.SHA256())
    words = "the request is not a certificate request in PEM or DER"
    password = est.invite("s")
    refusal(lambda: est.enrol("s", password, request), 400, words)


# --- approval -------------------------------------------------------------------------------


def test_a_request_waits_for_the_operator(tmp_path: Path) -> None:
    est = Enrolment(tmp_path, approve=("manual",), retry_seconds=7)
    key, password = new_key(), est.invite("sensor-7")
    for _ in range(2):
        answer = est.enrol("sensor-7", password, csr(key, "sensor-7"))
        assert (answer.status, answer.headers["Retry-After"]) == (202, "7")
        assert answer.body == b'the request for "sensor-7" waits for the operator\n'
    refusal(lambda: est.enrol("sensor-7", password, csr(new_key(), "sensor-7")), 401, UNKNOWN)
    assert invites.listed(est.pki)[0].state == "waiting"
    invites.decide(est.pki, "sensor-7", approve=True, now=est.now)
    refusal(lambda: est.enrol("sensor-7", password, csr(new_key(), "sensor-7")), 401, UNKNOWN)
    answer = est.enrol("sensor-7", password, csr(key, "sensor-7"))
    assert certificates_in(answer.body)[0].public_key() == key.public_key()
    refusal(lambda: est.enrol("sensor-7", password, csr(key, "sensor-7")), 401, UNKNOWN)


def test_a_denied_request_is_told_so(tmp_path: Path) -> None:
    est = Enrolment(tmp_path, approve=("manual",))
    key, password = new_key(), est.invite("sensor-7")
    assert est.enrol("sensor-7", password, csr(key, "sensor-7")).status == 202
    invites.decide(est.pki, "sensor-7", approve=False, now=est.now)
    words = 'the request for "sensor-7" was denied'
    refusal(lambda: est.enrol("sensor-7", password, csr(key, "sensor-7")), 403, words)
    refusal(lambda: est.enrol("sensor-7", "wrong", csr(key, "sensor-7")), 401, UNKNOWN)


@pytest.mark.parametrize(
    ("rules", "name", "status"),
    [
        (("auto",), "x", 200),
        (("manual",), "x", 202),
        (("sensor-*",), "sensor-7", 200),
        (("sensor-*",), "Sensor-7", 202),
        (("sensor-*",), "gateway", 202),
        (("sensor-*", "gate*"), "gateway", 200),
    ],
)
def test_rules_approve_by_name(
    tmp_path: Path, rules: tuple[str, ...], name: str, status: int
) -> None:
    est = Enrolment(tmp_path, approve=rules)
    assert est.enrol(name, est.invite(name), csr(new_key(), name)).status == status


def test_what_waits_is_not_invited_anew(tmp_path: Path) -> None:
    est = Enrolment(tmp_path, approve=("manual",))
    est.enrol("sensor-7", est.invite("sensor-7"), csr(new_key(), "sensor-7"))
    found = refused(lambda: est.invite("sensor-7"), "state.pki-exists")
    assert found.message == 'a request for "sensor-7" is waiting already'
    assert found.hint == "deny it first: fwsign pki deny sensor-7"


@pytest.mark.parametrize(
    ("approve", "state"), [(True, "open"), (True, "not invited"), (False, "issued")]
)
def test_only_what_waits_is_decided(est: Enrolment, approve: bool, state: str) -> None:
    if state == "open":
        est.invite("sensor-7")
    if state == "issued":
        est.enrolled("sensor-7")
    call = lambda: invites.decide(est.pki, "sensor-7", approve=approve, now=est.now)  # noqa: E731
    what = "approve" if approve else "deny"
    assert (
        refused(call, "state.pki").message == f'"sensor-7" has no request to {what}: it is {state}'
    )


# --- invitations ----------------------------------------------------------------------------


def test_a_name_that_exists_is_invited_with_again_alone(est: Enrolment) -> None:
    first = est.enrolled("sensor-7")
    found = refused(lambda: est.invite("sensor-7"), "state.pki-exists")
    assert found.message == 'there is a certificate "sensor-7" already'
    assert found.hint == "choose another name, or replace its certificate: --again"
    refused(lambda: est.invite("SENSOR-7"), "state.pki-exists")
    second = est.enrolled("sensor-7", again=True)
    assert est.pki.certificate("sensor-7") == second != first
    assert est.pki.by_serial(f"{first.serial_number:X}") == first


def test_a_revoked_key_is_not_invited_back(est: Enrolment) -> None:
    key = new_key()
    est.enrolled("sensor-7", key)
    withdraw(est.pki.directory, "sensor-7")
    password = est.invite("sensor-7", again=True)
    words = 'the certificate of "sensor-7" was revoked with this key: make another'
    refusal(lambda: est.enrol("sensor-7", password, csr(key, "sensor-7")), 403, words)
    assert est.enrol("sensor-7", password, csr(new_key(), "sensor-7")).status == 200


def test_again_is_for_the_same_kind(est: Enrolment) -> None:
    found = refused(lambda: est.invite("release", again=True), "state.pki")
    assert found.message == '"release" is no client'


@pytest.mark.parametrize(
    ("name", "more", "code", "message"),
    [
        ("ca", {}, "state.policy", '"ca" is the name of a CA, a server or client needs another'),
        ("../x", {}, "state.policy", '"../x" cannot name a server or client: it is not 1 to 64 of'),
        ("x_y.example", {}, "state.policy", 'host "x_y.example" is not a domain name'),
        ("b", {"kind": "server", "domains": ["*.b"]}, "state.policy", 'host "*.b" is not a domain'),
    ],
)
def test_impossible_names_are_not_invited(
    est: Enrolment, name: str, more: dict[str, Any], code: str, message: str
) -> None:
    assert refused(lambda: est.invite(name, **more), code).message.startswith(message)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "{", '{"name": "sensor-7"}', "[" * 100_000, "\xff"]
)
def test_a_damaged_invitation_is_named(est: Enrolment, text: str) -> None:
    est.invite("sensor-7")
    path = est.pki.directory / "enrol/sensor-7.json"
    path.write_text(text, encoding="latin-1")
    found = refused(
        lambda: invites.listed(est.pki), "state.pki" if len(text) < 65536 else "io.format"
    )
    assert "sensor-7.json" in found.message


def test_an_invitation_of_another_name_does_not_count(est: Enrolment) -> None:
    password = est.invite("sensor-7")
    path = est.pki.directory / "enrol/sensor-7.json"
    said = json.loads(path.read_text())
    path.with_name("sensor-8.json").write_text(json.dumps(said))
    with pytest.raises(Failed, match="is not an invitation"):
        est.enrol("sensor-8", password, csr(new_key(), "sensor-8"))


def test_invitations_are_for_their_owner_alone(est: Enrolment) -> None:
    est.invite("sensor-7")
    folder = est.pki.directory / "enrol"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "sensor-7.json").stat().st_mode & 0o777 == 0o600


# --- another certificate --------------------------------------------------------------------


@pytest.mark.parametrize("same_key", [True, False])
def test_a_client_renews_its_certificate(est: Enrolment, same_key: bool) -> None:
    key = new_key()
    first = est.enrolled("sensor-7", key)
    est.now += DAY
    another = key if same_key else new_key()
    answer = est.enrol_again(first, csr(another, "sensor-7", org="Acme"))
    (second,) = certificates_in(answer.body)
    assert second == est.pki.certificate("sensor-7")
    assert second.public_key() == another.public_key()
    assert second.not_valid_after_utc == first.not_valid_after_utc + DAY
    line = list(read_log(est.pki.directory))[-1].content
    assert f"certificate {serial_text(first.serial_number)}" in line["who"]
    # The answer was lost: the first one still counts, and the second does.
    assert est.enrol_again(first, csr(key, "sensor-7", org="Acme")).status == 200
    assert est.enrol_again(second, csr(key, "sensor-7", org="Acme")).status == 200


def test_simpleenroll_renews_by_certificate_too(est: Enrolment) -> None:
    client = client_of(est.enrolled("sensor-7"))
    body = body_of(csr(new_key(), "sensor-7", org="Acme"))
    assert est.ask("simpleenroll", body, client=client).status == 200


def test_a_renewal_needs_a_certificate(est: Enrolment) -> None:
    words = "another certificate needs the one that the client has, in TLS"
    said = basic("sensor-7", est.invite("sensor-7"))
    body = body_of(csr(new_key(), "sensor-7"))
    refusal(lambda: est.ask("simplereenroll", body, authorization=said), 403, words)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {"name": "sensor-8", "org": "Acme"},
            "the request is for CN=sensor-8,O=Acme, the certificate for CN=sensor-7,O=Acme",
        ),
        (
            {"name": "sensor-7"},
            "the request is for CN=sensor-7, the certificate for CN=sensor-7,O=Acme",
        ),
        (
            {"name": "sensor-7", "org": "Acme", "names": [x509.DNSName("x.acme.example")]},
            "the request has other alternative names than the certificate",
        ),
    ],
)
def test_a_renewal_keeps_all_names(est: Enrolment, request_: dict[str, Any], message: str) -> None:
    first = est.enrolled("sensor-7")
    refusal(lambda: est.enrol_again(first, csr(new_key(), **request_)), 403, message)


def test_alternative_names_are_renewed(est: Enrolment) -> None:
    name = "pump.acme.example"  # a name with a dot is a host, too
    first = est.enrolled(name)
    words = "the request has other alternative names than the certificate"
    refusal(lambda: est.enrol_again(first, csr(new_key(), name, org="Acme")), 403, words)
    request = csr(new_key(), name, org="Acme", names=[x509.DNSName(name)])
    assert hosts_of(certificates_in(est.enrol_again(first, request).body)[0]) == [name]


def test_a_revoked_client_gets_nothing(est: Enrolment) -> None:
    first = est.enrolled("sensor-7")
    withdraw(est.pki.directory, "sensor-7")
    words = 'the certificate of "sensor-7" was revoked 2026-11-01'
    request = csr(new_key(), "sensor-7", org="Acme")
    refusal(lambda: est.enrol_again(first, request), 403, words)


def test_an_older_certificate_of_a_revoked_client_gets_nothing(est: Enrolment) -> None:
    key = new_key()
    first = est.enrolled("sensor-7", key)
    est.enrol_again(first, csr(key, "sensor-7", org="Acme"))
    withdraw(est.pki.directory, "sensor-7")  # the second alone
    words = 'the certificate of "sensor-7" was revoked 2026-11-01'
    request = csr(new_key(), "sensor-7", org="Acme")
    refusal(lambda: est.enrol_again(first, request), 403, words)


def test_below_a_revoked_ca_nobody_gets_anything(est: Enrolment) -> None:
    first = est.enrolled("sensor-7")
    withdraw(est.pki.directory, "issuing-tls")
    with pytest.raises(Exception, match=r"the client's certificate does not count: .* revoked"):
        est.enrol_again(first, csr(new_key(), "sensor-7", org="Acme"))


def test_an_expired_client_gets_nothing(est: Enrolment) -> None:
    first = est.enrolled("sensor-7")
    est.now = first.not_valid_after_utc + timedelta(seconds=1)
    renew_lists(est.pki.directory, est.now)
    with pytest.raises(Exception, match='does not count: certificate "sensor-7" expired'):
        est.enrol_again(first, csr(new_key(), "sensor-7", org="Acme"))


def test_with_a_stale_crl_nobody_gets_anything(est: Enrolment) -> None:
    first = est.enrolled("sensor-7")
    est.now += 200 * DAY
    with pytest.raises(Exception, match=r"does not count: CRL of .* was to be replaced by"):
        est.enrol_again(first, csr(new_key(), "sensor-7", org="Acme"))


def test_a_foreign_certificate_gets_nothing(est: Enrolment, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Enrolment(tmp_path / "other")  # the same names, other keys
    foreign = other.enrolled("sensor-7")
    request = csr(new_key(), "sensor-7", org="Acme")
    refusal(lambda: est.enrol_again(foreign, request), 403, UNKEPT)
    est.enrolled("sensor-7")
    refusal(lambda: est.enrol_again(foreign, request), 403, UNKEPT)


def test_a_certificate_that_is_not_kept_gets_nothing(est: Enrolment) -> None:
    first = est.enrolled("sensor-7")
    est.pki.certificate_path("sensor-7").unlink()
    request = csr(new_key(), "sensor-7", org="Acme")
    refusal(lambda: est.enrol_again(first, request), 403, UNKEPT)


@pytest.mark.parametrize("kind", ["signer", "tsa", "server"])
def test_only_clients_show_themselves(est: Enrolment, kind: str) -> None:
    domains = {"server": ["x.acme.example"]}.get(kind, ())
    issue(est.pki.directory, "other", kind, domains=domains)
    certificate = est.pki.certificate("other")
    with pytest.raises(Exception, match=r"does not count: "):
        est.enrol_again(certificate, csr(new_key(), "other", org="Acme"))


def test_garbage_is_no_certificate(est: Enrolment) -> None:
    body = body_of(csr(new_key(), "x"))
    words = "the client's certificate cannot be read"
    call = lambda: est.ask("simplereenroll", body, client=Client("192.0.2.9", b"0"))  # noqa: E731
    refusal(call, 403, words)


# --- a device by its identity ---------------------------------------------------------------


def born(est: Enrolment, name: str, serial: str) -> Client:
    from fwsign.pki.leaves import DeviceIdentity

    issue(
        est.pki.directory, name, "idevid", key=new_key().public_key(), device=DeviceIdentity(serial)
    )
    return client_of(est.pki.certificate(name))


def test_a_device_enrols_by_its_identity(est: Enrolment) -> None:
    device = born(est, "sn-0017", "SN-0017")
    est.invite("gateway-17", device="SN-0017")
    body = body_of(csr(new_key(), "gateway-17"))
    answer = est.ask("simpleenroll", body, client=device)
    assert certificates_in(answer.body)[0] == est.pki.certificate("gateway-17")
    words = 'device "SN-0017" has no open invitation as "gateway-17"'
    refusal(lambda: est.ask("simpleenroll", body, client=device), 403, words)


@pytest.mark.parametrize("name", ["gateway-18", "gateway-19", "../x", None])
def test_a_device_enrols_as_invited_alone(est: Enrolment, name: str | None) -> None:
    device = born(est, "sn-0017", "SN-0017")
    est.invite("gateway-17", device="SN-0017")
    est.invite("gateway-18", device="SN-0018")
    est.invite("gateway-19")
    body = body_of(csr(new_key(), name))
    words = f'device "SN-0017" has no open invitation as "{name or ""}"'
    refusal(lambda: est.ask("simpleenroll", body, client=device), 403, words)


def test_no_password_opens_the_invitation_of_a_device(est: Enrolment) -> None:
    assert est.invite("gateway-17", device="SN-0017") == ""
    request = csr(new_key(), "gateway-17")
    refusal(lambda: est.enrol("gateway-17", "", request), 401, UNKNOWN)


def test_an_identity_is_not_renewed(est: Enrolment) -> None:
    device = born(est, "sn-0017", "SN-0017")
    body = body_of(csr(new_key(), "sn-0017", org="Acme", serial="SN-0017"))
    words = '"sn-0017" is of a kind that is not renewed here'
    refusal(lambda: est.ask("simplereenroll", body, client=device), 403, words)


# --- the CA ---------------------------------------------------------------------------------


def test_a_short_life_never_outlives_the_ca(tmp_path: Path) -> None:
    est = Enrolment(tmp_path, lifetime=timedelta(hours=24))
    assert est.enrolled("a").not_valid_after_utc == est.enrolled("b").not_valid_after_utc
    issuer = est.pki.certificate("issuing-tls")
    assert est.enrolled("c").not_valid_after_utc < issuer.not_valid_after_utc
    est.now = issuer.not_valid_after_utc - timedelta(hours=1)
    assert est.enrolled("d").not_valid_after_utc == issuer.not_valid_after_utc


def test_extensions_are_added_and_kept(tmp_path: Path) -> None:
    url = "http://crl.acme.example/{ca}.crl"
    est = Enrolment(tmp_path, more=extras(crl_urls=[url]))
    first = est.enrolled("sensor-7")
    est.start()
    answer = est.enrol_again(first, csr(new_key(), "sensor-7", org="Acme"))
    for one in (first, certificates_in(answer.body)[0]):
        points = one.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        assert points[0].full_name[0].value == "http://crl.acme.example/issuing-tls.crl"


def test_another_ca_needs_another_start(est: Enrolment) -> None:
    password = est.invite("sensor-7")
    replace_issuing(
        est.pki.directory,
        "issuing-tls",
        new_key=NEW,
        passphrase=lambda _: None,
        now=est.now + timedelta(hours=1),
    )
    est.now += 2 * timedelta(hours=1)
    words = 'the CA "issuing-tls-2" issues now: the server has to be started again'
    request = csr(new_key(), "sensor-7")
    refusal(lambda: est.enrol("sensor-7", password, request), 503, words)
    est.start()
    assert est.enrol("sensor-7", password, request).status == 200


def test_a_renewed_ca_goes_on(est: Enrolment) -> None:
    renew(est.pki.directory, "issuing-tls", ca_passphrase=no_passphrase, now=est.now + DAY)
    est.now += 2 * DAY
    est.enrolled("sensor-7")
    assert est.pki.path("sensor-7")


def test_a_failure_to_write_uses_up_the_password(
    est: Enrolment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fwsign.est import service

    def full(*_: object, **__: object) -> None:
        raise Failed("io.full", "no space left on device")

    password = est.invite("sensor-7")
    monkeypatch.setattr(service, "write_entry", full)
    refused(lambda: est.enrol("sensor-7", password, csr(new_key(), "sensor-7")), "io.full")
    monkeypatch.undo()
    refusal(lambda: est.enrol("sensor-7", password, csr(new_key(), "sensor-7")), 401, UNKNOWN)
    assert base64.b64encode(b"") == b""


# --- faults and races -----------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True])
def test_a_password_counts_on_where_the_certificate_cannot_be_written(
    est: Enrolment, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    if again:
        est.enrolled("sensor-7")
    before = {name: est.pki.certificate(name) for name in est.pki.names()}
    password, key = est.invite("sensor-7", again=again), new_key()
    monkeypatch.setattr("fwsign.pki.log.append_all", full_disk)
    with pytest.raises(Failed, match="no space left"):
        est.enrol("sensor-7", password, csr(key, "sensor-7"))
    monkeypatch.undo()
    assert {name: est.pki.certificate(name) for name in est.pki.names()} == before
    (found,) = [one for one in invites.listed(est.pki) if one.name == "sensor-7"]
    assert found.state == "approved"
    other = csr(new_key(), "sensor-7")
    refusal(lambda: est.enrol("sensor-7", password, other), 401, UNKNOWN)
    assert est.enrol("sensor-7", password, csr(key, "sensor-7")).status == 200
    refusal(lambda: est.enrol("sensor-7", password, csr(key, "sensor-7")), 401, UNKNOWN)


def full_disk(*_: Any) -> None:
    raise Failed("io.full", "cannot write log.jsonl: no space left on device")


def test_a_client_that_is_revoked_while_its_request_waits_gets_nothing(
    est: Enrolment, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = est.enrolled("sensor-7")

    def slow(directory: Path) -> Any:
        monkeypatch.undo()
        withdraw(directory, "sensor-7", "keyCompromise")
        return exclusive(directory)

    monkeypatch.setattr("fwsign.est.service.exclusive", slow)
    request = csr(new_key(), "sensor-7", org="Acme")
    words = f'the certificate of "sensor-7" was revoked {est.now:%Y-%m-%d}'
    refusal(lambda: est.enrol_again(old, request), 403, words)
    assert est.pki.certificate("sensor-7") == old

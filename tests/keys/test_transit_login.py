"""Where OpenBao is, and what logs in there: against a real server."""

import base64
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bao_kit import Bao
from cli.kit import refused as refused_by_cli
from cli.kit import run
from fwsign.cli import inputs
from fwsign.keys.held import HeldSigner, Scheme
from fwsign.keys.stand_in import private_key
from keys.contract import MESSAGE
from keys.transit_kit import READ, SIGN, made, opened
from support import NOW, PAYLOAD, for_child, make_ca, make_leaf, refused

pytestmark = pytest.mark.usefixtures("no_steering")


# --- where the server and the token are -------------------------------------------------------


def test_the_environment_says_what_the_uri_does_not(
    bao: Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(bao, "p256", "p256")
    for begin, scheme in (("BAO_", "openbao"), ("VAULT_", "openbao"), ("VAULT_", "vault")):
        with monkeypatch.context() as patch:
            patch.setenv(f"{begin}ADDR", bao.address)
            patch.setenv(f"{begin}CACERT", str(bao.ca))
            patch.setenv(f"{begin}TOKEN", bao.token)
            for uri in (f"{scheme}:p256", f"{scheme}://p256", f"{scheme}:transit/p256"):
                held = opened(uri)
                place = f"{scheme}:transit/p256?address={bao.address}&version=1"
                assert held.place == place, uri
                HeldSigner(held).sign(MESSAGE)
                held.close()
                again = opened(place)
                assert again.public_key == held.public_key
                again.close()


def test_openbao_reads_its_own_variables_first_and_vault_reads_none_of_them(
    bao: Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(bao, "p256", "p256")
    for name, text in bao.environment().items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("VAULT_ADDR", "https://127.0.0.1:1")
    opened("openbao:p256").close()
    with refused("key.passphrase-missing", "no token for https://127.0.0.1:1: none in VAULT_TOKEN"):
        opened("vault:p256")


def test_the_host_may_be_in_the_uri_as_in_an_address(bao: Bao) -> None:
    made(bao, "p256", "p256")
    rest = f"ca={bao.ca}&token-file={bao.token_file}"
    held = opened(f"openbao://127.0.0.1:{bao.port}/transit/p256?{rest}")
    assert held.place == f"openbao:transit/p256?address={bao.address}&version=1"
    held.close()
    with refused("key.unreachable", "no answer from https://127.0.0.1:8200: "):
        opened(f"vault://127.0.0.1/p256?{rest}")


def test_a_token_may_be_where_a_login_left_it(bao: Bao, tmp_path: Path) -> None:
    made(bao, "p256", "p256")
    uri = bao.uri("p256", {"token-file": None})
    (tmp_path / ".vault-token").write_text(bao.token)
    opened(uri).close()
    (tmp_path / ".vault-token").write_text("s.old\n")
    with refused("key.passphrase", f"the token of {tmp_path / '.vault-token'}: it is wrong"):
        opened(uri)


def test_other_mounts_and_namespaces(bao: Bao) -> None:
    bao.api("POST", "sys/mounts/keys/firmware", {"type": "transit"})
    bao.api("POST", "sys/namespaces/team", {})
    bao.api("POST", "team/sys/mounts/transit", {"type": "transit"})
    bao.make("ed25519", "deep", mount="keys/firmware")
    bao.api("POST", "team/transit/keys/inner", {"type": "ecdsa-p384"})
    for uri in (bao.uri("keys/firmware/deep"), bao.uri("deep", mount="keys/firmware")):
        held: Any = opened(uri)
        assert held.place.startswith("openbao:keys/firmware/deep?address=")
        held.public_key.verify(held.sign_raw(Scheme.PURE, MESSAGE), MESSAGE)
        held.close()
    held = opened(bao.uri("inner", namespace="team"))
    assert held.place.endswith("&namespace=team&version=1")
    HeldSigner(held).sign(MESSAGE)
    held.close()
    with refused("key.missing", f"{bao.address} has no engine at elsewhere/"):
        opened(bao.uri("deep", mount="elsewhere"))


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("openbao:k?token=s.secret", "token= is not known, there are address=, auth=, ca=, "),
        ("openbao:k?s.secretsecretsecretsecret", "s.s...= is not known"),
        ("openbao://s.secret@host/k", "a user or password is before the host"),
        ("openbao:k", "there is no address=, and BAO_ADDR or VAULT_ADDR is not set"),
        ("vault:k", "there is no address=, and VAULT_ADDR is not set"),
        ("openbao:k?version=0", 'version= is "0", expected a number from 1 on'),
        ("openbao:k?version=two", 'version= is "two"'),
        ("openbao:k?version=1&version=2", "version= is there twice"),
        ("openbao:k?ca=", "ca= is empty"),
        ("openbao:?ca=a", '"" is not the name of a key'),
        ("openbao:a%2f..%2Fk", '"a/.." is not a path of an engine'),
        ("openbao:a?mount=b/%0d%0ac", "is not a path of an engine"),
        ("openbao:a/k?mount=b", 'mount= and "a/" exclude each other'),
        ("openbao:k#1", 'a character cannot be printed, or is "#"'),
        ("openbao:k\n", 'a character cannot be printed, or is "#"'),
        ("openbao://h/k?address=https://h", "a host and address= exclude each other"),
        ("openbao:k?address=https://h&namespace=a%0d%0aX: b", "namespace"),
        ("openbao:k?address=https://h&role=ci", "role= needs jwt-file= or jwt-env="),
        ("openbao:k?address=https://h&jwt-file=t", "jwt-file= needs role="),
        ("openbao:k?address=https://h&role-id=t", "role-id= needs secret-id-file="),
        ("openbao:k?address=https://h&auth=t", "auth= needs jwt-file= or jwt-env= or role-id="),
        ("openbao:k?address=https://h&token-file=t&jwt-env=J&role=r", "token-file= and jwt-env="),
    ],
)
def test_a_uri_that_is_not_right_is_refused_and_not_repeated(uri: str, words: str) -> None:
    with refused("key.unsupported", "URI of the key, ", words) as caught:
        opened(uri)
    assert "s.secret" not in repr(vars(caught.value))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://bao.example:8200", "http://bao.example has no TLS"),
        ("ftp://127.0.0.1", "is not https://HOST or https://HOST:PORT"),
        ("https://s.secret@h", "is not https://HOST or https://HOST:PORT"),
        ("https://h/v1?x=s.secret", "is not https://HOST or https://HOST:PORT"),
        ("https://h:99999", "is not https://HOST or https://HOST:PORT"),
        ("https://", "is not https://HOST or https://HOST:PORT"),
        ("h:8200", "is not https://HOST or https://HOST:PORT"),
    ],
)
def test_an_address_is_that_of_a_server(
    address: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAO_ADDR", address)
    with refused("key.unsupported", words) as caught:
        opened("openbao:k")
    assert "s.secret" not in repr(vars(caught.value))


def test_a_token_of_more_than_a_word_is_not_sent_and_not_repeated(
    bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("s.secret X-Other: 1\r\n")
    with refused("key.passphrase", f"{file} is no token: it has spaces or characters") as caught:
        opened(bao.uri("p256", {"token-file": file}))
    assert "s.secret" not in repr(vars(caught.value))
    file.write_text("\n")
    with refused("key.passphrase-missing", f"{file} is empty, a token is expected in its first"):
        opened(bao.uri("p256", {"token-file": file}))
    with refused("io.missing", "nowhere"):
        opened(bao.uri("p256", {"token-file": tmp_path / "nowhere"}))
    monkeypatch.setenv("CI_JWT", "")
    with refused("key.passphrase-missing", "CI_JWT is empty, expected a token"):
        opened(bao.uri("p256", {"token-file": None, "jwt-env": "CI_JWT", "role": "ci"}))


# --- logins -----------------------------------------------------------------------------------


def jwt(key: Any, **claims: object) -> str:
    """Make a JWT as a CI's provider of identities does."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    text = f"{part({'alg': 'ES256', 'typ': 'JWT'})}.{part(claims)}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return f"{text}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def test_a_ci_logs_in_with_its_identity_and_the_token_is_revoked(
    bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(bao, "p256", "p256")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    policy = {"policy": SIGN.format("p256") + READ.format("p256")}
    assert bao.api("PUT", "sys/policies/acl/release", policy).status == 204
    assert bao.api("POST", "sys/auth/ci/jwt", {"type": "jwt"}).status == 204
    config = {"jwt_validation_pubkeys": [pem], "bound_issuer": "https://ci.example"}
    assert bao.api("POST", "auth/ci/jwt/config", config).status in (200, 204)
    role = {
        "role_type": "jwt",
        "bound_audiences": ["bao"],
        "bound_claims": {"ref": "refs/heads/main"},
        "user_claim": "sub",
        "token_policies": ["release"],
        "token_type": "service",
    }
    assert bao.api("POST", "auth/ci/jwt/role/ci", role).status in (200, 204)
    now = int(time.time())
    claims = {"iss": "https://ci.example", "aud": "bao", "sub": "repo", "iat": now, "exp": now + 99}
    file = tmp_path / "identity"
    for ref, fine in (("refs/heads/main", True), ("refs/heads/other", False)):
        token = jwt(key, ref=ref, **claims)
        file.write_text(token)
        monkeypatch.setenv("CI_JWT", token)
        for way in ({"jwt-file": file}, {"jwt-env": "CI_JWT"}):
            uri = bao.uri("p256", {"token-file": None, "role": "ci", "auth": "ci/jwt", **way})
            if not fine:
                words = f"{bao.address} refuses the login auth/ci/jwt/login with "
                with refused("key.passphrase", words) as caught:
                    opened(uri)
                assert token not in repr(vars(caught.value))
                continue
            held: Any = opened(uri)
            HeldSigner(held).sign(MESSAGE)
            own = held._session._token
            assert bao.api("GET", "auth/token/lookup-self", token=own).status == 200
            held.close()
            held.close()
            assert bao.api("GET", "auth/token/lookup-self", token=own).status == 403


def test_an_approle_logs_in(bao: Bao, tmp_path: Path) -> None:
    made(bao, "p256", "p256")
    policy = {"policy": SIGN.format("p256") + READ.format("p256")}
    bao.api("PUT", "sys/policies/acl/release", policy)
    bao.api("POST", "sys/auth/approle", {"type": "approle"})
    bao.api("POST", "auth/approle/role/ci", {"token_policies": ["release"]})
    role = bao.api("GET", "auth/approle/role/ci/role-id").body["data"]["role_id"]
    secret = bao.api("POST", "auth/approle/role/ci/secret-id", {}).body["data"]["secret_id"]
    file = tmp_path / "secret"
    file.write_text(secret + "\n")
    uri = bao.uri("p256", {"token-file": None, "role-id": role, "secret-id-file": file})
    held = opened(uri)
    HeldSigner(held).sign(MESSAGE)
    held.close()
    file.write_text("wrong")
    with refused("key.passphrase", f"refuses the login auth/approle/login with {file}: "):
        opened(uri)


def test_the_token_of_a_login_is_revoked_at_the_end_of_the_process(
    bao: Bao, tmp_path: Path
) -> None:
    made(bao, "p256", "p256")
    bao.api("POST", "sys/auth/ending", {"type": "approle"})
    policy = {"policy": SIGN.format("p256") + READ.format("p256")}
    bao.api("PUT", "sys/policies/acl/release", policy)
    bao.api("POST", "auth/ending/role/ci", {"token_policies": ["release"]})
    role = bao.api("GET", "auth/ending/role/ci/role-id").body["data"]["role_id"]
    file = tmp_path / "secret"
    file.write_text(bao.api("POST", "auth/ending/role/ci/secret-id", {}).body["data"]["secret_id"])
    way = {"token-file": None, "role-id": role, "secret-id-file": file, "auth": "ending"}
    text = (
        "import sys\nfrom fwsign.keys import signer_from_uri\n"
        "signer = signer_from_uri(sys.argv[1], lambda: None)\n"
        "signer.sign(b'message')\nprint(signer.key._session._token)\n"
    )
    words = [sys.executable, "-c", text, bao.uri("p256", way)]
    done = subprocess.run(words, capture_output=True, text=True, env=for_child(), check=True)
    token = done.stdout.strip()
    assert token
    assert bao.api("GET", "auth/token/lookup-self", token=token).status == 403


def test_nobody_is_asked_to_type_a_token(
    bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "now", lambda: NOW)
    uri = made(bao, "p256", "p256")
    root = make_ca()
    leaf = make_leaf(root, key=private_key(opened(uri)))
    pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in (leaf, root))
    Path("chain.pem").write_bytes(pem)
    Path("a.bin").write_bytes(PAYLOAD)
    plain = bao.uri("p256", {"token-file": None})
    options = ("--chain", "chain.pem", "--product", "x", "--force")
    words = (
        f"no token for {bao.address}: none in BAO_TOKEN or VAULT_TOKEN or ~/.vault-token, "
        "and none was given"
    )
    hint = "bao login gets one; token-file=FILE in the URI names a file with it"
    refused_by_cli(run("sign", "a.bin", "--key", plain, *options), 5, words, hint)
    given = ("--pass", f"file:{bao.token_file}")
    assert run("sign", "a.bin", "--key", plain, *options, *given).status == 0

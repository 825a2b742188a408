"""Keys in OpenBao's transit engine: against a real server, over TLS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bao_kit import Bao, make_tls, running
from fwsign.errors import Failed
from fwsign.format.cose import key_name, verify_signature
from fwsign.keys import open_key
from fwsign.keys.held import HeldSigner, Scheme, digest_of
from keys.contract import MESSAGE, Backend, Going, KeyContract, Situation
from keys.transit_kit import READ, SIGN, made, opened
from support import refused

TYPES = ("p256", "p384", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87")

pytestmark = pytest.mark.usefixtures("no_steering")


class TestTransit(KeyContract):
    algorithms = (*TYPES,)
    lacks = frozenset({Scheme.MU})

    @pytest.fixture
    def backend(self, bao: Bao, tmp_path: Path) -> Backend:
        made(bao, "p256", "p256")
        bao.api("POST", "transit/keys/cipher", {"type": "aes256-gcm96"})
        source = bao.directory / "given"
        source.write_text(bao.token)
        plain = {"token-file": None}
        return Backend(
            # The token comes from --pass, so that the contract sees where it goes.
            key=lambda alg: bao.uri(made(bao, alg, alg) and alg, plain),
            secret=bao.token.encode(),
            source=f"file:{source}",
            environment={"HOME": str(tmp_path)},
            situations={
                "wrong secret": Situation(
                    bao.uri("p256", plain),
                    "key.passphrase",
                    ("does not know the token of --pass: it is wrong or expired", bao.address),
                    b"s.another",
                ),
                "no secret": Situation(
                    bao.uri("p256", plain),
                    "key.passphrase-missing",
                    (f"no token for {bao.address}: none in BAO_TOKEN or VAULT_TOKEN",),
                ),
                "locked": Situation(
                    bao.uri("p256", plain),
                    "key.locked",
                    (f"{bao.address} forbids GET transit/keys/p256 with --pass",),
                    bao.token_for(SIGN.format("p256")).encode(),
                ),
                "missing": Situation(
                    bao.uri("relaese"),
                    "key.missing",
                    (f'{bao.address} has no key "relaese" in transit/, there are ', '"p256"'),
                ),
                "unsupported": Situation(
                    bao.uri("cipher"),
                    "key.unsupported",
                    ('the key "cipher" is of the type aes256-gcm96, which signs nothing',),
                ),
            },
            impossible={"several": "a name in a mount is that of one key"},
        )

    @pytest.fixture(autouse=True)
    def _durable(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        self.own: Bao | None = None
        self.folder = tmp_path_factory
        yield
        if self.own is not None:
            self.own.stop()

    def going(self) -> Going | str:
        self.own = Bao(self.folder.mktemp("going"))
        self.own.start()
        uri = self.own.make("p256", "release")
        words = ("no answer from", self.own.address)
        return Going(uri, None, self.own.stop, "key.unreachable", words)


# --- policies, versions, odd keys -------------------------------------------------------------


def test_a_refusal_names_the_policy_that_is_needed(bao: Bao) -> None:
    made(bao, "p256", "p256")
    uri = bao.uri("p256", {"token-file": None})
    for default in (True, False):
        token = bao.token_for(READ.format("p256"), no_default_policy=not default)
        held = open_key(uri, token.encode)
        with pytest.raises(Failed) as caught:
            HeldSigner(held).sign(MESSAGE)
        assert caught.value.code == "key.locked"
        assert caught.value.message == f"{bao.address} forbids POST transit/sign/p256 with --pass"
        rule = 'path "transit/sign/p256" { capabilities = ["update"] }'
        assert caught.value.hint == f"a policy of the token needs {rule}"
        held.close()


def test_two_rules_of_a_policy_are_enough(bao: Bao) -> None:
    made(bao, "ml-dsa-65", "ml-dsa-65")
    token = bao.token_for(SIGN.format("ml-dsa-65") + READ.format("ml-dsa-65"))
    held = open_key(bao.uri("ml-dsa-65", {"token-file": None}), token.encode)
    HeldSigner(held).sign(MESSAGE)
    held.close()


def test_a_token_that_may_not_list_keys_learns_no_names(bao: Bao) -> None:
    made(bao, "p256", "p256")
    token = bao.token_for(READ.format("*"))
    with refused("key.missing", f'{bao.address} has no key "none" in transit/') as caught:
        open_key(bao.uri("none", {"token-file": None}), token.encode)
    assert "there are" not in caught.value.message


def test_a_rotation_meanwhile_changes_nothing(bao: Bao) -> None:
    bao.make("p256", "turning")
    held = opened(bao.uri("turning"))
    bao.rotate("turning")
    signer = HeldSigner(held)
    verify_signature(signer.algorithm, held.public_key, MESSAGE, signer.sign(MESSAGE))
    newer, older = opened(bao.uri("turning")), opened(bao.uri("turning", version=1))
    assert newer.place.endswith("version=2")
    assert (older.public_key == held.public_key, newer.public_key == held.public_key) == (
        True,
        False,
    )
    with refused("key.missing", '"turning"', "has no version 7, there are 1, 2"):
        opened(bao.uri("turning", version=7))
    bao.api("POST", "transit/keys/turning/config", {"min_encryption_version": 2})
    with refused("key.failed", "requested version for signing is less than the minimum"):
        signer.sign(MESSAGE)
    for one in (held, newer, older):
        one.close()


def test_odd_keys_are_told_apart(bao: Bao) -> None:
    bao.make("ed25519", "derived", derived=True)
    with refused("key.unsupported", 'the key "derived" is derived: another key for each context'):
        opened(bao.uri("derived"))
    held = opened(bao.make("p521", "wide"))
    assert key_name(held.public_key) == "P-521"
    assert len(held.sign_raw(Scheme.ECDSA, digest_of(MESSAGE, "SHA-512"), "SHA-512")) == 132
    held.close()
    held = opened(bao.make("ml-dsa-44", "small"))
    with refused("key.unsupported", "a key of MLDSA44 makes no pure signatures"):
        held.sign_raw(Scheme.PURE, MESSAGE)
    held.close()


def test_a_sealed_server_is_called_that(tmp_path: Path) -> None:
    with running(tmp_path) as own:
        held = opened(own.make("p256", "release"))
        own.api("PUT", "sys/seal")
        with refused("key.unreachable", f"{own.address} cannot answer now: ", "sealed"):
            HeldSigner(held).sign(MESSAGE)
        held.close()


def test_a_server_that_comes_back_signs_on(tmp_path: Path) -> None:
    with running(tmp_path, durable=True) as own:
        held = opened(own.make("p256", "release"))
        signer = HeldSigner(held)
        signer.sign(MESSAGE)
        own.stop()
        with refused("key.unreachable", "no answer from"):
            signer.sign(MESSAGE)
        own.start()
        verify_signature(signer.algorithm, held.public_key, MESSAGE, signer.sign(MESSAGE))
        held.close()


def test_only_the_ca_of_the_uri_is_trusted(bao: Bao, tmp_path: Path) -> None:
    other = make_tls(tmp_path, "other")
    for ca in (other, None):
        words = (f"no answer from {bao.address}: ", "CERTIFICATE_VERIFY_FAILED")
        with refused("key.unreachable", *words) as caught:
            opened(bao.uri("p256", ca=ca))
        assert caught.value.hint == "ca=FILE in the URI names the CA of the server"
    (tmp_path / "empty.pem").write_text("nothing\n")
    with refused("io.format", "empty.pem has no certificates of CAs"):
        opened(bao.uri("p256", ca=tmp_path / "empty.pem"))
    with refused("io.missing", "gone.pem"):
        opened(bao.uri("p256", ca=tmp_path / "gone.pem"))


def test_plain_http_reaches_no_server_with_tls(bao: Bao) -> None:
    with refused("key.failed", "did not do it"):
        opened(bao.uri("p256", address=f"http://127.0.0.1:{bao.port}", ca=None))

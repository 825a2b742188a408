"""What every backend of keys keeps to: its test file inherits `KeyContract` and says what it has.

    class TestPkcs11(KeyContract):
        algorithms = ("p256", "ed25519")

        @pytest.fixture
        def backend(self, softhsm: SoftHsm) -> Backend:
            return Backend(key=..., secret=b"1234", source="file:/pin", situations={...})

A situation that a backend cannot be in has a reason in `impossible`; none may be left out.
"""

import json
import logging
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import Result, good, refused, run
from fwsign.cli import inputs
from fwsign.errors import Failed
from fwsign.format.cose import HASHES, algorithm_for, key_name, pss, verify_signature
from fwsign.keys import open_key, signer_from_uri
from fwsign.keys.held import HeldKey, HeldSigner, Scheme, digest_of, mu_of, sign_message
from fwsign.keys.stand_in import private_key
from fwsign.pki.profiles import signature_hash
from support import NOW, PAYLOAD, VENDOR, for_child, make_ca, make_leaf

SITUATIONS: Final = ("wrong secret", "no secret", "locked", "missing", "several", "unsupported")
"""The refusals of a backend: which, must be told from each other by code and message."""
MESSAGE: Final = b"what is to be signed"
DIGESTS: Final = "digests"
"""What a backend lacks that hashes messages itself."""
NAMES: Final = {
    "p256": "P-256",
    "p384": "P-384",
    "p521": "P-521",
    "secp256k1": "secp256k1",
    "ed25519": "Ed25519",
    "rsa2048": "RSA-2048",
    "rsa3072": "RSA-3072",
    "rsa4096": "RSA-4096",
    "ml-dsa-65": "ML-DSA-65",
    "ml-dsa-87": "ML-DSA-87",
}
_CHILD: Final = """
import sys
from fwsign.keys import open_key
from fwsign.keys.held import HeldSigner
uri, secret, count = sys.argv[1], sys.stdin.buffer.read(), int(sys.argv[2])
signer = HeldSigner(open_key(uri, lambda: secret or None))
print("ready", flush=True)
for number in range(count):
    print(signer.sign(b"message %d" % number).hex())
signer.key.close()
"""


class Situation(NamedTuple):
    """A key that cannot be opened, and the refusal: its code, and words of its message."""

    uri: str
    code: str
    words: tuple[str, ...]
    secret: bytes | None = None


class Going(NamedTuple):
    """A key whose holder goes away between two signatures, and the refusal after that."""

    uri: str
    secret: bytes | None
    leave: Callable[[], None]
    code: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Backend:
    """What a backend's tests have.

    Args:
        key: returns the URI of a key of an algorithm.
        secret: what the backend asks for: a PIN, a token, a passphrase; None if it asks for none.
        source: the same as the value of `--pass`.
        hidden: further secrets that nothing may show.
        environment: variables that a child process needs, besides this process's.
        situations: see `SITUATIONS`.
        impossible: the situations that cannot arise, each with the reason.
    """

    key: Callable[[str], str]
    secret: bytes | None = None
    source: str | None = None
    hidden: tuple[bytes, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    situations: Mapping[str, Situation] = field(default_factory=dict)
    impossible: Mapping[str, str] = field(default_factory=dict)

    def open(self, alg: str) -> HeldKey:
        """Open the key of an algorithm."""
        return open_key(self.key(alg), lambda: self.secret)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """Return all that may show nowhere."""
        return tuple(filter(None, (self.secret, *self.hidden)))

    @property
    def passing(self) -> tuple[str, ...]:
        """Return the options that give the secret."""
        return ("--pass", self.source) if self.source else ()


def raw_signatures(held: HeldKey, lacks: frozenset[object] = frozenset()) -> Iterator[Scheme]:
    """Sign in each scheme that a key has, check each signature, and yield the schemes."""
    public: Any = held.public_key
    if isinstance(public, ec.EllipticCurvePublicKey):
        size = (public.curve.key_size + 7) // 8
        names = ("SHA-256", "SHA-384") if size == 48 else ("SHA-256",)
        for name in names[-1:] if DIGESTS in lacks else names:
            digest = digest_of(MESSAGE, name)
            raw = sign_message(held, Scheme.ECDSA, MESSAGE, name)
            assert len(raw) == 2 * size
            r, s = (int.from_bytes(one, "big") for one in (raw[:size], raw[size:]))
            public.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(HASHES[name])))
        yield Scheme.ECDSA
    elif hasattr(public, "public_numbers"):
        for scheme in (one for one in (Scheme.PSS, Scheme.PKCS1) if one not in lacks):
            for name in ("SHA-256", "SHA-512") if DIGESTS in lacks else HASHES:
                raw = sign_message(held, scheme, MESSAGE, name)
                own = HASHES[name]
                how = pss(own) if scheme is Scheme.PSS else padding.PKCS1v15()
                public.verify(raw, MESSAGE, how, own)
            yield scheme
    else:
        public.verify(held.sign_raw(Scheme.PURE, MESSAGE), MESSAGE)
        yield Scheme.PURE
        if key_name(public).startswith("ML-DSA") and Scheme.MU not in lacks:
            public.verify(held.sign_raw(Scheme.MU, mu_of(public, MESSAGE)), MESSAGE)
            yield Scheme.MU


class Watch:
    """The processes that Python starts, each with arguments and environment, and its logs."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.active = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.active and event in {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"}:
            self.seen.append(repr(arguments))


WATCH: Final = Watch()
"""One for all, since a hook stays until the process ends."""


class KeyContract:
    """The tests of a backend; a class with `algorithms` and the fixture `backend` inherits it."""

    algorithms: ClassVar[tuple[str, ...]]
    """What the backend claims to sign with: the values of --alg, p521 and secp256k1."""
    lacks: ClassVar[frozenset[object]] = frozenset()
    """Schemes that suit a key and that the backend does not have; `DIGESTS`."""

    @pytest.fixture
    def backend(self) -> Backend:
        raise NotImplementedError

    @pytest.fixture
    def watched(self, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
        """Return a function that tells what was started and logged since."""
        WATCH.seen.clear()
        WATCH.active = True
        with caplog.at_level(logging.DEBUG):
            yield lambda: "\n".join((*WATCH.seen, caplog.text))
        WATCH.active = False

    def going(self) -> Going | str:
        """Return a key that goes away, or the reason why none can."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(inputs, "now", lambda: NOW)

    def test_it_signs_with_each_algorithm_in_each_scheme(self, backend: Backend) -> None:
        for alg in self.algorithms:
            held = backend.open(alg)
            assert key_name(held.public_key) == NAMES[alg]
            fitting = set(raw_signatures(held, self.lacks))
            assert fitting, alg
            for scheme in set(Scheme) - fitting:
                with pytest.raises(Failed) as caught:
                    held.sign_raw(scheme, bytes(64), "SHA-512")
                assert caught.value.code == "key.unsupported", alg
                words = f"a key of {NAMES[alg]} makes no {scheme.value} signatures"
                assert words in caught.value.message
            held.close()
            held.close()

    def test_releases_are_signed(self, backend: Backend) -> None:
        for alg in self.algorithms:
            held = backend.open(alg)
            if algorithm_for(held.public_key) is None:
                with pytest.raises(Failed) as caught:
                    HeldSigner(held)
                assert caught.value.code == "key.unsupported"
            else:
                signer = signer_from_uri(backend.key(alg), lambda: backend.secret)
                signature = signer.sign(MESSAGE)
                verify_signature(signer.algorithm, held.public_key, MESSAGE, signature)
                if isinstance(signer, HeldSigner):
                    signer.key.close()
            held.close()

    def test_certificates_crls_and_requests_are_signed(self, backend: Backend) -> None:
        for alg in self.algorithms:
            held = backend.open(alg)
            if alg == "secp256k1":
                with pytest.raises(Failed) as caught:
                    private_key(held)
                assert caught.value.code == "key.unsupported"
                held.close()
                continue
            key = private_key(held)
            digest = signature_hash(key)
            issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "held")])
            request = x509.CertificateSigningRequestBuilder().subject_name(issuer)
            assert request.sign(key, digest).is_signature_valid
            crl = x509.CertificateRevocationListBuilder().issuer_name(issuer)
            crl = crl.last_update(NOW).next_update(NOW)
            assert crl.sign(key, digest).is_signature_valid(held.public_key)
            held.close()

    def test_a_certificate_must_be_that_of_the_key(self, backend: Backend, tmp_path: Path) -> None:
        alg = self.algorithms[0]
        root = make_ca()
        held = backend.open(alg)
        own = make_leaf(root, key=private_key(held))
        held.close()
        for name, leaf in (("own", own), ("other", make_leaf(root, "other"))):
            entities = (leaf, root)
            pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in entities)
            (tmp_path / f"{name}.pem").write_bytes(pem)
        (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
        (tmp_path / "a.bin").write_bytes(PAYLOAD)
        found = _sign(backend, alg, "other.pem")
        words = 'the key is not that of certificate "other"'
        hint = "give the certificate of this key first in --chain"
        refused(found._replace(err=_errors(found)), 5, words, hint)
        assert not (tmp_path / "a.bin.suit").exists()
        found = _sign(backend, alg, "own.pem")
        assert found.status == 0, found
        shown = json.loads(good("verify", "a.bin.suit", "--anchor", "root.pem", "--json"))
        assert shown["verdict"] == "verified"

    @pytest.mark.parametrize("name", SITUATIONS)
    def test_it_says_why_it_does_not_open(self, backend: Backend, name: str) -> None:
        assert (name in backend.situations) != (name in backend.impossible), name
        if name in backend.impossible:
            assert len(backend.impossible[name]) > 10
            return
        one = backend.situations[name]
        with pytest.raises(Failed) as caught:
            open_key(one.uri, lambda: one.secret)
        assert (caught.value.code, caught.value.message) == (one.code, caught.value.message)
        assert [word for word in one.words if word not in caught.value.message] == []
        assert not _leaked((*backend.secrets, one.secret), _told(caught.value))

    def test_a_holder_that_goes_away_is_called_that(self, backend: Backend) -> None:
        one = self.going()
        if isinstance(one, str):
            assert len(one) > 10
            return
        held = open_key(one.uri, lambda: one.secret)
        next(raw_signatures(held, self.lacks))
        one.leave()
        with pytest.raises(Failed) as caught:
            next(raw_signatures(held, self.lacks))
        assert (caught.value.code, caught.value.message) == (one.code, caught.value.message)
        assert [word for word in one.words if word not in caught.value.message] == []
        assert not _leaked((*backend.secrets, one.secret), _told(caught.value))
        held.close()

    def test_threads_sign_with_one_key(self, backend: Backend) -> None:
        held = backend.open(self.algorithms[0])
        signer = HeldSigner(held)
        made: list[tuple[bytes, bytes]] = []

        def work(number: int) -> None:
            for turn in range(5):
                message = b"%d %d" % (number, turn)
                made.append((message, signer.sign(message)))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert len(made) == 20
        for message, signature in made:
            verify_signature(signer.algorithm, held.public_key, message, signature)
        held.close()

    def test_two_processes_sign_at_once(self, backend: Backend) -> None:
        alg = self.algorithms[0]
        uri, secret = backend.key(alg), backend.secret or b""
        held = backend.open(alg)
        signer = HeldSigner(held)
        children = [
            subprocess.Popen(
                [sys.executable, "-c", _CHILD, uri, "10"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=False,
                env={**for_child(), **backend.environment},
            )
            for _ in range(2)
        ]
        for child in children:
            assert child.stdin is not None
            child.stdin.write(secret)
            child.stdin.close()
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            told = Path(f"/proc/{child.pid}/cmdline")
            assert not told.exists() or not _leaked(backend.secrets, told.read_text("utf-8"))
        for child in children:
            assert child.stdout is not None
            lines = child.stdout.read().split()
            child.stdout.close()
            assert child.wait() == 0
            assert len(lines) == 10
            for number, line in enumerate(lines):
                signature, message = bytes.fromhex(line.decode()), b"message %d" % number
                verify_signature(signer.algorithm, held.public_key, message, signature)
        held.close()

    def test_no_secret_shows(
        self, backend: Backend, tmp_path: Path, watched: Callable[[], str]
    ) -> None:
        """Not in what is printed or logged, nor in the arguments or environment of children."""
        alg = self.algorithms[0]
        root = make_ca()
        held = backend.open(alg)
        leaf = make_leaf(root, key=private_key(held), vendors=(VENDOR,))
        entities = (leaf, root)
        pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in entities)
        (tmp_path / "own.pem").write_bytes(pem)
        (tmp_path / "a.bin").write_bytes(PAYLOAD)
        texts = [held.place, repr(held), repr(HeldSigner(held)), repr(private_key(held))]
        held.close()
        found = _sign(backend, alg, "own.pem", "--json")
        assert found.status == 0, found
        texts += [found.out, found.err]
        texts += [path.read_bytes().decode("latin-1") for path in tmp_path.glob("*.suit")]
        assert not _leaked(backend.secrets, "\n".join((*texts, watched())))
        assert not _leaked(backend.secrets, "\n".join(sys.argv))


def _sign(backend: Backend, alg: str, chain: str, *more: object) -> Result:
    uri = backend.key(alg)
    own = ("--key", uri, "--chain", chain, "--product", "x1", "--force", *backend.passing)
    return run("sign", "a.bin", *own, *more)


def _errors(found: Result) -> str:
    """Return the lines of a transcript that are errors and hints, without warnings."""
    lines = found.err.splitlines()
    return "\n".join(line for line in lines if "warning:" not in line)


def _told(error: BaseException) -> str:
    """Return all that a report about an error could say of it."""
    return "\n".join(("".join(traceback.format_exception(error)), repr(error), repr(vars(error))))


def _leaked(secrets: tuple[bytes | None, ...], text: str) -> list[bytes]:
    """Return the secrets that are in a text, in clear or in hexadecimal."""
    return [
        secret
        for secret in filter(None, secrets)
        if secret.decode("latin-1") in text or secret.hex() in text
    ]

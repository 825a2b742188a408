"""Tokens in trouble: SoftHSM2 behind a library of ours in C that adds the faults.

SoftHSM2 locks no PIN and cannot be unplugged, and its points are in DER. All else is the real one.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import good, run
from fwsign.cli import inputs
from fwsign.errors import Failed
from fwsign.keys import open_key
from fwsign.keys.held import HeldKey, Scheme
from fwsign.keys.stand_in import private_key
from keys.contract import raw_signatures
from softhsm_kit import TOKEN, SoftHsm
from support import NOW, PAYLOAD, make_ca, make_leaf, new_key, require_program, rsa_key

SOURCE = Path(__file__).with_name("pkcs11_faults.c")
DIGEST = bytes(32)
FINAL_TRY, LOCKED, PAD, LOGIN_REQUIRED = 0x20000, 0x40000, 0x100, 0x4
GENERAL, DEVICE, REMOVED, MECHANISM, HANDLE = 0x5, 0x30, 0x32, 0x70, 0x82
PIN_WRONG, PIN_LOCKED, PIN_EXPIRED, NO_TOKEN = 0xA0, 0xA4, 0xA3, 0xE0
CANCELLED, NOT_INITIALISED, NOT_LOGGED_IN = 0x50, 0x102, 0x101


class Faults:
    """The library, and the file that says what it does wrong."""

    def __init__(self, softhsm: SoftHsm, folder: Path) -> None:
        self.softhsm = softhsm
        self.module = folder / "faults.so"
        self.file = folder / "faults"
        self.log = folder / "faults.log"

    def set(self, **faults: int) -> None:
        """Begin faults, and end those before."""
        lines = [f"{name} {value:x}\n" for name, value in faults.items()]
        self.file.write_text("".join(lines), encoding="ascii")

    def uri(self, label: str) -> str:
        """Return the URI of a key behind the library."""
        return f"pkcs11:token={TOKEN.replace(' ', '%20')};object={label}?module-path={self.module}"

    def open(self, label: str, pin: str | None = None) -> HeldKey:
        """Open a key with the right PIN, or another one."""
        return open_key(self.uri(label), (pin or self.softhsm.pin).encode)

    @property
    def logins(self) -> list[str]:
        """Return the logins that the token has seen."""
        return self.log.read_text("ascii").splitlines() if self.log.exists() else []


@pytest.fixture(scope="module")
def built(softhsm: SoftHsm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    """Return the library; it loads a copy of SoftHSM2's, which has a state of its own."""
    folder = tmp_path_factory.mktemp("faults")
    made = Faults(softhsm, folder)
    command = (require_program("gcc"), "-shared", "-fPIC", "-o", made.module, SOURCE, "-ldl")
    subprocess.run(command, check=True)
    copy = folder / "libsofthsm2.so"
    shutil.copyfile(softhsm.module, copy)
    made.set()
    softhsm.once("p256", "faulty")
    softhsm.once("ed25519", "faulty-ed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAULTS", str(made.file))
        patch.setenv("FAULTS_MODULE", str(copy))
        patch.setenv("FAULTS_PIN", softhsm.pin)
        yield made


@pytest.fixture
def faults(built: Faults) -> Iterator[Faults]:
    """Return the library without faults and with an empty log."""
    built.set()
    built.log.unlink(missing_ok=True)
    yield built
    built.set()


def refusal(act: Callable[[], Any]) -> Failed:
    """Return the refusal that an act ends in."""
    with pytest.raises(Failed) as caught:
        act()
    return caught.value


def told(error: Failed) -> tuple[str, str]:
    """Return code and message."""
    return error.code, error.message


def test_without_faults_it_signs(faults: Faults) -> None:
    held = faults.open("faulty")
    assert [*raw_signatures(held)] == [Scheme.ECDSA]
    assert faults.logins == ["login 1 pin"]
    held.close()


class TestPins:
    def test_a_wrong_pin_is_sent_once(self, faults: Faults) -> None:
        words = f'wrong PIN for the token "{TOKEN}"'
        assert told(refusal(lambda: faults.open("faulty", "0001"))) == ("key.passphrase", words)
        again = refusal(lambda: faults.open("faulty", "0001"))
        assert told(again) == ("key.passphrase", f"{words}; it has refused this PIN already")
        assert faults.logins == ["login 1 pin"]
        faults.open("faulty").close()
        assert len(faults.logins) == 2

    def test_the_last_try_is_announced(self, faults: Faults) -> None:
        faults.set(flags=FINAL_TRY)
        error = refusal(lambda: faults.open("faulty", "0002"))
        words = f'wrong PIN for the token "{TOKEN}"; one try is left before it locks'
        assert told(error) == ("key.passphrase", words)

    def test_a_locked_token_is_not_tried(self, faults: Faults) -> None:
        faults.set(flags=LOCKED)
        error = refusal(lambda: faults.open("faulty"))
        words = f'the token "{TOKEN}" is locked: too many wrong PINs'
        assert told(error) == ("key.locked", words)
        assert faults.logins == []

    @pytest.mark.parametrize(
        ("value", "code", "words"),
        [
            (PIN_LOCKED, "key.locked", "too many wrong PINs (CKR_PIN_LOCKED)"),
            (PIN_EXPIRED, "key.locked", "has expired and must be changed (CKR_PIN_EXPIRED)"),
            (NOT_INITIALISED, "key.locked", "no PIN yet (CKR_USER_PIN_NOT_INITIALIZED)"),
            (CANCELLED, "key.passphrase-missing", "no PIN was entered (CKR_FUNCTION_CANCELED)"),
            (REMOVED, "key.unreachable", "it is gone, or has ended the login (CKR_DEVICE_REMOVED)"),
            (0x80000001, "key.failed", "0x80000001"),
        ],
    )
    def test_a_login_that_fails(self, faults: Faults, value: int, code: str, words: str) -> None:
        faults.set(login=value)
        error = refusal(lambda: faults.open("faulty"))
        assert error.code == code
        assert f'the token "{TOKEN}" cannot log in: ' in error.message
        assert words in error.message
        faults.set()
        faults.open("faulty").close()

    def test_a_key_pad_asks_itself(self, faults: Faults) -> None:
        faults.set(flags=PAD)

        def never() -> bytes:
            raise AssertionError

        held = open_key(faults.uri("faulty"), never)
        assert faults.logins == ["login 1 pad"]
        assert [*raw_signatures(held)]
        held.close()

    def test_a_token_without_login_asks_nobody(self, faults: Faults) -> None:
        """Its keys are not found then, since SoftHSM2 shows private ones after a login alone."""
        faults.set(noflags=LOGIN_REQUIRED)
        error = refusal(lambda: open_key(faults.uri("faulty"), lambda: None))
        assert error.code == "key.missing"
        assert faults.logins == []


class TestGone:
    @pytest.mark.parametrize("value", [DEVICE, REMOVED, HANDLE, NOT_LOGGED_IN, 0xB3, 0x60])
    def test_a_token_that_goes_away_between_two_signatures(
        self, faults: Faults, value: int
    ) -> None:
        held = faults.open("faulty")
        held.sign_raw(Scheme.ECDSA, DIGEST, "SHA-256")
        faults.set(sign=value)
        error = refusal(lambda: held.sign_raw(Scheme.ECDSA, DIGEST, "SHA-256"))
        assert error.code == "key.unreachable"
        assert error.message.startswith(f'the token "{TOKEN}" cannot sign: ')
        held.close()

    def test_a_key_opened_later_logs_in_anew(self, faults: Faults) -> None:
        held = faults.open("faulty")
        faults.set(sign=REMOVED)
        refusal(lambda: held.sign_raw(Scheme.ECDSA, DIGEST, "SHA-256"))
        held.close()
        faults.set()
        again = faults.open("faulty")
        assert again.sign_raw(Scheme.ECDSA, DIGEST, "SHA-256")
        assert faults.logins == ["login 1 pin"] * 2
        again.close()

    def test_no_token(self, faults: Faults) -> None:
        faults.set(token=NO_TOKEN)
        error = refusal(lambda: faults.open("faulty"))
        words = f'no token fits token "{TOKEN}", the library has none'
        assert told(error) == ("key.missing", words)

    def test_a_library_that_fails(self, faults: Faults) -> None:
        faults.set(slots=GENERAL)
        error = refusal(lambda: faults.open("faulty"))
        words = "the library cannot list its tokens: CKR_GENERAL_ERROR"
        assert told(error) == ("key.unreachable", words)


class TestSigning:
    def test_a_mechanism_that_is_not_there(self, faults: Faults) -> None:
        held = faults.open("faulty")
        faults.set(sign=MECHANISM)
        error = refusal(lambda: held.sign_raw(Scheme.ECDSA, DIGEST, "SHA-256"))
        why = "it has no such mechanism, or not for this key (CKR_MECHANISM_INVALID)"
        assert told(error) == ("key.unsupported", f'the token "{TOKEN}" cannot sign: {why}')
        held.close()

    @pytest.mark.parametrize("fault", ["flip", "short"])
    def test_a_wrong_signature_is_not_given_out(self, faults: Faults, fault: str) -> None:
        held = faults.open("faulty")
        faults.set(**{fault: 1})
        error = refusal(lambda: held.sign_raw(Scheme.ECDSA, DIGEST, "SHA-256"))
        assert error.code == "key.failed"
        assert error.message.endswith("gave a signature that its own public key does not verify")
        held.close()

    def test_an_unknown_failure_says_its_number(self, faults: Faults) -> None:
        held = faults.open("faulty")
        faults.set(sign=0x80001234)
        error = refusal(lambda: held.sign_raw(Scheme.ECDSA, DIGEST, "SHA-256"))
        assert error.code == "key.failed"
        assert "80001234" in error.message
        held.close()


class TestPublicKeys:
    @pytest.mark.parametrize("label", ["faulty", "faulty-ed"])
    def test_points_without_der(self, faults: Faults, label: str) -> None:
        faults.set(rawpoint=1)
        held = faults.open(label)
        assert held.public_key == faults.softhsm.public_key(label)
        held.close()

    def test_rsa_without_a_public_key(self, faults: Faults) -> None:
        key = rsa_key(3072)
        faults.softhsm.put(key, "bare-rsa", public=False)
        held = faults.open("bare-rsa")
        assert held.public_key == key.public_key()
        held.close()

    def test_a_certificate_stands_in_for_a_public_key(self, faults: Faults, tmp_path: Path) -> None:
        key = new_key()
        faults.softhsm.put(key, "certified", public=False)
        words = "has no public key or certificate beside it that can be read"
        error = refusal(lambda: faults.open("certified"))
        assert (error.code, words in error.message) == ("key.unsupported", True)
        (tmp_path / "own.der").write_bytes(make_leaf(make_ca(), key=key).der)
        faults.softhsm.add_certificate(tmp_path / "own.der", "certified")
        held = faults.open("certified")
        assert held.public_key == key.public_key()
        assert [*raw_signatures(held)] == [Scheme.ECDSA]
        held.close()


class TestLogins:
    def test_keys_of_a_token_share_one(self, faults: Faults) -> None:
        one, two = faults.open("faulty"), faults.open("faulty-ed", "another PIN is not asked for")
        one.close()
        one.close()
        assert [*raw_signatures(two)] == [Scheme.PURE]
        assert faults.logins == ["login 1 pin"]
        two.close()
        faults.open("faulty").close()
        assert len(faults.logins) == 2

    def test_sign_logs_in_once_for_all_files(
        self, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(inputs, "now", lambda: NOW)
        held = faults.open("faulty")
        root = make_ca()
        entities = (make_leaf(root, key=private_key(held)), root)
        held.close()
        pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in entities)
        (tmp_path / "chain.pem").write_bytes(pem)
        names = [f"{number}.bin" for number in range(20)]
        for name in names:
            (tmp_path / name).write_text(name, encoding="ascii")
        faults.log.unlink()
        own = ("--key", faults.uri("faulty"), "--chain", "chain.pem", "--product", "x1")
        pin = ("--pass", faults.softhsm.pass_file)
        good("sign", *names, *own, *pin)
        assert faults.logins == ["login 1 pin"]
        assert all((tmp_path / f"{name}.suit").is_file() for name in names)

    def test_a_token_that_goes_away_leaves_no_part_of_an_envelope(
        self, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(inputs, "now", lambda: NOW)
        held = faults.open("faulty")
        root = make_ca()
        entities = (make_leaf(root, key=private_key(held)), root)
        held.close()
        pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in entities)
        (tmp_path / "chain.pem").write_bytes(pem)
        (tmp_path / "a.bin").write_bytes(PAYLOAD)
        faults.set(sign=REMOVED)
        own = ("--key", faults.uri("faulty"), "--chain", "chain.pem", "--product", "x1")
        found = run("sign", "a.bin", *own, "--pass", faults.softhsm.pass_file)
        why = "it is gone, or has ended the login (CKR_DEVICE_REMOVED)"
        assert (found.status, found.out) == (5, "")
        assert f'error: the token "{TOKEN}" cannot sign: {why}' in found.errors
        assert sorted(one.name for one in tmp_path.iterdir()) == ["a.bin", "chain.pem"]

    def test_a_closed_key_signs_no_more(self, faults: Faults) -> None:
        held = faults.open("faulty")
        held.close()
        error = refusal(lambda: held.sign_raw(Scheme.ECDSA, DIGEST, "SHA-256"))
        assert told(error) == ("key.unreachable", f"{held.place} was closed")

    def test_a_key_that_is_not_found_leaves_no_login(self, faults: Faults) -> None:
        for count in (1, 2):
            refusal(lambda: faults.open("nobody"))
            assert len(faults.logins) == count

    def test_the_child_of_a_fork_is_refused(self, faults: Faults) -> None:
        held = faults.open("faulty")
        told_by_child, child_end = os.pipe()
        child = os.fork()
        if not child:
            found = []
            for act in (
                lambda: held.sign_raw(Scheme.ECDSA, DIGEST, "SHA-256"),
                lambda: faults.open("faulty-ed"),
            ):
                try:
                    act()
                except Failed as error:
                    found.append(f"{error.code}: {error.message}")
            held.close()
            os.write(child_end, "\n".join(found).encode())
            os._exit(0)
        os.close(child_end)
        with os.fdopen(told_by_child) as file:
            words = "the PKCS#11 library was loaded before this process was forked"
            assert file.read() == f"key.unreachable: {words}\nkey.unreachable: {words}"
        assert os.waitpid(child, 0)[1] == 0
        assert [*raw_signatures(held)]
        held.close()


class TestKeysThatWantThePinEachTime:
    """PIV's slot 9c is like that: CKA_ALWAYS_AUTHENTICATE."""

    @pytest.fixture
    def label(self, faults: Faults) -> str:
        faults.softhsm.generate("EC:prime256v1", "always", "--always-auth")
        return "always"

    def test_each_signature_has_a_login_of_its_own(self, faults: Faults, label: str) -> None:
        held = faults.open(label)
        assert [*raw_signatures(held)] == [Scheme.ECDSA]
        held.sign_raw(Scheme.ECDSA, DIGEST, "SHA-256")
        assert faults.logins == ["login 1 pin", "login 2 pin", "login 2 pin"]
        held.close()

    def test_a_pin_that_is_wrong_by_then(self, faults: Faults, label: str) -> None:
        held = faults.open(label)
        faults.set(context=PIN_WRONG)
        error = refusal(lambda: held.sign_raw(Scheme.ECDSA, DIGEST, "SHA-256"))
        words = f'the token "{TOKEN}" cannot sign: wrong PIN (CKR_PIN_INCORRECT)'
        assert told(error) == ("key.passphrase", words)
        assert len(faults.logins) == 2
        again = refusal(lambda: held.sign_raw(Scheme.ECDSA, DIGEST, "SHA-256"))
        assert again.code == "key.passphrase"
        assert len(faults.logins) == 2
        held.close()

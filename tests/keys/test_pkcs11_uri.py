"""`pkcs11:` URIs as RFC 7512 has them, and the library that they name."""

import sys
from pathlib import Path

import pytest

from fwsign.errors import Failed
from fwsign.keys import open_key, shown
from fwsign.keys.pkcs11_uri import MAX_URI, TokenUri, parse_uri
from keys.contract import raw_signatures
from softhsm_kit import OTHER, PIN, TOKEN, SoftHsm
from support import require_package

NO_FILE = "pin-source in the URI is not the path of a file"


def refused(uri: str) -> Failed:
    """Return the refusal of a URI."""
    with pytest.raises(Failed) as caught:
        parse_uri(uri)
    assert caught.value.code == "key.unsupported"
    assert caught.value.message.startswith("the pkcs11: URI has ")
    return caught.value


class TestReading:
    def test_every_attribute(self) -> None:
        path = {
            "token": "The Software PKCS%2311 Softtoken",
            "manufacturer": "Snake Oil, Inc.",
            "serial": "1",
            "model": "1.0",
            "slot-manufacturer": "m",
            "slot-description": "d",
            "slot-id": "327",
            "library-manufacturer": "lm",
            "library-description": "ld",
            "library-version": "3.1",
            "object": "my-certificate",
            "type": "private",
            "id": "%69%95%3E%5C%F4%BD%EC%91",
        }
        query = {"module-path": "/usr/lib/x.so", "pin-source": "file:/etc/token_pin"}
        text = ";".join(f"{name}={value.replace(' ', '%20')}" for name, value in path.items())
        found = parse_uri(f"pkcs11:{text}?{'&'.join(f'{k}={v}' for k, v in query.items())}")
        assert found.query == query
        assert found.path["id"] == bytes.fromhex("69953e5cf4bdec91")
        assert found.text("token") == "The Software PKCS#11 Softtoken"
        assert found.text("manufacturer") == "Snake Oil, Inc."
        assert [*found.path] == [*path]

    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("a%2Bb+c", b"a+b+c"),
            ("%00%ff%Fe", b"\x00\xff\xfe"),
            ("%2541", b"%41"),
            ("a%3Bobject%3Db", b"a;object=b"),
            ("!$'()*,:@[]~&=", b"!$'()*,:@[]~&="),
        ],
    )
    def test_percent_decoding_is_exact(self, written: str, read: bytes) -> None:
        found = parse_uri(f"pkcs11:id={written}")
        assert found.path["id"] == read
        assert parse_uri(found.place) == found

    def test_the_place_reads_back_and_has_no_source_of_a_pin(self) -> None:
        uri = "PKCS11:object=a%20%C3%BC;id=%01?pin-source=/etc/pin&module-name=softhsm2"
        found = parse_uri(uri)
        assert found.place == "pkcs11:object=a%20%C3%BC;id=%01?module-name=softhsm2"
        assert parse_uri(found.place) == TokenUri(found.path, {"module-name": "softhsm2"})


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("pkcs11:", "neither object nor id"),
        ("pkcs11:token=x", "neither object nor id"),
        ("pkcs11:id=", "neither object nor id"),
        ("pkcs11:token=x;token=y;object=z", 'the attribute "token" twice'),
        ("pkcs11:object=a?module-path=/a&module-path=/a", 'the attribute "module-path" twice'),
        ("pkcs11:colour=x;object=z", 'the attribute "colour" in its path'),
        ("pkcs11:object=z?object=a", 'the attribute "object" in its query'),
        ("pkcs11:object=z;module-path=/a", 'the attribute "module-path" in its path'),
        ("pkcs11:Object=z", "an attribute without a proper name in its path"),
        ("pkcs11:object=a;", "an attribute without a proper name in its path"),
        ("pkcs11:object=a;;id=b", "an attribute without a proper name in its path"),
        ("pkcs11:object", 'the attribute "object" without a value'),
        ("pkcs11:object=a?", "nothing after the question mark"),
        ("pkcs11:object=a b", "' ' in the value of \"object\", where %20 is written"),
        ("pkcs11:object=a%2", "'%' in the value of \"object\", where %25 is written"),
        ("pkcs11:object=a%zz", "'%' in the value of \"object\", where %25 is written"),
        ("pkcs11:object=ü", "'ü' in the value of \"object\", where %C3%BC is written"),
        ("pkcs11:object=a/b", "'/' in the value of \"object\", where %2F is written"),
        ("pkcs11:object=a#b", "'#' in the value of \"object\", where %23 is written"),
        ("pkcs11:object=%ff", 'a value of "object" that is not text'),
        ("pkcs11:token=;object=a", 'a value of "token" that is not text'),
        ("pkcs11:object=a%0Ab", 'a value of "object" that is not text'),
        ("pkcs11:object=a;type=cert", "type=cert, which is no private key"),
        ("pkcs11:object=a;type=public", "type=public, which is no private key"),
        ("pkcs11:object=a;type=key", 'type "key"'),
        ("pkcs11:object=a;slot-id=one", 'the slot-id "one"'),
        ("pkcs11:object=a;slot-id=-1", 'the slot-id "-1"'),
        ("pkcs11:object=a?module-path=/a&module-name=b", "both module-path and module-name"),
        (f"pkcs11:object={'a' * MAX_URI}", f"a URI of {MAX_URI + 14} characters"),
    ],
)
def test_a_uri_that_is_refused(uri: str, words: str) -> None:
    assert words in refused(uri).message


@pytest.mark.parametrize(
    "uri",
    [
        "pkcs11:object=a?pin-value=1234",
        "pkcs11:object=a;pin-value=1234",
        "pkcs11:object=a?module-path=/a&pin-value=1234",
        "pkcs11:pin-value=1234",
        "pkcs11:object=a?PIN-VALUE=1234",
    ],
)
def test_a_pin_in_a_uri_is_refused_and_not_repeated(uri: str) -> None:
    error = refused(uri)
    assert "1234" not in repr(vars(error)) + error.message
    assert "1234" not in shown(uri)
    if "pin-value" in uri:
        assert 'the attribute "pin-value", which has the PIN in clear for all to see' in str(error)
        assert "pin-source=file:PATH" in str(error.hint)


def test_a_uri_is_shown_with_the_source_of_its_pin() -> None:
    uri = "pkcs11:object=spinning;id=%01?pin-source=file:/etc/pin"
    assert shown(uri) == uri


class TestLibraries:
    @pytest.fixture(autouse=True)
    def _here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        require_package("pkcs11")
        monkeypatch.delenv("FWSIGN_PKCS11_MODULE", raising=False)

    def refused(self, uri: str, code: str = "key.unreachable") -> str:
        """Return the message about a library that cannot be used."""
        with pytest.raises(Failed) as caught:
            open_key(uri, lambda: b"1234")
        assert caught.value.code == code
        if code == "key.unreachable":
            assert "module-path=" in str(caught.value.hint)
            assert "FWSIGN_PKCS11_MODULE" in str(caught.value.hint)
        return caught.value.message

    def test_one_that_is_not_there(self) -> None:
        words = "there is no PKCS#11 library at /nowhere/x.so"
        assert self.refused("pkcs11:object=a?module-path=/nowhere/x.so") == words
        words = 'there is no PKCS#11 library "nosuch"'
        assert self.refused("pkcs11:object=a?module-name=nosuch") == words
        words = 'module-name "../x" is not the name of a library'
        assert self.refused("pkcs11:object=a?module-name=../x") == words

    def test_a_path_must_be_absolute(self) -> None:
        words = 'the path of the PKCS#11 library "x.so" is not absolute'
        assert self.refused("pkcs11:object=a?module-path=x.so") == words

    def test_a_file_that_is_no_library(self, tmp_path: Path) -> None:
        (tmp_path / "x.so").write_text("text", encoding="utf-8")
        with pytest.raises(Failed) as caught:
            open_key(f"pkcs11:object=a?module-path={tmp_path / 'x.so'}", lambda: b"1234")
        assert caught.value.code == "key.unreachable"
        assert caught.value.message.startswith(f"the library {tmp_path / 'x.so'} cannot be loaded")

    def test_one_that_others_may_change(self, tmp_path: Path) -> None:
        (tmp_path / "x.so").write_bytes(b"")
        (tmp_path / "x.so").chmod(0o666)
        uri = f"pkcs11:object=a?module-path={tmp_path / 'x.so'}"
        assert "can be changed by other users" in self.refused(uri, "io.permission")
        (tmp_path / "x.so").chmod(0o644)
        tmp_path.chmod(0o777)
        assert "can be exchanged by other users" in self.refused(uri, "io.permission")

    def test_the_environment_names_one_where_the_uri_does_not(
        self, softhsm: SoftHsm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uri = softhsm.once("p256", "named")
        bare = uri.partition("?")[0]
        monkeypatch.setenv("FWSIGN_PKCS11_MODULE", softhsm.module)
        held = open_key(bare, PIN.encode)
        assert held.place == bare
        held.close()
        monkeypatch.setenv("FWSIGN_PKCS11_MODULE", "/nowhere/y.so")
        assert "no PKCS#11 library at /nowhere/y.so" in self.refused(bare)
        open_key(uri, PIN.encode).close()

    def test_a_library_by_name(self, softhsm: SoftHsm) -> None:
        uri = softhsm.once("p256", "named").partition("?")[0]
        held = open_key(f"{uri}?module-name=softhsm2", PIN.encode)
        assert held.place == f"{uri}?module-name=softhsm2"
        held.close()


class TestTokens:
    def open(self, softhsm: SoftHsm, path: str, pin: str = PIN) -> None:
        """Open a key by the path of its URI, sign with it, and close it."""
        held = open_key(f"pkcs11:{path}?module-path={softhsm.module}", pin.encode)
        assert [*raw_signatures(held)]
        held.close()

    def test_each_attribute_chooses(self, softhsm: SoftHsm) -> None:
        softhsm.once("p256", "chosen")
        token = softhsm.facts(TOKEN)
        right = {
            "serial": token["serial"],
            "slot-id": token["slot"],
            "slot-description": token["description"],
        }
        for name, value in right.items():
            self.open(softhsm, f"{name}={value};object=chosen")
        shared = {"manufacturer": "SoftHSM%20project", "model": "SoftHSM%20v2"}
        shared["slot-manufacturer"] = "SoftHSM%20project"
        shared |= {"library-manufacturer": "SoftHSM", "library-description": "Implementation%20of"}
        for name, value in shared.items():
            with pytest.raises(Failed) as caught:
                self.open(softhsm, f"{name}={value};object=chosen")
            assert caught.value.code == "key.missing"
        for name in (*right, *shared, "library-version"):
            with pytest.raises(Failed) as caught:
                self.open(softhsm, f"{name}=77;token={TOKEN.replace(' ', '%20')};object=chosen")
            assert caught.value.code == "key.missing"
            assert f'no token fits {name} "77", token "{TOKEN}"' in caught.value.message

    def test_a_pin_goes_to_no_token_if_several_fit(self, softhsm: SoftHsm) -> None:
        with pytest.raises(Failed) as caught:
            self.open(softhsm, "object=chosen", "no PIN of theirs")
        assert caught.value.code == "key.missing"
        for label in (TOKEN, OTHER):
            assert f'"{label}" (' in caught.value.message
        assert " tokens fit the URI, which names none" in caught.value.message
        assert caught.value.hint == "say which with token=LABEL or serial=NUMBER in the URI"

    def test_a_token_that_is_not_there(self, softhsm: SoftHsm) -> None:
        with pytest.raises(Failed) as caught:
            self.open(softhsm, "token=elsewhere;object=chosen")
        assert caught.value.code == "key.missing"
        assert caught.value.message.startswith('no token fits token "elsewhere", the library has ')

    def test_the_same_label_in_another_token(self, softhsm: SoftHsm) -> None:
        uri = softhsm.make("p256", "chosen", token=OTHER)
        held = open_key(uri, PIN.encode)
        own = open_key(softhsm.once("p256", "chosen"), PIN.encode)
        assert held.public_key != own.public_key
        held.close()
        own.close()

    def test_an_id_chooses_among_keys_of_one_label(self, softhsm: SoftHsm) -> None:
        softhsm.once("p256", "pair")
        softhsm.once("p256", "pair", again=True)
        with pytest.raises(Failed) as caught:
            self.open(softhsm, f"token={TOKEN.replace(' ', '%20')};object=pair")
        assert caught.value.message.startswith("2 keys fit pkcs11:")
        one = caught.value.message.rpartition("id=")[2]
        self.open(softhsm, f"token={TOKEN.replace(' ', '%20')};object=pair;id={one}")
        self.open(softhsm, f"token={TOKEN.replace(' ', '%20')};type=private;id={one}")


class TestPins:
    def test_a_source_in_the_uri(self, softhsm: SoftHsm, tmp_path: Path) -> None:
        uri = softhsm.once("p256", "sourced")

        def never() -> bytes:
            raise AssertionError

        for name, content in (("a", f"{PIN}\r\n"), ("b", PIN), ("c", f"\ufeff{PIN}\nsecond\n")):
            (tmp_path / name).write_bytes(content.encode())
            for form in ("file:{}", "file://{}", "{}"):
                source = form.format(tmp_path / name)
                held = open_key(f"{uri}&pin-source={source}", never)
                assert "pin-source" not in held.place
                held.close()

    @pytest.mark.parametrize(
        ("source", "code", "words"),
        [
            ("file:/nowhere/pin", "io.missing", "/nowhere/pin"),
            ("|cat%20/etc/pin", "key.unsupported", NO_FILE),
            ("https:%2F%2Fa/pin", "key.unsupported", NO_FILE),
            ("pin", "key.unsupported", NO_FILE),
        ],
    )
    def test_a_source_that_gives_none(
        self, softhsm: SoftHsm, source: str, code: str, words: str
    ) -> None:
        with pytest.raises(Failed) as caught:
            open_key(f"{softhsm.once('p256', 'sourced')}&pin-source={source}", lambda: None)
        assert caught.value.code == code
        assert words in caught.value.message

    def test_an_empty_file_and_one_that_is_too_long(self, softhsm: SoftHsm, tmp_path: Path) -> None:
        uri = softhsm.once("p256", "sourced")
        for content, code in ((b"\n", "key.passphrase-missing"), (bytes(4097), "io.format")):
            (tmp_path / "pin").write_bytes(content)
            with pytest.raises(Failed) as caught:
                open_key(f"{uri}&pin-source=file:{tmp_path / 'pin'}", lambda: None)
            assert caught.value.code == code

    def test_a_pin_that_is_no_text(self, softhsm: SoftHsm) -> None:
        with pytest.raises(Failed) as caught:
            open_key(softhsm.once("p256", "sourced"), lambda: b"\xff1234")
        assert caught.value.code == "key.passphrase"
        assert caught.value.message.endswith("is not UTF-8 text")
        assert caught.value.__context__ is None


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith(("fwsign.keys.pkcs11", "pkcs11."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(Failed) as caught:
        open_key("pkcs11:object=a", lambda: None)
    assert caught.value.code == "state.library"
    words = "keys of pkcs11: need the library pkcs11, which is not installed"
    assert caught.value.message == words
    assert caught.value.hint == "pip install 'fwsign[pkcs11]'"

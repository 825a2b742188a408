"""Keys in a real SoftHSM2: the contract, and what is PKCS#11's own."""

import pytest

from keys.contract import Backend, Going, KeyContract, Situation
from softhsm_kit import LEAVING, TOKEN, SoftHsm


class TestPkcs11(KeyContract):
    algorithms = ("p256", "p384", "p521", "secp256k1", "ed25519", "rsa3072")

    @pytest.fixture
    def backend(self, softhsm: SoftHsm) -> Backend:
        self.softhsm = softhsm
        keys = {alg: softhsm.once(alg, f"contract {alg}") for alg in self.algorithms}
        softhsm.once("p256", "twin")
        softhsm.once("p256", "twin", again=True)
        pin = softhsm.pin.encode()
        return Backend(
            key=keys.__getitem__,
            secret=pin,
            source=softhsm.pass_file,
            environment=softhsm.environment,
            situations={
                "wrong secret": Situation(
                    keys["p256"], "key.passphrase", (f'wrong PIN for the token "{TOKEN}"',), b"000"
                ),
                "no secret": Situation(
                    keys["p256"], "key.passphrase-missing", ("needs a PIN and none was given",)
                ),
                "missing": Situation(
                    softhsm.uri("nobody"), "key.missing", ("no key fits pkcs11:", "contract"), pin
                ),
                "several": Situation(
                    softhsm.uri("twin"), "key.missing", ("2 keys fit pkcs11:", "id=%"), pin
                ),
                "unsupported": Situation(
                    softhsm.uri("one", token=TOKEN).replace("object=", "odd="),
                    "key.unsupported",
                    ('the attribute "odd" in its path',),
                    pin,
                ),
            },
            impossible={
                "locked": "SoftHSM2 takes any number of wrong PINs; see test_pkcs11_faults"
            },
        )

    def going(self) -> Going | str:
        hsm = self.softhsm
        uri = hsm.make("p256", "leaving", token=LEAVING)

        def leave() -> None:
            hsm.run("--delete-token", "--token", LEAVING)

        words = (f'the token "{LEAVING}" cannot sign: ',)
        return Going(uri, hsm.pin.encode(), leave, "key.unreachable", words)

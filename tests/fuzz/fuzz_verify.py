"""Fuzz the verifier for some time and print what it should not have done.

Use: `PYTHONPATH=src:tests python tests/fuzz/fuzz_verify.py --seconds 600 --seed 1`.

Each round alters a signed envelope: its bytes, its CBOR as a tree, the DER of its certificates and
CRLs, or a manifest before it is signed. A finding is an exception that is not a FwsignError, a code
that the table lacks, an altered envelope whose result says more than the original's, or a round
that takes longer than a second. The same seed gives the same rounds, keys aside. Exit status 1
where there were findings.
"""

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable

from blocks_kit import list_of, named
from fwsign.errors import CODES, FwsignError
from fwsign.format import cbor, suit
from fwsign.format.cose import Block, decode_block, encode_block
from fwsign.format.envelope import decode_envelope, encode_envelope
from fwsign.verify.verified import VerifiedRelease
from fwsign.verify.verifier import Verifier
from hostile import bare, block_of, close, no_stronger, spki
from mutation import Dice, close_der, close_tree, mutate_der, mutate_tree, open_der, open_tree
from support import (
    NOW,
    PAYLOAD,
    VENDOR,
    Pki,
    component,
    device,
    make_block,
    make_crl,
    make_manifest,
    make_pki,
    new_key,
    resign,
    signed_digest,
)

Round = tuple[str, bytes, bool]
"""What was done, the envelope, and whether a signer or CA took part in it."""


class Fuzzer:
    """An envelope of two signers and a bare key, and the ways to alter it."""

    def __init__(self, seed: int) -> None:
        self.dice = Dice(seed)
        self.pkis: list[Pki] = [make_pki(), make_pki("ed25519", common="Second ")]
        self.key = new_key()
        inside = component(PAYLOAD, "b.bin", "#b.bin")
        self.inside = {"#b.bin": PAYLOAD, "#blocks-0": list_of(PAYLOAD)}
        lists = (named(self.inside["#blocks-0"]),)
        manifest = make_manifest(component(), inside, block_lists=lists)
        self.manifest = suit.encode_manifest(manifest)
        self.payload = signed_digest(self.manifest)
        blocks = [block_of(one, self.manifest) for one in self.pkis]
        blocks.append(make_block(self.payload, self.key))
        self.envelope = self.close(self.manifest, *blocks)
        anchors = [*(one.root.anchor for one in self.pkis), bare(self.key)]
        pins = {spki(self.key): (VENDOR,)}
        policies = [
            device(pinned_vendors=pins),
            device(pinned_vendors=pins, threshold=3),
            device(pinned_vendors=pins, profile="compat"),
        ]
        self.verifiers = [Verifier(anchors, policy) for policy in policies]
        self.originals = [one.verify(self.envelope, at=NOW) for one in self.verifiers]

    def close(self, manifest: bytes, *blocks: bytes) -> bytes:
        """Put an envelope together."""
        whole = decode_envelope(close(manifest, *blocks))
        return encode_envelope(whole._replace(integrated=self.inside))

    def flip_bytes(self) -> Round:
        """Alter some bytes."""
        data, dice = bytearray(self.envelope), self.dice
        for _ in range(1 + dice.below(4)):
            at = dice.below(len(data))
            match dice.below(4):
                case 0:
                    data[at] ^= 1 << dice.below(8)
                case 1:
                    del data[at : at + 1 + dice.below(4)]
                case 2:
                    data[at:at] = dice.bytes(6)
                case _:
                    data[at] = dice.pick([0, 0x7F, 0x80, 0xFF, 0x5F, 0x9F, 0xBF, 0x1B, 0x3B])
        return "bytes", bytes(data), False

    def alter_tree(self) -> Round:
        """Alter the structure."""
        tree = [open_tree(cbor.decode(self.envelope))]
        for _ in range(1 + self.dice.below(4)):
            mutate_tree(["array", tree], self.dice)
        return "tree", b"".join(map(close_tree, tree)), False

    def alter_der(self, *, signed: bool) -> Round:
        """Alter a certificate or CRL; where `signed`, its CA signs it again."""
        pki, dice = self.pkis[0], self.dice
        crls = [make_crl(pki.issuing, [self.pkis[1].leaf]), make_crl(pki.root)]
        items, at = [pki.leaf.der, pki.issuing.der, *crls], dice.below(4)
        whole = items[at]
        tree = open_der(whole)
        if signed:
            inner = [tree[0][1][0]]
            for _ in range(1 + dice.below(3)):
                mutate_der(inner, dice)
            content = inner[0][1] if inner else b""
            raw = content if isinstance(content, bytes) else close_der(content)
            items[at] = resign([raw], (pki.issuing if at in (0, 2) else pki.root).key)
        else:
            mutate_der(tree, dice)
            items[at] = close_der(tree)
        block = make_block(self.payload, pki.leaf.key, items[:2], items[2:])
        # Where nothing was altered in the end, nothing is wrong with accepting it.
        return f"der {at}", self.close(self.manifest, block), signed or items[at] == whole

    def alter_manifest(self) -> Round:
        """Alter a manifest before it is signed."""
        tree = [open_tree(cbor.decode(self.manifest))]
        for _ in range(1 + self.dice.below(3)):
            mutate_tree(["array", tree], self.dice)
        manifest = b"".join(map(close_tree, tree))
        return "manifest", self.close(manifest, block_of(self.pkis[0], manifest)), True

    def mix_blocks(self) -> Round:
        """Put parts of blocks together that do not belong together."""
        dice = self.dice
        blocks = [decode_block(one) for one in decode_envelope(self.envelope).blocks]
        mixed = []
        for _ in range(dice.below(9)):
            first, other = dice.pick(blocks), dice.pick(blocks)
            field = dice.pick(Block._fields)
            mixed.append(encode_block(first._replace(**{field: getattr(other, field)})))
        whole = decode_envelope(self.envelope)
        return "blocks", encode_envelope(whole._replace(blocks=tuple(mixed))), False

    def rounds(self) -> list[Callable[[], Round]]:
        """Return every way to alter."""
        return [
            self.flip_bytes,
            self.alter_tree,
            self.alter_tree,
            lambda: self.alter_der(signed=False),
            lambda: self.alter_der(signed=True),
            self.alter_manifest,
            self.mix_blocks,
        ]

    def judge(self, kind: str, envelope: bytes, *, signed: bool) -> tuple[str, str | None]:
        """Verify; return what came of it, and what is wrong with that."""
        which = self.dice.below(len(self.verifiers))
        began = time.perf_counter()
        try:
            found = self.verifiers[which].verify(envelope, at=NOW)
        except FwsignError as error:
            took = time.perf_counter() - began
            finding = None if error.code in CODES else f"unknown code {error.code}"
            return error.code, f"took {took:.1f} s" if took > 1 else finding
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return "escaped", "".join(traceback.format_exception(error)[-3:])
        return self.accepted(kind, found, self.originals[which], signed=signed)

    def accepted(
        self, kind: str, found: VerifiedRelease, original: VerifiedRelease, *, signed: bool
    ) -> tuple[str, str | None]:
        """Look at a result that was accepted."""
        fine = signed or kind.startswith("der") or no_stronger(found, original)
        if kind.startswith("der") and not signed and not found.unchecked:
            return "accepted", "an altered certificate or CRL was accepted"
        return "accepted", None if fine else "accepted, and stronger than the original"


def main() -> int:
    """Fuzz, and print findings and a summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("error")
    fuzzer = Fuzzer(options.seed)
    results: Counter[str] = Counter()
    findings = 0
    end = time.monotonic() + options.seconds
    ways = fuzzer.rounds()
    while time.monotonic() < end:
        kind, envelope, signed = fuzzer.dice.pick(ways)()
        result, finding = fuzzer.judge(kind, envelope, signed=signed)
        results[result] += 1
        if finding:
            findings += 1
            sys.stdout.write(f"FINDING {kind}: {finding}\n  envelope {envelope.hex()}\n")
    for code, count in results.most_common():
        sys.stdout.write(f"{count:9} {code}\n")
    total = sum(results.values())
    sys.stdout.write(f"{total} rounds, seed {options.seed}, {findings} findings\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

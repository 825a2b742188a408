"""The words that people compare."""

import hashlib
from itertools import combinations

from fwsign.signing.fingerprint import COUNT, WORDS, groups, words


def distance(one: str, other: str) -> int:
    """Return how many letters have to be changed, added or left out (Levenshtein)."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        last = row
        row = [number]
        for at, found in enumerate(other, 1):
            row.append(min(last[at] + 1, row[-1] + 1, last[at - 1] + (letter != found)))
    return row[-1]


def test_a_word_for_each_byte_and_no_two_alike() -> None:
    assert len(WORDS) == 256
    assert list(WORDS) == sorted(WORDS)
    assert all(4 <= len(word) <= 7 and word.isascii() and word.islower() for word in WORDS)
    assert len({word[:4] for word in WORDS}) == 256
    assert min(distance(*pair) for pair in combinations(WORDS, 2)) >= 3


def test_words_and_digits_of_a_digest() -> None:
    digest = hashlib.sha256(b"abc").digest()
    assert len(words(digest)) == COUNT == 16  # 128 bits
    assert [WORDS.index(word) for word in words(digest)] == list(digest[:16])
    assert "".join(groups(digest)) == digest.hex()
    assert {len(one) for one in groups(digest)} == {4}
    assert words(bytes(32))[0] == "acorn"
    assert words(b"\xff" * 32)[0] == "zipper"

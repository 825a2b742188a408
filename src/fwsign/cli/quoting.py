# SPDX-License-Identifier: Apache-2.0
"""Quote words for shells."""


def quoted(word: object) -> str:
    """Quote a word for a shell, in a command line for pasting."""
    text = str(word)
    plain = text and all(letter.isalnum() or letter in "@%+=:,./_-" for letter in text)
    return text if plain and text.isascii() else "'" + text.replace("'", "'\"'\"'") + "'"


def words(*given: object) -> str:
    """Return a command line for pasting."""
    return " ".join(map(quoted, given))

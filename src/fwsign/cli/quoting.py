# SPDX-License-Identifier: Apache-2.0
"""Words as shells take them."""


def quoted(word: object) -> str:
    """Write a word as a shell takes it, for a command line to be pasted."""
    text = str(word)
    plain = text and all(letter.isalnum() or letter in "@%+=:,./_-" for letter in text)
    return text if plain and text.isascii() else "'" + text.replace("'", "'\"'\"'") + "'"

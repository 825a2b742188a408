# SPDX-License-Identifier: Apache-2.0
"""Fingerprints that two people can compare: words to read aloud, and all digits in groups.

The words say the first 128 bits of a SHA-256. Who wants other bytes with the same words, for bytes
that exist, has to try 2**128 of them. Who can choose both, such as two builds of which one is good,
finds a pair among 2**64 tries. So where the builder is not trusted, compare all the digits: a pair
then takes 2**128 tries.

A word stands for one byte. The list is sorted; any two words differ in three letters or more, and
in their first four, so that a word that was misheard is no word of the list.
"""

from typing import Final

_LIST: Final = """
acorn alpine anchor antler apple arctic aspen atlas autumn azure badger bamboo banana barley
basil beach bishop bottle bread breeze bridge bucket button cactus camel candle carpet cedar
celery chair cherry church cinema circus clock clover cobalt cobra crayon cricket crystal daisy
dancer delta denim desert diary doctor dolphin domino drum eagle eclipse elbow ember emerald
engine express fabric feather fennel ferret fiddle fjord flute forest fossil freight frozen
galaxy gallop garlic gazelle gecko giraffe goblin golden granite grass grotto guitar hammer
harbor harvest helmet heron herring honey hydrant icicle igloo iguana indigo insect invoice
island ivory jackal jasmine javelin jelly jersey jigsaw jockey jungle juniper kayak ketchup
kingdom knight koala lamp lantern laurel legend lemur lentil lyric machine magnet mammoth mango
marble marsh meadow meteor mirror mitten moose mosaic museum mustard napkin nectar needle nephew
nickel nugget nurse nutmeg ocean octopus olive omelet onion opera orbit orchid ostrich otter
oxygen panda papaya paprika parrot peanut pebble pelican penguin piano pickle picnic pigeon
pillow pirate plaza poet polar potato pretzel puffin pulley puzzle quartz queen quilt rabbit
radish railway raisin raven recipe rhythm ribbon robot rodeo ruby saffron sailor salmon satin
scarf school scooter seagull senate shelter shovel silver sketch skillet snowman sofa soprano
spider spoon spruce squid stadium storm sugar sulphur sunrise sunset syrup tablet teapot temple
thimble tiger tobacco toffee tornado towel tractor treacle tulip tundra turbo turtle tuxedo
umpire utopia vessel viking violin voyage vulture wafer waffle wagon walrus waltz whale window
winter wizard wombat yacht yeast yogurt zenith zephyr zigzag zinc zipper
"""
WORDS: Final = tuple(_LIST.split())
"""A word for each byte."""
COUNT: Final = 16
"""Words of a fingerprint."""


def words(digest: bytes) -> list[str]:
    """Return the words of a digest, of at least `COUNT` bytes."""
    return [WORDS[byte] for byte in digest[:COUNT]]


def groups(digest: bytes) -> list[str]:
    """Return all digits of a digest in groups of four."""
    digits = digest.hex()
    return [digits[at : at + 4] for at in range(0, len(digits), 4)]

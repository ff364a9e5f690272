"""Voices of espeak-ng: which the model trains on, which it never hears."""

from __future__ import annotations

import random

ACCENTS = (
    "gmw/en-US", "gmw/en-US", "gmw/en-US", "gmw/en", "gmw/en-GB-scotland", "gmw/en-GB-x-rp", "gmw/en-GB-x-gbclan",
    "gmw/en-GB-x-gbcwmd", "gmw/en-US-nyc",
)  # fmt: skip
HELD_OUT_ACCENT = "gmw/en-029"  # Caribbean English: never in training
HELD_OUT_VARIANTS = ("f4", "m5", "m7", "Annie", "paul", "linda", "grandpa", "steph2")
VARIANTS = (
    "f1", "f2", "f3", "f5", "m1", "m2", "m3", "m4", "m6", "m8", "Alex", "Alicia", "Andrea", "Andy", "Denis", "Diogo",
    "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen", "Reed", "adam",
    "anika", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "david", "ed", "edward", "edward2",
    "grandma", "gustave", "ian", "john", "klatt", "klatt2", "klatt3", "klatt4", "marcelo", "max", "michel", "miguel",
    "mike2", "norbert", "pablo", "pedro", "rob", "robert", "sandro", "shelby", "steph", "steph3", "travis", "victor",
    "zac",
)  # fmt: skip
SPANISH = ("roa/es", "roa/es-419")


def draw(rng: random.Random, accents: tuple[str, ...], variants: tuple[str, ...]) -> str:
    """A voice name such as `gmw/en-US+f3`."""
    return f"{rng.choice(accents)}+{rng.choice(variants)}"


def prosody(rng: random.Random) -> dict[str, int]:
    """Speaking rate (words a minute), pitch and pitch range for `speech.say`."""
    return {"rate": rng.randint(120, 195), "pitch": rng.randint(20, 85), "pitch_range": rng.randint(20, 80)}

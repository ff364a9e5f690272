"""What the pocket model can hear: an English grammar of some 480 words, digit strings, and a little Spanish.

Word classes are semantic (food, places, professions) so that the decoder's language model has priors worth
looking at, and fixed collocations ("traffic lights") give it near-certain continuations.
"""

from __future__ import annotations

import random

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_CLASSES = {
    "food": "apples bread butter carrots cheese cherries chicken cookies eggs fish honey lemons mushrooms noodles "
    "onions oranges pancakes peaches pepper potatoes rice salad salt sausages soup sugar tomatoes cake toast",
    "drink": "coffee juice milk tea water lemonade",
    "place": "airport bakery beach bridge castle church cinema forest garage garden harbor hospital hotel kitchen "
    "library market mountain museum office park restaurant river school station theater tower valley village",
    "city": "boston chicago london madrid moscow paris tokyo vienna china russia",
    "colour": "black blue brown golden green gray orange pink purple red silver white yellow beige",
    "animal": "bear bird cat cow dog donkey duck elephant fox frog goat horse lion monkey mouse penguin pig rabbit "
    "sheep snake spider tiger turtle whale wolf",
    "animals": "bears birds cats cows dogs donkeys ducks elephants foxes frogs horses lions monkeys penguins pigs "
    "rabbits spiders tigers turtles whales",
    "number": "three four five six seven eight nine ten eleven twelve thirteen fifteen twenty thirty fifty",
    "ordinal": "first second third fourth fifth sixth seventh eighth ninth tenth",
    "month": "january february april june july august september october november december",
    "day": "monday tuesday wednesday thursday friday saturday sunday",
    "time": "today yesterday tonight again",
    "job": "baker butcher doctor driver engineer farmer judge king lawyer nurse painter pilot plumber queen sailor "
    "scientist singer soldier student teacher thief writer",
    "name": "alice charles david emma george hannah john julia mary oliver peter sophie susan thomas joyce roy",
    "kin": "brother cousin daughter father grandmother mother sister uncle",
    "quality": "angry beautiful big brave broken clever empty gentle happy heavy huge hungry lazy loud old quiet "
    "rough shiny small smooth strange tiny tired young poor cheap thin pure noisy",
    "thing": "ball bell book boat box chair clock coat coin cup door engine guitar hammer hat key knife ladder lamp "
    "letter mirror newspaper piano picture pillow ring rope ship shoe shovel spoon table television toy "
    "treasure umbrella watch window wheel",
    "moved": "climbed crawled danced drove flew jumped marched ran returned rushed sailed swam traveled walked "
    "wandered",
    "handled": "bought brought broke carried caught chose closed dropped fixed followed found kept lost measured "
    "moved opened painted pushed sold stole threw touched washed watched destroyed",
    "ate": "cooked enjoyed ordered shared tasted wanted",
    "weather": "fog rain snow sunshine thunder wind",
    "manner": "slowly quickly usually never carefully",
}  # fmt: skip
CLASSES = {name: tuple(words.split()) for name, words in _CLASSES.items()}
_EXTRA = (
    "the a my your his her our their in on at near behind under over with from and but was were is there it she he "
    "they we very some has had will would like not of this that"
)
EXTRA = tuple(_EXTRA.split())
COLLOCATIONS = (
    "traffic lights", "ice cream", "peanut butter", "swimming pool", "police station", "post office", "orange juice",
    "hot chocolate", "washing machine", "alarm clock", "front door", "living room", "full moon", "fire engine",
    "birthday cake", "shopping bag", "rocket ship", "teddy bear", "sleeping beauty", "bus stop", "steering wheel",
    "christmas tree", "science fiction", "vision test",
)  # fmt: skip
PHRASES = (
    "thank you very much", "good evening", "good morning", "happy birthday", "how are you today", "see you tomorrow",
    "once upon a time", "what time is it", "nice to meet you", "have a good night", "ladies and gentlemen",
    "i do not know", "what would you like", "come back soon", "let us begin", "long time no see", "of course",
    "please be quiet", "are you sure",
)  # fmt: skip

_ES = {
    "sujeto": "el perro|el gato|la niña|el niño|mi madre|mi padre|la maestra|el rey|la reina|el médico|maría|josé|"
    "pablo",
    "hace": "come|quiere|compra|lleva|mira|tiene|busca|vende",
    "objeto": "pan|queso|agua|leche|una manzana|un libro|una flor|un zapato|la llave|el reloj|un coche|la guitarra",
    "lugar": "en la casa|en la calle|en el jardín|en la ciudad|en la escuela|en la playa",
    "cuando": "hoy|mañana|siempre|por la noche",
    "color": "rojo|verde|azul|blanco|negro|amarillo",
}
ES = {name: tuple(words.split("|")) for name, words in _ES.items()}
ES_DIGITS = ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve")
ES_PHRASES = ("buenos días", "buenas noches", "muchas gracias", "hasta luego", "por favor", "feliz cumpleaños")

VOCABULARY = tuple(
    sorted(
        {w for c in CLASSES.values() for w in c}
        | set(EXTRA)
        | set(DIGITS)
        | {w for p in (*COLLOCATIONS, *PHRASES) for w in p.split()}
    )
)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" and word != "usually" else "a"


def english(rng: random.Random) -> str:
    """One English sentence of 3 to 12 words: 72 % grammar, 8 % set phrases, 20 % word salad."""
    kind = rng.random()
    if kind < 0.20:
        return " ".join(rng.choice(VOCABULARY) for _ in range(rng.randint(2, 7)))
    if kind < 0.28:
        phrase = rng.choice(PHRASES)
        tail = rng.random()
        return (
            f"{phrase} {pick(rng, 'name')}"
            if tail < 0.5
            else f"{phrase} my {pick(rng, 'job')}"
            if tail < 0.7
            else phrase
        )
    return rng.choice(_TEMPLATES)(rng)


def pick(rng: random.Random, word_class: str) -> str:
    """A random word of a class of `CLASSES`."""
    return rng.choice(CLASSES[word_class])


def _thing(rng: random.Random) -> str:
    """A noun phrase for an object; a third of the time one of the collocations."""
    if rng.random() < 0.33:
        return "the " + rng.choice(COLLOCATIONS)
    noun = pick(rng, "thing")
    kind = rng.random()
    if kind < 0.3:
        return f"the {pick(rng, 'colour')} {noun}"
    if kind < 0.6:
        return f"{rng.choice(('my', 'your', 'his', 'her', 'our', 'their', 'the'))} {pick(rng, 'quality')} {noun}"
    return f"{_article(noun)} {noun}"


def _who(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.3:
        return pick(rng, "name")
    if kind < 0.5:
        return f"{rng.choice(('my', 'your', 'his', 'her', 'our', 'their'))} {pick(rng, 'kin')}"
    if kind < 0.7:
        return f"the {pick(rng, 'quality')} {pick(rng, 'job')}"
    if kind < 0.85:
        return f"the {pick(rng, 'job')}"
    return f"the {pick(rng, 'animal')}"


def _where(rng: random.Random) -> str:
    return f"{rng.choice(('in', 'near', 'behind', 'at', 'from', 'over', 'under'))} the {pick(rng, 'place')}"


def _when(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return f"on {pick(rng, 'day')}"
    if kind < 0.6:
        return f"in {pick(rng, 'month')}"
    return pick(rng, "time")


_TEMPLATES = (
    lambda r: f"{_who(r)} {pick(r, 'handled')} {_thing(r)} {_where(r)}",
    lambda r: f"{_who(r)} {pick(r, 'handled')} {_thing(r)} {_when(r)}",
    lambda r: f"{_who(r)} {pick(r, 'moved')} {_where(r)} {_when(r)}",
    lambda r: f"{_who(r)} {pick(r, 'ate')} {pick(r, 'number')} {pick(r, 'food')} and {pick(r, 'drink')}",
    lambda r: f"{_who(r)} {pick(r, 'ate')} the {pick(r, 'food')} with {pick(r, 'food')}",
    lambda r: f"there were {pick(r, 'number')} {pick(r, 'quality')} {pick(r, 'animals')} {_where(r)}",
    lambda r: f"the {pick(r, 'colour')} {pick(r, 'animal')} was {pick(r, 'quality')} and {pick(r, 'quality')}",
    lambda r: f"there was {pick(r, 'weather')} in {pick(r, 'city')} {_when(r)}",
    lambda r: f"it was the {pick(r, 'ordinal')} of {pick(r, 'month')} in {pick(r, 'city')}",
    lambda r: f"she had {pick(r, 'number')} {pick(r, 'animals')} and {_thing(r)}",
    lambda r: f"he will {r.choice(('like', 'not like'))} this {pick(r, 'colour')} {pick(r, 'thing')}",
    lambda r: (
        f"they would like some {r.choice((pick(r, 'food'), pick(r, 'drink'), 'ice cream', 'orange juice'))} {_when(r)}"
    ),
    lambda r: f"{_who(r)} {pick(r, 'manner')} {pick(r, 'moved')} {_where(r)}",
    lambda r: f"is that {_thing(r)} {_where(r)}",
    lambda r: f"{_who(r)} has a very {pick(r, 'quality')} {pick(r, 'animal')}",
    lambda r: f"we were {_where(r)} with {_who(r)} {_when(r)}",
)


def digits(rng: random.Random) -> str:
    """One to six English digits; half of the strings are a single digit or two."""
    n = rng.choice((1, 1, 1, 2, 2, 3, 4, 5, 6))
    return " ".join(rng.choice(DIGITS) for _ in range(n))


def spanish(rng: random.Random) -> str:
    """One short Spanish sentence."""
    kind = rng.random()
    if kind < 0.15:
        return " ".join(rng.choice(ES_DIGITS) for _ in range(rng.randint(2, 4)))
    if kind < 0.35:
        return f"{rng.choice(ES_PHRASES)} {rng.choice(ES['sujeto']).split()[-1]}"
    end = rng.choice(ES["lugar"] + ES["cuando"])
    if kind < 0.55:
        return f"el {rng.choice(('coche', 'libro', 'zapato', 'reloj'))} es {rng.choice(ES['color'])} {end}"
    return f"{rng.choice(ES['sujeto'])} {rng.choice(ES['hace'])} {rng.choice(ES['objeto'])} {end}"


def draw_heldout(seed: int, n_english: int, n_spanish: int) -> tuple[list[str], list[str]]:
    """Distinct sentences kept out of training: English (no bare set phrase) and Spanish."""
    rng = random.Random(seed)
    english_set: dict[str, None] = {}
    while len(english_set) < n_english:
        sentence = english(rng)
        if len(sentence.split()) >= 4 and sentence not in PHRASES:
            english_set[sentence] = None
    spanish_set: dict[str, None] = {}
    while len(spanish_set) < n_spanish:
        sentence = spanish(rng)
        if len(sentence.split()) >= 4:
            spanish_set[sentence] = None
    return list(english_set), list(spanish_set)

"""Word lists, invented words, and what people do to a sentence when they type it.

The lists lie in `words/NAME.txt`, one entry a line; each is a constant here (`NOUNS`, `VERBS`, ...), read when it is
first used. `ALL_WORDS` joins the single small words of several lists: whatever may be spelled, repeated or named.
`JOBS` is `PERSONS` without relatives and the like.
"""

import re
from functools import cache
from pathlib import Path

from ember.phrases import split_of

FOLDER = Path(__file__).resolve().parent.parent / "words"
LISTS = (
    "nouns",
    "verbs",
    "adjectives",
    "subjects",
    "places",
    "cities",
    "names",
    "famous",
    "persons",
    "foods",
    "animals",
    "colours",
    "pets",
    "languages",
    "programming",
    "forms",
    "common",
)
JOINED = ("nouns", "verbs", "adjectives", "foods", "animals", "colours", "common")

# Entries of persons.txt that nobody earns a living as.
RELATIONS = set("""aunt boss boyfriend brother classmate colleague cousin coworker customer client daughter ex-husband
ex-wife father father-in-law flatmate friend girlfriend grandfather grandmother grandson hotel_guest housemate husband
landlady landlord mother mother-in-law neighbour nephew niece partner roommate sister son stepbrother tenant uncle
wedding_guest wife graduate mentor""".split())

CONSONANTS = "b c d f g h j k l m n p r s t v w z br dr fl gr kl pr sh st th tr".split()
VOWELS = "a e i o u a e i o u ai ea io oo".split()
ENDINGS = ["", "", "n", "r", "s", "l", "x", "m", "k", "t", "nd", "rn"]
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
# Neighbours on the keyboard: most wrong letters are struck beside the right one.
NEAR = {
    "a": "sq",
    "b": "vn",
    "c": "xv",
    "d": "sf",
    "e": "wr",
    "f": "dg",
    "g": "fh",
    "h": "gj",
    "i": "uo",
    "j": "hk",
    "k": "jl",
    "l": "ko",
    "m": "n",
    "n": "bm",
    "o": "ip",
    "p": "o",
    "q": "wa",
    "r": "et",
    "s": "ad",
    "t": "ry",
    "u": "yi",
    "v": "cb",
    "w": "qe",
    "x": "zc",
    "y": "tu",
    "z": "x",
}
GREETINGS = (
    "hey, ",
    "hi, ",
    "hello, ",
    "hi ember, ",
    "hey ember, ",
    "ember, ",
    "well, ",
    "okay, ",
    "ok, ",
    "um, ",
    "so ",
    "now, ",
    "please ",
    "hello! ",
    "hi! ",
    "hmm, ",
    "quick one: ",
    "right, ",
    "oh, ",
    "sorry, ",
)
ENDS = (" please", ", please", " thanks", ", thank you", " pls", " ember", ", ember", " now", " then")
SHORT = (
    ("what is ", "what's "),
    ("where is ", "where's "),
    ("i am ", "i'm "),
    ("I am ", "I'm "),
    ("cannot", "can't"),
    ("do not", "don't"),
    ("does not", "doesn't"),
    ("it is", "it's"),
    ("I have ", "I've "),
    ("that is", "that's"),
    ("I would ", "I'd "),
)


@cache
def entries(name):
    """The entries of one list, in the order of its file."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@cache
def all_words():
    """Every single small word of the joined lists, sorted."""
    return sorted({word for name in JOINED for word in entries(name) if re.fullmatch("[a-z]+", word)})


def __getattr__(name):
    """The constants: a list is read when a module first asks for it."""
    if name == "ALL_WORDS":
        return all_words()
    if name == "JOBS":
        return [person for person in entries("persons") if person.replace(" ", "_") not in RELATIONS]
    if name.isupper() and name.lower() in LISTS:
        return entries(name.lower())
    raise AttributeError(f"module 'ember.words' has no '{name}'")


def syllables(rng, low=2, high=3):
    """A word that nobody has heard but anybody can say."""
    return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.randint(low, high))) + rng.choice(
        ENDINGS
    )


def letters(rng):
    """A few letters that make no word."""
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randint(3, 6)))


def invented(rng):
    return letters(rng) if rng.random() < 0.15 else syllables(rng)


def draw(rng, make, split):
    """A value of `make` that belongs to the split."""
    while True:
        value = make(rng)
        if split_of(value) == split:
            return value


def typo(rng, text):
    """One slip of the finger: a letter lost, doubled, swapped or struck beside its key."""
    places = [i for i, c in enumerate(text) if c.isascii() and c.isalpha() and i > 0]
    if len(places) < 6:
        return text
    i, roll = rng.choice(places), rng.random()
    if roll < 0.35:
        return text[:i] + text[i + 1 :]
    if roll < 0.55:
        return text[:i] + text[i] + text[i:]
    if roll < 0.8:
        return text[: i - 1] + text[i] + text[i - 1] + text[i + 1 :]
    return text[:i] + rng.choice(NEAR[text[i].lower()]) + text[i + 1 :]


def contracted(rng, text):
    """Long forms made short ("what is" to "what's"), in about a third of the places."""
    for long, short in SHORT:
        if long in text and rng.random() < 0.35:
            text = text.replace(long, short, 1)
    return text


def rough(rng, text, keep=False):
    """What people do to a sentence: capitals, greetings, please, slips. `keep` guards its letters and its end,
    since a value may stand there."""
    if not keep:
        text = contracted(rng, text)
        if rng.random() < 0.08:
            text = typo(rng, text)
        if rng.random() < 0.04 and text and (text[-1].isalnum()) and len(text) < 120:
            text += rng.choice(ENDS)
    if rng.random() < 0.06:
        text = rng.choice(GREETINGS) + text
    roll = rng.random()
    if roll < 0.6:
        return text[:1].upper() + text[1:]
    if roll < 0.85 and not keep:
        text = text.lower()
        return text.replace("'", "") if rng.random() < 0.3 else text
    if roll > 0.99 and not keep:
        return text.upper()
    return text


def ask(rng, text, mark="?", keep=False):
    """A rough sentence and, mostly, its closing mark."""
    text = rough(rng, text, keep)
    roll = rng.random()
    if roll < 0.65 and text[-1:] not in ".?!":
        return text + mark
    return text + mark * 2 if roll > 0.99 and not keep else text

"""What fills the {slots} of the `other_*.txt` templates: words, numbers, passages, code, and things without a sense."""

import re
from functools import cache

from ember import words
from ember.phrases import FOLDER, expand, parse, read_synonyms
from ember.words import invented, letters, syllables

SLOT = re.compile(r"\{([A-Za-z]+)(\d?)\}")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
APPS = ("Hearth", "Hearth", "hearth", "this app", "the app", "this program", "Ember")
# Words that a question about Hearth is made of. Templates of questions leave them out, so that a question never means
# by chance what a topic answers ("what is a token").
HEARTH = set("""account answer branch browser bug cable cache camera chat code computer console context copy core cost
crash data database device dialogue disk download engine error export feedback file folder hardware help history icon
image import information instruction internet keyboard language laptop licence light link list log machine mail manual
mark memory menu message method microphone mind mistake mode model name network notice number option output page
password phone photo picture platform plugin presence price printer prompt provider question reason record recorder
release report response robot screen search seed selection sentence server setting shortcut software sound space
speaker speech speed spell start stop storage table tablet text theme thought thread title token tool update upgrade
usage user version video view voice web website weight window word writing clue topic conversation hearth ember fire
question quotation edition default draft dark digital""".split())
# What a window really shows: "the arrow in the picker" may be there.
SHOWN = set("""arrow badge ball bar bell border box circle clock column corner cross dot drawer edge gear heart hook
icon indicator key label line list lock logo panel plug ring row screw sheet shield sign square star stripe symbol tab
tick triangle wheel""".split())
NONSENSE = (
    "?",
    "...",
    "??",
    "???",
    "!",
    "!!!",
    ".",
    "-",
    "/",
    "#",
    ":)",
    ";",
    "$$$",
    "%%",
    "****",
    "()",
    "@",
    "+",
    "~~~",
    "=",
    "<>",
    "'",
    '"',
)


IRREGULAR = {
    "shelf": "shelves",
    "wolf": "wolves",
    "thief": "thieves",
    "leaf": "leaves",
    "half": "halves",
    "child": "children",
    "mouse": "mice",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "sheep": "sheep",
    "deer": "deer",
    "wife": "wives",
    "knife": "knives",
    "scarf": "scarves",
    "calf": "calves",
    "loaf": "loaves",
    "elf": "elves",
    "ox": "oxen",
    "go": "goes",
    "have": "has",
    "do": "does",
}


# --- words of several forms ---------------------------------------------------------------------


def plural(noun):
    """The plural; also serves as the third person of a verb."""
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    if noun.endswith("man") and noun not in ("human", "german"):
        return noun[:-2] + "en"
    return noun + ("es" if re.search(r"(s|x|z|ch|sh)$", noun) else "s")


def third(verb):
    return plural(verb)


def ing(verb):
    """The form on -ing; a short verb doubles its last letter."""
    if re.search(r"[^aeiouy][aeiou][bdgmnprt]$", verb) and len(verb) < 5:
        return verb + verb[-1] + "ing"
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    return (verb[:-1] if re.search(r"[^eoy]e$", verb) else verb) + "ing"


def article(text):
    """ "a apple" as "an apple"."""
    return re.sub(r"\b([Aa]) (?=[aeioAEIO]|u(?!ni|se|su)|hour|honest)", r"\1n ", text)


# --- what makes no sense for Hearth -------------------------------------------------------------


@cache
def topic_words():
    """Every word in the phrases about Hearth and of small talk: evidence for a topic, so no nonsense uses it."""
    found = HEARTH | SHOWN
    for name in ("about", "chat", "models", "window", "small", "synonyms"):
        path = FOLDER / f"{name}.txt"
        if path.exists():
            found.update(re.findall(r"[a-z]+", path.read_text(encoding="utf-8").lower()))
    return found


def strange(name):
    """The single words of a list that no question about Hearth contains."""

    @cache
    def kept():
        singles = [w for w in words.entries(name) if re.fullmatch("[a-z]+", w)]
        return [w for w in singles if not {w, plural(w), ing(w)} & topic_words()]

    return kept


STRANGE_NOUNS, STRANGE_VERBS, STRANGE_ADJECTIVES, STRANGE_COMMON = map(
    strange, ("nouns", "verbs", "adjectives", "common")
)


@cache
def plain_nouns():
    """The nouns that no topic is about."""
    return [w for w in words.entries("nouns") if w not in HEARTH]


def mash(rng):
    """A hand on the keyboard: a run along a row, or any letters."""
    roll = rng.random()
    if roll < 0.5:
        row = rng.choice(("asdfghjkl", "qwertyuiop", "zxcvbnm", "asdfjkl", "dfgh", "hjkl", "sdfg"))
        return "".join(rng.choice(row) for _ in range(rng.randint(3, 12)))
    if roll < 0.7:
        row = rng.choice(("asdfghjkl", "qwertyuiop", "zxcvbnm", "lkjhgfdsa", "poiuytrewq"))
        start = rng.randrange(len(row) - 3)
        return row[start : start + rng.randint(3, 7)] * rng.randint(1, 3)
    if roll < 0.85:
        return "".join(rng.choice("bcdfghjklmnpqrstvwxz") for _ in range(rng.randint(3, 9)))
    return letters(rng) + rng.choice(["", "", str(rng.randint(1, 999)), ";", "'", "[["]) + letters(rng)


def salad(rng):
    """Words without a sentence."""
    pools = (STRANGE_NOUNS(), STRANGE_VERBS(), STRANGE_ADJECTIVES(), STRANGE_COMMON(), words.entries("colours"))
    return " ".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(3, 9)))


def repeated(rng):
    word = rng.choice(
        [
            rng.choice(STRANGE_COMMON()),
            syllables(rng, 1, 1),
            rng.choice(STRANGE_NOUNS()),
            rng.choice(("the", "and", "of")),
        ]
    )
    return " ".join([word] * rng.randint(2, 5))


def digits(rng):
    return rng.choice(
        [
            str(rng.randint(0, 99999)),
            " ".join(str(rng.randint(0, 999)) for _ in range(rng.randint(2, 5))),
            f"{rng.randint(0, 99)}{rng.choice(words.ALPHABET)}{rng.randint(0, 99)}",
            f"{rng.randint(1, 99)}, {rng.randint(1, 99)}",
        ]
    )


# --- numbers ------------------------------------------------------------------------------------


def big(rng):
    value = rng.choice(
        [rng.randint(100, 999), rng.randint(100, 999), rng.randint(1000, 9999), rng.randint(10000, 999999)]
    )
    return f"{value:,}" if value > 999 and rng.random() < 0.25 else str(value)


def decimal(rng):
    return f"{rng.uniform(0, 10 ** rng.randint(1, 3)):.{rng.randint(1, 3)}f}"


def sign(rng):
    return rng.choice(["+", "-", "*", "/", "x", "plus", "minus", "times", "divided by", "multiplied by", "÷"])


def any_number(rng):
    return rng.choice([str(rng.randint(13, 99)), str(rng.randint(13, 99)), big(rng), str(rng.randint(100, 999))])


def clock(rng):
    return rng.choice(
        [
            f"{rng.randint(1, 12)} {rng.choice(['am', 'pm'])}",
            f"{rng.randint(0, 23)}:{rng.randint(0, 59):02}",
            "noon",
            "midnight",
        ]
    )


# --- the slots ----------------------------------------------------------------------------------


def pick(name):
    return lambda rng: rng.choice(words.entries(name))


def listed_noun(rng):
    return rng.choice(plain_nouns())


def noun(rng):
    roll = rng.random()
    if roll < 0.85:
        return rng.choice(plain_nouns())
    return rng.choice(words.entries("animals")) if roll < 0.92 else invented(rng)


def topic(rng):
    roll = rng.random()
    if roll < 0.72:
        return rng.choice(words.entries("subjects"))
    if roll < 0.86:
        return plural(rng.choice(plain_nouns()))
    if roll < 0.95:
        return f"{rng.choice(words.entries('adjectives'))} {plural(rng.choice(plain_nouns()))}"
    return invented(rng)


def place(rng):
    roll = rng.random()
    return rng.choice(words.entries("places" if roll < 0.6 else "cities")) if roll < 0.93 else syllables(rng).title()


def famous(rng):
    if rng.random() < 0.7:
        return rng.choice(words.entries("famous"))
    return f"{rng.choice(words.entries('names'))} {syllables(rng).title()}"


def name(rng):
    return rng.choice(words.entries("names")) if rng.random() < 0.85 else syllables(rng).title()


def count(rng):
    return str(rng.choice([rng.randint(2, 20), rng.randint(10, 99), rng.randint(20, 999), rng.randint(2, 60) * 50]))


def scrambled(rng):
    word = list(rng.choice(plain_nouns()))
    rng.shuffle(word)
    return "".join(word)


SLOTS = {
    "noun": noun,
    "anynoun": pick("nouns"),
    "nouns": lambda r: plural(listed_noun(r)),
    "Noun": lambda r: listed_noun(r).title(),
    "adj": pick("adjectives"),
    "verb": pick("verbs"),
    "verbs": lambda r: third(r.choice(words.entries("verbs"))),
    "verbing": lambda r: ing(r.choice(words.entries("verbs"))),
    "topic": topic,
    "place": place,
    "city": pick("cities"),
    "person": pick("persons"),
    "persons": lambda r: plural(r.choice(words.entries("persons"))),
    "famous": famous,
    "name": name,
    "food": pick("foods"),
    "animal": pick("animals"),
    "animals": lambda r: plural(r.choice(words.entries("animals"))),
    "pet": pick("pets"),
    "colour": pick("colours"),
    "language": pick("languages"),
    "lang": pick("programming"),
    "form": pick("forms"),
    "word": lambda r: r.choice(words.all_words()) if r.random() < 0.8 else invented(r),
    "unknown": invented,
    "scrambled": scrambled,
    "n": count,
    "small": lambda r: str(r.randint(2, 12)),
    "y": lambda r: str(r.randint(1500, 2035)),
    "big": big,
    "decimal": decimal,
    "any": any_number,
    "hard": lambda r: str(r.randint(13, 99)),
    "sign": sign,
    "fraction": lambda r: f"{r.randint(1, 12)}/{r.randint(2, 30)}",
    "time": clock,
    "day": lambda r: r.choice(DAYS),
    "month": lambda r: r.choice(MONTHS),
    "letter": lambda r: r.choice(words.ALPHABET.upper() if r.random() < 0.7 else words.ALPHABET),
    "lp": lambda r: "(",
    "rp": lambda r: ")",
    "wnoun": lambda r: r.choice(STRANGE_NOUNS()),
    "wverb": lambda r: r.choice(STRANGE_VERBS()),
    "wadj": lambda r: r.choice(STRANGE_ADJECTIVES()),
    "wverbs": lambda r: third(r.choice(STRANGE_VERBS())),
    "wverbing": lambda r: ing(r.choice(STRANGE_VERBS())),
    "common": lambda r: r.choice(STRANGE_COMMON()),
    "app": lambda r: r.choice(APPS),
    "mash": mash,
    "salad": salad,
    "repeated": repeated,
    "digits": digits,
    "marks": lambda r: " ".join(r.choice(NONSENSE) for _ in range(r.choice([1, 1, 2, 3]))),
    "letterrow": lambda r: " ".join(r.choice(words.ALPHABET) for _ in range(r.randint(2, 7))),
}


def read_patterns(path):
    """Blocks of plain patterns, one a line: {key: [pattern, ...]}; `name = a|b` gives a synonym of that file."""
    synonyms, blocks, block = read_synonyms(path), {}, None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if re.fullmatch(r"\[[a-z_0-9]+\]", line):
            block = blocks.setdefault(line[1:-1], [])
        elif line.strip() and not line.startswith("# ") and not re.match(r"^[a-z_0-9]+ = ", line):
            block.append(parse(line, synonyms, f"{path.name}:{number}"))
    return blocks


@cache
def parts():
    """Larger slots, themselves made of patterns, and pieces of code, which are no patterns."""
    from ember.topics import read_answers

    extra = read_patterns(FOLDER / "other_task.txt")["extra"]
    return {**read_patterns(FOLDER / "other_parts.txt"), **read_answers(FOLDER / "other_code.txt"), "extra": extra}


def passage(rng):
    """Two to eight sentences about the same people."""
    known = {"name": name(rng), "name2": name(rng), "place": place(rng)}
    if rng.random() < 0.6:
        known["noun"] = rng.choice(plain_nouns())
    length = rng.choice([2, 2, 3, 3, 4, 4, 5, 6, 8, 10])
    sentences = [piece(rng, "sentence", dict(known)) for _ in range(length)]
    if length > 4 and rng.random() < 0.3:
        sentences[length // 2] = "\n\n" + sentences[length // 2]
    return " ".join(sentences).replace(" \n", "\n")


def piece(rng, key, known=None):
    """One expansion of a larger slot."""
    part = rng.choice(parts()[key])
    text = fill(rng, part if isinstance(part, str) else expand(part, rng), known)
    return text[:1].upper() + text[1:] if key == "sentence" else text


def fill(rng, text, known=None):
    """The template with its slots filled: the same slot twice is the same value."""
    known = {} if known is None else known

    def value(match):
        base, whole = match[1], match[0][1:-1]
        if whole not in known:
            if base == "passage":
                known[whole] = passage(rng)
            elif base in SLOTS:
                known[whole] = SLOTS[base](rng)
            elif base in parts():
                known[whole] = piece(rng, base)
            else:
                return match[0]
        return known[whole]

    return SLOT.sub(value, text)

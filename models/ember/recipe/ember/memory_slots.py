"""What can be told: each thing with the ways to tell it, to ask for it, and Ember's sentences about it."""

from ember.phrases import patterns
from ember.words import ALL_WORDS, ANIMALS, CITIES, COLOURS, FOODS, JOBS, NAMES, NOUNS, PETS, invented


def mixed(known, share, title=False):
    """Makes values: some from a list, some other words, the rest invented."""

    def make(rng):
        roll = rng.random()
        if roll < share:
            value = rng.choice(known)
        elif roll < share + 0.2:
            value = rng.choice(ALL_WORDS)
        else:
            value = invented(rng)
        return value[0].upper() + value[1:] if title else value

    return make


def with_word(first, make, share):
    def make_both(rng):
        value = make(rng)
        return f"{rng.choice(first)} {value}" if rng.random() < share else value

    return make_both


def number(rng):
    """Short and long numbers alike: the last digits of long ones are what gets lost."""
    digits = rng.choice([1, 2, 2, 3, 3, 4, 4, 5, 5, 6])
    return str(rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1))


def code_word(rng):
    value = mixed(NOUNS, 0.4)(rng)
    return value.upper() if rng.random() < 0.15 else value


class Slot:
    """One thing that can be told: how it is told, asked for, answered and admitted to be unknown.

    Answer, admission and, mostly, acknowledgement begin with the same words, which name the thing. So a small model
    first writes what it was asked for, and only then has to look whether those words stood above with a value behind
    them: that is one step of copying, where an admission with a beginning of its own has to be decided before.
    """

    def __init__(self, key, make, tell, query, answer, unset, acknowledge, noun_phrase=None, kin=()):
        self.key, self.make, self.answer, self.unset, self.acknowledge = key, make, answer, unset, acknowledge
        self.tell, self.query = patterns(*tell), patterns(*query)
        self.noun_phrase, self.kin = noun_phrase or key, kin


def favourite(thing, make, kin):
    name, plural = f"favourite {thing}", f"{thing.removesuffix('y')}ies" if thing.endswith("by") else f"{thing}s"
    return Slot(
        name,
        make,
        [
            f"my (favourite|favorite) {thing} is {{}}",
            f"the {thing} I (like|love) (best|most) is {{}}",
            f"I have a (favourite|favorite) {thing}[,| and] it is {{}}",
            f"my (favourite|favorite) {thing} has always been {{}}",
            f"{{}} is my (favourite|favorite) {thing}",
            f"of all {plural} I like {{}} best",
            f"(remember|note) that my (favourite|favorite) {thing} is {{}}",
        ],
        [
            f"(what is|what's|what was|tell me|say|name) my (favourite|favorite) {thing}",
            f"(do|can) you (remember|recall|know|say|still know) my (favourite|favorite) {thing}",
            f"(do you (know|remember)|tell me|say) (which|what) {thing} I (like|love) (best|most)",
            f"(which|what) {thing} do I (like|love|prefer) [(best|most)]",
            f"(what|which) did I (say|tell you) [that] my (favourite|favorite) {thing} (was|is)",
            f"(can|could) you (tell me|repeat|say) my (favourite|favorite) {thing} [again]",
            f"my (favourite|favorite) {thing}",
        ],
        f"Your {name} is {{}}.",
        f"Your {name} is something you have not told me yet.",
        f"Noted: your {name} is {{}}.",
        kin=kin,
    )


def named(who):
    """The name of a pet, a relation, a friend."""
    return Slot(
        f"{who}'s name",
        mixed(NAMES, 0.3, True),
        [
            f"my {who} is (called|named) {{}}",
            f"my {who}'s name is {{}}",
            f"I have a {who} (called|named) {{}}",
            f"the name of my {who} is {{}}",
            f"I have a {who}[,| and] (its name is|the name is|called) {{}}",
            f"{{}} is (my {who}|the name of my {who})",
            f"I call my {who} {{}}",
        ],
        [
            f"(what is|what's|what was) my {who} (called|named)",
            f"(what is|what's|what was|tell me|say) my {who}'s name",
            f"(what is|what's|what was|tell me) the name of my {who}",
            f"how is my {who} called",
            f"(do|can) you (remember|recall|know|say|still know) (the name of my {who}|my {who}'s name|what my {who} is called)",
            f"(which|what) name does my {who} have",
            f"what did I call my {who}",
            f"what do I call my {who}",
        ],
        f"Your {who} is called {{}}.",
        f"Your {who} is called something you have not told me yet.",
        f"Your {who} is called {{}}: a fine name, I will remember it.",
        kin=("pet",),
    )


BASIC = [
    Slot(
        "name",
        mixed(NAMES, 0.35, True),
        [
            "my name is {}",
            "(I'm|I am) {}",
            "(I'm|I am) called {}",
            "[please] call me {}",
            "you (can|may) call me {}",
            "(hi|hello|hey)[ Ember], (I'm|I am|my name is) {}",
            "the name is {}",
            "(my friends|people|they) call me {}",
            "{} is my name",
            "I go by [the name of] {}",
            "my first name is {}",
        ],
        [
            "(what is|what's|what was) my [first] name [again]",
            "who am I",
            "(do|can) you (remember|recall|know|still know) (my name|who I am|what I am called)",
            "what (am I|was I) called",
            "(tell me|say) (my name|who I am|what I am called)",
            "what do (people|you|my friends) call me",
            "how do you call me",
            "(did I tell|have I told) you my name",
            "my name",
            "what did I say my name (was|is)",
            "(have you|did you) (forgotten|forget) my name",
        ],
        "Your name is {}.",
        "Your name is something you have not told me yet.",
        "Nice to meet you, {}!",
    ),
    Slot(
        "city",
        with_word(["New", "Old", "North", "Port", "Saint", "Lake"], mixed(CITIES, 0.35, True), 0.12),
        [
            "(I live|I'm living) in {}",
            "my (city|town) is {}",
            "(I'm|I am|I come) from {}",
            "my home is in {}",
            "I live in a (town|city|place) called {}",
            "my home town is {}",
            "I (have|just) moved to {}",
            "{} is where I live",
            "{} is my home town",
            "I (grew up|was born) in {}",
        ],
        [
            "where do I live [again]",
            "(what is|what's) my (city|town|home town)",
            "(which|what) (city|town|place) do I live in",
            "where (am I|do I come) from",
            "(do|can) you (remember|recall|know|still know) where I (live|come from)",
            "in (which|what) (town|city) do I live",
            "tell me where I (live|come from)",
            "where is my home",
            "(did I tell|have I told) you where I live",
            "where did I say [that] I live",
        ],
        "You live in {}.",
        "You live in a place you have not told me yet.",
        "You live in {}, noted.",
    ),
    Slot(
        "number",
        number,
        [
            "my [lucky] number is {}",
            "[please] remember the number {}",
            "the number is {}",
            "[please] keep the number {} in mind",
            "[please] remember this number: {}",
            "{} is my [lucky] number",
            "note the number {}",
            "here is a number: {}",
        ],
        [
            "(what is|what's|what was) (my|the) [lucky] number [again]",
            "(which|what) number did I (tell|give) you",
            "(do|can) you (remember|recall|know|still know) (my|the) [lucky] number",
            "(tell me|say|repeat) (my|the) [lucky] number",
            "(what|which) number should you (remember|keep in mind)",
            "(which|what) number did I (mention|say)",
        ],
        "The number is {}.",
        "The number is something you have not told me yet.",
        "The number is {}, noted.",
        kin=("secret",),
    ),
    Slot(
        "code word",
        code_word,
        [
            "(the|my) code word is {}",
            "[please] remember the (code|secret) word {}",
            "(the|my) secret word is {}",
            "the password is {}",
            "[please] remember this word: {}",
            "[please] keep the word {} in mind",
            "{} is (the|my) (code|secret) word",
            "note the code word {}",
        ],
        [
            "(what is|what's|what was) (the|my) (code|secret) word [again]",
            "(do|can) you (remember|recall|know|still know) (the|my) (code word|secret word|password)",
            "(tell me|say|repeat) (the|my) (code|secret) word",
            "(which|what) word (should|did) you (remember|keep in mind)",
            "(which|what) (code|secret) word did I (tell|give) you",
            "what was the password",
        ],
        "The code word is {}.",
        "The code word is something you have not told me yet.",
        "The code word is {}, noted.",
        kin=("secret",),
    ),
    Slot(
        "age",
        lambda rng: str(rng.randint(8, 97)),
        [
            "(I'm|I am) {} years old",
            "my age is {}",
            "I (just turned|turned|am turning) {}",
            "I am {} years of age",
            "{} is my age",
        ],
        [
            "how old am I",
            "(what is|what's|what was) my age",
            "(do|can) you (remember|recall|know|still know) (my age|how old I am)",
            "tell me (my age|how old I am)",
            "how many years old am I",
            "what age am I",
            "how old did I say I am",
        ],
        "Your age is {}.",
        "Your age is something you have not told me yet.",
        "Your age is {}, noted.",
        kin=("secret",),
    ),
    Slot(
        "job",
        lambda rng: rng.choice(JOBS) if rng.random() < 0.5 else mixed(NOUNS, 0.3)(rng),
        [
            "I work as a {}",
            "my (job|profession|occupation) is {}",
            "I have a job as a {}",
            "I earn my (living|money) as a {}",
            "by profession I am a {}",
        ],
        [
            "(what is|what's|what was) my (job|profession|occupation|work)",
            "what do I do for a living",
            "what do I work as",
            "(do|can) you (remember|recall|know|still know) (my (job|profession|occupation)|what I do for a living)",
            "tell me my (job|profession|occupation)",
            "(which|what) job do I have",
        ],
        "Your job is {}.",
        "Your job is something you have not told me yet.",
        "Your job is {}, noted.",
    ),
]
FAVOURITES = [
    favourite(thing, make, ("favourite",))
    for thing, make in (
        ("colour", with_word(["dark", "light", "deep", "pale"], mixed(COLOURS, 0.45), 0.12)),
        ("food", with_word(["hot", "fried", "cold", "baked", "sweet"], mixed(FOODS, 0.4), 0.15)),
        ("animal", mixed(ANIMALS, 0.45)),
        ("drink", mixed(["tea", "coffee", "juice", "water", "milk", "lemonade", "cocoa"], 0.4)),
        ("season", mixed(["spring", "summer", "autumn", "winter"], 0.4)),
        ("sport", mixed(["tennis", "football", "chess", "cricket", "swimming", "running", "golf"], 0.4)),
        ("fruit", mixed(["apple", "pear", "plum", "cherry", "mango", "banana"], 0.4)),
        ("flower", mixed(["rose", "tulip", "daisy", "lily", "orchid"], 0.4)),
        ("book", mixed(NOUNS, 0.5, True)),
        ("band", mixed(NOUNS, 0.5, True)),
        ("game", mixed(NOUNS, 0.5, True)),
        ("film", mixed(NOUNS, 0.5, True)),
        ("song", mixed(NOUNS, 0.5, True)),
        ("subject", mixed(NOUNS, 0.5)),
        ("tree", mixed(["oak", "pine", "birch", "maple"], 0.4)),
        ("dessert", mixed(FOODS, 0.4)),
        ("hobby", mixed(NOUNS, 0.4)),
    )
]
RELATIONS = [
    "sister",
    "brother",
    "mother",
    "father",
    "friend",
    "wife",
    "husband",
    "son",
    "daughter",
    "boss",
    "teacher",
    "neighbour",
    "cousin",
    "boat",
    "car",
]
NAMED = [named(who) for who in PETS + RELATIONS]

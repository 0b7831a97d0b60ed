"""Words letter by letter, and words said again."""

from ember.phrases import patterns, say
from ember.words import ALL_WORDS, CITIES, NAMES, ask, draw, invented, rough

SPELL = patterns(
    "[please] (spell|spell out) [the word] {}",
    "(how do|can) you spell [the word] {}",
    "how is [the word] {} (spelled|spelt|written)",
    "(what is|what's) the spelling of {}",
    "(which|what) letters are in {}",
    "(tell me|give me|show me|say) the letters of {}",
    "how do (I|you|people) (spell|write) {} [correctly]",
    "could you [please] spell {}",
    "{}, how is that (spelled|spelt)",
    "spelling of {}",
    "I don't know how to spell {}",
    "how would you spell {}",
)
REPEAT = patterns(
    "[please] repeat after me: {}",
    "[please] repeat [this|that]: {}",
    "[please] say: {}",
    "say after me: {}",
    "[please] write this: {}",
    "can you (repeat|say|write) this: {}",
    "[please] echo {}",
    "type these words: {}",
    "repeat (the|these) words {}",
    "[please] copy this: {}",
    "just (say|write) {}",
    "could you [please] repeat: {}",
    "repeat exactly: {}",
    "say the following: {}",
    "write the words {}",
    "now (say|repeat): {}",
    "I want you to (say|repeat) {}",
)


def spell_word(rng):
    """Any token of the vocabulary can stand in a word to spell, so known words are glued together as well: a token
    whose letters were never shown can't be spelled."""
    roll = rng.random()
    if roll < 0.4:
        return rng.choice(ALL_WORDS)
    if roll < 0.5:
        return rng.choice(NAMES + CITIES).split()[0]
    if roll < 0.75:
        first, second = rng.choice(ALL_WORDS), rng.choice(ALL_WORDS)
        return (
            (first + second)[:14]
            if rng.random() < 0.5
            else first[rng.randint(0, len(first) // 2) :] + second[: rng.randint(1, len(second))]
        )
    return invented(rng)


def spell_turn(rng, split):
    word = draw(rng, spell_word, split).lower()
    text = ask(rng, say(rng, SPELL, split, word), keep=True)
    return text, f"Letters of {word}: " + " ".join(word.upper()), "spell", " ".join(word.upper())


def phrase(rng, split):
    """Words to copy. The phrase as a whole is held out or not, never the single word: a token that no
    reply ever contains in training can't be copied later either."""

    def make(r):
        words = [
            r.choice(ALL_WORDS) if r.random() < 0.6 else r.choice(NAMES + CITIES) if r.random() < 0.3 else invented(r)
            for _ in range(r.choice([1, 2, 2, 3, 4, 5, 6, 8]))
        ]
        if r.random() < 0.1:
            words.insert(r.randrange(len(words) + 1), str(r.randint(0, 9999)))
        text = " ".join(words)
        return text[0].upper() + text[1:] if r.random() < 0.3 else text

    return draw(rng, make, split)


def repeat_turn(rng, split):
    text = phrase(rng, split)
    quoted = f'"{text}"' if rng.random() < 0.3 else text
    request = say(rng, REPEAT, split).split("{}")[0]
    return rough(rng, request, True).rstrip() + " " + quoted, "Here it is: " + quoted, "repeat", text

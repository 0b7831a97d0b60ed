"""Small talk: short things that people say to a chat program, and Ember's replies."""

from functools import cache

from ember.phrases import FOLDER, expand, read_blocks, phrase_split
from ember.topics import answers
from ember.words import ask


@cache
def small_talk():
    """Patterns and replies by key."""
    return {key: (phrases["Q"], answers()[key]) for key, phrases in read_blocks(FOLDER / "small.txt").items()}


def small_turn(rng, split, key=None):
    """A phrase of the split. Short greetings are few: where the split has none, a training phrase stands in, but
    never in a test."""
    while True:
        chosen = key or rng.choice(list(small_talk()))
        lines, replies = small_talk()[chosen]
        for _ in range(200):
            text = expand(rng.choice(lines), rng)
            if text and phrase_split(text) == split:
                return ask(rng, text, rng.choice(["?", "!", "."])), rng.choice(replies), "small:" + chosen, None
        if key:
            raise ValueError(f"no phrase of [{key}] belongs to '{split}'")


def __getattr__(name):
    if name == "SMALL":
        return {key: replies for key, (_, replies) in small_talk().items()}
    raise AttributeError(name)

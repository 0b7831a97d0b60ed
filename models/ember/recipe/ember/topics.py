"""Questions about Hearth: the answers of `answers.txt`, the phrases of `phrases/`, and frames around them."""

from functools import cache
from pathlib import Path

from ember.phrases import FOLDER, expand, read_blocks, phrase_split
from ember.words import ask

ANSWERS = Path(__file__).resolve().parent.parent / "answers.txt"
AREAS = ("about", "chat", "models", "window")

# A phrase alone, as into a search box, is how many people ask.
FRAMES = {
    "V": [
        "how do I {}",
        "how do i {}",
        "how can I {}",
        "how to {}",
        "how would I {}",
        "how can one {}",
        "what do I do to {}",
        "where do I {}",
        "where can I {}",
        "can I {}",
        "is it possible to {}",
        "is there a way to {}",
        "I want to {}",
        "I would like to {}",
        "tell me how to {}",
        "can you tell me how to {}",
        "show me how to {}",
        "please explain how to {}",
        "I need to {}",
        "could you help me {}",
        "what is the way to {}",
        "what's the easiest way to {}",
        *["{}"] * 4,
        "I don't know how to {}",
        "do you know how to {}",
        "explain how I {}",
        "how does one {}",
        "any way to {}",
        "is there any way to {}",
        "am I able to {}",
        "can one {}",
        "I'd like to {}",
        "i wanna {}",
        "how am I supposed to {}",
        "I can't figure out how to {}",
        "could I {}",
        "let me {}",
        "trying to {}",
        "what if I want to {}",
        "which button do I press to {}",
        "what's the best way to {}",
        "does Hearth let me {}",
        "will Hearth let me {}",
        "can Hearth {}",
        "I'm trying to {}",
        "help me {}",
        "help me to {}",
        "are there ways to {}",
    ],
    "N": [
        "what is {}",
        "what's {}",
        "tell me about {}",
        "explain {}",
        "can you explain {}",
        "what do you know about {}",
        "describe {}",
        "please explain {}",
        "I don't understand {}",
        "could you tell me what {} is",
        "I'd like to know about {}",
        "tell me more about {}",
        *["{}"] * 9,
        "what about {}",
        "what exactly is {}",
        "can you tell me about {}",
        "give me an idea of {}",
        "help me understand {}",
        "how about {}",
        "I have a question about {}",
        "question about {}",
        "info on {}",
        "I want to know about {}",
        "what's up with {}",
        "more about {}",
        "anything on {}",
        "do you know {}",
        "do you know anything about {}",
        "what is the deal with {}",
        "teach me about {}",
        "talk to me about {}",
    ],
    "Q": ["{}"] * 12
    + [
        "tell me, {}",
        "I wonder, {}",
        "can you tell me: {}",
        "quick question: {}",
        "just curious, {}",
        "so {}",
        "and {}",
        "ok, {}",
        "one more thing: {}",
        "I have a question: {}",
        "hi, {}",
        "hello, {}",
        "another question: {}",
        "by the way, {}",
        "sorry, {}",
        "hmm, {}",
        "wait, {}",
        "also, {}",
        "but {}",
        "thanks, {}",
        "well, {}",
    ],
}
# Frames that training never sees, for decisions and for the final test.
HELD_FRAMES = {
    "dev": {
        "V": ["what steps do I take to {}", "would you show me the way to {}", "how should I {}"],
        "N": ["what is meant by {}", "could you say something about {}", "what can you tell me about {}"],
        "Q": ["a question: {}", "may I ask, {}", "now {}"],
    },
    "test": {
        "V": ["in what way can I {}", "I was wondering how to {}", "what must I do to {}"],
        "N": ["would you explain {} to me", "I'd love to hear about {}", "say more about {}"],
        "Q": ["let me ask you this: {}", "next question: {}", "please tell me: {}"],
    },
}


class Topic:
    """One thing to know about Hearth: phrases by sort, and one answer."""

    def __init__(self, key, phrases, answer):
        self.key, self.phrases, self.answer = key, phrases, answer

    def phrase(self, rng, split):
        """A phrase of the split, and its sort. A sort counts by the root of its number of patterns."""
        sorts = [s for s in self.phrases if self.phrases[s]]
        weights = [len(self.phrases[s]) ** 0.7 for s in sorts]
        for _ in range(400):
            sort = rng.choices(sorts, weights)[0]
            text = expand(rng.choice(self.phrases[sort]), rng)
            if text and phrase_split(text) == split:
                return text, sort
        raise ValueError(f"no phrase of [{self.key}] belongs to '{split}': it has too few")


def read_answers(path, comment=None):
    """Blocks `[key]` and their text; `---` on a line of its own parts several replies."""
    found, key = {}, None
    for line in path.read_text(encoding="utf-8").splitlines():
        if comment and line.startswith(comment):
            continue
        if line.startswith("[") and line.endswith("]") and " " not in line:
            key = line[1:-1]
            found[key] = []
        elif key is not None:
            found[key].append(line)
    return {k: [part.strip() for part in "\n".join(lines).split("\n---\n")] for k, lines in found.items()}


@cache
def answers():
    """Every reply of the answers file by its key."""
    return read_answers(ANSWERS, comment="# ")


@cache
def topics():
    """Every topic by its key."""
    found = {}
    for area in AREAS:
        for key, phrases in read_blocks(FOLDER / f"{area}.txt").items():
            if key not in answers():
                raise ValueError(f"phrases/{area}.txt asks about [{key}], and {ANSWERS.name} has no answer")
            found[key] = Topic(key, phrases, answers()[key][0])
    return found


def topic_turn(rng, split, style="any", key=None):
    """style: any = a phrase of the split in a training frame; frame = a training phrase in a held-out frame;
    phrase = a phrase of the split, in a plain frame."""
    topic = topics()[key or rng.choice(list(topics()))]
    phrase, sort = topic.phrase(rng, "train" if style == "frame" else split)
    if style == "frame":
        frame = rng.choice(HELD_FRAMES[split][sort])
    elif style == "phrase":
        frame = FRAMES[sort][0]
    else:
        frame = rng.choice(FRAMES[sort])
        if frame == "{}" and rng.random() < 0.06:
            phrase += rng.choice([" in Hearth", " here", " in this app", ", please", " please", " thanks"])
    text = frame.format(phrase)
    if style != "any":
        return text[0].upper() + text[1:] + "?", topic.answer, "topic:" + topic.key, None
    return ask(rng, text), topic.answer, "topic:" + topic.key, None


def __getattr__(name):
    if name == "TOPICS":
        return topics()
    raise AttributeError(name)

"""Everything that Ember can't do, and its four honest answers: work, facts, calculations, what it can't understand."""

import re
from functools import cache

from ember.other_slots import article, fill, read_patterns
from ember.phrases import FOLDER, expand, split_of
from ember.topics import answers
from ember.words import ask, rough

KINDS = {"task": 36, "fact": 36, "sum": 8, "unclear": 20}
TASK_FRAMES = (
    "can you {}",
    "could you {}",
    "please {}",
    "I want you to {}",
    "I need you to {}",
    "would you {}",
    "will you {}",
    "are you able to {}",
    "I'd like you to {}",
    "your task is to {}",
    "try to {}",
    "now {}",
    "can u {}",
    "could you please {}",
    "can you please {}",
    "go ahead and {}",
    "I was hoping you could {}",
    "is it possible for you to {}",
    "you must {}",
    "first {}",
    "would you mind helping me: {}",
    "do me a favour and {}",
    "let's see if you can {}",
    "Ember, {}",
    "I would appreciate it if you could {}",
    "you have to {}",
    "next, {}",
    "quickly {}",
)
QUESTION_FRAMES = (
    "quick question: {}",
    "tell me, {}",
    "just curious: {}",
    "I wonder, {}",
    "so {}",
    "and {}",
    "question: {}",
    "I have a question. {}",
    "one more question: {}",
    "can you answer this: {}",
    "hey, {}",
    "sorry, but {}",
    "seriously, {}",
    "by the way, {}",
    "in your opinion, {}",
    "riddle me this: {}",
    "my {person} asks: {}",
    "homework question: {}",
    "for a quiz: {}",
    "ok, {}",
    "but {}",
)
INDIRECT_FRAMES = (
    "do you know {}",
    "can you tell me {}",
    "please tell me {}",
    "any idea {}",
    "I'd like to know {}",
    "I want to know {}",
    "could you explain {}",
    "do you have any idea {}",
    "I can't remember {}",
    "I was wondering {}",
    "who can tell me {}",
    "does anybody know {}",
    "look, I just need to know {}",
)
JOINTS = (". ", ". ", ". ", ", ", "\n", "; ", " and ", ". Also, ", ". Oh, and ", " - ")
# Long texts are where a small model fails first, so their blocks come more often than their lines would.
WEIGHTS = {"long": 2.5, "read": 1.8, "read_v": 1.3, "role": 1.8, "code": 1.5, "more_logic": 1.3, "hearth": 1.4}
ATTEMPTS = 400
QUESTION_START = (
    r"(\W*\w+[,:.!] )?(who|what|when|where|which|why|how|is|are|was|were|do|does|did|can|could|"
    r"should|will|would|have|has|if|any|ever)\b"
)


@cache
def templates(kind):
    """The training blocks of a kind, by name."""
    blocks = read_patterns(FOLDER / f"other_{kind}.txt")
    return {key: lines for key, lines in blocks.items() if key not in ("extra", "context")}


@cache
def additions():
    """Lines that may follow a task, and those around a question."""
    return {
        "task": read_patterns(FOLDER / "other_task.txt")["extra"],
        "fact": read_patterns(FOLDER / "other_fact.txt")["context"],
    }


@cache
def replies():
    return {key.removeprefix("other_"): texts[0] for key, texts in answers().items() if key.startswith("other_")}


@cache
def held():
    """Templates kept apart from training: {split: [(kind, template), ...]}."""
    text, found, split = (FOLDER / "other_held.txt").read_text(encoding="utf-8"), {"dev": [], "test": []}, None
    for line in text.splitlines():
        if line in ("[dev]", "[test]"):
            split = line[1:-1]
        elif line and not line.startswith("# "):
            kind, _, template = line.partition(": ")
            found[split].append((kind, template))
    return found


def task_text(rng, block, text):
    """A task, asked for in one of many ways, and what else it should observe."""
    if block.endswith("_v") and rng.random() < 0.45:
        text = rng.choice(TASK_FRAMES).format(text)
    if block in ("read", "code", "action_v", "long") or rng.random() > 0.28:
        return text
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 5])):
        extra = fill(rng, expand(rng.choice(additions()["task"]), rng))
        if rng.random() < 0.12:
            text = extra[0].upper() + extra[1:] + ". " + text[0].upper() + text[1:]
            continue
        joint = rng.choice(JOINTS)
        if text[-1] in ".?!\n":
            joint = rng.choice([" ", " ", "\n"])
        text += joint + (
            extra if joint in (", ", "; ", " and ", " - ") or rng.random() < 0.1 else extra[0].upper() + extra[1:]
        )
    return text


def fact_text(rng, block, text):
    """A question, asked for in one of many ways, sometimes with a word about why."""
    roll = rng.random()
    if block.endswith("_q") and roll < 0.12:
        text = rng.choice(QUESTION_FRAMES).replace("{}", text)
    elif block.endswith("_q") and block != "yesno_q" and roll < 0.24:
        text = rng.choice(INDIRECT_FRAMES).replace("{}", text)
    if rng.random() < 0.1:
        around = fill(rng, expand(rng.choice(additions()["fact"]), rng))
        mark = "" if text[-1] in ".?!" else "?" if block.endswith("_q") else "."
        text = f"{around} {text[0].upper() + text[1:]}" if rng.random() < 0.5 else f"{text}{mark} {around}"
    return text


def question_like(text, kind):
    """Whether people close such a text with a question mark."""
    if kind == "fact" and re.search(r"\b(who|what|when|where|which|why|how)\b", text.lower()):
        return True
    return re.match(QUESTION_START, text.lower()) is not None


def compose(rng, kind):
    """One text of a kind, before the slips of the finger."""
    blocks = templates(kind)
    names = list(blocks)
    block = rng.choices(names, [len(blocks[b]) ** 0.8 * WEIGHTS.get(b, 1) for b in names])[0]
    text = fill(rng, expand(rng.choice(blocks[block]), rng)).replace("\\n", "\n").strip()
    if block in ("long", "role", "polite") and rng.random() < 0.85:
        text = re.sub(r"(?<=[.?!] )[a-z]|(?<=[.?!]\n)[a-z]", lambda m: m[0].upper(), text)
    if kind == "task":
        text = task_text(rng, block, text)
    elif kind == "fact":
        text = fact_text(rng, block, text)
    return fill(rng, text)


def typed(rng, kind, text):
    """The text as somebody types it. Long and pasted texts keep their letters."""
    if rng.random() < 0.9:
        text = article(text)
    if "\n" in text or text[-1:] in ".?!" or not text[-1:].isalnum():
        return rough(rng, text, keep=len(text) > 160 or "\n" in text)
    if kind == "unclear":
        mark = rng.choice(["?", "?", "", "", ".", "...", "!"]) if not question_like(text, kind) else "?"
    else:
        mark = "?" if question_like(text, kind) else "."
    return ask(rng, text, mark, keep=len(text) > 160)


def other_turn(rng, split, frames="seen"):
    """A turn that Ember has to decline. frames: seen = templates of training, in a text of the split; held =
    templates that training never uses ("dev" and "test" only)."""
    if frames == "held":
        kind, template = rng.choice(held()[split])
        text = article(fill(rng, template).replace("\\n", "\n"))
        text = text[0].upper() + text[1:]
        if "\n" not in text and text[-1].isalnum():
            text += "." if kind == "task" else "?"
        return text, replies()[kind], "other:" + kind, None
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    for _ in range(ATTEMPTS):
        text = compose(rng, kind)
        if split_of(text) == split:
            return typed(rng, kind, text), replies()[kind], "other:" + kind, None
    raise ValueError(f"no text of the kind '{kind}' belongs to '{split}'")


def __getattr__(name):
    if name == "HELD":
        return held()
    raise AttributeError(name)

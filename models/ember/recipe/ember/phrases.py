"""The phrase grammar: many ways to say one thing, written once.

    python -m ember.phrases phrases/chat.txt            # check a file, print counts and samples

A file holds blocks. `[key]` opens one; then one phrase pattern a line, with its sort:

    V: (clear|wipe|erase) [all of] your memory     completes "how do I ..."
    N: the reset button                            completes "what is ..."
    Q: what does [the] reset [button] do           a whole question or sentence, used as it is

In a pattern `(a|b)` is a choice, `[a|b]` a choice that may be left out, and `<name>` one of the synonyms
that a line `name = a|b|c` gives, in this file or in `synonyms.txt`. Lines that begin with `#` are comments.
"""

import re
import sys
import zlib
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "phrases"
SORTS = ("V", "N", "Q")
ATTEMPTS = 60


class PhraseError(ValueError):
    """A pattern that can't be read: which one, where and why."""


def parse(text, synonyms, where):
    """A pattern as a tree: a list of parts, each a string or a list of alternatives (lists of parts)."""
    parts, at = _sequence(text, 0, synonyms, where, "")
    if at != len(text):
        raise PhraseError(f"{where}: '{text[at]}' at column {at + 1} closes nothing: {text}")
    return parts


def _sequence(text, at, synonyms, where, until):
    parts, word = [], ""
    while at < len(text) and text[at] not in until + ")]":
        mark = text[at]
        if mark in "([":
            close = ")" if mark == "(" else "]"
            choices, at = _choices(text, at + 1, synonyms, where, close)
            parts += [word, choices + [[]] if mark == "[" else choices]
            word = ""
        elif mark == "<":
            end = text.find(">", at)
            name = text[at + 1 : end] if end > 0 else ""
            if name not in synonyms:
                raise PhraseError(f"{where}: no synonyms are called '{name}': {text}")
            parts += [word, synonyms[name]]
            word, at = "", end + 1
        else:
            word, at = word + mark, at + 1
    return [p for p in parts + [word] if p != ""], at


def _choices(text, at, synonyms, where, close):
    choices = []
    while True:
        parts, at = _sequence(text, at, synonyms, where, "|")
        choices.append(parts)
        if at >= len(text) or text[at] not in "|" + close:
            raise PhraseError(f"{where}: '{close}' is missing: {text}")
        at += 1
        if text[at - 1] == close:
            return choices, at


def expand(parts, rng):
    """One phrase of a pattern, its spaces tidied."""
    return tidy("".join(_expand(parts, rng)))


def _expand(parts, rng):
    for part in parts:
        if isinstance(part, str):
            yield part
        else:
            yield from _expand(rng.choice(part), rng)


def count(parts):
    """How many phrases a pattern makes."""
    total = 1
    for part in parts:
        if not isinstance(part, str):
            total *= sum(count(choice) for choice in part)
    return total


def tidy(text):
    return re.sub(r"\s+([,.?!])", r"\1", re.sub(r"\s+", " ", text)).strip()


def split_of(text):
    """The split of a value, by its letters alone: one in sixteen is kept for tests, one for decisions."""
    bucket = zlib.crc32(re.sub(r"[^a-z0-9]", "", text.lower()).encode()) % 16
    return {0: "test", 1: "dev"}.get(bucket, "train")


def phrase_split(text):
    """The split of a whole phrase. One or two words are always training: there the words are held out, not their
    combination, and a word that was never seen can't be known."""
    return "train" if len(text.split()) <= 2 else split_of(text)


def read_synonyms(path, into=None):
    """The lines `name = a|b|c` of a file. A synonym may use those above it."""
    synonyms = dict(into or {})
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        named = re.match(r"^([a-z_0-9]+) = (.+)$", line)
        if named:
            choices, at = _choices(named[2] + ")", 0, synonyms, f"{path.name}:{number}", ")")
            if at != len(named[2]) + 1:
                raise PhraseError(f"{path.name}:{number}: text after the last choice: {line}")
            synonyms[named[1]] = choices
    return synonyms


def read_blocks(path):
    """Blocks of a file: {key: {sort: [pattern, ...]}}, in the order of the file."""
    shared = FOLDER / "synonyms.txt"
    synonyms = read_synonyms(path, read_synonyms(shared) if shared.exists() else {})
    blocks, block = {}, None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path.name}:{number}"
        if not line.strip() or line.startswith("#") or re.match(r"^[a-z_0-9]+ = ", line):
            continue
        if re.match(r"^\[[a-z_0-9]+\]$", line):
            block = blocks.setdefault(line[1:-1], {sort: [] for sort in SORTS})
        elif block is not None and line[0] in SORTS and line[1:3] == ": ":
            block[line[0]].append(parse(line[3:].strip(), synonyms, where))
        else:
            raise PhraseError(f"{where}: neither a block, a synonym nor a phrase: {line}")
    return blocks


def patterns(*lines):
    return [parse(line, {}, "a pattern of the recipe") for line in lines]


def say(rng, lines, split, value=None):
    """A phrase of the patterns that belongs to the split, with the value in its place. The hold-out looks at the
    phrase without its value; where a slot has no phrase of the split, a training phrase stands in."""
    for _ in range(ATTEMPTS):
        text = expand(rng.choice(lines), rng)
        if phrase_split(text) == split:
            break
    else:
        text = expand(rng.choice(lines), rng)
    return text if value is None else text.replace("{}", value)


def main():
    import random

    for name in sys.argv[1:]:
        for key, block in read_blocks(Path(name)).items():
            lines = [pattern for patterns in block.values() for pattern in patterns]
            rng = random.Random(key)
            print(f"[{key}] {len(lines)} patterns, {sum(map(count, lines)):,} phrases")
            for pattern in rng.sample(lines, min(6, len(lines))):
                print("    ", expand(pattern, rng))


if __name__ == "__main__":
    main()

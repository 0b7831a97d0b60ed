"""The conversations that Ember is measured with: what the user says, and what the last reply should be.

Modules of the generator are imported where they are used, so that one group can be measured without the others' files.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

RECIPE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Case:
    """What the user says in turn; `wanted` is the reference for the last reply, judged by the rule named `judge`."""

    messages: tuple
    judge: str
    wanted: tuple = ()
    value: str | None = None
    # What the last reply must not hold: the value before a correction.
    old: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Group:
    """Cases of one kind. `make` draws one; `every` gives all there are, where they were written by hand."""

    title: str
    about: str
    make: object = None
    every: object = None

    def cases(self, name, count, seed, split):
        if self.every:
            return self.every(split)
        # A stream for each group: choosing other groups, or more cases, changes no case.
        rng = random.Random(f"evaluate:{split}:{name}:{seed}")
        return [self.make(rng, split) for _ in range(count)]


def single(turn, judge="same"):
    user, reply, kind, value = turn
    return Case((user,), judge, (reply,), value, key=kind)


# --- memory -------------------------------------------------------------------------------------


def corrected(rng, split, memory, key):
    """A correction of this very fact: the others are hidden while it is made."""
    others = {k: fact for k, fact in memory.facts.items() if k != key}
    memory.facts = {key: memory.facts[key]}
    turn = memory.correct(rng, split)
    memory.facts.update(others)
    return turn


def memory_case(rng, split, goal):
    """2 to 10 messages: a fact, other talk, up to two more facts, and the question. `corrected` has the correction
    somewhere between."""
    from ember.dialogue import other_talk
    from ember.memory import Memory

    memory = Memory(rng)
    messages, extra, old = [memory.tell(rng, split)[0]], rng.randint(0, 2), None
    key = next(iter(memory.facts))
    between = rng.randint(1 if goal == "corrected" else 0, 8)
    fix_at = rng.randrange(between) if goal == "corrected" else None
    for i in range(between):
        if i == fix_at:
            old = memory.facts[key][1]
            messages.append(corrected(rng, split, memory, key)[0])
        elif extra and rng.random() < 0.3:
            extra -= 1
            messages.append(memory.tell(rng, split)[0])
        else:
            messages.append(other_talk(rng, split)[0])
            memory.last = None  # as in training: a short correction refers to what was just said
    if goal == "untold":
        user, reply, kind, _ = memory.unknown(rng, split)
        return Case((*messages, user), "same", (reply,), key=kind)
    user, reply, kind, value = memory.query(rng, split, key)
    if re.search(rf"(?<!\w){re.escape(value)}(?!\w)", memory.facts[key][0].answer.format("")):
        # "Your name is Name." would be right whatever the model remembers.
        return memory_case(rng, split, goal)
    return Case((*messages, user), "value", (reply,), value, old, kind)


@cache
def known_words():
    """Every word of the lists that values are drawn from."""
    from ember import words

    lists = ("ALL_WORDS", "NOUNS", "NAMES", "CITIES", "COLOURS", "FOODS", "ANIMALS", "PETS", "PERSONS")
    return {part for name in lists for entry in getattr(words, name) for part in entry.lower().split()}


def invented_case(rng, split):
    """A memory case whose value is in no word list, and no number: made of syllables or letters."""
    while True:
        case = memory_case(rng, split, "recall")
        if not any(part in known_words() or part.isdigit() for part in case.value.lower().split()):
            return case


# --- the other skills ---------------------------------------------------------------------------


def topic_case(rng, split, style):
    from ember.topics import topic_turn

    return single(topic_turn(rng, split, style=style))


def small_case(rng, split):
    from ember.small_talk import SMALL, small_turn

    user, _, kind, _ = small_turn(rng, split)
    return Case((user,), "same", tuple(SMALL[kind.split(":")[1]]), key=kind)


def sum_case(rng, split, held):
    from ember.arithmetic import sum_turn

    return single(sum_turn(rng, split, held_frames=held), "result")


def count_case(rng, split):
    from ember.calendar_dates import count_turn

    return single(count_turn(rng, split))


def calendar_case(rng, split):
    from ember.calendar_dates import calendar_turn

    return single(calendar_turn(rng, split))


def repeat_case(rng, split):
    from ember.letters import repeat_turn

    return single(repeat_turn(rng, split))


def spell_case(rng, split):
    from ember.letters import spell_turn

    return single(spell_turn(rng, split))


def markdown_case(rng, split):
    from ember.markdown_forms import markdown_turn

    return single(markdown_turn(rng, split), "markdown")


def other_case(rng, split):
    from ember.other import other_turn

    user, _, kind, _ = other_turn(rng, split, frames="held")
    return Case((user,), "fallback", key=kind)


# --- written by hand ----------------------------------------------------------------------------


def written_apart(split):
    """The phrases of `held_out/SPLIT.txt` by key. A line is a phrase; its writer saw no training phrase."""
    path, found, phrases = RECIPE / "held_out" / f"{split}.txt", {}, None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if re.fullmatch(r"\[[a-z_0-9]+\]", line):
            phrases = found.setdefault(line[1:-1], [])
        elif line and not line.startswith("#"):
            if phrases is None:
                raise ValueError(f"{path}:{number}: a phrase before the first key")
            phrases.append(line)
    return found


def small_talk_key(key):
    """The name that `small_talk` has for a key of the phrases, or None."""
    from ember.small_talk import SMALL

    return next((name for name in (key, key.removeprefix("small_")) if name in SMALL), None)


def apart_topics(split):
    from ember.topics import TOPICS

    others = ("other", "unclear")
    found = {k: v for k, v in written_apart(split).items() if not k.startswith("small_") and k not in others}
    unknown = sorted(set(found) - set(TOPICS))
    if unknown:
        raise ValueError(f"held_out/{split}.txt has phrases for topics that there are not: {unknown}")
    return [Case((text,), "same", (TOPICS[key].answer,), key=key) for key, texts in found.items() for text in texts]


def apart_small(split):
    from ember.small_talk import SMALL

    cases = []
    for key, texts in written_apart(split).items():
        if key.startswith("small_"):
            name = small_talk_key(key)
            if name is None:
                raise ValueError(f"held_out/{split}.txt has phrases for small talk that there is not: {key}")
            cases += [Case((text,), "same", tuple(SMALL[name]), key=key) for text in texts]
    return cases


def apart_fallback(key, split):
    return [Case((text,), "fallback", key=key) for text in written_apart(split)[key]]


def mt_bench(path, _split):
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [Case((json.loads(line)["turns"][0],), "fallback", key="mt-bench") for line in lines if line.strip()]


def groups(mt_bench_path=None):
    """Every group by its name, in the order of the table."""
    apart, unseen = "phrases by writers who saw no training phrase", "a phrase of the grammar that training never drew"
    found = {
        "memory": Group(
            "Memory", "2 to 10 messages: a fact, other talk, the question", partial(memory_case, goal="recall")
        ),
        "invented": Group("Memory, invented value", "the same with a value that is in no word list", invented_case),
        "corrected": Group(
            "Memory, after a correction",
            "the new value is in the reply, the old one is not",
            partial(memory_case, goal="corrected"),
        ),
        "untold": Group("A fact never told", "the reply is that it was not told", partial(memory_case, goal="untold")),
        "topic-frame": Group(
            "Topics, unseen frame",
            "a phrase of the training set inside a sentence that is not",
            partial(topic_case, style="frame"),
        ),
        "topic-phrase": Group("Topics, unseen combination", unseen, partial(topic_case, style="phrase")),
        "topic-apart": Group("Topics, written apart", apart, every=apart_topics),
        "small-phrase": Group("Small talk, unseen combination", unseen, small_case),
        "small-apart": Group("Small talk, written apart", apart, every=apart_small),
        "sums": Group("Sums", "pairs of numbers that training never drew", partial(sum_case, held=False)),
        "sums-frame": Group(
            "Sums, unseen frame", "the same, inside a sentence that training has not", partial(sum_case, held=True)
        ),
        "counting": Group("Counting", "up and down", count_case),
        "calendar": Group("Calendar", "days and months", calendar_case),
        "repeat": Group("Repeating", "words said again, letter by letter the same", repeat_case),
        "spell": Group("Spelling", "words that training never spelled", spell_case),
        "markdown": Group("Markdown", "lists, tables, code, emphasis", markdown_case),
        "other-frame": Group(
            "Beyond Ember, unseen frame", "tasks, facts, hard sums in sentences that training has not", other_case
        ),
        "other-apart": Group("Beyond Ember, written apart", apart, every=partial(apart_fallback, "other")),
        "unclear-apart": Group(
            "Unclear, written apart",
            "gibberish, fragments, nonsense about Hearth",
            every=partial(apart_fallback, "unclear"),
        ),
    }
    if mt_bench_path:
        found["mt-bench"] = Group(
            "Beyond Ember, MT-Bench", "the first questions of MT-Bench", every=partial(mt_bench, mt_bench_path)
        )
    return found

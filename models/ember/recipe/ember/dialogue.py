"""Whole conversations, drawn from a seeded generator without end: training has steps, not epochs.

A dialogue is a list of {"role", "content"}; assistant turns also carry "kind" (what the turn tests), "value"
where a single value decides, and "head" where training reads only the first tokens of the reply.
"""

import random

from ember.arithmetic import sum_turn
from ember.calendar_dates import calendar_turn, count_turn
from ember.letters import repeat_turn, spell_turn
from ember.markdown_forms import markdown_turn
from ember.memory import Memory
from ember.other import other_turn
from ember.small_talk import small_turn
from ember.topics import topic_turn

SYSTEMS = [
    "You are a helpful assistant.",
    "You are Ember, the small guide built into Hearth.",
    "You are Ember.",
    "Be brief.",
    "You are a friendly assistant. Answer in short sentences.",
    "Answer in English.",
    "Be kind.",
    "Answer briefly and clearly.",
    "You are a helpful, honest and harmless assistant.",
    "You are a tutor.",
    "Help the user with Hearth.",
]
SKILLS = [
    (topic_turn, 30),
    (other_turn, 20),
    (sum_turn, 11),
    (count_turn, 4),
    (calendar_turn, 5),
    (repeat_turn, 6),
    (spell_turn, 8),
    (small_turn, 12),
    (markdown_turn, 9),
]
# Skills that need many examples come in runs as well, which are cheap: their turns are short.
RUNS = [
    (sum_turn, 6),
    (spell_turn, 8),
    (repeat_turn, 3),
    (count_turn, 2),
    (calendar_turn, 3),
    (markdown_turn, 4),
    (small_turn, 1),
]
# Kinds whose reply is known from its first words: the rest of a fixed text teaches nothing that was not learned long ago.
FIXED = (topic_turn, other_turn, small_turn)


def other_talk(rng, split):
    """A turn of any skill but memory."""
    return rng.choices([f for f, _ in SKILLS], [w for _, w in SKILLS])[0](rng, split)


def add(turns, turn):
    user, assistant, kind, value = turn
    turns += [
        {"role": "user", "content": user},
        {"role": "assistant", "content": assistant, "kind": kind, "value": value},
    ]


def opening(rng, split):
    roll = rng.random()
    if roll < 0.10:
        return [{"role": "system", "content": rng.choice(SYSTEMS)}]
    if roll < 0.12:
        return [{"role": "system", "content": other_turn(rng, split)[0]}]
    return []


def size_of(turns):
    return sum(len(t["content"]) + 12 for t in turns)


def one_question(rng, split):
    """A question of the kinds with a fixed reply, alone; only the head of the reply is learned."""
    turns = opening(rng, split) if rng.random() < 0.3 else []
    add(turns, rng.choices(FIXED, [10, 6, 4])[0](rng, split))
    turns[-1]["head"] = True
    return turns


def run_of_one_skill(rng, split, limit):
    turns = opening(rng, split) if rng.random() < 0.5 else []
    skill = rng.choices([f for f, _ in RUNS], [w for _, w in RUNS])[0]
    for _ in range(rng.randint(2, 9)):
        add(turns, skill(rng, split) if rng.random() < 0.9 else other_talk(rng, split))
        if size_of(turns) > limit:
            break
    return turns


def memory_turn(rng, split, memory, roll):
    """The next turn of a conversation with told facts, or None for other talk."""
    if len(memory.facts) < 5 and roll < (0.5 if not memory.facts else 0.2):
        return memory.tell(rng, split)
    if memory.facts and roll < 0.44:
        return memory.query(rng, split)
    if memory.facts and roll < 0.53:
        return memory.correct(rng, split)
    if roll < 0.76:
        return memory.unknown(rng, split)
    memory.last = None  # "No, I meant ..." refers to what was just said, and to nothing after other talk
    return None


def run_of_memory(rng, split, limit):
    """Facts told, then asked for, asked for in vain and corrected one after another: many decisions in few tokens."""
    turns, memory = opening(rng, split) if rng.random() < 0.5 else [], Memory(rng)
    talk = rng.choice([0.0, 0.15, 0.35])
    for _ in range(rng.randint(1, 4)):
        add(turns, memory.tell(rng, split))
        if rng.random() < talk:
            add(turns, other_talk(rng, split))
            memory.last = None
    for _ in range(rng.randint(4, 10)):
        roll = rng.random()
        if rng.random() < talk:
            turn, memory.last = other_talk(rng, split), None
        elif roll < 0.42:
            turn = memory.query(rng, split)
        elif roll < 0.80:
            turn = memory.unknown(rng, split)
        elif roll < 0.94 or len(memory.facts) > 6:
            turn = memory.correct(rng, split)
        else:
            turn = memory.tell(rng, split)
        add(turns, turn)
        if size_of(turns) > limit:
            break
    return turns


def conversation(rng, split, limit):
    """Several turns, personal ones with told facts among them."""
    turns, memory, personal = opening(rng, split), Memory(rng), rng.random() < 0.65
    length = rng.choice([1, 2, 3, 4, 5, 6, 8, 10, 12, 14]) if personal else rng.choice([1, 1, 2, 2, 3, 4, 6])
    for _ in range(length):
        roll = rng.random()
        if personal:
            turn = memory_turn(rng, split, memory, roll) or other_talk(rng, split)
        else:
            turn = memory.unknown(rng, split) if roll < 0.04 else other_talk(rng, split)
        if turns and turns[-1]["role"] == "assistant" and size_of(turns) + len(turn[0]) + len(turn[1]) > limit:
            break
        add(turns, turn)
    if rng.random() < 0.7 and turns[-1]["kind"].split(":")[0] in ("topic", "other", "small"):
        turns[-1]["head"] = True
    return turns


def dialogue(rng, split="train", limit=1100):
    """One dialogue of at most about `limit` characters."""
    roll = rng.random()
    if roll < 0.52:
        return one_question(rng, split)
    if roll < 0.62:
        return run_of_one_skill(rng, split, limit)
    if roll < 0.73:
        return run_of_memory(rng, split, 1.5 * limit)
    return conversation(rng, split, limit)


def dialogues(seed, split="train", limit=1100):
    rng = random.Random(f"{split}:{seed}")
    while True:
        yield dialogue(rng, split, limit if rng.random() < 0.95 else limit * 2)

"""Facts that a person tells, asks for and corrects, within one conversation."""

from ember.memory_slots import BASIC, FAVOURITES, NAMED
from ember.phrases import patterns, say
from ember.words import ask, draw

CORRECT = patterns(
    "actually, {}",
    "(no|sorry|wait|oh|oops|hm), {}",
    "(no|sorry|wait), (actually|in fact) {}",
    "I was wrong, {}",
    "correction: {}",
    "I made a mistake, {}",
    "I changed my mind, {}",
    "not quite: {}",
    "please (update|correct|change) that: {}",
    "from now on, {}",
    "that was wrong, {}",
    "let me correct that: {}",
    "sorry, that was (wrong|a mistake), {}",
    "I have to correct myself: {}",
)
SHORT_FIX = patterns(
    "(no|sorry|wait|oh|oops), I meant {}",
    "(actually|no|wait|sorry), (it is|it's) {}",
    "(wait|no|actually), make (that|it) {}",
    "I meant {}",
    "not that, {}",
)
ALL = patterns(
    "what do you (know|remember) about me",
    "what did I tell you [so far]",
    "(list|repeat) (what|everything) I told you",
    "what have I told you [so far]",
    "(what|which) facts do you (know|remember)",
    "(tell me|say) (what|everything) you know about me",
)
REMINDERS = [
    "remember that",
    "please remember it",
    "keep that in mind",
    "don't forget",
    "please don't forget that",
    "note that",
]


class Memory:
    """The facts told so far in one conversation."""

    def __init__(self, rng):
        named_slots = rng.sample(NAMED, 3)
        self.pool = BASIC[:4] * 3 + BASIC[4:] * 2 + FAVOURITES[:3] * 3 + FAVOURITES[3:] + named_slots * 3
        self.facts, self.last, self.fixed = {}, None, set()

    def tell(self, rng, split):
        slot, value = self._fresh(rng, split)
        text, reply = say(rng, slot.tell, split, value), slot.acknowledge.format(value)
        roll = rng.random()
        if roll < 0.15:
            other, second = self._fresh(rng, split)
            text += rng.choice([" and ", ". ", ", and ", "; "]) + say(rng, other.tell, split, second)
            reply += " " + other.acknowledge.format(second)
            self.last = None
        elif roll < 0.2:
            text += ", " + rng.choice(REMINDERS)
        return tidy(rng, text), reply, "tell", value

    def _fresh(self, rng, split):
        """A slot that was not told, preferring neighbours of told ones, and a value for it."""
        slot = rng.choice([s for s in self.pool if s.key not in self.facts])
        value = draw(rng, slot.make, split) if slot.key != "age" else slot.make(rng)
        if slot.key == "name" and rng.random() < 0.05:
            value = value.lower()
        self.facts[slot.key], self.last = (slot, value), slot.key
        return slot, value

    def query(self, rng, split, key=None):
        slot, value = self.facts[key or rng.choice(list(self.facts))]
        kind = "update" if slot.key in self.fixed else "recall"
        self.last = slot.key
        if key is None and len(self.facts) > 1 and rng.random() < 0.06:
            reply = " ".join(s.answer.format(v) for s, v in self.facts.values())
            return ask(rng, say(rng, ALL, split), keep=True), reply, "recall_all", None
        return ask(rng, say(rng, slot.query, split), keep=rng.random() < 0.8), slot.answer.format(value), kind, value

    def unknown(self, rng, split):
        """A question for a fact that was not told: half of the time for one just beside a told one, which is
        where a small model invents."""
        free = [s for s in self.pool if s.key not in self.facts]
        kin = {k for s, _ in self.facts.values() for k in s.kin}
        near = [s for s in free if kin & set(s.kin)]
        slot, self.last = rng.choice(near if near and rng.random() < 0.5 else free), None
        return ask(rng, say(rng, slot.query, split), keep=rng.random() < 0.8), slot.unset, "unknown", None

    def correct(self, rng, split):
        key = self.last if self.last in self.facts and rng.random() < 0.4 else rng.choice(list(self.facts))
        slot, old = self.facts[key]
        value = old
        while value == old:
            value = draw(rng, slot.make, split) if slot.key != "age" else slot.make(rng)
        if key == self.last and rng.random() < 0.4:
            text = say(rng, SHORT_FIX, split, value)
        elif rng.random() < 0.15:
            text = rng.choice(["my {0} is not {1}, it is {2}", "the {0} is {2}, not {1}", "my {0} is {2}, not {1}"])
            text = text.format(slot.noun_phrase, old, value)
        else:
            text = say(rng, CORRECT, split, say(rng, slot.tell, split, value))
        self.facts[key], self.last = (slot, value), key
        self.fixed.add(key)
        return tidy(rng, text), "Thank you, I have corrected that. " + slot.answer.format(value), "corrected", value


def tidy(rng, text):
    if rng.random() < 0.75:
        text = text[0].upper() + text[1:]
    return text + (rng.choice([".", ".", "!"]) if rng.random() < 0.7 else "")

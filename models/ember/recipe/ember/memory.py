"""Facts that a person tells, asks for and corrects, within one conversation."""

from ember.memory_slots import BASIC, FAVOURITES, NAMED
from ember.phrases import patterns, say
from ember.words import ask, draw

# Words before a correction stand in many combinations: where there are few, a split holds whole openings out.
CORRECT = patterns(
    "(actually|in fact|well|hm|hold on|one moment), {}",
    "(no|sorry|wait|oh|oops|hm|ah|well), {}",
    "(no|sorry|wait|oh|oops), (actually|in fact|wait|sorry) {}",
    "[(no|sorry|wait|oh|oops|ah),] I (was|am) wrong[ there| about that], {}",
    "[(sorry|oops),] [a] correction: {}",
    "[(sorry|wait|oh|oops|ah|hm),] (I made|that was|there was|it was) (a|my) [(small|silly|little)] (mistake|slip|error|typo), {}",
    "[(sorry|wait|oh|oops|ah),] my (mistake|bad|fault|error), {}",
    "[(sorry|oh|ah|well),] I [have] changed my mind, {}",
    "[(no|hm),] not (quite|really|exactly)(:|,) {}",
    "[please] (update|correct|change|fix) (that|this|it): {}",
    "[please] (update|correct|change) what (I said|I told you|you know): {}",
    "from (now|today) on[,] {}",
    "[(sorry|oops|oh|no),] that (was|is) (wrong|incorrect|not right|not correct|not true), {}",
    "[(sorry|wait),] let me (correct|change|fix) (that|this|it)(:|,) {}",
    "[(sorry|oops),] I (have|need|want) to correct (myself|that|this), {}",
    "[(sorry|oops|oh),] I (meant|wanted) to say[ that] {}",
    "[(sorry|oh|wait),] I (mixed that up|got that wrong|misspoke|said that wrong|told you wrong), {}",
    "(forget|ignore|scrap) (that|what I said), {}",
    "(it|that) has changed, {}",
    "[(sorry|wait),] I take that back, {}",
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
        text, reply = told(rng, slot, split, value), slot.acknowledge.format(value)
        roll = rng.random()
        if roll < 0.15:
            other, second = self._fresh(rng, split)
            text += rng.choice([" and ", ". ", ", and ", "; "]) + told(rng, other, split, second)
            reply += " " + other.acknowledge.format(second)
            self.last = None
        elif roll < 0.2:
            text += ", " + rng.choice(REMINDERS)
        return tidy(rng, text, value), reply, "tell", value

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
            text = say(rng, CORRECT, split, told(rng, slot, split, value))
        self.facts[key], self.last = (slot, value), key
        self.fixed.add(key)
        return tidy(rng, text, value), "Thank you, I have corrected that. " + slot.answer.format(value), "corrected", value


def told(rng, slot, split, value):
    """A sentence that tells the value. "a" before it becomes "an" where people say so."""
    text = say(rng, slot.tell, split, value)
    return text.replace(f" a {value}", f" an {value}") if value[0].lower() in "aeiou" else text


def tidy(rng, text, value):
    """The first letter is mostly made large, but never that of the value: how it is written is asked for later."""
    if rng.random() < 0.75 and not text.startswith(value):
        text = text[0].upper() + text[1:]
    return text + (rng.choice([".", ".", "!"]) if rng.random() < 0.7 else "")

"""What holds of the generator, whatever it draws. Standard library only: `python -m unittest discover -s tests`."""

import random
import re
import unittest
from collections import Counter

from ember import phrases, small_talk, topics
from ember.cases import written_apart
from ember.dialogue import dialogue
from ember.judging import fallbacks, plain
from ember.memory import Memory
from ember.memory_slots import BASIC, FAVOURITES, NAMED
from ember.other import other_turn

DRAWN = 300


class Phrases(unittest.TestCase):
    def test_a_pattern_makes_every_phrase_that_it_counts(self):
        parts = phrases.parse("(clear|wipe [all of]) <what>", {"what": [["it"], ["the memory"]]}, "test")
        rng = random.Random(1)
        found = {phrases.expand(parts, rng) for _ in range(500)}
        self.assertEqual(phrases.count(parts), len(found))
        self.assertEqual(
            found,
            {"clear it", "clear the memory", "wipe it", "wipe the memory", "wipe all of it", "wipe all of the memory"},
        )

    def test_a_broken_pattern_is_refused_with_its_place(self):
        for broken in ("(a|b", "a)", "[a", "<nothing>", "(a]"):
            with self.assertRaisesRegex(phrases.PhraseError, "chat.txt:7"):
                phrases.parse(broken, {}, "chat.txt:7")

    def test_every_topic_has_phrases_for_every_split(self):
        rng = random.Random(2)
        for key, topic in topics.topics().items():
            for split in ("train", "dev", "test"):
                text, _ = topic.phrase(rng, split)
                self.assertEqual(phrases.phrase_split(text), split, key)

    def test_no_phrase_belongs_to_two_topics(self):
        """Over a draw, not over all: a clash that matters is one that is drawn."""
        rng, owner = random.Random(3), {}
        for key, topic in topics.topics().items():
            for _ in range(DRAWN):
                text, sort = topic.phrase(rng, "train")
                if sort == "Q":
                    self.assertEqual(owner.setdefault(text.lower(), key), key, text)


class Answers(unittest.TestCase):
    def test_no_two_answers_are_alike(self):
        replies = [plain(topic.answer) for topic in topics.topics().values()]
        replies += [plain(text) for _, texts in small_talk.small_talk().values() for text in texts] + list(fallbacks())
        self.assertEqual([text for text, count in Counter(replies).items() if count > 1], [])

    def test_every_answer_is_short_and_plain(self):
        for key, topic in topics.topics().items():
            self.assertLessEqual(len(topic.answer.split()), 75, key)
            self.assertTrue(topic.answer.isascii(), key)
            self.assertEqual(topic.answer.count("**") % 2, 0, key)


class Dialogues(unittest.TestCase):
    def test_the_stream_is_the_same_for_the_same_seed(self):
        first, second = random.Random("a"), random.Random("a")
        self.assertEqual([dialogue(first) for _ in range(50)], [dialogue(second) for _ in range(50)])

    def test_turns_alternate_and_say_something(self):
        rng = random.Random(4)
        for split in ("train", "dev", "test"):
            for _ in range(DRAWN):
                turns = dialogue(rng, split)
                if turns[0]["role"] == "system":
                    turns = turns[1:]
                for i, turn in enumerate(turns):
                    self.assertEqual(turn["role"], ("user", "assistant")[i % 2])
                    self.assertTrue(turn["content"].strip())
                    self.assertIsNone(
                        re.search(r"[{}<>]\w+[{}<>]", turn["content"])
                        if "other" not in turn.get("kind", "other")
                        else None
                    )

    def test_a_told_value_is_in_the_answer_and_an_untold_one_is_admitted(self):
        rng = random.Random(5)
        for _ in range(DRAWN):
            memory = Memory(rng)
            text, reply, _, value = memory.tell(rng, "train")
            self.assertIn(value, text, "as it is written is asked for")
            self.assertIn(value, reply)
            _, reply, kind, value = memory.query(rng, "train", next(iter(memory.facts)))
            self.assertIn(value, reply)
            self.assertIn("have not told me", memory.unknown(rng, "train")[1])
            text, reply, _, value = memory.correct(rng, "train")
            self.assertIn(value, text)
            self.assertIn(value, reply)

    def test_what_is_known_and_what_is_not_are_said_with_the_same_beginning(self):
        for slot in BASIC + FAVOURITES + NAMED:
            beginning = slot.answer.split("{}")[0].rstrip()
            self.assertTrue(slot.unset.startswith(beginning), slot.key)
            self.assertGreaterEqual(len(beginning.split()), 3, slot.key)

    def test_beyond_ember_there_are_only_honest_answers(self):
        rng = random.Random(6)
        for split, frames in (("train", "seen"), ("dev", "held"), ("test", "held")):
            for _ in range(DRAWN):
                self.assertIn(plain(other_turn(rng, split, frames=frames)[1]), fallbacks())


class HeldOut(unittest.TestCase):
    def test_what_was_written_apart_names_known_topics_and_repeats_nothing(self):
        keys = set(topics.topics()) | set(small_talk.small_talk()) | {"other", "unclear"}
        seen = Counter()
        for split in ("dev", "test"):
            found = written_apart(split)
            self.assertLessEqual(set(found), keys)
            self.assertLessEqual(set(topics.topics()), set(found))
            seen.update(text.lower() for texts in found.values() for text in texts)
        self.assertEqual([text for text, count in seen.items() if count > 1], [])


if __name__ == "__main__":
    unittest.main()

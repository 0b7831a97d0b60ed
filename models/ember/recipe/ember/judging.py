"""Whether a reply is right, honest or wrong, and how sure a share of such replies is."""

import re
from functools import cache
from math import sqrt

RIGHT, HONEST, WRONG = "right", "honest", "wrong"


@cache
def fallbacks():
    """The four honest answers to what Ember can't do or know, by their text: task, fact, sum, unclear."""
    from ember.topics import answers

    honest = {key: texts for key, texts in answers().items() if key.startswith("other_")}
    return {plain(text): key.removeprefix("other_") for key, texts in honest.items() for text in texts}


def plain(text):
    """The text with one blank for each row of them."""
    return " ".join(text.split())


def tidy_lines(text):
    """The text without what can't be seen in Markdown: blanks that end a line, and lines around it."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def has_word(text, word):
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def same(case, reply):
    """One of the references, word for word."""
    return plain(reply) in map(plain, case.wanted)


def value(case, reply):
    """The value as a whole word, letter by letter. Of a corrected fact the old value must not be there, unless as a
    part of the new one ("dark red" for "red") or a word of the sentence itself."""
    if not has_word(reply, case.value):
        return False
    sentence = case.wanted[0].replace(case.value, " ")
    rest = reply.replace(case.value, " ")
    return case.old is None or not has_word(rest, case.old) or has_word(sentence, case.old)


def result(case, reply):
    """What stands behind the last equals sign; the steps before it are free."""
    found = re.search(r"= (-?\d+)\.?$", reply.strip())
    return found is not None and found[1] == case.value


def markdown(case, reply):
    """The reference, line by line."""
    return tidy_lines(reply) == tidy_lines(case.wanted[0])


RULES = {"same": same, "value": value, "result": result, "markdown": markdown}


def judge(case, reply):
    """The verdict, and which of the honest answers the reply is (or None). Where an honest answer is right, any is."""
    honest = fallbacks().get(plain(reply))
    if case.judge == "fallback":
        return (RIGHT if honest else WRONG), honest
    if RULES[case.judge](case, reply):
        return RIGHT, honest
    return (HONEST if honest else WRONG), honest


def wilson(hits, count, z=1.96):
    """The 95 % interval of a share, by Wilson: sound for few cases and for shares near 0 and 1."""
    if count == 0:
        return 0.0, 1.0
    share, spread = hits / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)

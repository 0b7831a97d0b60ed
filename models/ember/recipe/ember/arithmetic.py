"""Sums: plus and minus up to 99, times up to 12, with the steps that make them easy for a small model."""

from ember.phrases import split_of
from ember.words import ask

FRAMES = [
    "what is {}",
    "what's {}",
    "{}",
    "{}",
    "{} = ?",
    "{} =",
    "how much is {}",
    "calculate {}",
    "can you work out {}",
    "please compute {}",
    "tell me {}",
    "what does {} make",
    "solve {}",
    "and {}",
    "{} equals what",
    "I need {}",
    "can you do {}",
    "the answer to {}",
    "I want to know {}",
    "how about {}",
    "give me {}",
    "help me with {}",
    "work out {}",
    "could you add this up: {}",
    "my sum is {}",
    "what do I get if I calculate {}",
    "do you know {}",
    "next: {}",
    "now {}",
    "what would {} be",
    "can you calculate {}",
    "what comes out of {}",
    "compute {} for me",
    "{} is",
    "then what is {}",
]
# Frames that training never sees, for decisions and for the final test.
HELD_FRAMES = {
    "dev": ["what do you get for {}", "give me the result of {}", "could you do {} for me"],
    "test": ["what is the sum {}", "I wonder how much {} is", "please tell me what {} makes"],
}
SIGNS = {
    "+": [" + ", "+", " plus ", " and "],
    "-": [" - ", "-", " minus ", " take away "],
    "x": [" * ", "*", " x ", " times ", " multiplied by ", "x"],
}
WORDED = {
    "+": ["add {a} and {b}", "what is the sum of {a} and {b}", "add {b} to {a}", "how much is {a} added to {b}"],
    "-": [
        "subtract {b} from {a}",
        "what is the difference between {a} and {b}",
        "take {b} away from {a}",
        "how much is {a} less {b}",
    ],
    "x": [
        "multiply {a} by {b}",
        "what is the product of {a} and {b}",
        "multiply {a} and {b}",
        "how much is {a} times {b}",
    ],
}


def work_out(a, sign, b):
    """The reply with its steps."""
    if sign == "x":
        return f"{a} x {b} = {a * b}."
    if sign == "+":
        if a > 9 and b > 9:
            tens, ones = a - a % 10 + b - b % 10, a % 10 + b % 10
            return f"{a - a % 10} + {b - b % 10} = {tens} and {a % 10} + {b % 10} = {ones}, so {a} + {b} = {a + b}."
        return f"{a} + {b} = {a + b}."
    if a < b:
        return work_out(b, sign, a)[:-1] + f", so {a} - {b} = {a - b}."
    if a > 9 and b > 9:
        tens = b - b % 10
        return f"{a} - {tens} = {a - tens} and {a - tens} - {b % 10} = {a - b}, so {a} - {b} = {a - b}."
    return f"{a} - {b} = {a - b}."


def sum_case(rng, split):
    """Two-digit pairs are divided among the splits; the small tables are all seen."""
    sign = rng.choice("++--x")
    while True:
        if sign == "x":
            return rng.randint(0, 12), sign, rng.randint(0, 12)
        high = 99 if rng.random() < 0.75 else 12
        a, b = rng.randint(0, high), rng.randint(0, high)
        if sign == "-" and a < b and rng.random() < 0.7:
            a, b = b, a
        if a < 10 or b < 10 or split_of(f"{a} {'plus' if sign == '+' else 'minus'} {b}") == split:
            return a, sign, b


def sum_turn(rng, split, held_frames=False):
    a, sign, b = sum_case(rng, split)
    if held_frames:
        text = rng.choice(HELD_FRAMES[split]).format(f"{a}{rng.choice(SIGNS[sign])}{b}")
    elif rng.random() < 0.15:
        text = rng.choice(WORDED[sign]).format(a=a, b=b)
    else:
        text = rng.choice(FRAMES).format(f"{a}{rng.choice(SIGNS[sign])}{b}")
    result = {"+": a + b, "-": a - b, "x": a * b}[sign]
    return ask(rng, text, keep=rng.random() < 0.5), work_out(a, sign, b), "sum", str(result)

"""Counting, days and months."""

from ember.phrases import patterns, say
from ember.words import ask

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
LENGTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()

UP = patterns(
    "[please] count from {0} [up] to {1}",
    "(can|could) you count from {0} to {1}",
    "[please] (list|write|say|give me) the numbers from {0} to {1}",
    "numbers from {0} to {1}",
    "count {0} to {1}",
    "start at {0} and count to {1}",
    "all numbers between {0} and {1}",
)
UP_FROM_ONE = patterns(
    "[please] count [up] to {1}",
    "(can|could) you count to {1}",
    "count from {0} to {1}",
    "say the numbers up to {1}",
    "I want you to count to {1}",
)
DOWN = patterns(
    "[please] count (down|backwards) from {1} to {0}",
    "(can|could) you count (down|backwards) from {1} to {0}",
    "a countdown from {1} to {0}",
    "start at {1} and count down to {0}",
    "count in reverse from {1} to {0}",
)
AFTER = patterns(
    "(what|which) day (comes|is) after {}",
    "(what|which) day follows [on] {}",
    "what is the day after {}",
    "the day after {}",
    "(what|which) [week]day is it after {}",
    "if today is {}, what is tomorrow",
    "what comes after {}",
    "tell me (what|which) day comes after {}",
    "(what|which) day will it be [on] the day after {}",
    "{} is followed by (what|which) day",
    "after {} comes (what|which day)",
    "(do|can) you (know|tell me) (what|which) day (comes|follows|is) after {}",
    "the next day after {} [is]",
    "it is {} today, what day is it tomorrow",
)
BEFORE = patterns(
    "(what|which) day (comes|is) before {}",
    "what is the day before {}",
    "the day before {}",
    "(what|which) [week]day is it before {}",
    "if today is {}, what was yesterday",
    "what comes before {}",
    "tell me (what|which) day comes before {}",
    "(what|which) day was it [on] the day before {}",
    "before {} comes (what|which day)",
    "(do|can) you (know|tell me) (what|which) day (comes|is) before {}",
    "the last day before {} [is]",
    "it is {} today, what day was it yesterday",
)
MONTH_AFTER = patterns(
    "(what|which) month (comes|is) after {}",
    "(what|which) month follows [on] {}",
    "what is the month after {}",
    "the month after {}",
    "what comes after {}",
    "tell me (what|which) month comes after {}",
    "after {} comes (what|which month)",
    "{} is followed by (what|which) month",
    "(do|can) you (know|tell me) (what|which) month (comes|follows|is) after {}",
    "the next month after {} [is]",
    "it is {} now, what is next month",
)
MONTH_BEFORE = patterns(
    "(what|which) month (comes|is) before {}",
    "what is the month before {}",
    "the month before {}",
    "what comes before {}",
    "tell me (what|which) month comes before {}",
    "before {} comes (what|which month)",
    "(do|can) you (know|tell me) (what|which) month (comes|is) before {}",
    "the last month before {} [is]",
    "it is {} now, what was last month",
)
MONTH_DAYS = patterns(
    "how many days (has|are in|are there in|in) {}",
    "how many days does {} have",
    "how long is {}",
    "(what is|what's) the (number of days|length) (of|in) {}",
    "tell me how many days {} has",
    "how many days has {} [got]",
    "{} has how many days",
    "number of days in {}",
    "(do|can) you (know|tell me|say) how many days {} has",
    "how many days long is {}",
    "the length of {} in days",
)
MONTH_NUMBER = patterns(
    "(what|which) is the {} month [of the year]",
    "what's the {} month [of the year]",
    "(which|what) month is the {} [one]",
    "name the {} month [of the year]",
    "tell me the {} month",
    "the {} month [of the year] is",
    "(do|can) you (know|tell me|name) the {} month [of the year]",
    "(what|which) is the {} month in a year",
    "(what|which) month comes {} in the year",
    "(what's|what is) the name of the {} month",
)
ALL_DAYS = patterns(
    "(what are|name|list|say|tell me|give me) [all] the (days of the week|weekdays)",
    "(name|list|say) the seven days",
    "can you (name|list|say) the days of the week",
    "(which|what) days are in a week",
    "(which|what) days does a week have",
    "the days of the week",
    "all [seven] weekdays, please",
    "tell me the names of the (days|weekdays)",
)
ALL_MONTHS = patterns(
    "(what are|name|list|say|tell me|give me) [all] the months [of the year]",
    "(name|list|say) the twelve months",
    "can you (name|list|say) the months",
    "(which|what) months are in a year",
    "(which|what) months does a year have",
    "the months of the year",
    "all [twelve] months, please",
    "tell me the names of the months",
)
FIXED = {
    "week": ("A week has 7 days.", "days", "7"),
    "year": ("A year has 12 months.", "months", "12"),
    "day": ("A day has 24 hours.", "hours", "24"),
    "hour": ("An hour has 60 minutes.", "minutes", "60"),
    "minute": ("A minute has 60 seconds.", "seconds", "60"),
}
MEASURE = patterns(
    "how many {1} (are in|are there in|has|in) {0}",
    "how many {1} does {0} have",
    "how many {1} make {0}",
    "tell me how many {1} are in {0}",
    "(do|can) you (know|tell me|say) how many {1} {0} has",
    "number of {1} in {0}",
    "{0} has how many {1}",
    "of how many {1} is {0} made",
)


def count_turn(rng, split):
    low = rng.randint(0, 60) if rng.random() < 0.5 else 1
    high = low + rng.randint(2, 16)
    run = [str(i) for i in range(low, high + 1)]
    if rng.random() < 0.3:
        lines, reply = DOWN, f"Counting down from {high} to {low}: "
        run.reverse()
    else:
        lines, reply = (UP_FROM_ONE if low == 1 else UP), f"Counting from {low} to {high}: "
    text = say(rng, lines, split).format(low, high)
    return ask(rng, text, ".", keep=rng.random() < 0.5), reply + ", ".join(run) + ".", "count", ", ".join(run)


def calendar_turn(rng, split):
    i, j, roll = rng.randrange(7), rng.randrange(12), rng.randrange(10)
    if roll < 4:
        names, at = (DAYS, i) if roll < 2 else (MONTHS, j)
        after = roll % 2 == 0
        lines = [BEFORE, AFTER, MONTH_BEFORE, MONTH_AFTER][(roll >= 2) * 2 + after]
        value = names[(at + (1 if after else -1)) % len(names)]
        question, reply = (
            say(rng, lines, split, names[at]),
            f"{value} comes {'after' if after else 'before'} {names[at]}.",
        )
    elif roll == 4 or roll == 5:
        value = str(LENGTHS[j])
        question = say(rng, MONTH_DAYS, split, MONTHS[j])
        reply = f"{MONTHS[j]} has {value} days" + (", and 29 in a leap year." if j == 1 else ".")
    elif roll == 6:
        value = MONTHS[j]
        question, reply = say(rng, MONTH_NUMBER, split, ORDINALS[j]), f"{value} is the {ORDINALS[j]} month."
    elif roll == 7:
        value = ", ".join(DAYS) + "."
        question, reply = say(rng, ALL_DAYS, split), value
    elif roll == 8:
        value = ", ".join(MONTHS) + "."
        question, reply = say(rng, ALL_MONTHS, split), value
    else:
        unit = rng.choice(list(FIXED))
        reply, parts, value = FIXED[unit]
        question = say(rng, MEASURE, split).format(("an " if unit == "hour" else "a ") + unit, parts)
    return ask(rng, question, keep=True), reply, "calendar", value

"""Measure Ember through Hearth itself: greedy, live conversations, held-out phrases and values.

    python evaluate.py MODEL_DIR --hearth ../../../target/release/hearth --split dev
    python evaluate.py MODEL_DIR --hearth ... --split test --mt-bench FILE --table table.md --failures failures.jsonl
    python evaluate.py MODEL_DIR --hearth ... --split dev --groups memory,corrected --cases 1000

Decisions are made on the split `dev`; `test` is for the numbers of the model card. The groups are described in
`ember/cases.py`, the rules of judgement in `ember/judging.py`. The model's own earlier replies stay in a conversation.
"""

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ember.cases import groups
from ember.hearth_process import Hearth, HearthError
from ember.judging import HONEST, RIGHT, WRONG, judge, wilson

# Above this share of wrong answers a group is marked: it is the most that Hearth accepts.
MOST_WRONG = 0.03


@dataclass
class Tally:
    """The verdicts of one group, and which honest answers were given."""

    verdicts: Counter = field(default_factory=Counter)
    honest: Counter = field(default_factory=Counter)

    @property
    def count(self):
        return self.verdicts.total()

    def share(self, verdict):
        return self.verdicts[verdict] / self.count


@dataclass
class Endings:
    """Over all replies, also those that are not judged: why they ended."""

    reasons: Counter = field(default_factory=Counter)
    tokens: int = 0

    def add(self, reply):
        self.reasons[reply.finish_reason] += 1
        self.tokens += reply.tokens


def converse(hearth, messages, endings):
    """The replies to the messages of one conversation. What Hearth can't answer (a full context) ends it, and the last
    reply is then empty: right for no case."""
    hearth.reset()
    replies = []
    for message in messages:
        try:
            reply = hearth.say(message)
        except HearthError as error:
            endings.reasons[str(error)] += 1
            return [*replies, ""]
        endings.add(reply)
        replies.append(reply.text)
    return replies


def measure(hearth, name, cases, endings, failures):
    """Runs the cases of a group; what is not right goes to `failures`."""
    tally = Tally()
    for case in cases:
        replies = converse(hearth, case.messages, endings)
        verdict, honest = judge(case, replies[-1])
        tally.verdicts[verdict] += 1
        if honest:
            tally.honest[honest] += 1
        if verdict != RIGHT:
            failure = {"group": name, "verdict": verdict, **asdict(case)}
            failures.append({**failure, "got": replies[-1], "replies": replies[:-1]})
    return tally


def percent(tally, verdict):
    """A share with its 95 % interval."""
    low, high = wilson(tally.verdicts[verdict], tally.count)
    return f"{100 * tally.share(verdict):.1f} ({100 * low:.1f}-{100 * high:.1f})"


def rows(tallies, known):
    for name, tally in tallies.items():
        wrong = percent(tally, WRONG)
        yield [
            known[name].title,
            str(tally.count),
            percent(tally, RIGHT),
            f"{100 * tally.share(HONEST):.1f}",
            wrong,
            "yes" if tally.share(WRONG) <= MOST_WRONG else "NO",
        ]


HEADER = ["group", "cases", "right %", "honest %", "wrong %", "wrong <= 3 %"]


def text_table(lines):
    widths = [max(len(line[i]) for line in [HEADER, *lines]) for i in range(len(HEADER))]
    padded = (map(str.ljust, line, widths) for line in [HEADER, *lines])
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def markdown_table(lines):
    head = ["| " + " | ".join(HEADER) + " |", "| --- | ---: | ---: | ---: | ---: | :---: |"]
    return "\n".join(head + ["| " + " | ".join(line) + " |" for line in lines])


def notes(tallies, known, endings):
    """What the table has no column for: which honest answers were given, and how replies ended."""
    for name, tally in tallies.items():
        if tally.honest:
            mix = ", ".join(f"{kind} {count}" for kind, count in tally.honest.most_common())
            yield f'Honest answers in "{known[name].title}": {mix}.'
    total, ended = endings.reasons.total(), endings.reasons["end_of_turn"]
    low, high = wilson(ended, total)
    share = f"{100 * ended / total:.2f} % ({100 * low:.2f}-{100 * high:.2f})"
    yield f"Ended by themselves within 200 tokens: {ended} of {total} replies, {share}."
    others = {reason: count for reason, count in endings.reasons.items() if reason != "end_of_turn"}
    if others:
        yield f"The others: {', '.join(f'{reason} {count}' for reason, count in others.items())}."


def chosen(known, names):
    """The groups that were asked for: `topic` names all of `topic-...`."""
    if not names:
        return list(known)
    found = {name: [k for k in known if f"{k}-".startswith(f"{name}-")] for name in names.split(",")}
    for name, named in found.items():
        if not named:
            raise SystemExit(f"there is no group '{name}'; there are {', '.join(known)}")
    return [k for k in known if any(k in named for named in found.values())]


def arguments():
    named = [f"  {name:<14} {group.title}: {group.about}" for name, group in groups().items()]
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="\n".join(["groups:", *named]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="the model's folder")
    parser.add_argument("--hearth", required=True, help="the program")
    parser.add_argument("--split", choices=["dev", "test"], default="dev")
    parser.add_argument("--cases", type=int, default=200, help="in each group that is drawn; the others run whole")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--groups", help="names, separated by commas; `topic` means all of `topic-...`")
    parser.add_argument("--mt-bench", help="the questions of MT-Bench as JSON lines")
    parser.add_argument("--system", help="a system prompt for every conversation")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--failures", help="write what is not right here, as JSON lines")
    parser.add_argument("--table", help="write the table here, as Markdown for the model card")
    return parser.parse_args()


def main():
    args, started = arguments(), time.monotonic()
    known = groups(args.mt_bench)
    tallies, endings, failures = {}, Endings(), []
    with Hearth(args.hearth, args.model, system=args.system, threads=args.threads) as hearth:
        for name in chosen(known, args.groups):
            cases = known[name].cases(name, args.cases, args.seed, args.split)
            tallies[name] = measure(hearth, name, cases, endings, failures)
            print(f"{time.monotonic() - started:6.0f} s  {name}", file=sys.stderr, flush=True)
    lines, remarks = list(rows(tallies, known)), list(notes(tallies, known, endings))
    print(text_table(lines), *remarks, sep="\n")
    if args.table:
        about = f"Split `{args.split}`, seed {args.seed}, greedy. In parentheses: 95 % intervals (Wilson)."
        parts = [about, markdown_table(lines), "\n".join(f"- {remark}" for remark in remarks)]
        Path(args.table).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    if args.failures:
        parts = [json.dumps(failure, ensure_ascii=False) + "\n" for failure in failures]
        Path(args.failures).write_text("".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()

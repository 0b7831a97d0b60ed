"""Markdown on request: lists, tables, code blocks, emphasis."""

from ember.calendar_dates import DAYS, LENGTHS, MONTHS
from ember.letters import phrase
from ember.phrases import patterns, say
from ember.words import ALL_WORDS, ask, draw, invented, rough

SETS = {
    "fruits": ["apple", "pear", "cherry", "plum", "lemon", "grape"],
    "colours": ["red", "blue", "green", "yellow", "black", "white"],
    "animals": ["cat", "dog", "horse", "owl", "fox", "bear"],
    "vegetables": ["carrot", "onion", "bean", "potato", "pepper", "leek"],
    "drinks": ["water", "tea", "coffee", "juice", "milk", "cocoa"],
    "tools": ["hammer", "saw", "drill", "ruler", "knife", "ladder"],
    "birds": ["owl", "swan", "eagle", "duck", "raven", "falcon"],
    "trees": ["oak", "pine", "birch", "maple", "willow", "elm"],
    "flowers": ["rose", "tulip", "daisy", "lily", "poppy", "iris"],
    "sports": ["tennis", "football", "rowing", "cricket", "chess", "golf"],
    "instruments": ["piano", "violin", "guitar", "drum", "flute", "trumpet"],
    "seasons": ["spring", "summer", "autumn", "winter"],
    "days": DAYS,
    "months": MONTHS,
    "planets": ["Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune"],
    "shapes": ["circle", "square", "triangle", "star", "cube", "ring"],
}
WHOLE = ("days", "months", "planets", "seasons")
TABLES = {
    "fruits and their colours": (
        "fruit",
        "colour",
        [("apple", "red"), ("lemon", "yellow"), ("plum", "purple"), ("lime", "green")],
    ),
    "animals and their sounds": (
        "animal",
        "sound",
        [("cat", "meow"), ("dog", "woof"), ("cow", "moo"), ("duck", "quack")],
    ),
    "numbers and their squares": ("number", "square", [(str(i), str(i * i)) for i in range(1, 6)]),
    "months and their days": ("month", "days", [(MONTHS[i], str(LENGTHS[i])) for i in range(6)]),
    "animals and their legs": ("animal", "legs", [("bird", "2"), ("cat", "4"), ("ant", "6"), ("spider", "8")]),
    "seasons and months": (
        "season",
        "months",
        [
            ("spring", "March to May"),
            ("summer", "June to August"),
            ("autumn", "September to November"),
            ("winter", "December to February"),
        ],
    ),
}
HELLO = {
    "Python": ("python", 'print("Hello, world!")'),
    "JavaScript": ("javascript", 'console.log("Hello, world!");'),
    "Rust": ("rust", 'fn main() {\n    println!("Hello, world!");\n}'),
    "C": ("c", '#include <stdio.h>\n\nint main(void) {\n    puts("Hello, world!");\n    return 0;\n}'),
    "Java": (
        "java",
        'class Hello {\n    public static void main(String[] args) {\n        System.out.println("Hello, world!");\n    }\n}',
    ),
    "Go": ("go", 'package main\n\nimport "fmt"\n\nfunc main() {\n    fmt.Println("Hello, world!")\n}'),
    "Ruby": ("ruby", 'puts "Hello, world!"'),
    "Bash": ("bash", 'echo "Hello, world!"'),
}
BULLETS = "(bullet list|bulleted list|list|bullet point list|short list|list with bullets|Markdown list)"
NUMBERED = "(numbered list|ordered list|list with numbers|list that is numbered)"
START = "[[please] (make|give me|write|show me|create|draw up)|can you (make|write|give me)|I (need|want|would like)]"
LISTS = {False: patterns(f"{START} a {BULLETS} of {{}}"), True: patterns(f"{START} a {NUMBERED} of {{}}")}
OWN_LISTS = {
    numbered: patterns(*(f"{START} a {kind}{join}{{}}" for join in (" of ", ": ", " with ")), f"{make} {{}}")
    for numbered, kind, make in (
        (False, BULLETS, "put (this|these) in a bullet list:"),
        (True, NUMBERED, "number these:"),
    )
}
TABLE = patterns(
    "[please] (make|show me|give me|write|create|draw) a [small] table (of|with) {}",
    "[a] table of {}",
    "can you (make|show me) a [small] table (of|with) {}",
    "{} as a table",
    "I (need|want) a table (of|with) {}",
    "show {} in a table",
    "put {} in[to] a table",
)
OWN_TABLE = patterns(
    "[please] make a table with [the columns] {0} and {1} and (one|the) row: {2}, {3}",
    "make a table with [the columns] {0} and {1}, the row is {2}, {3}",
    "[a] table with [the columns] {0} and {1} and the row {2}, {3}",
    "create a table, columns {0} and {1}, one row: {2}, {3}",
)
CODE = patterns(
    "[please] (write|show me|give me|print) [a] hello world [program] in {}",
    "hello world in {}",
    "(a|show me a|write a|give me a) [short|small|tiny] code (block|sample|example) in {}",
    "show me a [short|small|tiny] {} program",
    "can you show me [some] {} code",
    "a (small|short|tiny) {} (example|program)",
    "{} hello world",
    "write a (tiny|short|small) {} program",
    "how does hello world look in {}",
    "can you write [a] hello world [program] in {}",
    "hello world, but in {}",
    "{} code example",
)
EMPHASIS = {
    style: patterns(
        *(
            line.replace("STYLE", names)
            for line in (
                "[please] (write|say|put|show|set|print) {} in STYLE",
                "make (this|that) STYLE: {}",
                "{} in STYLE",
                "can you (write|put|show) {} in STYLE",
                "STYLE, please: {}",
                "format this (as|in) STYLE: {}",
            )
        )
    )
    for style, names in (
        ("**", "(bold|bold text|bold letters)"),
        ("*", "(italics|italic|italic letters)"),
        ("`", "(code|inline code|code style)"),
    )
}
NUMBERS = ["", "", "", "three", "four", "five"]


def bullets(items):
    return "\n".join(f"- {x}" for x in items)


def numbered(items):
    return "\n".join(f"{i}. {x}" for i, x in enumerate(items, 1))


def table(a, b, rows):
    return f"| {a} | {b} |\n| --- | --- |\n" + "\n".join(f"| {x} | {y} |" for x, y in rows)


def list_turn(rng, split):
    number_it = rng.random() < 0.5
    form = numbered if number_it else bullets
    if rng.random() < 0.5:
        key = rng.choice(list(SETS))
        count = min(rng.choice([0, 0, 3, 3, 4, 5]), len(SETS[key]))
        items = SETS[key] if count == 0 and key in WHOLE else SETS[key][: count or 3]
        named = f"{count if rng.random() < 0.6 else NUMBERS[count]} {key}" if count else key
        return say(rng, LISTS[number_it], split, named), form(items), "md:list"
    count = rng.randint(2, 6)
    items = draw(
        rng, lambda r: " ".join(r.choice(ALL_WORDS) if r.random() < 0.7 else invented(r) for _ in range(count)), split
    ).split()
    joined = ", ".join(items[:-1]) + rng.choice([", ", " and ", ", and "]) + items[-1]
    return say(rng, OWN_LISTS[number_it], split, joined), form(items), "md:list"


def table_turn(rng, split):
    if rng.random() < 0.6:
        key = rng.choice(list(TABLES))
        return say(rng, TABLE, split, key), table(*TABLES[key]), "md:table"
    a, b, c, d = draw(rng, lambda r: " ".join(r.choice(ALL_WORDS) for _ in range(4)), split).split()
    return say(rng, OWN_TABLE, split).format(a, b, c, d), table(a, b, [(c, d)]), "md:table"


def code_turn(rng, split):
    language = rng.choice(list(HELLO))
    fence, code = HELLO[language]
    return say(rng, CODE, split, language), f"```{fence}\n{code}\n```", "md:code"


def emphasis_turn(rng, split):
    words = phrase(rng, split)
    mark = rng.choice(["**", "**", "*", "`"])
    if mark == "`":
        words = words.split()[0]
    return say(rng, EMPHASIS[mark], split, words), f"{mark}{words}{mark}", "md:emphasis"


def markdown_turn(rng, split):
    make = rng.choices([list_turn, table_turn, code_turn, emphasis_turn], [35, 20, 20, 25])[0]
    text, reply, kind = make(rng, split)
    if kind == "md:emphasis":
        return rough(rng, text, True), reply, kind, None
    return ask(rng, text, ".", keep=kind != "md:code" or rng.random() < 0.5), reply, kind, None

"""Look at the dialogues that Ember is trained on: one a line, as JSON.

python generate.py --seed 1 --count 5
"""

import argparse
import json

from ember.dialogue import dialogues


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--split", choices=["train", "dev", "test"], default="train")
    args = parser.parse_args()
    stream = dialogues(args.seed, args.split)
    for _ in range(args.count):
        print(json.dumps(next(stream), ensure_ascii=False))


if __name__ == "__main__":
    main()

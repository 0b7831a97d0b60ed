"""Everything in one command: train, export, measure, install.

python make.py --hearth ../../../target/release/hearth --minutes 150
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from export import KEEP

HERE = Path(__file__).resolve().parent


def run(*command):
    print("$", *command, flush=True)
    subprocess.run([sys.executable, *map(str, command)], check=True, cwd=HERE)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--hearth", required=True, help="the program `hearth`")
    p.add_argument("--minutes", type=float, default=150, help="training time")
    p.add_argument("--out", default="out")
    p.add_argument("--cases", type=int, default=200, help="in each group that is drawn; few for a trial")
    p.add_argument("--mt-bench", help="the questions of MT-Bench as JSON lines")
    args = p.parse_args()
    hearth, out = Path(args.hearth).resolve(), Path(args.out)
    run("-m", "unittest", "discover", "-s", "tests")
    run("train.py", "--out", out, "--minutes", args.minutes)
    run("export.py", "--out", out)
    more = ["--mt-bench", Path(args.mt_bench).resolve()] if args.mt_bench else []
    run(
        "evaluate.py",
        out / "onnx-int8",
        "--hearth",
        hearth,
        "--split",
        "test",
        "--cases",
        args.cases,
        "--table",
        out / "table.md",
        "--failures",
        out / "failures.jsonl",
        *more
    )
    for file in ["model.onnx", *KEEP]:
        shutil.copyfile(HERE / out / "onnx-int8" / file, HERE.parent / file)


if __name__ == "__main__":
    main()

"""Hearth's chat, driven from Python: the model is asked through the program that people use.

    python -m ember.hearth_process MODEL_DIR --hearth PATH      # checks that resets and lines work with this model

The program reads and writes JSON lines: `hearth chat --json --input json`.
"""

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path


class HearthError(RuntimeError):
    """Hearth ended, said that something failed, or did not answer in time."""


@dataclass(frozen=True)
class Reply:
    """What the model said, why it stopped, its tokens, and those of the prompt that Hearth made of the conversation."""

    text: str
    finish_reason: str
    tokens: int
    prompt_tokens: int

    @property
    def ended_by_itself(self):
        return self.finish_reason == "end_of_turn"

    @classmethod
    def of(cls, finish):
        usage = finish["usage"]
        return cls(finish["text"].strip(), finish["reason"], usage["new_tokens"], usage["prompt_tokens"])


class Hearth:
    """The chat, greedy, for many conversations. A context manager."""

    def __init__(self, hearth, model, system=None, max_tokens=200, threads=1, timeout=120.0):
        # A data folder of its own: no saved setting changes the replies, and nothing of the user is touched.
        self._data = tempfile.TemporaryDirectory(prefix="hearth-evaluate-")
        self._environment = {**os.environ, "HEARTH_DATA_DIR": self._data.name, "ORT_DISABLE_TELEMETRY": "1"}
        self._command = [
            str(Path(hearth).resolve()),
            "chat",
            "--json",
            "--private",
            "--model",
            str(Path(model).resolve()),
            "--temperature",
            "0",
            "--max-tokens",
            str(max_tokens),
            "--threads",
            str(threads),
        ]
        self._command += ["--system", system] if system else []
        self._timeout, self._process = timeout, None
        try:
            self.reset()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the process. Harmless if it has ended."""
        self._end()
        self._data.cleanup()

    def reset(self):
        """Begins another conversation, in another process where the last one failed: Hearth ends at a failure."""
        if self._process is None:
            self._process = subprocess.Popen(
                [*self._command, "--input", "json"],
                env=self._environment,
                text=True,
                encoding="utf-8",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        self._ask({"command": "reset"}, "reset")

    def say(self, text):
        """The model's reply to the next message of the conversation. Blanks around it are dropped, as the window does
        it."""
        return Reply.of(self._ask({"message": text.strip()}, "finish"))

    def _ask(self, line, last):
        """Sends a line, and returns the line that ends the answer."""
        if self._process is None:
            raise HearthError("hearth has ended; a reset starts it again")
        try:
            return self._answer(line, last)
        except BaseException:
            self._end()
            raise

    def _answer(self, line, last):
        process = self._process
        # A process that is killed closes its end of the pipe, so nothing here waits for it longer.
        watch = threading.Timer(self._timeout, process.kill)
        watch.start()
        try:
            # Where it ended already, its last line tells why.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(line) + "\n")
                process.stdin.flush()
            for told in map(json.loads, process.stdout):
                if told["type"] == "error":
                    raise HearthError(f"error: {told['message']}")
                if told["type"] == last:
                    return told
        finally:
            watch.cancel()
        raise HearthError(f"hearth ended ({process.wait()}) or did not answer within {self._timeout} s")

    def _end(self):
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def check_reset(hearth, model):
    """After a reset the prompt and the reply are those of a new process."""
    with Hearth(hearth, model) as chat:
        fresh = chat.say("What is my name?")
    with Hearth(hearth, model) as chat:
        chat.say("My name is Zorbik.")
        later = chat.say("What is my name?")
        chat.reset()
        again = chat.say("What is my name?")
    if again != fresh or later.prompt_tokens <= fresh.prompt_tokens:
        raise HearthError(f"a reset keeps something: {fresh} became {again}")


def check_lines(hearth, model):
    """A message of several lines gives the reply and the tokens that it gives as an argument."""
    texts = ("Translate this:\n\n  a\\\nb\n\n- c", "/two\nlines", "ends in \\", "ein Gruß … > ", "word " * 1500 + "\nx")
    with Hearth(hearth, model) as chat:
        for text in texts:
            chat.reset()
            reply = chat.say(text)
            told = subprocess.run(
                [*chat._command, "--prompt", text.strip()],
                env=chat._environment,
                stdout=subprocess.PIPE,
                check=True,
                timeout=120,
            ).stdout
            expected = Reply.of(json.loads(told.splitlines()[-1]))
            if reply != expected:
                raise HearthError(f"{text[:40]!r} did not arrive whole: {reply} and not {expected}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--hearth", required=True)
    arguments = parser.parse_args()
    check_reset(arguments.hearth, arguments.model)
    check_lines(arguments.hearth, arguments.model)
    print("A reset forgets everything, and messages of several lines arrive whole.")


if __name__ == "__main__":
    main()

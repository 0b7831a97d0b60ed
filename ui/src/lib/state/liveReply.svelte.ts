import { tick } from "svelte";
import type { ChatEvent } from "../ipc";

export interface Prefill {
  done: number;
  total: number;
  reused: number;
}

export type LivePhase = "waiting" | "reading" | "thinking" | "writing";

/** How the preview gets at the screen's frames and at the time; replaced in tests. */
export interface Frames {
  request(callback: () => void): void;
  later(milliseconds: number, callback: () => void): void;
  now(): number;
}

/** Calls back once what is shown now was drawn: a frame begins when the one before it is on the screen. */
export function onceDrawn(frames: Frames, callback: () => void): void {
  frames.request(() => frames.request(callback));
}

export const screenFrames: Frames = {
  request: (callback) => {
    requestAnimationFrame(callback);
  },
  later: (milliseconds, callback) => {
    setTimeout(callback, milliseconds);
  },
  now: () => performance.now(),
};

/** The share of time that showing the preview may take: one part of work to this many of rest. */
const REST_PER_WORK = 2;

/**
 * The preview of a reply that is being written. Deltas gather in plain strings; one animation
 * frame moves them into view, however many of them came.
 */
export class LiveReply {
  readonly id: string;
  text = $state("");
  thinking = $state("");
  prefill = $state.raw<Prefill | null>(null);
  /** Those that were generated since the prompt was read. */
  tokens = $state(0);
  phase = $state<LivePhase>("waiting");
  thinkingSeconds = $state(0);

  #frames: Frames;
  #text: string;
  #thinking: string;
  #prefill: Prefill | null = null;
  #tokens = 0;
  #phase: LivePhase = "waiting";
  #thinkingSince: number | null = null;
  #thinkingUntil: number | null = null;
  #frameAsked = false;
  #restsUntil = 0;

  constructor(id: string, text: string, thinking: string, frames: Frames) {
    this.id = id;
    this.#frames = frames;
    this.#text = this.text = text;
    this.#thinking = this.thinking = thinking;
  }

  /** Takes one event of the stream. */
  take(event: ChatEvent): void {
    if (event.type === "prefill") {
      this.#prefill = { done: event.done, total: event.total, reused: event.reused };
      this.#phase = "reading";
    } else if (event.type === "thinking") {
      this.#thinking += event.text;
      this.#tokens = event.tokens;
      this.#thinkingSince ??= this.#frames.now();
      this.#phase = "thinking";
    } else if (event.type === "text") {
      this.#text += event.text;
      this.#tokens = event.tokens;
      if (this.#thinkingSince !== null) this.#thinkingUntil ??= this.#frames.now();
      this.#phase = "writing";
    }
    this.#show();
  }

  #show(): void {
    if (this.#frameAsked) return;
    this.#frameAsked = true;
    const rest = this.#restsUntil - this.#frames.now();
    if (rest > 0) this.#frames.later(rest, () => this.#askFrame());
    else this.#askFrame();
  }

  #askFrame(): void {
    this.#frames.request(() => {
      this.#frameAsked = false;
      const begin = this.#frames.now();
      this.#moveIntoView();
      // A long last block is slow to parse and draw; then it comes less often, and the window stays awake.
      void tick().then(() => {
        const end = this.#frames.now();
        this.#restsUntil = end + REST_PER_WORK * (end - begin);
      });
    });
  }

  #moveIntoView(): void {
    this.text = this.#text;
    this.thinking = this.#thinking;
    this.prefill = this.#prefill;
    this.tokens = this.#tokens;
    this.phase = this.#phase;
    if (this.#thinkingSince !== null) {
      const until = this.#thinkingUntil ?? this.#frames.now();
      this.thinkingSeconds = (until - this.#thinkingSince) / 1000;
    }
  }
}

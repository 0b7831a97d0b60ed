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
  now(): number;
}

export const screenFrames: Frames = {
  request: (callback) => {
    requestAnimationFrame(callback);
  },
  now: () => performance.now(),
};

/**
 * The preview of a reply that is being written. Deltas gather in plain strings; one animation
 * frame moves them into view, however many of them came.
 */
export class LiveReply {
  readonly id: string;
  text = $state("");
  thinking = $state("");
  prefill = $state.raw<Prefill | null>(null);
  phase = $state<LivePhase>("waiting");
  thinkingSeconds = $state(0);

  #frames: Frames;
  #text: string;
  #thinking: string;
  #prefill: Prefill | null = null;
  #phase: LivePhase = "waiting";
  #thinkingSince: number | null = null;
  #thinkingUntil: number | null = null;
  #frameAsked = false;

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
      this.#thinkingSince ??= this.#frames.now();
      this.#phase = "thinking";
    } else if (event.type === "text") {
      this.#text += event.text;
      if (this.#thinkingSince !== null) this.#thinkingUntil ??= this.#frames.now();
      this.#phase = "writing";
    }
    this.#show();
  }

  #show(): void {
    if (this.#frameAsked) return;
    this.#frameAsked = true;
    this.#frames.request(() => {
      this.#frameAsked = false;
      this.text = this.#text;
      this.thinking = this.#thinking;
      this.prefill = this.#prefill;
      this.phase = this.#phase;
      if (this.#thinkingSince !== null) {
        const until = this.#thinkingUntil ?? this.#frames.now();
        this.thinkingSeconds = (until - this.#thinkingSince) / 1000;
      }
    });
  }
}

// What the in-memory backend keeps of what its models have read.

import type { KeptMemory } from "./index";

const DEFAULT_BUDGET = 2_000_000_000;

export class FakeKeptMemory {
  #bytes = 812_000_000;
  #chosen: number | null = null;

  read(): KeptMemory {
    return {
      bytes: this.#bytes,
      budgetBytes: this.#chosen ?? DEFAULT_BUDGET,
      chosenBudgetBytes: this.#chosen,
      trouble: null,
    };
  }

  setBudget(bytes: number | null): KeptMemory {
    this.#chosen = bytes;
    this.#bytes = Math.min(this.#bytes, bytes ?? DEFAULT_BUDGET);
    return this.read();
  }

  free(): number {
    const freed = this.#bytes;
    this.#bytes = 0;
    return freed;
  }
}

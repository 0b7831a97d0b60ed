import type { Ipc, Notice } from "../ipc";

/** Quiet lines about the application as a whole. */
export class Notices {
  list = $state.raw<Notice[]>([]);

  #ipc: Ipc;

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
  }

  apply(notices: Notice[]): void {
    this.list = notices;
  }

  /** Takes a notice away at once; the backend only has to remember it. */
  async dismiss(id: string): Promise<void> {
    this.list = this.list.filter((notice) => notice.id !== id);
    try {
      await this.#ipc.dismissNotice(id);
    } catch {
      // A notice that could not be dismissed comes back with the next start, which harms nobody.
    }
  }
}

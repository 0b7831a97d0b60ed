import type {
  Conversation,
  ConversationPage,
  ConversationSummary,
  ExportFormat,
  Ipc,
} from "../ipc";
import { deletionSentence, importSentence } from "../sentences";
import { type Chat, MESSAGES_AT_A_TIME } from "./chat.svelte";
import { Search } from "./search.svelte";
import type { Toasts } from "./toasts.svelte";

const CONVERSATIONS_AT_A_TIME = 100;

/** Which conversations there are, and which of them is shown. */
export class Conversations {
  /** The pinned ones first, then the newest; as many as were asked for so far. */
  list = $state.raw<ConversationSummary[]>([]);
  hasMore = $state(false);
  readonly search: Search;

  #ipc: Ipc;
  #chat: Chat;
  #toasts: Toasts;
  #uncover: () => void;
  #isReading = false;
  #isStale = false;
  #opening = 0;

  /** `uncover` takes away what lies over the conversation, before one is shown. */
  constructor(ipc: Ipc, chat: Chat, toasts: Toasts, uncover: () => void = () => undefined) {
    this.#ipc = ipc;
    this.#chat = chat;
    this.#toasts = toasts;
    this.#uncover = uncover;
    this.search = new Search(ipc);
  }

  apply(page: ConversationPage): void {
    this.list = page.conversations;
    this.hasMore = page.more;
    const shown = this.list.find((conversation) => conversation.id === this.#chat.id);
    if (shown) this.#chat.about = shown;
  }

  /** To be called whenever the list may be another. Changes that come while it is read are read together. */
  async changed(): Promise<void> {
    this.#isStale = true;
    if (this.#isReading) return;
    this.#isReading = true;
    while (this.#isStale) {
      this.#isStale = false;
      await this.#read(Math.max(this.list.length, CONVERSATIONS_AT_A_TIME));
    }
    this.#isReading = false;
  }

  async loadMore(): Promise<void> {
    if (this.#isReading || !this.hasMore) return;
    this.#isReading = true;
    await this.#append();
    this.#isReading = false;
    if (this.#isStale) await this.changed();
  }

  /** Shows a conversation, at one of its messages where one is named. */
  async open(id: string, message: string | null = null): Promise<void> {
    this.#uncover();
    if (id === this.#chat.id && message === null) return;
    await this.#show("The conversation could not be opened.", async (isLatest) => {
      let conversation = await this.#ipc.openConversation(id, MESSAGES_AT_A_TIME);
      if (message !== null) conversation = await this.#upTo(conversation, message, isLatest);
      return conversation;
    });
    if (message !== null && this.#chat.id === id) this.#chat.reveal(message);
  }

  async begin(isPrivate: boolean): Promise<void> {
    this.#uncover();
    await this.#show("No conversation could be begun.", () => this.#ipc.newConversation(isPrivate));
  }

  async rename(id: string, title: string): Promise<void> {
    await this.#attempt("The conversation could not be renamed.", async () => {
      await this.#ipc.renameConversation(id, title.trim());
      await this.changed();
    });
  }

  async pin(id: string, pinned: boolean): Promise<void> {
    await this.#attempt("The conversation could not be pinned.", async () => {
      await this.#ipc.pinConversation(id, pinned);
      await this.changed();
    });
  }

  async duplicate(id: string): Promise<void> {
    await this.#attempt("The conversation could not be duplicated.", async () => {
      const copy = await this.#ipc.duplicateConversation(id);
      await this.changed();
      await this.open(copy);
    });
  }

  /** Takes a conversation out of the list, and offers to put it back unless it is a private one. */
  async remove(id: string): Promise<void> {
    const wasShown = id === this.#chat.id;
    const isPrivate = this.list.some((about) => about.id === id && about.private);
    await this.#attempt("The conversation could not be deleted.", async () => {
      await this.#chat.draft.save();
      const { shown, freedBytes } = await this.#ipc.deleteConversation(id);
      if (shown.id !== this.#chat.id) this.#chat.open(shown);
      await this.changed();
      const run = () => void this.#restore(id, wasShown);
      const undo = isPrivate ? null : { label: "Undo", run };
      this.#toasts.show(deletionSentence(isPrivate, freedBytes), undo);
    });
  }

  /** Writes one conversation, or all, to a file that the person chooses. */
  async export(id: string | null, format: ExportFormat): Promise<void> {
    const what = id === null ? "The conversations" : "The conversation";
    await this.#attempt(`${what} could not be exported.`, async () => {
      const path = await this.#ipc.exportConversations(id, format);
      const verb = id === null ? "were" : "was";
      if (path !== null) this.#toasts.show(`${what} ${verb} exported to ${path}.`);
    });
  }

  async import(): Promise<void> {
    await this.#attempt("No conversations could be imported.", async () => {
      const report = await this.#ipc.importConversations();
      if (report === null) return;
      await this.changed();
      this.#toasts.show(importSentence(report));
    });
  }

  async #restore(id: string, show: boolean): Promise<void> {
    await this.#attempt("The conversation could not be put back.", async () => {
      await this.#ipc.restoreConversation(id);
      await this.changed();
      if (show) await this.open(id);
    });
  }

  /** The branch that has a message, with so many of its messages that this one is among them. */
  async #upTo(
    opened: Conversation,
    message: string,
    isLatest: () => boolean,
  ): Promise<Conversation> {
    let conversation = opened;
    let most = MESSAGES_AT_A_TIME;
    const holds = () => conversation.entries.some((entry) => entry.id === message);
    while (isLatest() && !holds()) {
      conversation = await this.#ipc.selectBranch(opened.id, message, most);
      if (conversation.earlier === 0) break;
      most *= 4;
    }
    return conversation;
  }

  /** Shows what `ask` gives, unless the person asked for another conversation meanwhile. */
  async #show(
    failed: string,
    ask: (isLatest: () => boolean) => Promise<Conversation>,
  ): Promise<void> {
    const opening = (this.#opening += 1);
    const isLatest = () => opening === this.#opening;
    await this.#attempt(failed, async () => {
      // Before the backend reads the conversation: it may be the one that is being typed in.
      await this.#chat.draft.save();
      const conversation = await ask(isLatest);
      if (isLatest()) this.#chat.open(conversation);
    });
  }

  async #read(most: number): Promise<void> {
    try {
      this.apply(await this.#ipc.listConversations(0, most));
    } catch {
      // The list stays as it was; the next change reads it again.
    }
  }

  /** Reads the next part of the list. */
  async #append(): Promise<void> {
    try {
      const page = await this.#ipc.listConversations(this.list.length, CONVERSATIONS_AT_A_TIME);
      // What moved down meanwhile is told of by an event, and must not stand here twice until then.
      const isNew = ({ id }: ConversationSummary) => this.list.every((known) => known.id !== id);
      this.list = [...this.list, ...page.conversations.filter(isNew)];
      this.hasMore = page.more;
    } catch {
      // The list stays as it was; scrolling on asks again.
    }
  }

  async #attempt(failed: string, action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (reason) {
      this.#toasts.showFailure(failed, reason);
    }
  }
}

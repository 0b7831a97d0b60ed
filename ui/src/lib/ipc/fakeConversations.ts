// The conversations of the in-memory backend: what is listed, shown, searched and branched.

import { AppError } from "./errors";
import { conversationOf } from "./fakeScenarios";
import type {
  Conversation,
  ConversationPage,
  ConversationSummary,
  Entry,
  SearchHit,
  Unsubscribe,
} from "./index";

/** A version of a message that is not shown, with what follows it. */
interface Branch {
  conversation: string;
  message: string;
  entries: Entry[];
}

export class FakeConversations {
  #all = new Map<string, Conversation>();
  #deleted = new Map<string, Conversation>();
  #branches: Branch[] = [];
  #shown: string;
  #listeners = new Set<() => void>();

  constructor(first: Conversation, others: Conversation[]) {
    this.#all.set(first.id, first);
    for (const other of others) this.#all.set(other.id, other);
    this.#shown = first.id;
    const question = first.entries.find((entry) => entry.type === "question");
    if (question?.type === "question") first.about.title = question.text.slice(0, 60);
  }

  get shown(): Conversation {
    return this.#find(this.#shown);
  }

  entries(id: string): Entry[] {
    return this.#find(id).entries;
  }

  /** The length of all that the model would be given. */
  characters(id: string): number {
    const entries = this.entries(id);
    const line = entries.findLastIndex(
      ({ type }) => type === "memoryReset" || type === "contextLine",
    );
    return entries
      .slice(line + 1)
      .reduce((sum, entry) => sum + ("text" in entry ? entry.text.length : 0), 0);
  }

  read(id: string, most: number): Conversation {
    const conversation = this.#find(id);
    const earlier = Math.max(0, conversation.entries.length - most);
    return structuredClone({
      ...conversation,
      entries: conversation.entries.slice(earlier),
      earlier,
    });
  }

  page(skip: number, most: number): ConversationPage {
    const listed = [...this.#all.values()]
      .filter((conversation) => conversation.entries.length > 0)
      .map((conversation) => conversation.about)
      .sort(
        (one, other) =>
          Number(other.pinned) - Number(one.pinned) || other.updated.localeCompare(one.updated),
      );
    return {
      conversations: structuredClone(listed.slice(skip, skip + most)),
      more: listed.length > skip + most,
    };
  }

  search(words: string, most: number): SearchHit[] {
    const wanted = words.trim().toLowerCase();
    if (wanted === "") return [];
    const hits = [...this.#all.values()].flatMap((conversation) =>
      conversation.entries.flatMap((entry): SearchHit[] => {
        if (entry.type !== "question" && entry.type !== "reply") return [];
        const start = entry.text.toLowerCase().indexOf(wanted);
        if (start === -1) return [];
        const end = start + wanted.length;
        const snippet = [
          { text: entry.text.slice(Math.max(0, start - 40), start), matched: false },
          { text: entry.text.slice(start, end), matched: true },
          { text: entry.text.slice(end, end + 40), matched: false },
        ];
        return [
          {
            conversation: conversation.id,
            title: conversation.about.title,
            message: entry.id,
            snippet: snippet.filter((part) => part.text !== ""),
            at: entry.at,
          },
        ];
      }),
    );
    return hits.slice(0, most);
  }

  show(id: string): void {
    this.#find(id);
    this.#shown = id;
  }

  begin(id: string, isPrivate: boolean): Conversation {
    const conversation = conversationOf(id, []);
    conversation.about.private = isPrivate;
    conversation.about.saved = !isPrivate;
    conversation.about.created = conversation.about.updated = new Date().toISOString();
    this.#all.set(id, conversation);
    this.#shown = id;
    return structuredClone(conversation);
  }

  nameAfter(id: string, text: string): void {
    this.change(id, (about) =>
      about.title === "" ? { ...about, title: text.slice(0, 60) } : about,
    );
  }

  change(id: string, change: (about: ConversationSummary) => ConversationSummary): void {
    this.update(id, { about: change(this.#find(id).about) });
    this.#tell();
  }

  update(id: string, changes: Partial<Conversation>): void {
    this.#all.set(id, { ...this.#find(id), ...changes });
  }

  delete(id: string, nextId: () => string): Conversation {
    const conversation = this.#find(id);
    if (!conversation.about.private) this.#deleted.set(id, conversation);
    this.#all.delete(id);
    if (this.#shown === id) this.begin(nextId(), false);
    this.#tell();
    return structuredClone(this.shown);
  }

  restore(id: string): void {
    const conversation = this.#deleted.get(id);
    if (!conversation) {
      throw new AppError({ code: "internal", message: `there is no conversation \`${id}\`` });
    }
    this.#all.set(id, conversation);
    this.#tell();
  }

  duplicate(id: string, copy: string): void {
    const conversation = structuredClone(this.#find(id));
    conversation.id = conversation.about.id = copy;
    this.#all.set(copy, conversation);
    this.#tell();
  }

  /** Adds an entry at the end, or replaces the one with the same id. */
  put(id: string, entry: Entry): void {
    const entries = this.entries(id);
    const index = entries.findIndex((other) => other.id === entry.id);
    this.update(id, { entries: index === -1 ? [...entries, entry] : entries.with(index, entry) });
  }

  remove(id: string, entry: string): void {
    this.update(id, { entries: this.entries(id).filter((other) => other.id !== entry) });
  }

  /** Sets a message aside with what follows it; returns its versions with the new one. */
  branch(id: string, message: string, next: string): string[] {
    const versions = [...this.#setAside(id, message), next];
    this.#branches = this.#branches.map((branch) =>
      versions.includes(branch.message) ? withVersions(branch, versions) : branch,
    );
    return versions;
  }

  /** Shows another version of a message. */
  select(id: string, message: string): void {
    const wanted = this.#branches.find((branch) => branch.message === message);
    if (wanted === undefined) return;
    const shown = this.entries(id).find((entry) => versionsOf(entry).includes(message));
    if (shown === undefined) return;
    this.#branches = this.#branches.filter((branch) => branch !== wanted);
    this.#setAside(id, shown.id);
    this.update(id, { entries: [...this.entries(id), ...wanted.entries] });
  }

  follow(listener: () => void): Unsubscribe {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #setAside(id: string, message: string): string[] {
    const entries = this.entries(id);
    const index = entries.findIndex((entry) => entry.id === message);
    const found = entries[index];
    if (found === undefined) {
      throw new AppError({ code: "internal", message: `there is no message \`${message}\`` });
    }
    this.#branches.push({ conversation: id, message, entries: entries.slice(index) });
    this.update(id, { entries: entries.slice(0, index) });
    return versionsOf(found);
  }

  #find(id: string): Conversation {
    const conversation = this.#all.get(id);
    if (!conversation) {
      throw new AppError({ code: "internal", message: `there is no conversation \`${id}\`` });
    }
    return conversation;
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

function versionsOf(entry: Entry): string[] {
  return entry.type === "question" || entry.type === "reply" ? entry.versions : [];
}

function withVersions(branch: Branch, versions: string[]): Branch {
  const [first, ...rest] = branch.entries;
  if (first?.type !== "question" && first?.type !== "reply") return branch;
  return { ...branch, entries: [{ ...first, versions }, ...rest] };
}

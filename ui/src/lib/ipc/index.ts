// The door to Rust. Nothing else in the interface knows Tauri; `fake.ts` is the same interface in memory.

import { Channel } from "@tauri-apps/api/core";
import {
  commands,
  events,
  type About,
  type ChatEvent,
  type Conversation,
  type ConversationPage,
  type Deletion,
  type Draft,
  type ExportFormat,
  type FreedMemory,
  type ImportReport,
  type IpcError,
  type KeptMemory,
  type Model,
  type ModelsChanged,
  type Notice,
  type Reply,
  type Reset,
  type SearchHit,
  type Snapshot,
} from "./bindings";
import { toAppError } from "./errors";

export type {
  About,
  ChatEvent,
  Conversation,
  ConversationPage,
  ConversationSummary,
  Deletion,
  Draft,
  Entry,
  ErrorCode,
  ExportFormat,
  FinishReason,
  FreedMemory,
  ImportReport,
  IpcError,
  KeptMemory,
  Model,
  ModelsChanged,
  ModelState,
  Notice,
  Question,
  Reply,
  ReplyStatus,
  Reset,
  SearchHit,
  Snapshot,
  SnippetPart,
  Usage,
} from "./bindings";

/** Ends a subscription. */
export type Unsubscribe = () => void;

/**
 * Everything that the interface can ask of the backend. Each promise rejects with an `AppError`
 * and with nothing else. The events of a streaming command are a preview; its result is the truth.
 */
export interface Ipc {
  snapshot(): Promise<Snapshot>;
  listConversations(skip: number, most: number): Promise<ConversationPage>;
  searchConversations(words: string, most: number): Promise<SearchHit[]>;
  /** Shows a conversation, with the last `most` messages of its current branch. */
  openConversation(conversation: string, most: number): Promise<Conversation>;
  newConversation(isPrivate: boolean): Promise<Conversation>;
  /** An empty title lets the first message name the conversation again. */
  renameConversation(conversation: string, title: string): Promise<void>;
  pinConversation(conversation: string, pinned: boolean): Promise<void>;
  /** A private conversation is gone for good. */
  deleteConversation(conversation: string): Promise<Deletion>;
  restoreConversation(conversation: string): Promise<void>;
  /** Resolves with the id of the copy. */
  duplicateConversation(conversation: string): Promise<string>;
  /** All conversations where none is named. Resolves with the file's path, or null where none was chosen. */
  exportConversations(conversation: string | null, format: ExportFormat): Promise<string | null>;
  /** Resolves with null where no file was chosen. */
  importConversations(): Promise<ImportReport | null>;
  sendMessage(
    conversation: string,
    text: string,
    onEvent: (event: ChatEvent) => void,
  ): Promise<Reply>;
  /** Sends another version of a question, in a branch of its own. */
  editMessage(
    conversation: string,
    message: string,
    text: string,
    onEvent: (event: ChatEvent) => void,
  ): Promise<Reply>;
  regenerateReply(
    conversation: string,
    reply: string,
    onEvent: (event: ChatEvent) => void,
  ): Promise<Reply>;
  continueReply(conversation: string, onEvent: (event: ChatEvent) => void): Promise<Reply>;
  stopReply(conversation: string): Promise<void>;
  /** Lets the current branch go through a message. */
  selectBranch(conversation: string, message: string, most: number): Promise<Conversation>;
  /** Keeps a message in what the model is given when its turn leaves a full window, or no longer. */
  pinMessage(conversation: string, message: string, pinned: boolean): Promise<void>;
  resetConversation(conversation: string): Promise<Reset>;
  /** `reset` is the id of the reset's line. */
  undoReset(conversation: string, reset: string): Promise<void>;
  setDraft(conversation: string, text: string): Promise<void>;
  setSystemPrompt(conversation: string, text: string | null): Promise<void>;
  estimateDraft(conversation: string, text: string): Promise<Draft>;
  selectModel(id: string): Promise<Model>;
  skipPreparation(): Promise<void>;
  /** What is kept on the disk of what models have read. */
  readKeptMemory(): Promise<KeptMemory>;
  /** Bounds what is kept: bytes, 0 for nothing, or null for the default. */
  setMemoryBudget(bytes: number | null): Promise<KeptMemory>;
  freeKeptMemory(): Promise<FreedMemory>;
  openLink(url: string): Promise<void>;
  dismissNotice(id: string): Promise<void>;
  /** Resolves when every subscription that was made so far hears its events. */
  listening(): Promise<void>;
  onModelsChanged(listener: (change: ModelsChanged) => void): Unsubscribe;
  onNoticesChanged(listener: (notices: Notice[]) => void): Unsubscribe;
  onAboutChanged(listener: (about: About) => void): Unsubscribe;
  /** The list of conversations is another; it is read again by its command. */
  onConversationsChanged(listener: () => void): Unsubscribe;
}

type CommandResult<T> = { status: "ok"; data: T } | { status: "error"; error: IpcError };

async function settle<T>(command: Promise<CommandResult<T>>): Promise<T> {
  let result: CommandResult<T>;
  try {
    result = await command;
  } catch (reason) {
    throw toAppError(reason);
  }
  if (result.status === "error") throw toAppError(result.error);
  return result.data;
}

function channel(onEvent: (event: ChatEvent) => void): Channel<ChatEvent> {
  const events = new Channel<ChatEvent>();
  events.onmessage = onEvent;
  return events;
}

const subscriptions: Promise<Unsubscribe>[] = [];

function subscribe<T>(
  event: { listen(callback: (event: { payload: T }) => void): Promise<Unsubscribe> },
  listener: (payload: T) => void,
): Unsubscribe {
  let ended = false;
  const listening = event.listen(({ payload }) => {
    if (!ended) listener(payload);
  });
  subscriptions.push(listening);
  return () => {
    ended = true;
    void listening.then((unlisten) => unlisten());
  };
}

export const tauriIpc: Ipc = {
  snapshot: () => settle(commands.snapshot()),
  listConversations: (skip, most) => settle(commands.listConversations(skip, most)),
  searchConversations: (words, most) => settle(commands.searchConversations(words, most)),
  openConversation: (conversation, most) => settle(commands.openConversation(conversation, most)),
  newConversation: (isPrivate) => settle(commands.newConversation(isPrivate)),
  renameConversation: async (conversation, title) => {
    await settle(commands.renameConversation(conversation, title));
  },
  pinConversation: async (conversation, pinned) => {
    await settle(commands.pinConversation(conversation, pinned));
  },
  deleteConversation: (conversation) => settle(commands.deleteConversation(conversation)),
  restoreConversation: async (conversation) => {
    await settle(commands.restoreConversation(conversation));
  },
  duplicateConversation: (conversation) => settle(commands.duplicateConversation(conversation)),
  exportConversations: (conversation, format) =>
    settle(commands.exportConversations(conversation, format)),
  importConversations: () => settle(commands.importConversations()),
  sendMessage: (conversation, text, onEvent) =>
    settle(commands.sendMessage(conversation, text, channel(onEvent))),
  editMessage: (conversation, message, text, onEvent) =>
    settle(commands.editMessage(conversation, message, text, channel(onEvent))),
  regenerateReply: (conversation, reply, onEvent) =>
    settle(commands.regenerateReply(conversation, reply, channel(onEvent))),
  continueReply: (conversation, onEvent) =>
    settle(commands.continueReply(conversation, channel(onEvent))),
  stopReply: async (conversation) => {
    await settle(commands.stopReply(conversation));
  },
  selectBranch: (conversation, message, most) =>
    settle(commands.selectBranch(conversation, message, most)),
  pinMessage: async (conversation, message, pinned) => {
    await settle(commands.pinMessage(conversation, message, pinned));
  },
  resetConversation: (conversation) => settle(commands.resetConversation(conversation)),
  undoReset: async (conversation, reset) => {
    await settle(commands.undoReset(conversation, reset));
  },
  setDraft: async (conversation, text) => {
    await settle(commands.setDraft(conversation, text));
  },
  setSystemPrompt: async (conversation, text) => {
    await settle(commands.setSystemPrompt(conversation, text));
  },
  estimateDraft: (conversation, text) => settle(commands.estimateDraft(conversation, text)),
  selectModel: (id) => settle(commands.selectModel(id)),
  skipPreparation: async () => {
    await settle(commands.skipPreparation());
  },
  readKeptMemory: () => settle(commands.readKeptMemory()),
  setMemoryBudget: (bytes) => settle(commands.setMemoryBudget(bytes)),
  freeKeptMemory: () => settle(commands.freeKeptMemory()),
  openLink: async (url) => {
    await settle(commands.openLink(url));
  },
  dismissNotice: async (id) => {
    await settle(commands.dismissNotice(id));
  },
  listening: async () => {
    try {
      await Promise.all(subscriptions);
    } catch (reason) {
      throw toAppError(reason);
    }
  },
  onModelsChanged: (listener) => subscribe(events.modelsChanged, listener),
  onNoticesChanged: (listener) => subscribe(events.noticesChanged, listener),
  onAboutChanged: (listener) => subscribe(events.aboutChanged, listener),
  onConversationsChanged: (listener) => subscribe(events.conversationsChanged, () => listener()),
};

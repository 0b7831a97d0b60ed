// The door to Rust. Nothing else in the interface knows Tauri; `fake.ts` is the same interface in memory.

import { Channel } from "@tauri-apps/api/core";
import {
  commands,
  events,
  type About,
  type ChatEvent,
  type Draft,
  type Entry,
  type IpcError,
  type Model,
  type ModelsChanged,
  type Notice,
  type Reply,
  type Snapshot,
} from "./bindings";
import { toAppError } from "./errors";

export type {
  About,
  ChatEvent,
  Conversation,
  Draft,
  Entry,
  ErrorCode,
  FinishReason,
  IpcError,
  Model,
  ModelsChanged,
  ModelState,
  Notice,
  Question,
  Reply,
  ReplyStatus,
  Snapshot,
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
  sendMessage(
    conversation: string,
    text: string,
    onEvent: (event: ChatEvent) => void,
  ): Promise<Reply>;
  continueReply(conversation: string, onEvent: (event: ChatEvent) => void): Promise<Reply>;
  retryReply(conversation: string, onEvent: (event: ChatEvent) => void): Promise<Reply>;
  stopReply(conversation: string): Promise<void>;
  resetMemory(conversation: string): Promise<Entry>;
  selectModel(id: string): Promise<Model>;
  skipPreparation(): Promise<void>;
  measureDraft(conversation: string, text: string): Promise<Draft>;
  openLink(url: string): Promise<void>;
  dismissNotice(id: string): Promise<void>;
  onModelsChanged(listener: (change: ModelsChanged) => void): Unsubscribe;
  onNoticesChanged(listener: (notices: Notice[]) => void): Unsubscribe;
  onAboutChanged(listener: (about: About) => void): Unsubscribe;
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

function subscribe<T>(
  event: { listen(callback: (event: { payload: T }) => void): Promise<Unsubscribe> },
  listener: (payload: T) => void,
): Unsubscribe {
  let ended = false;
  const listening = event.listen(({ payload }) => {
    if (!ended) listener(payload);
  });
  return () => {
    ended = true;
    void listening.then((unlisten) => unlisten());
  };
}

export const tauriIpc: Ipc = {
  snapshot: () => settle(commands.snapshot()),
  sendMessage: (conversation, text, onEvent) =>
    settle(commands.sendMessage(conversation, text, channel(onEvent))),
  continueReply: (conversation, onEvent) =>
    settle(commands.continueReply(conversation, channel(onEvent))),
  retryReply: (conversation, onEvent) =>
    settle(commands.retryReply(conversation, channel(onEvent))),
  stopReply: async (conversation) => {
    await settle(commands.stopReply(conversation));
  },
  resetMemory: (conversation) => settle(commands.resetMemory(conversation)),
  selectModel: (id) => settle(commands.selectModel(id)),
  skipPreparation: async () => {
    await settle(commands.skipPreparation());
  },
  measureDraft: (conversation, text) => settle(commands.measureDraft(conversation, text)),
  openLink: async (url) => {
    await settle(commands.openLink(url));
  },
  dismissNotice: async (id) => {
    await settle(commands.dismissNotice(id));
  },
  onModelsChanged: (listener) => subscribe(events.modelsChanged, listener),
  onNoticesChanged: (listener) => subscribe(events.noticesChanged, listener),
  onAboutChanged: (listener) => subscribe(events.aboutChanged, listener),
};

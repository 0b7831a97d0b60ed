// The door to Rust. Nothing else in the interface knows Tauri; `fake.ts` is the same interface in memory.

import { Channel } from "@tauri-apps/api/core";
import {
  commands,
  events,
  type About,
  type AccessToken,
  type ChatEvent,
  type Conversation,
  type ConversationPage,
  type Deletion,
  type DownloadsChanged,
  type Draft,
  type ExportFormat,
  type FreedMemory,
  type ImportReport,
  type IpcError,
  type KeptMemory,
  type LibraryContents,
  type Model,
  type ModelChoice,
  type ModelDropped,
  type ModelSettings,
  type ModelsChanged,
  type MoveProgress,
  type NetworkChoice,
  type NetworkState,
  type Notice,
  type RefreshedList,
  type Reply,
  type Reset,
  type RepositoryHit,
  type RepositoryOffer,
  type SearchHit,
  type Snapshot,
  type TokenPlace,
} from "./bindings";
import { toAppError } from "./errors";

export type {
  About,
  AccessToken,
  AvailableModel,
  ChatEvent,
  Conversation,
  ConversationPage,
  ConversationSummary,
  ContextMemory,
  Deletion,
  Download,
  DownloadsChanged,
  DownloadState,
  Draft,
  Entry,
  ErrorCode,
  ExportFormat,
  FinishReason,
  FreedMemory,
  ImportReport,
  InstalledModel,
  IpcError,
  KeptMemory,
  LibraryContents,
  MemoryFit,
  Model,
  ModelChoice,
  ModelDropped,
  ModelNumberName,
  ModelOrigin,
  ModelSetting,
  ModelSettings,
  ModelsChanged,
  ModelState,
  MoveProgress,
  NetworkChoice,
  NetworkRequest,
  NetworkState,
  Notice,
  OfferedVariant,
  Question,
  RefreshedList,
  RemovedModel,
  Reply,
  ReplyStatus,
  Reset,
  RepositoryHit,
  RepositoryOffer,
  SearchHit,
  Snapshot,
  SnippetPart,
  TokenPlace,
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
  readLibrary(): Promise<LibraryContents>;
  listDownloads(): Promise<DownloadsChanged>;
  /** Repositories with these words in their names. Asks the hub. */
  searchHub(words: string): Promise<RepositoryHit[]>;
  /** `owner/name`, or a link to a repository. Asks the hub. */
  lookUpRepository(repository: string): Promise<RepositoryOffer>;
  /** Resolves when the model is on its way; `id` is that of the list. */
  downloadListed(id: string): Promise<void>;
  downloadVariant(repository: string, commit: string, variant: string): Promise<void>;
  /** The user was told what it means to take a model from outside of the catalogue. */
  noteOtherSources(): Promise<void>;
  pauseDownload(id: string): Promise<void>;
  resumeDownload(id: string): Promise<void>;
  /** Stops a download and deletes what came of it. */
  cancelDownload(id: string): Promise<void>;
  /** Resolves with the number of files that were wrong and are right now; null where it was cancelled. */
  repairModel(id: string): Promise<number | null>;
  /** The model can be put back until Hearth ends. */
  removeModel(id: string): Promise<void>;
  restoreModel(id: string): Promise<void>;
  deleteRemovedModel(id: string): Promise<void>;
  /** Asks for a folder. Resolves with false where none was chosen. */
  importModel(isLinked: boolean): Promise<boolean>;
  /** The settings of a model, with what is in force and why. */
  readModelSettings(id: string): Promise<ModelSettings>;
  /** It holds from the next reply on. Resolves with what is in force then. */
  setModelSettings(id: string, choice: ModelChoice): Promise<ModelSettings>;
  /** Asks for a folder and moves the models there. Resolves with it; null where none was chosen, or it was stopped. */
  moveLibrary(onProgress: (progress: MoveProgress) => void): Promise<string | null>;
  /** Stops the move as long as the new folder does not count. */
  cancelLibraryMove(): Promise<void>;
  /** Looks again for a folder of models that was away. */
  lookForLibrary(): Promise<void>;
  useDefaultLibrary(): Promise<void>;
  readNetwork(): Promise<NetworkState>;
  setNetwork(choice: NetworkChoice): Promise<void>;
  /** What may be known of the hub's access token. May wait for the keychain. */
  readAccessToken(): Promise<AccessToken>;
  setAccessToken(text: string, place: TokenPlace): Promise<AccessToken>;
  removeAccessToken(): Promise<AccessToken>;
  /** Fetches the list of models that the settings name. */
  refreshList(): Promise<RefreshedList>;
  /** Leaves the list that was fetched: Hearth's own is all there is. */
  leaveRefreshedList(): Promise<void>;
  openLink(url: string): Promise<void>;
  dismissNotice(id: string): Promise<void>;
  /** Resolves when every subscription that was made so far hears its events. */
  listening(): Promise<void>;
  onModelsChanged(listener: (change: ModelsChanged) => void): Unsubscribe;
  onNoticesChanged(listener: (notices: Notice[]) => void): Unsubscribe;
  onAboutChanged(listener: (about: About) => void): Unsubscribe;
  /** The list of conversations is another; it is read again by its command. */
  onConversationsChanged(listener: () => void): Unsubscribe;
  onDownloadsChanged(listener: (change: DownloadsChanged) => void): Unsubscribe;
  /** Something was dropped on the window; a folder is being imported then. */
  onModelDropped(listener: (dropped: ModelDropped) => void): Unsubscribe;
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

function channel<T>(onEvent: (event: T) => void): Channel<T> {
  const events = new Channel<T>();
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
  readLibrary: () => settle(commands.readLibrary()),
  listDownloads: () => settle(commands.listDownloads()),
  searchHub: (words) => settle(commands.searchHub(words)),
  lookUpRepository: (repository) => settle(commands.lookUpRepository(repository)),
  downloadListed: async (id) => {
    await settle(commands.downloadListed(id));
  },
  downloadVariant: async (repository, commit, variant) => {
    await settle(commands.downloadVariant(repository, commit, variant));
  },
  noteOtherSources: async () => {
    await settle(commands.noteOtherSources());
  },
  pauseDownload: async (id) => {
    await settle(commands.pauseDownload(id));
  },
  resumeDownload: async (id) => {
    await settle(commands.resumeDownload(id));
  },
  cancelDownload: async (id) => {
    await settle(commands.cancelDownload(id));
  },
  repairModel: (id) => settle(commands.repairModel(id)),
  removeModel: async (id) => {
    await settle(commands.removeModel(id));
  },
  restoreModel: async (id) => {
    await settle(commands.restoreModel(id));
  },
  deleteRemovedModel: async (id) => {
    await settle(commands.deleteRemovedModel(id));
  },
  importModel: (isLinked) => settle(commands.importModel(isLinked)),
  readModelSettings: (id) => settle(commands.readModelSettings(id)),
  setModelSettings: (id, choice) => settle(commands.setModelSettings(id, choice)),
  moveLibrary: (onProgress) => settle(commands.moveLibrary(channel(onProgress))),
  cancelLibraryMove: async () => {
    await settle(commands.cancelLibraryMove());
  },
  lookForLibrary: async () => {
    await settle(commands.lookForLibrary());
  },
  useDefaultLibrary: async () => {
    await settle(commands.useDefaultLibrary());
  },
  readNetwork: () => settle(commands.readNetwork()),
  setNetwork: async (choice) => {
    await settle(commands.setNetwork(choice));
  },
  readAccessToken: () => settle(commands.readAccessToken()),
  setAccessToken: (text, place) => settle(commands.setAccessToken(text, place)),
  removeAccessToken: () => settle(commands.removeAccessToken()),
  refreshList: () => settle(commands.refreshList()),
  leaveRefreshedList: async () => {
    await settle(commands.leaveRefreshedList());
  },
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
  onDownloadsChanged: (listener) => subscribe(events.downloadsChanged, listener),
  onModelDropped: (listener) => subscribe(events.modelDropped, listener),
};

// The backend in memory: the same interface as the window's, for the browser and for tests.

import { AppError } from "./errors";
import { FakeAccessToken } from "./fakeAccessToken";
import { FakeConversations } from "./fakeConversations";
import { otherConversations } from "./fakeHistory";
import { FakeKeptMemory } from "./fakeKeptMemory";
import { FakeLibrary } from "./fakeLibrary";
import { FakeModelSettings } from "./fakeModelSettings";
import { type Pause, realPause } from "./fakePause";
import { FakeReplies, type OnEvent } from "./fakeReplies";
import {
  initialSnapshot,
  openingQuestion,
  type ScenarioName,
  scenarioNames,
  showsLibrary,
} from "./fakeScenarios";
import type {
  AccessToken,
  Conversation,
  ConversationPage,
  Deletion,
  DownloadsChanged,
  Draft,
  Entry,
  ExportFormat,
  FreedMemory,
  ImportReport,
  Ipc,
  KeptMemory,
  LibraryContents,
  Model,
  ModelChoice,
  ModelDropped,
  ModelSettings,
  ModelsChanged,
  MoveProgress,
  NetworkChoice,
  NetworkState,
  Notice,
  RefreshedList,
  Reply,
  Reset,
  RepositoryHit,
  RepositoryOffer,
  SearchHit,
  Snapshot,
  TokenPlace,
  Unsubscribe,
} from "./index";

const LOADING_MILLISECONDS = 900;
const ASKING_MILLISECONDS = 400;
const CHARACTERS_PER_TOKEN = 4;
const BYTES_PER_CHARACTER = 6_000;
const FIRST_MESSAGES = 60;
const FIRST_CONVERSATIONS = 100;

export class FakeIpc implements Ipc {
  readonly scenario: ScenarioName;
  /** Addresses that were opened, newest last. */
  readonly openedLinks: string[] = [];

  #pause: Pause;
  #snapshot: Snapshot;
  #conversations: FakeConversations;
  #keptMemory = new FakeKeptMemory();
  #modelSettings = new FakeModelSettings();
  #replies: FakeReplies;
  #nextId = 0;
  #modelListeners = new Set<(change: ModelsChanged) => void>();
  #noticeListeners = new Set<(notices: Notice[]) => void>();
  #dropListeners = new Set<(dropped: ModelDropped) => void>();
  readonly library: FakeLibrary;
  readonly token = new FakeAccessToken();

  constructor(scenario: ScenarioName = "empty", pause: Pause = realPause) {
    this.scenario = scenario;
    this.#pause = pause;
    this.#snapshot = initialSnapshot(scenario);
    this.#conversations = new FakeConversations(
      this.#snapshot.conversation,
      otherConversations(scenario),
    );
    this.#replies = new FakeReplies(scenario, pause, this.#conversations, () => this.#selected());
    this.library = new FakeLibrary(
      scenario,
      pause,
      () => this.#snapshot.models,
      (models) => this.#setModels(models),
    );
  }

  /** A question that the scenario wants asked as soon as the window is open. */
  get openingQuestion(): string | null {
    return openingQuestion(this.scenario);
  }

  /** Whether the scenario wants the model library shown as soon as the window is open. */
  get showsLibrary(): boolean {
    return showsLibrary(this.scenario);
  }

  snapshot(): Promise<Snapshot> {
    const conversation = this.#conversations.read(this.#conversations.shown.id, FIRST_MESSAGES);
    const conversations = this.#conversations.page(0, FIRST_CONVERSATIONS);
    return Promise.resolve(structuredClone({ ...this.#snapshot, conversation, conversations }));
  }

  listConversations(skip: number, most: number): Promise<ConversationPage> {
    return Promise.resolve(this.#conversations.page(skip, most));
  }

  searchConversations(words: string, most: number): Promise<SearchHit[]> {
    return Promise.resolve(this.#conversations.search(words, most));
  }

  openConversation(conversation: string, most: number): Promise<Conversation> {
    this.#conversations.show(conversation);
    return Promise.resolve(this.#conversations.read(conversation, most));
  }

  newConversation(isPrivate: boolean): Promise<Conversation> {
    return Promise.resolve(this.#conversations.begin(this.#id("begun"), isPrivate));
  }

  renameConversation(conversation: string, title: string): Promise<void> {
    this.#conversations.change(conversation, (about) => ({ ...about, title }));
    return Promise.resolve();
  }

  pinConversation(conversation: string, pinned: boolean): Promise<void> {
    this.#conversations.change(conversation, (about) => ({ ...about, pinned }));
    return Promise.resolve();
  }

  deleteConversation(conversation: string): Promise<Deletion> {
    const next = () => this.#id("begun");
    const freedBytes = this.#memoryBytes(conversation);
    const shown = this.#conversations.delete(conversation, next);
    return Promise.resolve({ shown, freedBytes });
  }

  restoreConversation(conversation: string): Promise<void> {
    this.#conversations.restore(conversation);
    return Promise.resolve();
  }

  duplicateConversation(conversation: string): Promise<string> {
    const id = this.#id("begun");
    this.#conversations.duplicate(conversation, id);
    return Promise.resolve(id);
  }

  exportConversations(conversation: string | null, format: ExportFormat): Promise<string | null> {
    const name = conversation === null ? "Hearth conversations" : "A conversation";
    return Promise.resolve(`/home/ada/${name}.${format === "json" ? "json" : "md"}`);
  }

  importConversations(): Promise<ImportReport | null> {
    return Promise.resolve({ imported: 12, unchanged: 3, refused: 1 });
  }

  async sendMessage(conversation: string, text: string, onEvent: OnEvent): Promise<Reply> {
    return this.#replies.send(conversation, text, onEvent);
  }

  editMessage(
    conversation: string,
    message: string,
    text: string,
    onEvent: OnEvent,
  ): Promise<Reply> {
    return this.#replies.edit(conversation, message, text, onEvent);
  }

  regenerateReply(conversation: string, reply: string, onEvent: OnEvent): Promise<Reply> {
    return this.#replies.regenerate(conversation, reply, onEvent);
  }

  continueReply(conversation: string, onEvent: OnEvent): Promise<Reply> {
    return this.#replies.continue(conversation, onEvent);
  }

  stopReply(): Promise<void> {
    this.#replies.stop();
    return Promise.resolve();
  }

  selectBranch(conversation: string, message: string, most: number): Promise<Conversation> {
    this.#conversations.select(conversation, message);
    return Promise.resolve(this.#conversations.read(conversation, most));
  }

  pinMessage(conversation: string, message: string, pinned: boolean): Promise<void> {
    const entry = this.#conversations.entries(conversation).find(({ id }) => id === message);
    if (entry?.type === "question" || entry?.type === "reply") {
      this.#conversations.put(conversation, { ...entry, pinned });
    }
    return Promise.resolve();
  }

  resetConversation(conversation: string): Promise<Reset> {
    const line: Entry = {
      type: "memoryReset",
      id: this.#id("reset"),
      at: new Date().toISOString(),
    };
    const freedBytes = this.#memoryBytes(conversation);
    this.#conversations.put(conversation, line);
    return Promise.resolve({ line, freedBytes });
  }

  undoReset(conversation: string, reset: string): Promise<void> {
    this.#conversations.remove(conversation, reset);
    return Promise.resolve();
  }

  setDraft(conversation: string, text: string): Promise<void> {
    this.#conversations.update(conversation, { draft: text });
    return Promise.resolve();
  }

  setSystemPrompt(conversation: string, text: string | null): Promise<void> {
    this.#conversations.update(conversation, { systemPrompt: text });
    return Promise.resolve();
  }

  async selectModel(id: string): Promise<Model> {
    const broken = this.#model(id).state;
    this.#changeModels(id, { type: "loading" });
    await this.#pause(LOADING_MILLISECONDS);
    if (broken.type === "failed") {
      this.#changeModels(id, broken);
      throw new AppError(broken.error);
    }
    this.#changeModels(id, { type: "ready" });
    return this.#model(id);
  }

  skipPreparation(): Promise<void> {
    this.#changeModels(this.#selected().id, { type: "loading" });
    return Promise.resolve();
  }

  readLibrary(): Promise<LibraryContents> {
    return Promise.resolve(this.library.read());
  }

  listDownloads(): Promise<DownloadsChanged> {
    return Promise.resolve(this.library.downloads());
  }

  async searchHub(words: string): Promise<RepositoryHit[]> {
    await this.#pause(ASKING_MILLISECONDS);
    return this.library.search(words);
  }

  async lookUpRepository(repository: string): Promise<RepositoryOffer> {
    await this.#pause(ASKING_MILLISECONDS);
    return this.library.lookUp(repository);
  }

  async downloadListed(id: string): Promise<void> {
    await this.#pause(ASKING_MILLISECONDS);
    this.library.recommend(id);
  }

  async downloadVariant(repository: string, _commit: string, variant: string): Promise<void> {
    const offer = await this.lookUpRepository(repository);
    const chosen = offer.variants.find(({ name }) => name === variant);
    if (!chosen) return;
    this.library.start(chosen.installedId, `${repository} (${variant})`, chosen.sizeBytes);
  }

  noteOtherSources(): Promise<void> {
    this.library.noteOtherSources();
    return Promise.resolve();
  }

  pauseDownload(id: string): Promise<void> {
    this.library.pause(id);
    return Promise.resolve();
  }

  resumeDownload(id: string): Promise<void> {
    this.library.resume(id);
    return Promise.resolve();
  }

  cancelDownload(id: string): Promise<void> {
    this.library.cancel(id);
    return Promise.resolve();
  }

  async repairModel(id: string): Promise<number | null> {
    return this.library.repair(this.#model(id));
  }

  async removeModel(id: string): Promise<void> {
    this.library.remove(this.#model(id).id);
  }

  restoreModel(id: string): Promise<void> {
    this.library.restore(id);
    return Promise.resolve();
  }

  deleteRemovedModel(id: string): Promise<void> {
    this.library.deleteRemoved(id);
    return Promise.resolve();
  }

  importModel(): Promise<boolean> {
    this.library.start("my-model", "my-model", 500_000_000, "import");
    return Promise.resolve(true);
  }

  async readModelSettings(id: string): Promise<ModelSettings> {
    return this.#modelSettings.read(this.#model(id));
  }

  async setModelSettings(id: string, choice: ModelChoice): Promise<ModelSettings> {
    return this.#modelSettings.set(this.#model(id), choice);
  }

  moveLibrary(onProgress: (progress: MoveProgress) => void): Promise<string | null> {
    return this.library.move(onProgress);
  }

  cancelLibraryMove(): Promise<void> {
    this.library.cancelMove();
    return Promise.resolve();
  }

  async lookForLibrary(): Promise<void> {
    this.library.lookForFolder();
  }

  useDefaultLibrary(): Promise<void> {
    this.library.useDefaultFolder();
    return Promise.resolve();
  }

  readNetwork(): Promise<NetworkState> {
    return Promise.resolve(structuredClone(this.library.network()));
  }

  async setNetwork(choice: NetworkChoice): Promise<void> {
    this.library.setNetwork(choice);
  }

  readAccessToken(): Promise<AccessToken> {
    return Promise.resolve(this.token.state);
  }

  async setAccessToken(text: string, place: TokenPlace): Promise<AccessToken> {
    return this.token.set(text, place);
  }

  async removeAccessToken(): Promise<AccessToken> {
    return this.token.remove();
  }

  async refreshList(): Promise<RefreshedList> {
    await this.#pause(ASKING_MILLISECONDS);
    return this.library.refreshList();
  }

  leaveRefreshedList(): Promise<void> {
    this.library.leaveRefreshedList();
    return Promise.resolve();
  }

  estimateDraft(conversation: string, text: string): Promise<Draft> {
    const draftTokens = Math.ceil(text.length / CHARACTERS_PER_TOKEN);
    const window = this.#selected().contextLength ?? 4096;
    const used =
      this.scenario === "tooLong"
        ? window - 200
        : 31 + this.#conversations.characters(conversation) / CHARACTERS_PER_TOKEN;
    return Promise.resolve({
      draftTokens,
      promptTokens: Math.min(window, Math.round(used)) + draftTokens,
      newTokens: draftTokens,
      window,
      reservedTokens: window / 4,
      readingSeconds: draftTokens / 400,
    });
  }

  readKeptMemory(): Promise<KeptMemory> {
    return Promise.resolve(this.#keptMemory.read());
  }

  setMemoryBudget(bytes: number | null): Promise<KeptMemory> {
    return Promise.resolve(this.#keptMemory.setBudget(bytes));
  }

  freeKeptMemory(): Promise<FreedMemory> {
    return Promise.resolve({ bytes: this.#keptMemory.free() });
  }

  openLink(url: string): Promise<void> {
    this.openedLinks.push(url);
    return Promise.resolve();
  }

  dismissNotice(id: string): Promise<void> {
    this.#snapshot.notices = this.#snapshot.notices.filter((notice) => notice.id !== id);
    for (const listener of this.#noticeListeners) listener(this.#snapshot.notices);
    return Promise.resolve();
  }

  listening(): Promise<void> {
    return Promise.resolve();
  }

  onModelsChanged(listener: (change: ModelsChanged) => void): Unsubscribe {
    this.#modelListeners.add(listener);
    return () => this.#modelListeners.delete(listener);
  }

  onNoticesChanged(listener: (notices: Notice[]) => void): Unsubscribe {
    this.#noticeListeners.add(listener);
    return () => this.#noticeListeners.delete(listener);
  }

  onAboutChanged(): Unsubscribe {
    return () => undefined;
  }

  onConversationsChanged(listener: () => void): Unsubscribe {
    return this.#conversations.follow(listener);
  }

  onDownloadsChanged(listener: (change: DownloadsChanged) => void): Unsubscribe {
    return this.library.follow(listener);
  }

  onModelDropped(listener: (dropped: ModelDropped) => void): Unsubscribe {
    this.#dropListeners.add(listener);
    return () => this.#dropListeners.delete(listener);
  }

  /** Something falls on the window. */
  drop(isFolder: boolean): void {
    if (isFolder) void this.importModel();
    for (const listener of this.#dropListeners) listener({ isFolder });
  }

  /** Ends the loading of the scenario `loading`. */
  finishLoading(): void {
    this.#changeModels(this.#selected().id, { type: "ready" });
  }

  #id(kind: string): string {
    this.#nextId += 1;
    return `${kind}-${this.#nextId}`;
  }

  #memoryBytes(conversation: string): number {
    return this.#conversations.characters(conversation) * BYTES_PER_CHARACTER;
  }

  #model(id: string): Model {
    const model = this.#snapshot.models.find((other) => other.id === id);
    if (!model) throw new AppError({ code: "modelMissing", message: `no model \`${id}\`` });
    return model;
  }

  #selected(): Model {
    return this.#model(this.#snapshot.selectedModel ?? "");
  }

  #setModels(models: Model[]): void {
    this.#snapshot.models = models;
    this.#tellModels();
  }

  /** Gives one model a new state; as in the backend, loading it unloads the others. */
  #changeModels(id: string, state: Model["state"]): void {
    this.#snapshot.selectedModel = id;
    this.#snapshot.models = this.#snapshot.models.map((model) => {
      if (model.id === id) return { ...model, state };
      return model.state.type === "failed" ? model : { ...model, state: { type: "available" } };
    });
    this.#tellModels();
  }

  #tellModels(): void {
    const { models, selectedModel } = structuredClone(this.#snapshot);
    for (const listener of this.#modelListeners) listener({ models, selectedModel });
  }
}

/** The fake that an address asks for: `?fake=streaming`. */
export function fakeFromAddress(search: string): FakeIpc {
  const asked = new URLSearchParams(search).get("fake");
  return new FakeIpc(scenarioNames.find((name) => name === asked) ?? "empty");
}

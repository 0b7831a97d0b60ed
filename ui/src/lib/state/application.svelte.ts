import { type AppError, toAppError } from "../ipc/errors";
import type { About, Ipc, Unsubscribe } from "../ipc";
import { Chat } from "./chat.svelte";
import { Conversations } from "./conversations.svelte";
import { EventsHeard } from "./eventsHeard";
import { type Frames, screenFrames } from "./liveReply.svelte";
import { Library } from "./library.svelte";
import { Models } from "./models.svelte";
import { Notices } from "./notices.svelte";
import { SidebarState } from "./sidebar.svelte";
import { Toasts } from "./toasts.svelte";

/** The whole state of the window. */
export class Application {
  readonly ipc: Ipc;
  readonly models: Models;
  readonly notices: Notices;
  readonly chat: Chat;
  readonly conversations: Conversations;
  readonly library: Library;
  readonly toasts = new Toasts();
  readonly sidebar = new SidebarState();
  about = $state.raw<About | null>(null);
  isOpen = $state(false);
  /** Why the first snapshot could not be read. */
  failure = $state.raw<AppError | null>(null);
  #noticeEvents = new EventsHeard();
  #aboutEvents = new EventsHeard();
  #conversationEvents = new EventsHeard();

  constructor(ipc: Ipc, frames: Frames = screenFrames) {
    this.ipc = ipc;
    this.models = new Models(ipc);
    this.notices = new Notices(ipc);
    this.chat = new Chat(ipc, this.models, frames);
    this.library = new Library(ipc, this.toasts);
    const uncover = () => this.library.hide();
    this.conversations = new Conversations(ipc, this.chat, this.toasts, uncover);
  }

  /** Follows the facts that the backend announces, until the returned function is called. */
  follow(): Unsubscribe {
    const subscriptions = [
      this.ipc.onModelsChanged((change) => {
        this.models.events.note();
        this.models.apply(change);
        this.library.modelsChanged(change.models);
        void this.chat.modelsChanged();
      }),
      this.ipc.onNoticesChanged((notices) => {
        this.#noticeEvents.note();
        this.notices.apply(notices);
      }),
      this.ipc.onAboutChanged((about) => {
        this.#aboutEvents.note();
        this.about = about;
      }),
      this.ipc.onConversationsChanged(() => {
        this.#conversationEvents.note();
        void this.conversations.changed();
      }),
      this.ipc.onDownloadsChanged((change) => this.library.apply(change)),
      this.ipc.onModelDropped((dropped) => this.library.dropped(dropped.isFolder)),
    ];
    return () => {
      for (const unsubscribe of subscriptions) unsubscribe();
    };
  }

  /** Reads everything once. Call `follow` first, so that no change falls in between. */
  async open(): Promise<void> {
    this.failure = null;
    try {
      // A change that comes before the window hears of changes has to be in the snapshot.
      await this.ipc.listening();
      const questions = [
        this.models.events,
        this.#noticeEvents,
        this.#aboutEvents,
        this.#conversationEvents,
      ].map((events) => events.ask());
      const snapshot = await this.ipc.snapshot();
      // What an event told meanwhile is newer than the snapshot.
      const [models, notices, about, conversations] = questions.map((isNewest) => isNewest());
      if (models) {
        this.models.apply({ models: snapshot.models, selectedModel: snapshot.selectedModel });
      }
      if (notices) this.notices.apply(snapshot.notices);
      if (about) this.about = snapshot.about;
      this.chat.open(snapshot.conversation);
      this.conversations.apply(snapshot.conversations);
      if (!conversations) void this.conversations.changed();
      this.isOpen = true;
      await this.library.open();
    } catch (reason) {
      this.failure = toAppError(reason);
    }
  }

  /** Loads another model; a draft that waits for one goes out when it is ready. */
  async selectModel(id: string): Promise<void> {
    this.chat.failure = await this.models.select(id);
    await this.chat.modelsChanged();
  }
}

import { formatBytes } from "../format";
import { revealInvisibleText } from "../invisible";
import { type AppError, toAppError } from "../ipc/errors";
import type {
  AvailableModel,
  Download,
  DownloadsChanged,
  Ipc,
  LibraryContents,
  Model,
  RemovedModel,
} from "../ipc";
import { LibraryMove } from "./libraryMove.svelte";
import { RepositoryFinder } from "./repositoryFinder.svelte";
import { Toasts } from "./toasts.svelte";

/** Whether and how a model of the catalogue or of a repository is here. */
export type Presence = "absent" | "onItsWay" | "installed";

/** The model library: what is installed, what can be had, and what is on its way. */
export class Library {
  /** Whether its view lies over the conversation. */
  isShown = $state(false);
  /** Whether how requests leave is shown before it. */
  showsNetwork = $state(false);
  contents = $state.raw<LibraryContents | null>(null);
  /** Why the contents could not be read. */
  failure = $state.raw<AppError | null>(null);
  downloads = $state.raw<Download[]>([]);
  removed = $state.raw<RemovedModel[]>([]);
  /** What one asked for that did not begin, by what it was asked of. */
  refusals = $state.raw<Record<string, AppError>>({});
  /** Those that a command is under way for. */
  busy = $state.raw<string[]>([]);
  readonly finder: RepositoryFinder;
  readonly move: LibraryMove;
  /** What its view says; while it is hidden the conversation's view says it. */
  readonly toasts = new Toasts();

  #ipc: Ipc;
  #outerToasts: Toasts;
  #installedIds = "";
  #isReading = false;
  #isStale = false;

  constructor(ipc: Ipc, outerToasts: Toasts) {
    this.#ipc = ipc;
    this.#outerToasts = outerToasts;
    this.finder = new RepositoryFinder(ipc);
    this.move = new LibraryMove(ipc, () => this.read());
  }

  /** Reads what is on its way. */
  async open(): Promise<void> {
    try {
      this.apply(await this.#ipc.listDownloads());
    } catch {
      // The next change tells it.
    }
  }

  apply(change: DownloadsChanged): void {
    const ended = this.downloads.some(
      ({ id }) => !change.downloads.some((download) => download.id === id),
    );
    this.downloads = change.downloads;
    this.removed = change.removed;
    if (ended && this.isShown) void this.read();
  }

  /** What is installed may be another; what is known of it is read again where one looks. */
  modelsChanged(models: Model[]): void {
    const ids = models.map(({ id }) => id).join("\n");
    if (ids === this.#installedIds) return;
    this.#installedIds = ids;
    if (this.isShown) void this.read();
  }

  show(): void {
    this.isShown = true;
    void this.read();
  }

  hide(): void {
    this.isShown = false;
  }

  /** Shows how requests leave, with the access token and the address of a list. */
  openNetwork(): void {
    this.showsNetwork = true;
  }

  closeNetwork(): void {
    this.showsNetwork = false;
    if (this.isShown) void this.read();
  }

  /** Something was dropped on the window. */
  dropped(isFolder: boolean): void {
    this.show();
    if (!isFolder) this.#say("Only the folder of a model can be dropped here.");
  }

  /** Reads the contents; changes that come meanwhile are read together. */
  async read(): Promise<void> {
    this.#isStale = true;
    if (this.#isReading) return;
    this.#isReading = true;
    while (this.#isStale) {
      this.#isStale = false;
      try {
        this.contents = await this.#ipc.readLibrary();
        this.failure = null;
      } catch (reason) {
        this.failure = toAppError(reason);
      }
    }
    this.#isReading = false;
  }

  presence(installedId: string): Presence {
    if (this.downloads.some(({ id, kind }) => id === installedId && kind !== "repair")) {
      return "onItsWay";
    }
    const isInstalled = this.contents?.installed.some(({ id }) => id === installedId);
    return isInstalled ? "installed" : "absent";
  }

  /** Whether the user has yet to be told what it means to take a model of this repository. */
  needsWarning(isRecommended: boolean): boolean {
    return !isRecommended && this.contents?.knowsOtherSources !== true;
  }

  async downloadListed(model: AvailableModel): Promise<void> {
    await this.#ask(model.installedId, () => this.#ipc.downloadListed(model.id));
  }

  async downloadVariant(
    repository: string,
    commit: string,
    variant: { name: string; installedId: string },
  ): Promise<void> {
    await this.#ask(variant.installedId, () =>
      this.#ipc.downloadVariant(repository, commit, variant.name),
    );
  }

  /** The user was told. Where that cannot be kept it is told again another time. */
  async noteOtherSources(): Promise<void> {
    if (this.contents) this.contents = { ...this.contents, knowsOtherSources: true };
    try {
      await this.#ipc.noteOtherSources();
    } catch {
      // It is told again by the next start.
    }
  }

  pause(id: string): Promise<void> {
    return this.#attempt(id, "The download could not be paused.", () =>
      this.#ipc.pauseDownload(id),
    );
  }

  resume(id: string): Promise<void> {
    return this.#attempt(id, "The download could not be resumed.", () =>
      this.#ipc.resumeDownload(id),
    );
  }

  cancel(id: string): Promise<void> {
    return this.#attempt(id, "The download could not be cancelled.", () =>
      this.#ipc.cancelDownload(id),
    );
  }

  async repair(model: Model): Promise<void> {
    // Under a name of its own: what goes on can be cancelled meanwhile.
    await this.#during(`repair ${model.id}`, async () => {
      try {
        const wrong = await this.#ipc.repairModel(model.id);
        if (wrong !== null) this.#say(repairSentence(named(model), wrong));
      } catch (reason) {
        // What failed under way stands in the list with its reason.
        if (this.downloads.some(({ id }) => id === model.id)) return;
        this.#toastsNow.showFailure(`${named(model)} could not be repaired.`, reason);
      }
    });
  }

  async remove(model: Model): Promise<void> {
    await this.#attempt(model.id, `${named(model)} could not be removed.`, async () => {
      await this.#ipc.removeModel(model.id);
      this.#toastsNow.show(
        `${named(model)} was removed. Its ${formatBytes(model.sizeBytes)} are freed when Hearth ends.`,
        { label: "Undo", run: () => void this.restore(model) },
      );
    });
  }

  restore(removed: { id: string; name: string }): Promise<void> {
    return this.#attempt(removed.id, `${named(removed)} could not be put back.`, () =>
      this.#ipc.restoreModel(removed.id),
    );
  }

  deleteNow(removed: RemovedModel): Promise<void> {
    return this.#attempt(removed.id, `${named(removed)} could not be deleted.`, async () => {
      await this.#ipc.deleteRemovedModel(removed.id);
      this.#say(`${named(removed)} is deleted, and ${formatBytes(removed.sizeBytes)} are free.`);
      await this.read();
    });
  }

  /** Fetches the list of models that the settings name, or asks for its address. */
  async refreshList(): Promise<void> {
    if (this.contents?.hasListAddress === false) {
      this.#toastsNow.show("No address of a list of models is set.", {
        label: "Enter one",
        run: () => this.openNetwork(),
      });
      return;
    }
    await this.#attempt("list", "The list could not be refreshed.", async () => {
      const { host, models } = await this.#ipc.refreshList();
      this.#say(`The list of ${host} has ${models === 1 ? "one model" : `${models} models`}.`);
      await this.read();
    });
  }

  async leaveRefreshedList(): Promise<void> {
    await this.#attempt("list", "The list could not be removed.", async () => {
      await this.#ipc.leaveRefreshedList();
      await this.read();
    });
  }

  async import(isLinked: boolean): Promise<void> {
    await this.#attempt("import", "The folder could not be imported.", async () => {
      await this.#ipc.importModel(isLinked);
    });
  }

  isBusy(id: string): boolean {
    return this.busy.includes(id);
  }

  get #toastsNow(): Toasts {
    return this.isShown ? this.toasts : this.#outerToasts;
  }

  #say(text: string): void {
    this.#toastsNow.show(text);
  }

  /** Asks for a download. What keeps it from beginning is shown where it was asked for. */
  async #ask(installedId: string, command: () => Promise<void>): Promise<void> {
    this.refusals = Object.fromEntries(
      Object.entries(this.refusals).filter(([id]) => id !== installedId),
    );
    await this.#during(installedId, async () => {
      try {
        await command();
      } catch (reason) {
        this.refusals = { ...this.refusals, [installedId]: toAppError(reason) };
      }
    });
  }

  async #attempt(id: string, failed: string, command: () => Promise<void>): Promise<void> {
    await this.#during(id, async () => {
      try {
        await command();
      } catch (reason) {
        this.#toastsNow.showFailure(failed, reason);
      }
    });
  }

  /** One command at a time for each. */
  async #during(id: string, work: () => Promise<void>): Promise<void> {
    if (this.isBusy(id)) return;
    this.busy = [...this.busy, id];
    await work();
    this.busy = this.busy.filter((other) => other !== id);
  }
}

function repairSentence(name: string, wrong: number): string {
  if (wrong === 0) return `Every byte of ${name} is right.`;
  return wrong === 1
    ? `One file of ${name} was wrong and is right now.`
    : `${wrong} files of ${name} were wrong and are right now.`;
}

function named({ name }: { name: string }): string {
  return revealInvisibleText(name);
}

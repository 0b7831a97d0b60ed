// The model library of the in-memory backend: downloads that come by themselves, and one repository.

import { AppError } from "./errors";
import type {
  AvailableModel,
  Download,
  DownloadsChanged,
  InstalledModel,
  LibraryContents,
  Model,
  MoveProgress,
  NetworkChoice,
  NetworkRequest,
  NetworkState,
  RefreshedList,
  RemovedModel,
  RepositoryHit,
  RepositoryOffer,
  Unsubscribe,
} from "./index";
import type { ScenarioName } from "./fakeScenarios";
import type { Pause } from "./fakePause";

const STEPS = 40;
const STEP_MILLISECONDS = 150;
const MEMORY_BYTES = 16_000_000_000;
const COMMIT = "a10cc1512eabd3dde888204e902eca88bddb4951";
const DEFAULT_FOLDER = "/data/hearth/models";
const MOVED_FOLDER = "/media/ada/disk/models";
const NOON = "2026-03-14T12:00:00Z";

const recommended = (
  id: string,
  title: string,
  parameters: string,
  sizeBytes: number | null,
  changes: Partial<AvailableModel> = {},
): AvailableModel => ({
  id,
  installedId: `${id}@${COMMIT.slice(0, 12)}`,
  title,
  repository: `onnx-community/${id}`,
  parameters,
  contextLength: 32_768,
  sizeBytes,
  licence: "Apache-2.0",
  hasTerms: false,
  isRecommended: true,
  memory: { bytes: (sizeBytes ?? 3_000_000_000) + 500_000_000, includesKvCache: true, fit: "fits" },
  ...changes,
});

export const recommendedModels: AvailableModel[] = [
  recommended("smollm2-360m", "SmolLM2 360M Instruct (q4)", "362M", 390_053_199, {
    contextLength: 8192,
  }),
  recommended("qwen3-0.6b", "Qwen3 0.6B (CPU int4/int8)", "0.6B", 536_027_089),
  recommended("qwen3-4b", "Qwen3 4B (CPU int4/int8)", "4.0B", 2_897_393_080, {
    memory: { bytes: 10_800_000_000, includesKvCache: true, fit: "tight" },
  }),
  recommended("gemma-3-1b", "Gemma 3 1B IT (q4)", "1.0B", null, {
    licence: "Gemma Terms of Use",
    hasTerms: true,
  }),
  recommended("phi-3.5-mini", "Phi-3.5 mini Instruct (CPU int4 AWQ)", "3.8B", 2_790_000_000, {
    licence: "MIT",
    contextLength: 131_072,
    memory: { bytes: 17_900_000_000, includesKvCache: false, fit: "tooLarge" },
  }),
];

/** What the list of another server has beyond these. */
const refreshedModel = recommended("tiny-talker", "Tiny Talker (q4)", "120M", 91_000_000, {
  repository: "someone/tiny-talker",
  isRecommended: false,
});

const GIGABYTE = 1_000_000_000;

const onItsWay = (
  title: string,
  done: number,
  total: number,
  state: Download["state"],
  kind: Download["kind"] = "download",
): Download => ({
  id: `${title.toLowerCase().replaceAll(/[^a-z0-9.]+/gu, "-")}@${COMMIT.slice(0, 12)}`,
  title,
  kind,
  doneBytes: done * GIGABYTE,
  totalBytes: total * GIGABYTE,
  state,
});

function downloadsOf(scenario: ScenarioName): Download[] {
  if (scenario === "downloads") {
    return [
      onItsWay("Qwen3 1.7B (CPU int4/int8)", 0.612, 1.42, {
        type: "downloading",
        bytesPerSecond: 11_400_000,
        secondsLeft: 71,
      }),
      onItsWay("SmolLM3 3B (q4)", 1.1, 2.84, {
        type: "waiting",
        seconds: 28,
        reason: "cannot fetch `onnx/model_q4.onnx_data`: `huggingface.co`: no connection",
      }),
      onItsWay("Qwen2.5 1.5B Instruct (q4)", 0.4, 1.79, { type: "paused" }),
      onItsWay("SmolLM2 135M", 0.09, 0.181, { type: "checking" }, "repair"),
      onItsWay("my-model", 0.3, 0.5, { type: "queued" }, "import"),
    ];
  }
  if (scenario === "downloadFailed") {
    return [
      onItsWay("Qwen3 1.7B (CPU int4/int8)", 0.612, 1.42, {
        type: "failed",
        error: {
          code: "diskFull",
          message: "`/data/hearth/models` has too little room: 812,402,311 bytes more are needed",
        },
      }),
      onItsWay("Gemma 3 1B IT (q4)", 0, 0.88, {
        type: "failed",
        error: {
          code: "repositoryGated",
          message:
            "cannot fetch `config.json` of `onnx-community/gemma-3-1b-it-ONNX`: its owner asks for a login and that conditions are accepted",
        },
      }),
    ];
  }
  return [];
}

export class FakeLibrary {
  /** What the window asked of the hub, newest last. */
  readonly asked: string[] = [];

  #pause: Pause;
  #scenario: ScenarioName;
  #downloads: Download[];
  #removed: (RemovedModel & { model: Model })[] = [];
  #knowsOtherSources = false;
  #folder = DEFAULT_FOLDER;
  #isFolderAway: boolean;
  #isMoveStopped = false;
  #network: NetworkChoice;
  #refreshed: RefreshedList | null = null;
  #requests: NetworkRequest[] = [];
  #listeners = new Set<(change: DownloadsChanged) => void>();
  #models: () => Model[];
  #setModels: (models: Model[]) => void;

  constructor(
    scenario: ScenarioName,
    pause: Pause,
    models: () => Model[],
    setModels: (models: Model[]) => void,
  ) {
    this.#scenario = scenario;
    this.#pause = pause;
    this.#downloads = downloadsOf(scenario);
    this.#isFolderAway = scenario === "libraryAway";
    if (this.#isFolderAway) this.#folder = MOVED_FOLDER;
    this.#network = { isOffline: scenario === "offline", mirror: null, proxy: null, catalog: null };
    this.#models = models;
    this.#setModels = setModels;
  }

  read(): LibraryContents {
    const installed = this.#models().map((model): InstalledModel => {
      const isBuiltIn = model.source === "builtIn";
      return {
        id: model.id,
        licence: isBuiltIn ? null : "Apache-2.0",
        origin: isBuiltIn
          ? { type: "builtIn" }
          : { type: "hub", repository: `onnx-community/${model.id.split("@")[0]}`, commit: COMMIT },
        memory: { bytes: model.sizeBytes + 300_000_000, includesKvCache: true, fit: "fits" },
        canRemove: !isBuiltIn,
        canRepair: !isBuiltIn,
      };
    });
    const own = this.#models().filter(({ source }) => source !== "builtIn");
    return {
      installed,
      available: this.#refreshed ? [...recommendedModels, refreshedModel] : recommendedModels,
      refreshedList: this.#refreshed,
      listTrouble: null,
      hasListAddress: this.#network.catalog !== null,
      folder: this.#folder,
      isFolderAway: this.#isFolderAway,
      installedBytes: own.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      unfinishedBytes: this.#downloads.reduce((sum, { doneBytes }) => sum + doneBytes, 0),
      freeBytes: this.#isFolderAway ? null : 45_000_000_000,
      memoryBytes: MEMORY_BYTES,
      knowsOtherSources: this.#knowsOtherSources,
    };
  }

  /** Moves the models to a folder that the user of a test chose. */
  async move(onProgress: (progress: MoveProgress) => void): Promise<string | null> {
    const total = this.read().installedBytes;
    this.#isMoveStopped = false;
    for (let step = 0; step < STEPS; step += 1) {
      onProgress({ phase: "placing", done: (total * step) / STEPS, total });
      await this.#pause(STEP_MILLISECONDS);
      if (this.#isMoveStopped) return null;
    }
    onProgress({ phase: "deleting", done: total, total });
    this.#folder = MOVED_FOLDER;
    return this.#folder;
  }

  cancelMove(): void {
    this.#isMoveStopped = true;
  }

  lookForFolder(): void {
    if (!this.#isFolderAway) return;
    throw new AppError({
      code: "libraryFolder",
      message: `cannot use the folder of models \`${this.#folder}\`: it is not there, or empty`,
    });
  }

  useDefaultFolder(): void {
    this.#folder = DEFAULT_FOLDER;
    this.#isFolderAway = false;
  }

  /** The disk of the folder is plugged in. */
  bringFolderBack(): void {
    this.#isFolderAway = false;
  }

  downloads(): DownloadsChanged {
    const removed = this.#removed.map(({ id, name, sizeBytes }) => ({ id, name, sizeBytes }));
    return structuredClone({ downloads: this.#downloads, removed });
  }

  follow(listener: (change: DownloadsChanged) => void): Unsubscribe {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  search(words: string): RepositoryHit[] {
    this.#ask("search", words);
    return ["SmolLM2-135M-Instruct", "SmolLM2-360M-Instruct", "SmolLM2-1.7B-Instruct"]
      .map((name) => ({
        id: `HuggingFaceTB/${name}`,
        licence: "apache-2.0",
        downloads: 12_043,
        isGated: false,
      }))
      .filter(({ id }) => id.toLowerCase().includes(words.toLowerCase()));
  }

  lookUp(repository: string): RepositoryOffer {
    this.#ask("repository", repository);
    if (repository.includes("missing")) {
      throw new AppError({
        code: "repositoryMissing",
        message: `cannot look up the repository \`${repository}\`: it does not exist there (RepoNotFound)`,
      });
    }
    const name = repository.split("/").at(-1) ?? repository;
    const variant = (kind: string, sizeBytes: number, unsupported: string | null = null) => ({
      name: kind,
      installedId: `${name.toLowerCase()}-${kind}@${COMMIT.slice(0, 12)}`,
      graph: `onnx/model_${kind}.onnx`,
      sizeBytes,
      memory: { bytes: sizeBytes + 300_000_000, includesKvCache: true, fit: "fits" as const },
      unsupported,
    });
    const several = "it is an encoder, and such models are made of several graphs";
    return {
      repository,
      commit: COMMIT,
      licence: "apache-2.0",
      baseModels: ["HuggingFaceTB/SmolLM2-135M"],
      isGated: false,
      isRecommended: false,
      variants: repository.includes("pictures")
        ? [variant("vision_encoder", 94_000_000, several)]
        : [
            variant("q4", 182_000_000),
            variant("quantized", 139_000_000),
            variant("vision_encoder", 94_000_000, several),
          ],
    };
  }

  noteOtherSources(): void {
    this.#knowsOtherSources = true;
  }

  recommend(id: string): void {
    const model = [...recommendedModels, refreshedModel].find((entry) => entry.id === id);
    this.#ask("fileList", id);
    if (model) this.start(model.installedId, model.title, model.sizeBytes ?? GIGABYTE);
  }

  start(id: string, title: string, totalBytes: number, kind: Download["kind"] = "download"): void {
    const state: Download["state"] = { type: "queued" };
    this.#downloads = [
      ...this.#downloads.filter((download) => download.id !== id),
      { id, title, kind, doneBytes: 0, totalBytes, state },
    ];
    this.resume(id);
  }

  pause(id: string): void {
    this.#change(id, { state: { type: "paused" } });
  }

  resume(id: string): void {
    this.#change(id, { state: { type: "downloading", bytesPerSecond: 0, secondsLeft: null } });
    void this.#come(id);
  }

  cancel(id: string): void {
    this.#downloads = this.#downloads.filter((download) => download.id !== id);
    this.#tell();
  }

  async repair(model: Model): Promise<number | null> {
    this.#downloads = [
      ...this.#downloads,
      {
        id: model.id,
        title: model.name,
        kind: "repair",
        doneBytes: 0,
        totalBytes: model.sizeBytes,
        state: { type: "checking" },
      },
    ];
    this.#tell();
    await this.#pause(STEPS * STEP_MILLISECONDS);
    this.cancel(model.id);
    return this.#scenario === "downloads" ? 1 : 0;
  }

  remove(id: string): void {
    const model = this.#models().find((other) => other.id === id);
    if (!model)
      throw new AppError({ code: "modelMissing", message: `there is no model \`${id}\`` });
    const { name, sizeBytes } = model;
    this.#removed = [...this.#removed, { id, name, sizeBytes, model }];
    this.#setModels(this.#models().filter((other) => other.id !== id));
    this.#tell();
  }

  restore(id: string): void {
    const back = this.#removed.find((removed) => removed.id === id);
    if (back) this.#setModels([...this.#models(), back.model]);
    this.deleteRemoved(id);
  }

  deleteRemoved(id: string): void {
    this.#removed = this.#removed.filter((removed) => removed.id !== id);
    this.#tell();
  }

  network(): NetworkState {
    return {
      choice: this.#network,
      endpoint: this.#network.mirror ?? "https://huggingface.co/",
      isEndpointFixed: false,
      isOfflineFixed: false,
      takesToken: this.#network.mirror === null,
      hasEnvironmentToken: false,
      requests: this.#requests,
      olderRequests: 0,
    };
  }

  setNetwork(choice: NetworkChoice): void {
    if (choice.mirror?.startsWith("http://")) {
      throw new AppError({
        code: "connectionUnsafe",
        message: `cannot use the hub at \`${choice.mirror}\`: only https is allowed, except on this machine`,
      });
    }
    this.#network = choice;
  }

  refreshList(): RefreshedList {
    const address = this.#network.catalog;
    if (address === null) {
      throw new AppError({
        code: "listUnusable",
        message: "no address of a list of models is set",
      });
    }
    const { host } = new URL(address);
    this.#ask("catalog", address, host);
    if (address.includes("broken")) {
      throw new AppError({
        code: "listUnusable",
        message: `the list of models at \`${address}\` cannot be used: expected value at line 1 column 1`,
      });
    }
    this.#refreshed = { host, refreshed: NOON, models: 1 };
    return this.#refreshed;
  }

  leaveRefreshedList(): void {
    this.#refreshed = null;
  }

  /** Notes a request, or refuses it. */
  #ask(purpose: NetworkRequest["purpose"], what: string, host = "huggingface.co"): void {
    if (this.#network.isOffline) {
      throw new AppError({
        code: "offline",
        message: `cannot ask for \`${what}\`: the network is switched off in the settings or by HF_HUB_OFFLINE`,
      });
    }
    this.asked.push(what);
    const id = `request-${this.asked.length}`;
    const request = { id, time: NOON, host, purpose, bytes: 4096 };
    this.#requests = [request, ...this.#requests];
  }

  /** Lets the bytes of a download come, until it is stopped or there. */
  async #come(id: string): Promise<void> {
    for (let step = 1; step <= STEPS; step += 1) {
      await this.#pause(STEP_MILLISECONDS);
      const download = this.#downloads.find((other) => other.id === id);
      if (download?.state.type !== "downloading") return;
      const { totalBytes } = download;
      this.#change(id, {
        doneBytes: Math.max(download.doneBytes, Math.round((totalBytes * step) / STEPS)),
        state: {
          type: "downloading",
          bytesPerSecond: totalBytes / STEPS / (STEP_MILLISECONDS / 1000),
          secondsLeft: ((STEPS - step) * STEP_MILLISECONDS) / 1000,
        },
      });
    }
    const done = this.#downloads.find((other) => other.id === id);
    if (!done) return;
    this.#setModels([
      ...this.#models(),
      {
        id,
        name: done.title,
        source: "installed",
        folder: `/data/hearth/models/${id}`,
        parameters: 362_000_000,
        sizeBytes: done.totalBytes,
        contextLength: 8192,
        plainTemplate: false,
        introduction: null,
        suggestions: [],
        state: { type: "available" },
      },
    ]);
    this.cancel(id);
  }

  #change(id: string, changes: Partial<Download>): void {
    this.#downloads = this.#downloads.map((download) =>
      download.id === id ? { ...download, ...changes } : download,
    );
    this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener(this.downloads());
  }
}

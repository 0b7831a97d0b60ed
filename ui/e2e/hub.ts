// A hub on this machine: the few answers of the hub's protocol that a download needs, and a body that stops where
// a scenario wants to look.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

export const COMMIT = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
/** Files from this size on are kept apart by the hub, under another kind of digest. */
const LARGE = 1000;

/** A request that came, with the range that it asked for and what it brought to be let in. */
export type Request = {
  path: string;
  range: string | undefined;
  authorization: string | undefined;
};

export class Hub {
  readonly requests: Request[] = [];
  private readonly repositories = new Map<string, Map<string, Buffer>>();
  /** Repositories that ask for a token, by the token that opens each. */
  private readonly gated = new Map<string, string>();
  /** Bodies of this file stop after so many bytes, until they are let go. */
  private held: { file: string; bytes: number } | null = null;
  private readonly waiting: (() => void)[] = [];

  private constructor(private readonly server: Server) {}

  static async start(): Promise<Hub> {
    const server = createServer();
    const hub = new Hub(server);
    server.on("request", (request, response) => void hub.answer(request, response));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return hub;
  }

  /** The environment of a window that asks this hub. */
  get environment(): Record<string, string> {
    const { port } = this.server.address() as AddressInfo;
    return { HF_ENDPOINT: `http://127.0.0.1:${port}` };
  }

  /** Puts the files of a folder into a repository. */
  async storeFolder(repository: string, folder: string): Promise<void> {
    const files = new Map<string, Buffer>();
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (entry.isFile()) files.set(entry.name, await readFile(join(folder, entry.name)));
    }
    this.repositories.set(repository, files);
  }

  store(repository: string, files: Record<string, Buffer>): void {
    this.repositories.set(repository, new Map(Object.entries(files)));
  }

  /** Lets a repository give its files to this token alone. */
  demandToken(repository: string, token: string): void {
    this.gated.set(repository, token);
  }

  /** Lets every body of `file` stop after so many bytes of the file. */
  hold(file: string, bytes: number): void {
    this.held = { file, bytes };
  }

  /** Lets what was held go on. */
  release(): void {
    this.held = null;
    for (const goOn of this.waiting.splice(0)) goOn();
  }

  /** Ends the hub: from now on nobody answers. */
  async stop(): Promise<void> {
    this.release();
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, "close");
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://hub.invalid");
    const parts = url.pathname.split("/").slice(1).map(decodeURIComponent);
    const { range, authorization } = request.headers;
    this.requests.push({ path: url.pathname, range, authorization });
    if (parts[0] === "api" && parts.length === 2) {
      return this.search(url.searchParams.get("search") ?? "", response);
    }
    const [owner, name, kind, , ...path] = parts[0] === "api" ? parts.slice(2) : parts;
    const files = this.repositories.get(`${owner}/${name}`);
    if (!files) {
      response.writeHead(404, { "X-Error-Code": "RepoNotFound" }).end();
    } else if (kind === "revision") {
      const card = { license: "mit", base_model: "base/model" };
      const gated = this.gated.has(`${owner}/${name}`) ? "auto" : false;
      json(response, { sha: COMMIT, gated, cardData: card, tags: ["license:mit"] });
    } else if (kind === "tree") {
      json(response, [...files].map(entry));
    } else if (this.refuses(`${owner}/${name}`, request.headers.authorization)) {
      const status = request.headers.authorization === undefined ? 401 : 403;
      response.writeHead(status, { "X-Error-Code": "GatedRepo" }).end();
    } else {
      await this.send(path.join("/"), files, request, response);
    }
  }

  private refuses(repository: string, authorization: string | undefined): boolean {
    const token = this.gated.get(repository);
    return token !== undefined && authorization !== `Bearer ${token}`;
  }

  private search(words: string, response: ServerResponse): void {
    const found = [...this.repositories.keys()].filter((id) => id.includes(words));
    const hit = (id: string) => ({
      id,
      tags: ["license:mit"],
      downloads: 7,
      likes: 1,
      gated: false,
    });
    json(response, found.map(hit));
  }

  private async send(
    path: string,
    files: Map<string, Buffer>,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const bytes = files.get(path);
    if (!bytes) {
      response.writeHead(404, { "X-Error-Code": "EntryNotFound" }).end();
      return;
    }
    const start = Number(/^bytes=(\d+)-$/u.exec(request.headers.range ?? "")?.[1] ?? 0);
    const range = { "Content-Range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` };
    response.writeHead(start > 0 ? 206 : 200, {
      "Content-Type": "application/octet-stream",
      "Content-Length": bytes.length - start,
      "X-Repo-Commit": COMMIT,
      ETag: `"${sha256(bytes)}"`,
      ...(start > 0 ? range : {}),
    });
    const stop = this.held?.file === path ? Math.max(this.held.bytes, start) : bytes.length;
    response.write(bytes.subarray(start, stop));
    if (stop < bytes.length) {
      await new Promise<void>((goOn) => this.waiting.push(goOn));
    }
    response.end(bytes.subarray(stop));
  }
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(value));
}

/** A file as the hub lists it. */
function entry([path, bytes]: [string, Buffer]): object {
  const size = bytes.length;
  const git = createHash("sha1").update(`blob ${size}\0`).update(bytes).digest("hex");
  const listed = { type: "file", path, size, oid: git };
  if (size < LARGE) return listed;
  return { ...listed, lfs: { oid: sha256(bytes), size, pointerSize: 130 } };
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, readlink } from "node:fs/promises";

/** Linux alone tells in a file who belongs to whom. */
export const HAS_GROUPS = process.platform === "linux";
const PATIENCE = 10_000;

/**
 * A process with all that it starts. The driver leaves its window alone where it is ended itself, and the next
 * window would then hand over to that one instead of coming up.
 */
export class ProcessGroup {
  readonly leader: ChildProcess;

  constructor(program: string, options: SpawnOptions, ...programArguments: string[]) {
    this.leader = spawn(program, programArguments, { ...options, detached: HAS_GROUPS });
  }

  get hasEnded(): boolean {
    return this.leader.exitCode !== null || this.leader.signalCode !== null;
  }

  /** Asks the one that runs `program` to end, as a system does, and waits until it has. */
  async endByAsking(program: string): Promise<void> {
    const { pid } = this.leader;
    if (pid === undefined || !HAS_GROUPS) throw new Error("nobody can be asked to end here");
    const asked = async () => {
      const ids = await living(pid);
      const programs = await Promise.all(ids.map(programOf));
      return ids.filter((_, index) => programs[index] === program);
    };
    const [id] = await asked();
    if (id === undefined) throw new Error(`nobody runs ${program}`);
    process.kill(Number(id), "SIGTERM");
    await until(`${program} has ended`, async () => (await asked()).length === 0);
  }

  /** Ends all of them, by SIGKILL without a word, and waits until none is left. */
  async end(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    const { pid } = this.leader;
    if (pid === undefined) return;
    const ended = this.hasEnded ? undefined : once(this.leader, "exit");
    if (!HAS_GROUPS) this.leader.kill(signal);
    else if ((await living(pid)).length > 0) process.kill(-pid, signal);
    await ended;
    if (!HAS_GROUPS) return;
    await until(`all of ${this.leader.spawnfile} have ended`, async () => {
      return (await living(pid)).length === 0;
    });
  }
}

/** Nobody tells when a process ends that is not one's own child, so it has to be looked for again and again. */
async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + PATIENCE;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`waited in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The program that a process runs; nothing where it has ended meanwhile. */
async function programOf(id: string): Promise<string | undefined> {
  return readlink(`/proc/${id}/exe`).catch(() => undefined);
}

/** The processes of a group that still run; those that only wait to be buried do not. */
async function living(group: number): Promise<string[]> {
  const processes = (await readdir("/proc")).filter((name) => /^\d+$/u.test(name));
  const found = await Promise.all(
    processes.map(async (id) => {
      // It may have ended since it was listed.
      const stat = await readFile(`/proc/${id}/stat`, "utf8").catch(() => "");
      // After the name, which may hold anything: its state, its parent, its group.
      const [state, , its] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return Number(its) === group && state !== "Z" && state !== "X";
    }),
  );
  return processes.filter((_, index) => found[index]);
}

import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";

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

  /** Ends all of them, by SIGKILL without a word, and waits until none is left. */
  async end(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    const { pid } = this.leader;
    if (pid === undefined) return;
    const ended = this.hasEnded ? undefined : once(this.leader, "exit");
    if (!HAS_GROUPS) this.leader.kill(signal);
    else if ((await living(pid)).length > 0) process.kill(-pid, signal);
    await ended;
    const end = Date.now() + PATIENCE;
    while (HAS_GROUPS && (await living(pid)).length > 0) {
      if (Date.now() > end) throw new Error(`processes of ${this.leader.spawnfile} do not end`);
      // Nobody tells when a process ends that is not one's own child, so it has to be looked for again.
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
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

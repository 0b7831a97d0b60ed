import { execFile, type SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { promisify } from "node:util";
import { HAS_GROUPS, ProcessGroup } from "./processGroup";

const START_TIMEOUT = 20_000;
const NAME_TIMEOUT = 10_000;
/** How the names end by which a window is found that runs already. */
const NAME_OF_A_WINDOW = ".SingleInstance";

/** The web view's own WebDriver as a process; it starts the window and ends with it. */
export class WebDriverServer {
  private constructor(
    readonly url: string,
    private readonly processes: ProcessGroup,
    private readonly log: string,
  ) {}

  /**
   * Starts the driver with the environment that the window shall have.
   *
   * @param log file for what driver and window print
   */
  static async start(environment: NodeJS.ProcessEnv, log: string): Promise<WebDriverServer> {
    const program = required("HEARTH_WEBDRIVER");
    const port = await freePort();
    const options: SpawnOptions = { env: environment, stdio: ["ignore", "pipe", "pipe"] };
    const processes = new ProcessGroup(program, options, `--port=${port}`);
    const output = createWriteStream(log, { flags: "a" });
    processes.leader.stdout?.pipe(output, { end: false });
    processes.leader.stderr?.pipe(output, { end: false });
    const server = new WebDriverServer(`http://127.0.0.1:${port}`, processes, log);
    try {
      await server.untilReady();
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  /** What driver and window have printed so far. */
  async printed(): Promise<string> {
    return readFile(this.log, "utf8");
  }

  /** Ends the driver, and the window where it is still there. */
  async stop(): Promise<void> {
    await this.processes.end();
    await untilNoWindowIsNamed();
  }

  /** Asks the window to end, as the system does where the user logs out; the driver is left with nothing. */
  async endTheWindowByAsking(): Promise<void> {
    await this.processes.endByAsking(required("HEARTH_WINDOW"));
    await this.stop();
  }

  /** Ends both at once, as a power cut does. */
  async kill(): Promise<void> {
    await this.processes.end("SIGKILL");
    await untilNoWindowIsNamed();
  }

  private async untilReady(): Promise<void> {
    const end = Date.now() + START_TIMEOUT;
    for (;;) {
      if (this.processes.hasEnded) {
        throw new Error(`the driver ended at once:\n${await this.printed()}`);
      }
      try {
        // eslint-disable-next-line no-restricted-syntax -- This request comes from the test, not from the window.
        const answer = await fetch(`${this.url}/status`);
        if (answer.ok) return;
      } catch (error) {
        if (Date.now() > end) throw new Error("the driver does not answer", { cause: error });
      }
      // It tells nobody when it listens, so it has to be asked again.
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
}

/**
 * Waits until the session bus has noticed that a window has ended: the next one would hand over to it otherwise, and
 * never come up.
 */
async function untilNoWindowIsNamed(): Promise<void> {
  if (!HAS_GROUPS) return;
  const bus = "org.freedesktop.DBus";
  const end = Date.now() + NAME_TIMEOUT;
  for (;;) {
    const { stdout } = await promisify(execFile)("dbus-send", [
      ...["--session", "--print-reply=literal", `--dest=${bus}`, "/org/freedesktop/DBus"],
      `${bus}.ListNames`,
    ]);
    if (!stdout.includes(NAME_OF_A_WINDOW)) return;
    if (Date.now() > end) throw new Error(`a window still has its name on the bus: ${stdout}`);
    // It could be told of, by a connection that would have to be kept; asking again is simpler.
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The value of an environment variable that the scenarios cannot do without. */
export function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run \`cargo xtask test --only window\``);
  return value;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

import { formatBytes, formatSeconds } from "../lib/format";
import type { Download } from "../lib/ipc";

/** How much of a download is there, from 0 to 1; null where that says nothing. */
export function downloadShare({ doneBytes, totalBytes, state }: Download): number | null {
  if (totalBytes === 0 || state.type === "checking" || state.type === "installing") return null;
  return Math.min(1, doneBytes / totalBytes);
}

/** What goes on with a model on its way, in one line. */
export function downloadSentence(download: Download): string {
  const { doneBytes, totalBytes, kind, state } = download;
  const share = totalBytes === 0 ? null : `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
  const after = (word: string) => [word, share].filter((part) => part !== null).join(" · ");
  switch (state.type) {
    case "queued":
      return after("Waiting for its turn");
    case "checking":
      return kind === "repair" ? "Comparing every byte" : after("Verifying what is here");
    case "downloading": {
      const word = kind === "import" ? "Copying" : "Downloading";
      const speed = state.bytesPerSecond >= 1 ? `${formatBytes(state.bytesPerSecond)}/s` : null;
      const left = state.secondsLeft === null ? null : `${timeLeft(state.secondsLeft)} left`;
      return [after(word), speed, left].filter((part) => part !== null).join(" · ");
    }
    case "waiting":
      return `${after("Waiting for the network")} · next try within ${formatSeconds(Math.max(1, Math.ceil(state.seconds)))} · ${state.reason}`;
    case "installing":
      return "Checking the graph and installing";
    case "paused":
      return after("Paused");
    case "failed":
      return after(kind === "import" ? "Not imported" : "Stopped");
  }
}

/** Rounded so that it does not flicker: seconds, then minutes, then hours. */
function timeLeft(seconds: number): string {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

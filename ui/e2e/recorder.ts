import type { WebDriver } from "selenium-webdriver";

/** A reply as it stood at one moment. */
export type Moment = { isBusy: boolean; text: string };

/**
 * Records every state of the replies from now on, inside the page: a short reply is over before a driver
 * that asks from outside has seen any of it.
 *
 * @param stopAt presses the stop button as soon as a reply that is being written has so many characters
 */
export async function recordReplies(driver: WebDriver, stopAt?: number): Promise<void> {
  await driver.executeScript((stopAt: number | null) => {
    const moments: { isBusy: boolean; text: string }[] = [];
    let stopped = false;
    const look = () => {
      const replies = document.querySelectorAll<HTMLElement>('[data-testid="reply"]');
      const reply = replies[replies.length - 1];
      if (!reply) return;
      const isBusy = reply.ariaBusy === "true";
      const text = reply.querySelector<HTMLElement>(".markdown")?.innerText.trim() ?? "";
      const last = moments[moments.length - 1];
      if (last?.isBusy !== isBusy || last.text !== text) moments.push({ isBusy, text });
      if (stopAt !== null && !stopped && isBusy && text.length >= stopAt) {
        const stop = document.querySelector<HTMLElement>('[data-testid="stop"]');
        stopped = stop !== null;
        stop?.click();
      }
    };
    new MutationObserver(look).observe(document.body, {
      subtree: true,
      childList: true,
      characterData: true,
      attributes: true,
      attributeFilter: ["aria-busy"],
    });
    Object.assign(window, { recordedMoments: moments });
  }, stopAt ?? null);
}

/** What {@link recordReplies} has seen so far. */
export async function recordedMoments(driver: WebDriver): Promise<Moment[]> {
  return driver.executeScript(
    () => (window as unknown as { recordedMoments: Moment[] }).recordedMoments,
  );
}

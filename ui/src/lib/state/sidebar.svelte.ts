import { MediaQuery } from "svelte/reactivity";

const REMEMBERED_AS = "sidebar";

/** Whether the sidebar is seen. In a narrow window it is a drawer that begins closed. */
export class SidebarState {
  readonly #narrow = new MediaQuery("max-width: 760px");
  #isBeside = $state(remembered());
  #isDrawerOpen = $state(false);

  get isDrawer(): boolean {
    return this.#narrow.current;
  }

  get isOpen(): boolean {
    return this.isDrawer ? this.#isDrawerOpen : this.#isBeside;
  }

  open(): void {
    this.#set(true);
  }

  close(): void {
    this.#set(false);
  }

  /** To be called when something was chosen in it: a drawer has done its work then. */
  chosen(): void {
    this.#isDrawerOpen = false;
  }

  #set(isOpen: boolean): void {
    if (this.isDrawer) {
      this.#isDrawerOpen = isOpen;
      return;
    }
    this.#isBeside = isOpen;
    try {
      localStorage.setItem(REMEMBERED_AS, isOpen ? "open" : "closed");
    } catch {
      // A web view without storage begins with the sidebar open each time.
    }
  }
}

function remembered(): boolean {
  try {
    return localStorage.getItem(REMEMBERED_AS) !== "closed";
  } catch {
    return true;
  }
}

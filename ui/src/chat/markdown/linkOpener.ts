import { createContext } from "svelte";
import type { LinkTarget } from "../../lib/links";

/** How a link inside a reply asks to be opened, without knowing who asks the person. */
export const [linkOpener, provideLinkOpener] = createContext<(target: LinkTarget) => void>();

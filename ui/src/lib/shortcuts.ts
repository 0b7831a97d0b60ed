// All keyboard shortcuts, in one table: the window listens by it, tooltips and the dialog show it.

export type ShortcutName =
  | "send"
  | "lineBreak"
  | "stop"
  | "focusComposer"
  | "pickModel"
  | "resetMemory"
  | "regenerate"
  | "copyReply"
  | "toEnd"
  | "newConversation"
  | "searchConversations"
  | "toggleSidebar"
  | "settings"
  | "shortcuts";

export interface Shortcut {
  description: string;
  /** As `KeyboardEvent.key` names it, in lower case. */
  key: string;
  /** Ctrl, or Cmd on macOS. */
  command?: boolean;
  shift?: boolean;
}

export const shortcuts: Record<ShortcutName, Shortcut> = {
  send: { description: "Send the message", key: "enter" },
  lineBreak: { description: "Break the line", key: "enter", shift: true },
  stop: { description: "Stop the reply", key: "escape" },
  focusComposer: { description: "Go to the message field", key: "l", command: true },
  pickModel: { description: "Choose a model", key: "k", command: true },
  resetMemory: {
    description: "Reset the memory of the conversation",
    key: "backspace",
    command: true,
    shift: true,
  },
  regenerate: { description: "Regenerate the last reply", key: "e", command: true, shift: true },
  copyReply: { description: "Copy the last reply", key: "c", command: true, shift: true },
  toEnd: { description: "Go to the end of the conversation", key: "arrowdown", command: true },
  newConversation: { description: "Begin a new conversation", key: "n", command: true },
  searchConversations: {
    description: "Search conversations",
    key: "f",
    command: true,
    shift: true,
  },
  toggleSidebar: { description: "Show or hide the sidebar", key: "b", command: true },
  settings: { description: "Open the settings", key: ",", command: true },
  shortcuts: { description: "Show the keyboard shortcuts", key: "/", command: true },
};

export const isApple = /Mac|iPhone|iPad/u.test(navigator.platform);

const KEY_NAMES: Record<string, string> = {
  enter: "Enter",
  escape: "Esc",
  backspace: isApple ? "⌫" : "Backspace",
  arrowdown: "↓",
};

/** The keys of a shortcut, one a part: ["Ctrl", "K"], or ["⌘", "K"] on macOS. */
export function shortcutKeys(name: ShortcutName): string[] {
  const { key, command, shift } = shortcuts[name];
  const keys: string[] = [];
  if (command) keys.push(isApple ? "⌘" : "Ctrl");
  if (shift) keys.push(isApple ? "⇧" : "Shift");
  keys.push(KEY_NAMES[key] ?? key.toUpperCase());
  return keys;
}

/** The same in one word: "Ctrl+K", or "⌘K" on macOS. */
export function shortcutText(name: ShortcutName): string {
  return shortcutKeys(name).join(isApple ? "" : "+");
}

/** The shortcut with Ctrl or Cmd that an event asks for, if any. */
export function matchShortcut(event: KeyboardEvent): ShortcutName | null {
  const command = isApple ? event.metaKey && !event.ctrlKey : event.ctrlKey && !event.metaKey;
  if (!command || event.altKey) return null;
  const key = event.key.toLowerCase();
  for (const [name, shortcut] of Object.entries(shortcuts)) {
    // On many keyboards a sign such as "/" needs Shift, so Shift counts for letters and named keys.
    const shift =
      key.length === 1 && !/[a-z]/u.test(key) ? true : event.shiftKey === !!shortcut.shift;
    if (shortcut.command && shortcut.key === key && shift) return name as ShortcutName;
  }
  return null;
}

import { chooseLocale } from "./format";
import type { ConversationSummary } from "./ipc";

export interface ConversationGroup {
  label: string;
  conversations: ConversationSummary[];
}

/** Parts the list: the pinned ones, then by the day on which something was last said. Keeps the order. */
export function groupConversations(
  conversations: readonly ConversationSummary[],
  now: Date,
  locale = chooseLocale(navigator.languages),
): ConversationGroup[] {
  const groups: ConversationGroup[] = [];
  for (const conversation of conversations) {
    const label = conversation.pinned
      ? "Pinned"
      : dayLabel(new Date(conversation.updated), now, locale);
    const last = groups.at(-1);
    if (last?.label === label) last.conversations.push(conversation);
    else groups.push({ label, conversations: [conversation] });
  }
  return groups;
}

/** "Today", "Yesterday", "Previous 7 days", "March", or "March 2025" in another year. */
export function dayLabel(date: Date, now: Date, locale = "en"): string {
  const days = wholeDaysBetween(date, now);
  // A clock that was set back leaves conversations in the future; they are the newest ones.
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days <= 7) return "Previous 7 days";
  const isThisYear = date.getFullYear() === now.getFullYear();
  return new Intl.DateTimeFormat(locale, {
    month: "long",
    ...(isThisYear ? {} : { year: "numeric" }),
  }).format(date);
}

/** Days by the calendar of the person's own clock; a day with 23 or 25 hours is one day too. */
function wholeDaysBetween(date: Date, now: Date): number {
  const day = (of: Date) => Date.UTC(of.getFullYear(), of.getMonth(), of.getDate());
  return Math.round((day(now) - day(date)) / 86_400_000);
}

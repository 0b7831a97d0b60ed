import { describe, expect, test } from "vitest";
import { dayLabel, groupConversations } from "./conversationGroups";
import { conversationOf } from "./ipc/fakeScenarios";

// Without a zone these are times of the person's own clock.
const now = new Date("2026-03-14T00:30:00");

describe("the day of a conversation", () => {
  test.each([
    ["Today", "2026-03-14T00:10:00"],
    ["Today", "2026-03-20T12:00:00"],
    ["Yesterday", "2026-03-13T23:59:00"],
    ["Yesterday", "2026-03-13T00:00:00"],
    ["Previous 7 days", "2026-03-12T23:59:00"],
    ["Previous 7 days", "2026-03-07T00:00:00"],
    ["March", "2026-03-06T23:59:00"],
    ["January", "2026-01-01T08:00:00"],
    ["December 2025", "2025-12-31T23:59:00"],
  ])("%s: %s", (label, date) => {
    expect(dayLabel(new Date(date), now, "en")).toBe(label);
  });

  test("a day with 23 hours is a day", () => {
    const morning = new Date("2026-03-30T00:05:00");
    expect(dayLabel(new Date("2026-03-29T00:10:00"), morning, "en")).toBe("Yesterday");
  });
});

test("the pinned ones are a group of their own, whatever their day, and the order stays", () => {
  const summary = (id: string, updated: string, pinned = false) => ({
    ...conversationOf(id, []).about,
    updated,
    pinned,
  });
  const groups = groupConversations(
    [
      summary("a", "2025-01-01T12:00:00", true),
      summary("b", "2026-03-14T00:10:00"),
      summary("c", "2026-03-14T00:05:00"),
      summary("d", "2026-02-01T12:00:00"),
    ],
    now,
    "en",
  );
  expect(
    groups.map(({ label, conversations }) => [label, conversations.map(({ id }) => id)]),
  ).toEqual([
    ["Pinned", ["a"]],
    ["Today", ["b", "c"]],
    ["February", ["d"]],
  ]);
});

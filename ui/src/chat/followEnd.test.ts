import { expect, test } from "vitest";
import { FollowEnd } from "./followEnd.svelte";

const at = (scrollTop: number, scrollHeight = 1000) => ({
  scrollTop,
  scrollHeight,
  clientHeight: 400,
});

test("the list follows its end while the person is there", () => {
  const follow = new FollowEnd();
  follow.scrolled(at(600));
  expect(follow.resized(at(600, 1200))).toBe(800);
});

test("the list stays where it is once the person scrolled up", () => {
  const follow = new FollowEnd();
  follow.scrolled(at(600));
  follow.scrolled(at(500));
  expect(follow.isFollowing).toBe(false);
  expect(follow.resized(at(500, 1200))).toBeNull();
});

test("even a small turn of the wheel upwards lets go", () => {
  const follow = new FollowEnd();
  follow.scrolled(at(600));
  follow.letGo(at(600));
  expect(follow.resized(at(600, 1200))).toBeNull();
});

test("a list that needs no scrolling does not let go", () => {
  const follow = new FollowEnd();
  follow.letGo(at(0, 300));
  expect(follow.isFollowing).toBe(true);
});

test("growth alone is no scrolling up", () => {
  const follow = new FollowEnd();
  follow.scrolled(at(600));
  follow.scrolled(at(600, 1500));
  expect(follow.isFollowing).toBe(true);
});

test("coming back to the end follows again", () => {
  const follow = new FollowEnd();
  follow.scrolled(at(600));
  follow.scrolled(at(100));
  follow.scrolled(at(590));
  expect(follow.isFollowing).toBe(true);
});

test("asking for the end follows again", () => {
  const follow = new FollowEnd();
  follow.scrolled(at(600));
  follow.scrolled(at(100));
  follow.goToEnd();
  expect(follow.resized(at(100))).toBe(600);
});

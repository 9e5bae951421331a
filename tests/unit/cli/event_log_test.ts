import assert from "node:assert/strict";
import { eventLog, formatEvent } from "../../../cli/event_log.ts";

const NOTHING = { permissions: "none" } as const;
const EVENT = { level: "warning", name: "leg-dropped", message: "No sign of it for 3 s", legIndex: 1 } as const;

Deno.test("events as text: time, level, name, subject, message", NOTHING, () => {
  assert.equal(
    formatEvent("text", "vol1", EVENT, 0),
    "1970-01-01T00:00:00.000Z warning leg-dropped: vol1 leg 1: No sign of it for 3 s",
  );
  assert.equal(
    formatEvent("text", "", { level: "info", name: "node-ready", message: "Listens" }, 0),
    "1970-01-01T00:00:00.000Z info    node-ready: Listens",
  );
});

Deno.test("control characters in an event do not reach the screen", NOTHING, () => {
  const event = { level: "info", name: "peer", message: "a\x1b[2Jb\nc\x9b" } as const;
  const line = formatEvent("text", "", event, 0);
  // deno-lint-ignore no-control-regex -- what must not be there
  assert.doesNotMatch(line, /[\x00-\x1f\x7f-\x9f]/);
});

Deno.test("events as JSON, a line each", NOTHING, () => {
  let text = "";
  const log = eventLog("json", (part) => text += part, () => 1000);
  log("vol1", EVENT);
  log("", { level: "info", name: "x", message: "a\nb" });
  const lines = text.trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines, [
    { time: "1970-01-01T00:00:01.000Z", pool: "vol1", ...EVENT },
    { time: "1970-01-01T00:00:01.000Z", level: "info", name: "x", message: "a\nb" },
  ]);
});

Deno.test(
  "a leg that cannot be taken is told once a minute, not once a second, until something else is told of it",
  NOTHING,
  () => {
    let nowMs = 0;
    const lines: string[] = [];
    const log = eventLog("text", (line) => lines.push(line), () => nowMs);
    const closed = { level: "warning", name: "link-closed", message: "no such leg", legIndex: 1 } as const;
    for (; nowMs < 90_000; nowMs += 1000) log("vol1", closed);
    assert.equal(lines.length, 2);
    log("vol1", { ...closed, legIndex: 2 });
    log("vol1", { ...closed, message: "another reason" });
    log("vol1", closed);
    assert.equal(lines.length, 5);
    const dropped = { level: "warning", name: "leg-dropped", message: "gone", legIndex: 1 } as const;
    log("vol1", dropped);
    log("vol1", dropped);
    assert.equal(lines.length, 7, "Only what is repeated by a timer is left away");
  },
);

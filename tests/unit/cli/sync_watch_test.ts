import assert from "node:assert/strict";
import { watch } from "../../../cli/sync_status.ts";
import { ExitCode } from "../../../cli/exit_code.ts";
import { ControlError } from "../../../lib/control/control_api.ts";
import type { SyncStatus } from "../../../lib/control/sync_status.ts";
import { FakeTerminal } from "./fake_terminal.ts";

const NEVER = new Promise<void>(() => undefined);

function status(missingBytes: number): SyncStatus {
  const leg = {
    legIndex: 1,
    legUuid: "",
    address: "127.0.0.1:7702",
    path: "/b",
    state: missingBytes === 0 ? "in-sync" : "resyncing",
    missingBytes,
    totalBytes: 100,
    copiedBytes: 100 - missingBytes,
    skippedBytes: 0,
    rateBytesPerSecond: 10,
    etaMs: missingBytes * 100,
    isPaused: false,
    isDrained: false,
    limitBytesPerSecond: 0,
    sourceLegIndex: 0,
    outSinceMs: null,
    message: "",
  } as const;
  return {
    poolUuid: "",
    poolName: "vol1",
    sizeBytes: 100,
    generation: 1,
    epoch: 1,
    minInSync: 1,
    heldBy: null,
    isCaredFor: false,
    legs: [leg],
    strays: [],
    isWhole: missingBytes === 0,
    isRedundant: missingBytes === 0,
  };
}

/** Looks that find 60, 30, 0 bytes missing. */
function looks(): () => Promise<SyncStatus> {
  const missing = [60, 30, 0];
  return () => Promise.resolve(status(missing.shift() ?? 0));
}

Deno.test("watch() shows one JSON object a line until all is in sync", async () => {
  const terminal = new FakeTerminal();
  const code = await watch(looks(), { interval: 1, json: true }, terminal, NEVER);
  assert.equal(code, ExitCode.OK);
  const lines = terminal.stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map((line) => line.legs[0].missingBytes), [60, 30, 0]);
});

Deno.test("watch() redraws in place on a terminal and appends elsewhere", async () => {
  const live = new FakeTerminal();
  live.isLive = true;
  await watch(looks(), { interval: 1 }, live, NEVER);
  // From the second picture on: up as many lines as the first had (heading, table of two, bar, detail), and clear.
  assert.equal(live.stdout.split("\x1b[5F\x1b[J").length, 3);
  // On a narrow screen long lines take two.
  const narrow = new FakeTerminal();
  narrow.isLive = true;
  narrow.columns = 50;
  await watch(looks(), { interval: 1 }, narrow, NEVER);
  assert(narrow.stdout.includes("\x1b[8F\x1b[J"));
  const plain = new FakeTerminal();
  await watch(looks(), { interval: 1 }, plain, NEVER);
  assert(!plain.stdout.includes("\x1b"));
  assert.equal(plain.stdout.split("vol1").length, 4);
});

Deno.test("watch() ends when interrupted, with the code for degraded", async () => {
  const terminal = new FakeTerminal();
  const { promise, resolve } = Promise.withResolvers<void>();
  let count = 0;
  const look = () => {
    if (++count === 2) resolve();
    return Promise.resolve(status(60));
  };
  assert.equal(await watch(look, { interval: 1 }, terminal, promise), ExitCode.DEGRADED);
  assert(count >= 2);
});

Deno.test("watch() waits out a moment without an answer, and takes other errors for what they are", async () => {
  const terminal = new FakeTerminal();
  const answers = [
    () => Promise.resolve(status(60)),
    () => Promise.reject(new ControlError("unreachable", "Nobody.")),
    () => Promise.resolve(status(0)),
  ];
  const look = () => answers.shift()!();
  assert.equal(await watch(look, { interval: 1 }, terminal, NEVER), ExitCode.OK);
  assert.match(terminal.stdout, /No storage node answers at the moment/);
  const gone = [() => Promise.resolve(status(60)), () => Promise.reject(new ControlError("not-found", "Deleted."))];
  await assert.rejects(watch(() => gone.shift()!(), { interval: 1 }, terminal, NEVER), /Deleted/);
  const never = () => Promise.reject(new ControlError("unreachable", "Nobody."));
  await assert.rejects(watch(never, { interval: 1 }, terminal, NEVER), /Nobody/);
});

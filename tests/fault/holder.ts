/**
 * Another process that holds a device.
 *
 * @module
 */

import assert from "node:assert/strict";
import { DeviceFile, StoreError } from "../../lib/store/leg_device.ts";
import { GENEROUS_MS } from "../unit/store/store_fixture.ts";

/** A process that holds `path`, once it does. */
export async function holder(path: string, ...mode: string[]): Promise<Deno.ChildProcess> {
  const script = new URL("lock_holder.ts", import.meta.url).pathname;
  const args = ["run", "--quiet", "--no-prompt", "--allow-ffi", script, path, ...mode];
  const child = new Deno.Command(Deno.execPath(), { args, stdin: "null", stdout: "piped", stderr: "inherit" }).spawn();
  let said = "";
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  while (!said.includes("holding\n")) {
    const { value, done } = await reader.read();
    assert.ok(!done, `the holder says that it holds, not "${said}"`);
    said += value;
  }
  await reader.cancel();
  return child;
}

/** Opens `path` or says why not. */
export function tryOpen(path: string): "opened" | string {
  try {
    DeviceFile.open(path, { access: "exclusive" }).close();
    return "opened";
  } catch (error) {
    assert.ok(error instanceof StoreError, String(error));
    return error.code;
  }
}

/** Waits for a condition, with a generous limit. */
export async function until(claim: string, condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + GENEROUS_MS;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, `in time: ${claim}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

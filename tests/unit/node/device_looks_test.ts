/** Devices that may hang are looked at before the data plane opens them. */

import assert from "node:assert/strict";
import { DeviceLooks } from "../../../lib/node/device_looks.ts";
import type { DeviceWork } from "../../../lib/node/device_workers.ts";

function looksAt(hung: Map<string, PromiseWithResolvers<void>>) {
  const asked: string[] = [];
  const devices = {
    look(path: string): Promise<void> {
      asked.push(path);
      return hung.get(path)?.promise ?? Promise.resolve();
    },
  };
  return { looks: new DeviceLooks(devices as unknown as DeviceWork, 5), asked };
}

Deno.test("a device that does not answer is given up after a while, and not asked twice at a time", async () => {
  const hung = new Map([["/a", Promise.withResolvers<void>()]]);
  const { looks, asked } = looksAt(hung);
  await assert.rejects(looks.look("/a"), /"\/a" does not answer/);
  await assert.rejects(looks.look("/a"), /"\/a" does not answer/);
  assert.deepEqual(asked, ["/a"]);
  const third = looks.look("/a");
  hung.get("/a")!.resolve();
  await third;
  hung.clear();
  await looks.look("/a");
  assert.deepEqual(asked, ["/a", "/a"]);
});

Deno.test("devices that hang leave room for others to be formatted: only so many are asked", async () => {
  const hung = new Map(["/a", "/b"].map((path) => [path, Promise.withResolvers<void>()]));
  const { looks, asked } = looksAt(hung);
  for (const path of ["/a", "/b"]) await assert.rejects(looks.look(path), /does not answer/);
  await assert.rejects(looks.look("/c"), /"\/c" was not asked: 2 other disks/);
  assert.deepEqual(asked, ["/a", "/b"]);
  for (const { resolve } of hung.values()) resolve();
  await new Promise((resolve) => setTimeout(resolve));
  await looks.look("/c");
});

Deno.test("what is wrong with a device is told", async () => {
  const wrong = Promise.withResolvers<void>();
  const { looks } = looksAt(new Map([["/a", wrong]]));
  const look = looks.look("/a");
  wrong.reject(new Error("no such device"));
  await assert.rejects(look, /no such device/);
});

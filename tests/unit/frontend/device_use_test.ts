import assert from "node:assert/strict";
import { type UseFiles, usesOf } from "../../../lib/frontend/device_use.ts";

const MOUNTS = `22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 43:0 / /mnt/with\\040blank rw,relatime shared:5 - xfs /dev/nbd0 rw
31 22 43:2 /sub /srv rw - ext4 /dev/nbd0p2 rw
32 22 0:55 / /butter rw - btrfs /dev/nbd0p1 rw
33 22 430:0 / /other rw - ext4 /dev/nbd00 rw`;

function files(tree: Readonly<Record<string, string | string[]>>): UseFiles {
  return {
    read: (path) => typeof tree[path] === "string" ? tree[path] : -2,
    names: (path) => Array.isArray(tree[path]) ? tree[path] : -2,
  };
}

const DEVICE = {
  "/sys/block/nbd0": ["dev", "holders", "nbd0p1", "nbd0p2", "queue"],
  "/sys/block/nbd0/dev": "43:0",
  "/sys/block/nbd0/holders": [],
  "/sys/block/nbd0/nbd0p1/dev": "43:1",
  "/sys/block/nbd0/nbd0p1/holders": ["dm-0", "md7"],
  "/sys/block/nbd0/nbd0p2/dev": "43:2",
  "/proc/swaps": "Filename\tType\n/dev/nbd0p1 partition 1 0 -2\n/dev/nbd00 partition 1 0 -2",
};

Deno.test("mounts, holders and swap are found, on the device and on its partitions, in either namespace", () => {
  const own = { ...DEVICE, "/proc/self/mountinfo": MOUNTS };
  const expected = [
    "mounted at /mnt/with blank",
    "/dev/nbd0p1 is mounted at /butter",
    "/dev/nbd0p1 is held by dm-0",
    "/dev/nbd0p1 is held by md7",
    "/dev/nbd0p1 is used as swap",
    "/dev/nbd0p2 is mounted at /srv",
  ];
  assert.deepEqual(usesOf("/dev/nbd0", files(own)), expected);
  assert.deepEqual(usesOf("/dev/nbd0", files({ ...DEVICE, "/proc/1/mountinfo": MOUNTS })), expected);
  assert.deepEqual(usesOf("/dev/nbd0", files({ ...own, "/proc/1/mountinfo": MOUNTS })), expected, "each once");
});

Deno.test("a device that nobody uses, or that is not there, has no uses", () => {
  const quiet = { "/sys/block/nbd1": ["dev"], "/sys/block/nbd1/dev": "43:16", "/proc/self/mountinfo": MOUNTS };
  assert.deepEqual(usesOf("/dev/nbd1", files(quiet)), []);
  assert.deepEqual(usesOf("/dev/nbd9", files({ "/proc/self/mountinfo": MOUNTS })), []);
});

/** A real file system on the pool: nbdfuse gives a file, a loop device makes it a disk, ext4 lives on it. */

import assert from "node:assert/strict";
import { type Cluster, expectCommand, withCluster } from "../cluster.ts";
import { expectLegsIdentical } from "../leg_data.ts";
import { attachLoop, detachLoop, NbdFile } from "./block_device.ts";
import { requireRoot, requireTools } from "./required_tools.ts";

const TOOLS = ["nbdfuse", "fusermount3", "losetup", "mkfs.ext4", "fsck.ext4", "cmp"];

/** Runs `body` with the pool as a block device. */
async function withDisk(cluster: Cluster, name: string, body: (device: string) => Promise<void>): Promise<void> {
  const file = await NbdFile.mount(cluster.uri, `${cluster.directory}/${name}`);
  try {
    const device = await attachLoop(file.path);
    try {
      await body(device);
    } finally {
      await detachLoop(device);
    }
  } finally {
    await file.unmount();
  }
}

async function withMount(device: string, directory: string, body: () => Promise<void>): Promise<void> {
  await Deno.mkdir(directory, { recursive: true });
  await expectCommand("mount", ["-o", "noatime", device, directory]);
  try {
    await body();
  } finally {
    await expectCommand("umount", [directory]);
  }
}

/** A tree of some hundred files of many sizes. Returns its fingerprint. */
async function writeTree(directory: string, seed: string): Promise<string> {
  await expectCommand("sh", [
    "-eu",
    "-c",
    `cd "$1"; mkdir -p ${seed}/a/b/c; i=0
     while [ $i -lt 200 ]; do
       d=${seed}; case $((i % 3)) in 1) d=$d/a;; 2) d=$d/a/b/c;; esac
       head -c $((i * i * 13 + 1)) /dev/urandom > $d/file$i; i=$((i + 1))
     done
     rm ${seed}/file3; mv ${seed}/a/file4 ${seed}/moved; ln ${seed}/moved ${seed}/a/link; sync`,
    "sh",
    directory,
  ]);
  return await fingerprint(directory);
}

async function fingerprint(directory: string): Promise<string> {
  return await expectCommand("sh", [
    "-eu",
    "-c",
    `cd "$1"; find . -type f | sort | xargs sha256sum | sha256sum`,
    "sh",
    directory,
  ]);
}

async function expectClean(device: string): Promise<void> {
  // -n changes nothing, -f looks even if the file system says it is clean; any finding is a non-zero exit.
  await expectCommand("fsck.ext4", ["-f", "-n", device]);
}

Deno.test("ext4 on the pool: mkfs, a file tree, unmount, fsck is clean", async () => {
  await requireTools(TOOLS);
  await requireRoot();
  await withCluster({ size: "256M" }, async (cluster) => {
    await withDisk(cluster, "disk", async (device) => {
      await expectCommand("mkfs.ext4", ["-q", device]);
      let before = "";
      await withMount(device, `${cluster.directory}/mnt`, async () => {
        before = await writeTree(`${cluster.directory}/mnt`, "first");
      });
      await expectClean(device);
      await withMount(device, `${cluster.directory}/mnt`, async () => {
        assert.equal(await fingerprint(`${cluster.directory}/mnt`), before);
      });
    });
    await cluster.detach();
    await expectLegsIdentical(cluster.legPaths);
  });
});

Deno.test("ext4 on the pool does not notice that a leg is killed and returns", async () => {
  await requireTools(TOOLS);
  await requireRoot();
  await withCluster({ size: "256M" }, async (cluster) => {
    const mount = `${cluster.directory}/mnt`;
    let before = "";
    await withDisk(cluster, "disk", async (device) => {
      await expectCommand("mkfs.ext4", ["-q", device]);
      await withMount(device, mount, async () => {
        await writeTree(mount, "both");
        await cluster.stopNode(0, "SIGKILL");
        await writeTree(mount, "degraded");
        await cluster.startNode(0);
        before = await writeTree(mount, "returning");
        await cluster.waitInSync();
        // From here on only the leg that was away can answer.
        await cluster.stopNode(1, "SIGKILL");
        await expectCommand("sh", ["-c", "echo 3 > /proc/sys/vm/drop_caches"]);
        assert.equal(await fingerprint(mount), before);
        await cluster.startNode(1);
        await cluster.waitInSync();
      });
      await expectClean(device);
    });
    await cluster.detach();
    await expectLegsIdentical(cluster.legPaths);
  });
});

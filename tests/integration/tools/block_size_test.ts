/** Legs on block devices with 4096-byte logical blocks. */

import assert from "node:assert/strict";
import { expectCommand, runCommand, withCluster } from "../cluster.ts";
import { expectLegsIdentical } from "../leg_data.ts";
import { attachLoop, detachLoop } from "./block_device.ts";
import { runFioVerify } from "./fio_verify.ts";
import { requireRoot, requireTools } from "./required_tools.ts";

Deno.test("a pool on disks with 4096-byte blocks works, and loses and regains a leg", async () => {
  await requireTools(["fio", "nbdinfo", "qemu-io", "losetup", "cmp"]);
  await requireRoot();
  const directory = await Deno.makeTempDir({ prefix: "brmr-disks-" });
  const devices: string[] = [];
  try {
    for (const name of ["disk0", "disk1"]) {
      await expectCommand("truncate", ["--size=200M", `${directory}/${name}`]);
      devices.push(await attachLoop(`${directory}/${name}`, 4096));
    }
    await withCluster({ size: "128M", legPaths: devices }, async (cluster) => {
      const info = JSON.parse(await expectCommand("nbdinfo", ["--json", "--no-content", cluster.uri]));
      assert.equal(info.exports[0]["export-size"], 128 << 20);
      await runFioVerify(cluster.uri, { jobs: 2, mebibytesPerJob: 24, blockRange: "4k-64k" });
      await cluster.stopNode(0, "SIGKILL");
      await runFioVerify(cluster.uri, { jobs: 2, mebibytesPerJob: 24, blockRange: "4k-64k" });
      await cluster.startNode(0);
      await cluster.waitInSync();
      const result = await runCommand("qemu-io", [
        ...["-f", "raw", "-c", "write -P 0x5a 8k 4k", "-c", "write -z 16k 4k", "-c", "read -P 0x5a 8k 4k"],
        ...["-c", "read -P 0 16k 4k", cluster.uri],
      ]);
      assert.equal(result.code, 0, result.stdout + result.stderr);
      await cluster.detach();
      await expectLegsIdentical(devices);
    });
  } finally {
    for (const device of devices) await detachLoop(device);
    await Deno.remove(directory, { recursive: true });
  }
});

/** The tools people use with NBD, over the socket of a real pool: libnbd's and QEMU's. */

import assert from "node:assert/strict";
import { type Cluster, expectCommand, runCommand, withCluster } from "../cluster.ts";
import { expectLegsIdentical } from "../leg_data.ts";
import { requireTools } from "./required_tools.ts";

const MEBIBYTE = 1 << 20;

async function sha256(path: string): Promise<string> {
  return (await expectCommand("sha256sum", [path])).split(" ")[0];
}

async function randomFile(path: string, mebibytes: number): Promise<string> {
  await expectCommand("dd", ["if=/dev/urandom", `of=${path}`, "bs=1M", `count=${mebibytes}`, "status=none"]);
  return path;
}

/** Runs qemu-io commands; its exit code alone does not tell of a wrong pattern in every version. */
async function qemuIo(cluster: Cluster, commands: readonly string[]): Promise<string> {
  const args = ["-f", "raw", ...commands.flatMap((command) => ["-c", command]), cluster.uri];
  const result = await runCommand("qemu-io", args);
  const text = result.stdout + result.stderr;
  assert.equal(result.code, 0, text);
  assert.doesNotMatch(text, /Pattern verification failed|failed:|error/i);
  return text;
}

Deno.test("nbdinfo sees the pool as it is", async () => {
  await requireTools(["nbdinfo"]);
  await withCluster({ size: "64M" }, async (cluster) => {
    const info = JSON.parse(await expectCommand("nbdinfo", ["--json", "--no-content", cluster.uri]));
    assert.equal(info.protocol, "newstyle-fixed");
    assert.equal(info.structured, true);
    const [pool] = info.exports;
    assert.equal(pool["export-name"], "vol1");
    assert.equal(pool["export-size"], 64 * MEBIBYTE);
    for (const key of ["can_flush", "can_fua", "can_trim", "can_zero", "can_multi_conn", "can_cache"]) {
      assert.equal(pool[key], true, key);
    }
    assert.equal(pool["is_read_only"], false);
    assert.ok(pool["block_size_minimum"] <= 4096, `block_size_minimum ${pool["block_size_minimum"]}`);
    assert.ok(pool.contexts.includes("base:allocation"), JSON.stringify(pool.contexts));
    const list = JSON.parse(await expectCommand("nbdinfo", ["--list", "--json", cluster.uri]));
    assert.deepEqual(list.exports.map((entry: Record<string, string>) => entry["export-name"]), ["vol1"]);
    const extents = JSON.parse(await expectCommand("nbdinfo", ["--map", "--json", cluster.uri]));
    const covered = extents.reduce((sum: number, extent: { length: number }) => sum + extent.length, 0);
    assert.equal(covered, 64 * MEBIBYTE);
  });
});

Deno.test("nbdcopy carries a file in and out unchanged, over several connections", async () => {
  await requireTools(["nbdcopy", "cmp"]);
  await withCluster({ size: "64M" }, async (cluster) => {
    const source = await randomFile(`${cluster.directory}/in`, 64);
    await expectCommand("nbdcopy", ["--flush", "--connections=4", source, cluster.uri]);
    await expectCommand("nbdcopy", ["--connections=4", cluster.uri, `${cluster.directory}/out`]);
    assert.equal(await sha256(`${cluster.directory}/out`), await sha256(source));
    await cluster.detach();
    await expectLegsIdentical(cluster.legPaths);
    await expectCommand("cmp", [source, `${cluster.directory}/out`]);
  });
});

Deno.test("qemu-io patterns hold through write, flush, FUA, write-zeroes and discard", async () => {
  await requireTools(["qemu-io", "cmp"]);
  await withCluster({ size: "64M" }, async (cluster) => {
    await qemuIo(cluster, [
      "write -P 0xaa 0 1M",
      "write -P 0xbb 1M 64k",
      "write -f -P 0xcc 2M 4k",
      "write -P 0xdd 3M 8M",
      "flush",
      "read -P 0xaa 0 1M",
      "read -P 0xbb 1M 64k",
      "read -P 0xcc 2M 4k",
      "read -P 0xdd 3M 8M",
      // Odd places: smaller than a chunk, across chunk and extent borders.
      "write -P 0x11 1536 512",
      "read -P 0xaa 0 1536",
      "read -P 0x11 1536 512",
      "read -P 0xaa 2048 2048",
      "write -P 0x22 1044480 8192",
      "read -P 0x22 1044480 8192",
      "write -z 0 512k",
      "read -P 0 0 512k",
      "read -P 0xaa 512k 508k",
      "write -z -u 4M 2M",
      "read -P 0 4M 2M",
      "read -P 0xdd 6M 5M",
      "discard 8M 1M",
      "flush",
      // Larger than any one request inside: 60 MiB.
      "write -P 0xdd 63M 1M",
      "write -z 4M 59M",
      "read -P 0 4M 5M",
      "read -P 0xdd 63M 1M",
      "discard 0 64M",
      "write -P 0xdd 9M 2M",
      "write -P 0xcc 2M 4k",
      "write -z 0 512k",
      "write -z 4M 2M",
      "read -P 0xdd 9M 2M",
    ]);
    // What was written before the flush is there for a later client, on whichever leg it reads.
    await cluster.detach();
    await expectLegsIdentical(cluster.legPaths);
    await cluster.attach();
    await qemuIo(cluster, ["read -P 0xcc 2M 4k", "read -P 0 0 512k", "read -P 0 4M 2M", "read -P 0xdd 9M 2M"]);
  });
});

Deno.test("qemu-io reads and writes many requests at once", async () => {
  await requireTools(["qemu-io"]);
  await withCluster({ size: "64M" }, async (cluster) => {
    const places = Array.from({ length: 64 }, (_, index) => index);
    await qemuIo(cluster, [
      ...places.map((index) => `aio_write -q -P ${index + 1} ${index * 65536} 64k`),
      "aio_flush",
      ...places.map((index) => `aio_read -q -P ${index + 1} ${index * 65536} 64k`),
      "aio_flush",
    ]);
  });
});

Deno.test("out of bounds is refused and leaves the pool alone", async () => {
  await requireTools(["qemu-io"]);
  await withCluster({ size: "64M" }, async (cluster) => {
    const result = await runCommand("qemu-io", ["-f", "raw", "-c", "write -P 1 64M 4k", cluster.uri]);
    assert.notEqual(result.code, 0, result.stdout);
    await qemuIo(cluster, ["write -P 2 67104768 4k", "read -P 2 67104768 4k"]);
  });
});

Deno.test("qemu-img convert puts an image in, and compare finds it identical", async () => {
  await requireTools(["qemu-img", "cmp"]);
  await withCluster({ size: "64M" }, async (cluster) => {
    const source = await randomFile(`${cluster.directory}/in`, 24);
    await expectCommand("truncate", ["--size=64M", source]);
    await expectCommand("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", source, cluster.uri]);
    await expectCommand("qemu-img", ["compare", "-f", "raw", "-F", "raw", source, cluster.uri]);
    await expectCommand("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", cluster.uri, `${cluster.directory}/q`]);
    await expectCommand("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", `${cluster.directory}/q`, cluster.uri]);
    await qemuIo(cluster, ["write -P 0x77 1M 4k"]);
    const changed = await runCommand("qemu-img", ["compare", "-f", "raw", "-F", "raw", source, cluster.uri]);
    assert.equal(changed.code, 1, "qemu-img compare must see a difference that is there");
    await cluster.detach();
    await expectLegsIdentical(cluster.legPaths);
  });
});

Deno.test("nbdkit's nbd plugin stacks on the pool", async () => {
  await requireTools(["nbdkit", "nbdcopy"]);
  await withCluster({ size: "64M" }, async (cluster) => {
    const source = await randomFile(`${cluster.directory}/in`, 8);
    await expectCommand("truncate", ["--size=64M", source]);
    const run = `nbdcopy --flush ${source} "$uri" && nbdcopy "$uri" ${cluster.directory}/out`;
    await expectCommand("nbdkit", ["--unix", "-", "nbd", cluster.uri, "--run", run]);
    assert.equal(await sha256(`${cluster.directory}/out`), await sha256(source));
  });
});

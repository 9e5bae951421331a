/**
 * Makes images of whole legs with the brmr of this source tree: real nodes, a real client, kills. Run once for a format version, by
 * `deno run --allow-ffi --allow-run --allow-net --allow-read --allow-write --allow-env --allow-sys tests/golden/make_leg_images.ts`;
 * `leg_images_test.ts` then holds every later version to them.
 *
 * @module
 */

import { gzipSync } from "node:zlib";
import { DeviceFile, loadLeg } from "../../lib/store/leg_device.ts";
import { Cluster, waitFor } from "../integration/cluster.ts";
import { NbdSocket } from "../integration/nbd_socket.ts";
import { DEGRADED_BLOCKS, FIRST_BLOCKS, IMAGE_BYTES, patternBlock, toldOf } from "./leg_images.ts";

const FOLDER = new URL("./", import.meta.url);
/** Dirty pages are saved in the background, twice a second. */
const SAVED_AFTER_MS = 3000;

async function write(cluster: Cluster, blocks: readonly number[], salt: number): Promise<void> {
  const socket = await NbdSocket.connect(cluster.uri);
  for (const block of blocks) await socket.write(block * 4096, patternBlock(block, salt));
  await socket.flush();
  await socket.close();
}

async function keep(name: string, path: string): Promise<void> {
  const image = await Deno.readFile(path);
  // The kernel ends the ring of a killed process, and with it the lock, a little later.
  const open = () => Promise.resolve(DeviceFile.open(path, { access: "exclusive" }));
  const device = await waitFor(`the end of the process that had ${path}`, 30_000, open);
  try {
    await Deno.writeFile(new URL(`leg_v1_${name}.img.gz`, FOLDER), gzipSync(image, { level: 9 }));
    await Deno.writeTextFile(
      new URL(`leg_v1_${name}.json`, FOLDER),
      JSON.stringify(toldOf(loadLeg(device)), null, 2) + "\n",
    );
  } finally {
    device.close();
  }
}

const cluster = await Cluster.start({ size: `${IMAGE_BYTES}` });
try {
  await write(cluster, FIRST_BLOCKS, 1);
  await cluster.detach();
  for (const index of [0, 1]) await cluster.stopNode(index, "SIGTERM");
  await keep("clean", cluster.legPaths[0]);
  for (const index of [0, 1]) await cluster.startNode(index);
  await cluster.attach();
  await write(cluster, FIRST_BLOCKS.slice(0, 2), 1);
  await cluster.stopNode(1);
  await cluster.waitDropped(1);
  await write(cluster, DEGRADED_BLOCKS, 2);
  await new Promise((resolve) => setTimeout(resolve, SAVED_AFTER_MS));
  await cluster.detach("SIGKILL");
  await cluster.stopNode(0);
  await keep("survivor", cluster.legPaths[0]);
  await keep("stale", cluster.legPaths[1]);
} finally {
  await cluster.close();
}

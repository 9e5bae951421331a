/**
 * The initramfs of guests: busybox, the modules that reach the host's root file system, and the first program.
 *
 * @module
 */

import { expectOutput, programPath } from "./host_command.ts";
import type { GuestKernel } from "./kernel.ts";

/** Modules that every guest loads at once; those that a kernel has built in are passed over. */
const EARLY_MODULES = [
  ...["virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay", "virtio_net", "virtio_blk", "configfs"],
  ...["rdma_rxe", "ib_uverbs", "rdma_ucm"],
];

/** Directories that the first program wants to find. */
const MOUNT_POINTS = ["dev", "proc", "sys", "modules", "guest", "lower", "layer", "rw", "new"];

/** Writes the part that all guests of a run share to `path`. */
export async function writeInitramfs(kernel: GuestKernel, path: string): Promise<void> {
  const tree = await Deno.makeTempDir({ prefix: "brmr-vm-initramfs-" });
  try {
    for (const name of MOUNT_POINTS) await Deno.mkdir(`${tree}/${name}`);
    await Deno.mkdir(`${tree}/bin`);
    await Deno.copyFile(await programPath("busybox"), `${tree}/bin/busybox`);
    await Deno.copyFile(new URL("stage1.sh", import.meta.url), `${tree}/init`);
    await Deno.chmod(`${tree}/init`, 0o755);
    const files = loadOrder(await Deno.readTextFile(`${kernel.modules}/modules.dep`));
    for (const file of files) await Deno.copyFile(`${kernel.modules}/${file}`, `${tree}/modules/${baseName(file)}`);
    await Deno.writeTextFile(`${tree}/modules/list`, files.map((file) => `${baseName(file)}\n`).join(""));
    await archive(tree, path);
  } finally {
    await Deno.remove(tree, { recursive: true });
  }
}

/** Writes what is one guest's own: `files` by name, in the directory /guest of an archive at `path`. */
export async function writeOwnPart(files: Readonly<Record<string, string>>, path: string): Promise<void> {
  const tree = await Deno.makeTempDir({ prefix: "brmr-vm-own-" });
  try {
    await Deno.mkdir(`${tree}/guest`);
    for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(`${tree}/guest/${name}`, text);
    await archive(tree, path);
  } finally {
    await Deno.remove(tree, { recursive: true });
  }
}

/** The early modules and what they depend on, each after what it needs. */
export function loadOrder(modulesDep: string): string[] {
  const files: string[] = [];
  const lines = modulesDep.split("\n");
  for (const module of EARLY_MODULES) {
    const pattern = new RegExp(`/${module.replace(/[-_]/g, "[-_]")}\\.ko:`);
    const line = lines.find((line) => pattern.test(line));
    if (line === undefined) continue; // built in
    const [file, depends] = line.split(":");
    // modules.dep names what a module needs with the last needed first.
    for (const needed of [...depends.split(" ").filter((name) => name !== "").reverse(), file]) {
      if (!files.includes(needed)) files.push(needed);
    }
  }
  return files;
}

async function archive(tree: string, path: string): Promise<void> {
  await expectOutput("sh", ["-c", 'find . | cpio -o -H newc --quiet >"$1"', "sh", path], tree);
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

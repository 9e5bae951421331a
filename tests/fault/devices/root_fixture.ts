/**
 * What the tests in this folder need the machine's owner for: loop devices and file systems of their own. They run as
 * root, with the tools of util-linux and e2fsprogs.
 *
 * @module
 */

import assert from "node:assert/strict";
import { withDirectory } from "../../unit/store/store_fixture.ts";

/** Runs a command and returns what it printed; fails the test if it fails. */
export function run(command: string, ...args: string[]): string {
  const output = new Deno.Command(command, { args }).outputSync();
  const text = new TextDecoder().decode(output.stdout).trim();
  assert.ok(output.success, `${command} ${args.join(" ")}: ${new TextDecoder().decode(output.stderr)}`);
  return text;
}

/** Runs `body` with a loop device of that sector size over a new file, and takes it down afterwards. */
export function withLoopDevice(
  sectorBytes: number,
  sizeBytes: number,
  body: (device: string, file: string) => void,
): void {
  withDirectory((directory) => {
    const file = `${directory}/disk.img`;
    Deno.writeFileSync(file, new Uint8Array(0));
    Deno.truncateSync(file, sizeBytes);
    const device = run("losetup", "--find", "--show", "--sector-size", String(sectorBytes), file);
    try {
      body(device, file);
    } finally {
      run("losetup", "--detach", device);
    }
  });
}

/** Runs `body` in a tmpfs of `size`. */
export function withTmpfs(size: string, body: (directory: string) => void): void {
  withDirectory((directory) => {
    run("mount", "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", directory);
    try {
      body(directory);
    } finally {
      run("umount", directory);
    }
  });
}

/** Runs `body` with an ext4 file system of its own, which is taken down afterwards. */
export async function withExt4(body: (mountPoint: string) => Promise<void> | void): Promise<void> {
  const directory = Deno.makeTempDirSync({ prefix: "brmr_ext4_" });
  try {
    const image = `${directory}/fs.img`;
    const mountPoint = `${directory}/fs`;
    Deno.writeFileSync(image, new Uint8Array(0));
    Deno.truncateSync(image, 64 * 1024 * 1024);
    Deno.mkdirSync(mountPoint);
    run("mke2fs", "-q", "-F", "-t", "ext4", image);
    run("mount", "-o", "loop", image, mountPoint);
    try {
      await body(mountPoint);
    } finally {
      run("umount", "--lazy", mountPoint);
    }
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

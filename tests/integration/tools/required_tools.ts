/**
 * The tools these suites drive. A missing one is a failure that says how to install it, never a skipped test.
 *
 * @module
 */

import { runCommand } from "../cluster.ts";

/** Where Debian has each tool. */
const DEBIAN_PACKAGES: Readonly<Record<string, string>> = {
  fio: "fio",
  nbdinfo: "libnbd-bin",
  nbdcopy: "libnbd-bin",
  nbdfuse: "libnbd-bin (nbdfuse in newer releases)",
  "qemu-io": "qemu-utils",
  "qemu-img": "qemu-utils",
  nbdkit: "nbdkit",
  fusermount3: "fuse3",
  "mkfs.ext4": "e2fsprogs",
  "fsck.ext4": "e2fsprogs",
  "mkfs.xfs": "xfsprogs",
  mkswap: "util-linux",
  sfdisk: "fdisk",
  losetup: "mount",
  cmp: "diffutils",
  "systemd-analyze": "systemd",
};

/** Throws with what to install unless all `tools` are there. */
export async function requireTools(tools: readonly string[]): Promise<void> {
  const missing: string[] = [];
  for (const tool of tools) {
    const found = await runCommand("sh", ["-c", `PATH=$PATH:/usr/sbin:/sbin command -v ${tool}`]);
    if (found.code !== 0) missing.push(tool);
  }
  if (missing.length === 0) return;
  const packages = new Set(missing.map((tool) => DEBIAN_PACKAGES[tool] ?? tool));
  throw new Error(`Missing: ${missing.join(", ")}. On Debian: apt-get install ${[...packages].join(" ")}`);
}

/** Throws unless this runs as root, which loop devices and mounting need. */
export async function requireRoot(): Promise<void> {
  const result = await runCommand("id", ["-u"]);
  if (result.stdout.trim() !== "0") throw new Error("This suite mounts and uses loop devices: run it as root");
}

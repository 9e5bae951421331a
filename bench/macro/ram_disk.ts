/**
 * A disk in memory, for measuring everything but the disk: ext4 on a loop device over a file in a tmpfs. O_DIRECT works on
 * it as on a real one, and whoever is compared gets his stores on the same file system.
 *
 * A loop device is served by workers of the kernel. Their CPU time is charged to nobody that is measured, and is the same
 * for everybody. (A zram device would be served within the caller, but compressing costs more than what is measured.)
 *
 * Needs root. Whatever happens, SIGINT and SIGTERM included, device and mounts are taken away again.
 *
 * @module
 */

import { runTool } from "./fio.ts";

const UNMOUNT_LIMIT_MS = 20_000;

/** A mounted disk in memory. */
export interface RamDisk {
  /** Where it is mounted. */
  readonly directory: string;
  /** Takes everything away. Nothing may be open on it any more. */
  remove(): Promise<void>;
}

/** Makes a disk of `sizeBytes`; memory is only taken for what is written. */
export async function makeRamDisk(sizeBytes: number): Promise<RamDisk> {
  if (Deno.uid() !== 0) throw new Error("A disk in memory needs a loop device and mounts: run this as root");
  const base = await Deno.makeTempDir({ prefix: "brmr-ram-" });
  const undo: (() => Promise<unknown>)[] = [() => Deno.remove(base, { recursive: true })];
  const remove = async () => {
    Deno.removeSignalListener("SIGINT", interrupted);
    Deno.removeSignalListener("SIGTERM", interrupted);
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) await step();
  };
  const interrupted = () => {
    // Those that still use it are our children, and die with us; a lazy unmount waits for them.
    Deno.spawnAndWaitSync("sh", [
      "-c",
      `umount -l ${base}/disk; umount -l ${base}/memory; rmdir ${base}/*; rmdir ${base}`,
    ]);
    Deno.exit(130);
  };
  Deno.addSignalListener("SIGINT", interrupted);
  Deno.addSignalListener("SIGTERM", interrupted);
  try {
    await Deno.mkdir(`${base}/memory`);
    await Deno.mkdir(`${base}/disk`);
    await runTool("mount", ["-t", "tmpfs", "-o", `size=${sizeBytes + (64 << 20)}`, "brmr-bench", `${base}/memory`]);
    undo.push(() => runTool("umount", [`${base}/memory`]));
    const image = `${base}/memory/image`;
    await runTool("truncate", ["-s", `${sizeBytes}`, image]);
    const device = (await runTool("losetup", ["--find", "--show", image])).trim();
    undo.push(() => runTool("losetup", ["--detach", device]));
    await runTool("mkfs.ext4", ["-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", device]);
    await runTool("mount", ["-o", "noatime", device, `${base}/disk`]);
    undo.push(() => unmountWhenIdle(`${base}/disk`));
    return { directory: `${base}/disk`, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** A process that has ended may keep its files open for a moment: io_uring lets go of them by itself, afterwards. */
async function unmountWhenIdle(directory: string): Promise<void> {
  const deadlineMs = performance.now() + UNMOUNT_LIMIT_MS;
  for (;;) {
    try {
      await runTool("umount", [directory]);
      return;
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

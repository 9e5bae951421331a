/**
 * Loop devices and mounts for tests, which take themselves back.
 *
 * @module
 */

import { expectCommand, runCommand, waitFor } from "../cluster.ts";

/** Offers `file` as a block device with the given logical block size. Returns its path. */
export async function attachLoop(file: string, logicalBlockBytes = 512): Promise<string> {
  return (await expectCommand("losetup", ["--find", "--show", `--sector-size=${logicalBlockBytes}`, file])).trim();
}

/** Takes a loop device back. Throws when it is still in use after a while. */
export async function detachLoop(device: string): Promise<void> {
  await waitFor(`${device} to be free`, 20_000, async () => (await runCommand("losetup", ["-d", device])).code === 0);
}

/** The NBD export at `uri` as a file, by nbdfuse. */
export class NbdFile {
  readonly #directory: string;
  readonly #child: Deno.ChildProcess;

  private constructor(directory: string, child: Deno.ChildProcess) {
    this.#directory = directory;
    this.#child = child;
  }

  /** Mounts at the new directory `directory`. */
  static async mount(uri: string, directory: string): Promise<NbdFile> {
    await Deno.mkdir(directory);
    const child = new Deno.Command("nbdfuse", {
      args: [directory, uri],
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    const file = new NbdFile(directory, child);
    await waitFor("nbdfuse to mount", 20_000, async () => (await runCommand("test", ["-f", file.path])).code === 0);
    return file;
  }

  get path(): string {
    return `${this.#directory}/nbd`;
  }

  async unmount(): Promise<void> {
    await waitFor(
      "nbdfuse to unmount",
      20_000,
      async () => (await runCommand("fusermount3", ["-u", this.#directory])).code === 0,
    );
    await this.#child.status;
  }
}

/**
 * Looks at the backing devices of legs from outside: where the data begins, and whether two legs hold the same data.
 *
 * @module
 */

import { decodeSuperblock } from "../../lib/disk_format/superblock.ts";
import { runCommand } from "./cluster.ts";

/** Where the data of a leg lies on its device, by its superblock. Throws when that is broken. */
export async function legDataArea(path: string): Promise<{ dataOffset: number; sizeBytes: number }> {
  // Deno's own file API wants every permission for files in /dev, so another program reads.
  const output = await new Deno.Command("head", { args: ["--bytes=4096", path], stdout: "piped" }).output();
  if (output.code !== 0) throw new Error(`${path} cannot be read`);
  const result = decodeSuperblock(output.stdout, null);
  if (!result.ok) throw new Error(`The superblock of ${path} is broken: ${JSON.stringify(result)}`);
  return { dataOffset: result.value.dataOffset, sizeBytes: result.value.sizeBytes };
}

/** Throws unless the data areas of all `paths` are byte-identical; says where the first difference is. */
export async function expectLegsIdentical(paths: readonly string[]): Promise<void> {
  const first = await legDataArea(paths[0]);
  for (const path of paths.slice(1)) {
    const other = await legDataArea(path);
    if (other.sizeBytes !== first.sizeBytes) throw new Error(`${path} holds ${other.sizeBytes} bytes of data`);
    const result = await runCommand("cmp", [
      `--ignore-initial=${first.dataOffset}:${other.dataOffset}`,
      `--bytes=${first.sizeBytes}`,
      paths[0],
      path,
    ]);
    if (result.code !== 0) throw new Error(`The legs differ: ${result.stdout}${result.stderr}`);
  }
}

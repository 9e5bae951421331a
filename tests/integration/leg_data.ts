/**
 * Looks at the backing devices of legs from outside: where the data begins, and whether two legs hold the same data.
 *
 * @module
 */

import assert from "node:assert/strict";
import { decodeEpochRecord } from "../../lib/disk_format/epoch_record.ts";
import { BLOCK_BYTES, type EpochRecord, type Superblock } from "../../lib/disk_format/records.ts";
import { pickTwin } from "../../lib/disk_format/twin.ts";
import { decodeSuperblock } from "../../lib/disk_format/superblock.ts";
import { runCommand } from "./cluster.ts";

/** Where the data of a leg lies on its device, by its superblock. Throws when that is broken. */
export async function legDataArea(path: string): Promise<{ dataOffset: number; sizeBytes: number }> {
  return await readSuperblock(path);
}

/** The epoch record of a leg. Throws when both copies are broken. */
export async function legRecord(path: string): Promise<EpochRecord> {
  const { epochOffset } = await readSuperblock(path);
  const bytes = (await readHead(path, epochOffset + 2 * BLOCK_BYTES)).subarray(epochOffset);
  const copies = [bytes.subarray(0, BLOCK_BYTES), bytes.subarray(BLOCK_BYTES)];
  const picked = pickTwin(copies[0], copies[1], decodeEpochRecord, null);
  if (!picked.ok) throw new Error(`The epoch record of ${path} is broken: ${JSON.stringify(picked.first)}`);
  return picked.value;
}

async function readSuperblock(path: string): Promise<Superblock> {
  const result = decodeSuperblock(await readHead(path, BLOCK_BYTES), null);
  if (!result.ok) throw new Error(`The superblock of ${path} is broken: ${JSON.stringify(result)}`);
  return result.value;
}

/** Deno's own file API wants every permission for files in /dev, so another program reads. */
async function readHead(path: string, byteCount: number): Promise<Uint8Array> {
  const output = await new Deno.Command("head", { args: [`--bytes=${byteCount}`, path], stdout: "piped" }).output();
  if (output.code !== 0) throw new Error(`${path} cannot be read`);
  return output.stdout;
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

/** Overwrites the first 4 KiB block of `value` bytes in a leg's file behind everybody's back. */
export async function rot(path: string, value: number): Promise<void> {
  const file = await Deno.open(path, { read: true, write: true });
  try {
    const block = new Uint8Array(4096);
    for (let at = 0;; at += 4096) {
      await file.seek(at, Deno.SeekMode.Start);
      const count = await file.read(block);
      assert.equal(count, 4096, "the data is in the file");
      if (!block.every((byte) => byte === value)) continue;
      await file.seek(at, Deno.SeekMode.Start);
      await file.write(new Uint8Array(4096).fill(value ^ 1));
      return;
    }
  } finally {
    file.close();
  }
}

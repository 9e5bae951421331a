/**
 * Compares the data areas of two legs, byte by byte, from their backing files. For legs that nobody serves.
 *
 * @module
 */

import { BLOCK_BYTES, type Superblock } from "../disk_format/records.ts";
import { decodeSuperblock } from "../disk_format/superblock.ts";

const STEP_BYTES = 1 << 20;

/** Null when the data areas are equal, else where they differ first. */
export async function compareDataAreas(pathA: string, pathB: string): Promise<string | null> {
  const a = await Deno.open(pathA);
  const b = await Deno.open(pathB);
  try {
    const superblockA = await readSuperblock(a, pathA);
    const superblockB = await readSuperblock(b, pathB);
    if (superblockA.sizeBytes !== superblockB.sizeBytes) return "the legs differ in size";
    await a.seek(superblockA.dataOffset, Deno.SeekMode.Start);
    await b.seek(superblockB.dataOffset, Deno.SeekMode.Start);
    const bytesA = new Uint8Array(STEP_BYTES);
    const bytesB = new Uint8Array(STEP_BYTES);
    for (let offset = 0; offset < superblockA.sizeBytes; offset += STEP_BYTES) {
      const count = Math.min(STEP_BYTES, superblockA.sizeBytes - offset);
      await readWhole(a, bytesA.subarray(0, count));
      await readWhole(b, bytesB.subarray(0, count));
      for (let i = 0; i < count; i++) {
        if (bytesA[i] !== bytesB[i]) return `the legs differ at byte ${offset + i}`;
      }
    }
    return null;
  } finally {
    a.close();
    b.close();
  }
}

async function readSuperblock(file: Deno.FsFile, path: string): Promise<Superblock> {
  const copies = new Uint8Array(2 * BLOCK_BYTES);
  await readWhole(file, copies);
  for (const at of [0, BLOCK_BYTES]) {
    const decoded = decodeSuperblock(copies.subarray(at, at + BLOCK_BYTES), null);
    if (decoded.ok) return decoded.value;
  }
  throw new Error(`${path} carries no superblock of a leg`);
}

/** Fills `bytes`; beyond the end of the file it reads as zeroes, as it does to a leg. */
async function readWhole(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  let at = 0;
  while (at < bytes.length) {
    const count = await file.read(bytes.subarray(at));
    if (count === null) break;
    at += count;
  }
  bytes.fill(0, at);
}

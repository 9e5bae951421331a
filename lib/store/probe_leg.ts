/**
 * Looking at what shall become a leg, before anything is written to it.
 *
 * @module
 */

import { dirname } from "node:path";
import { closeDescriptor, openFile, OpenFlag, statusOf } from "../../ffi/libc/file.ts";
import type { LegProbe } from "../control/control_api.ts";
import { SUPERBLOCK_OFFSET } from "../disk_format/layout.ts";
import { BLOCK_BYTES } from "../disk_format/records.ts";
import { decodeSuperblock } from "../disk_format/superblock.ts";
import { pickTwin } from "../disk_format/twin.ts";
import { DeviceFile, isAllZero, SCRATCH_BYTES } from "./device_file.ts";
import { HEAD_BYTES, nameContent, TAIL_BYTES } from "./signatures.ts";
import { StoreError } from "./store_error.ts";
import { UNWATCHED, type WorkWatch } from "./work_watch.ts";

/** Makes an unnamed file in a directory, that vanishes when it is closed; O_DIRECTORY, which it includes, varies. */
const OPEN_UNNAMED = 0o20000000 | (Deno.build.arch === "aarch64" ? 0o40000 : 0o200000);

/** How much of a device without known marks is looked at. */
export interface Diligence {
  /** Where no more than this is not known to be a hole, all of it is read. */
  readonly wholeBytes: number;
  /** Of more, so many places, evenly spread; what all these have as zeroes passes for empty. */
  readonly sampleCount: number;
  /** How long to look; what was found not to be zero until then counts, and the rest passes for empty. */
  readonly limitMs: number;
}

/** 4096 places find what fills a thousandth of a device, all but surely; a slow hard disk gets to about a thousand of them in time. */
export const DILIGENCE: Diligence = { wholeBytes: 1024 * 1024 * 1024, sampleCount: 4096, limitMs: 10_000 };
const SAMPLE_BYTES = 64 * 1024;
/**
 * Places are looked at in so many passes over the device, each evenly spread: when time is up after a part of them, no part of the device
 * has been left out. Few enough for a disk's head to go in small steps. A power of two.
 */
const PASS_COUNT = 16;

/** How to look at a device. */
export interface ProbeOptions {
  /** Known marks only: data of an unknown kind is not looked for, which is what takes long. */
  readonly signaturesOnly?: boolean;
  readonly watch?: WorkWatch;
}

/**
 * What is at `path` now. Looks only; a device that is in use can be probed too.
 *
 * @throws {StoreError} when it is neither a file nor a block device, cannot be read, or its directory does not exist
 */
export function probeDevice(path: string, { signaturesOnly = false, watch = UNWATCHED }: ProbeOptions = {}): LegProbe {
  let device: DeviceFile;
  try {
    device = DeviceFile.open(path, { access: "read" });
  } catch (error) {
    if (!(error instanceof StoreError && error.code === "not-found")) throw error;
    return { path, kind: "absent", sizeBytes: 0, logicalBlockBytes: blockOfDirectory(path), found: null, leg: null };
  }
  try {
    const { kind, sizeBytes, logicalBlockBytes } = device;
    const found = signaturesOnly ? findMark(device) : findContent(device, DILIGENCE, watch);
    return { path, kind, sizeBytes, logicalBlockBytes, found, leg: findLeg(device) };
  } finally {
    device.close();
  }
}

/** The leg that is on an open device; null when there is none that this version can read. */
function findLeg(device: DeviceFile): LegProbe["leg"] {
  if (device.sizeBytes < 2 * BLOCK_BYTES) return null;
  const head = device.read(SUPERBLOCK_OFFSET, 2 * BLOCK_BYTES).slice();
  const pick = pickTwin(head.subarray(0, BLOCK_BYTES), head.subarray(BLOCK_BYTES), decodeSuperblock, null);
  if (!pick.ok) return null;
  const { poolUuid, legUuid, legIndex } = pick.value;
  return { poolUuid, legUuid, legIndex };
}

/** Whether there is nothing at `path`. Throws as {@link probeDevice} does. */
export function isPathFree(path: string): boolean {
  try {
    DeviceFile.open(path, { access: "read" }).close();
    return false;
  } catch (error) {
    if (error instanceof StoreError && error.code === "not-found") return true;
    throw error;
  }
}

/** Both ends of a device, where formats leave their marks. */
interface Ends {
  /** Where whole blocks end: what lies beyond the last one of a file cannot be read with O_DIRECT. */
  readonly end: number;
  readonly head: Uint8Array;
  readonly tail: Uint8Array;
}

function readEnds(device: DeviceFile): Ends {
  const end = device.sizeBytes - device.sizeBytes % device.logicalBlockBytes;
  const head = device.read(0, Math.min(HEAD_BYTES, end)).slice();
  const tailBytes = Math.min(TAIL_BYTES, end);
  return { end, head, tail: device.read(end - tailBytes, tailBytes).slice() };
}

/** What the marks on an open device say it is; null when there is none that is known. */
function findMark(device: DeviceFile): string | null {
  if (device.isAllHole) return null;
  const { head, tail } = readEnds(device);
  return nameContent(head, tail);
}

/** What is on an open device, in words; null when nothing is found. */
export function findContent(device: DeviceFile, diligence = DILIGENCE, watch = UNWATCHED): string | null {
  if (device.isAllHole) return null;
  const { end, head, tail } = readEnds(device);
  // A leg would overwrite what is beyond the last whole block too, so it counts.
  if (end === 0) return device.sizeBytes === 0 ? null : `a file of ${device.sizeBytes} bytes`;
  const name = nameContent(head, tail);
  if (name !== null) return name;
  const inHead = firstData(head);
  const inTail = firstData(tail);
  let at = inHead;
  if (at < 0 && inTail >= 0) at = end - tail.length + inTail;
  if (at < 0 && end !== device.sizeBytes) at = end;
  if (at < 0) at = findData(device, end, diligence, watch);
  return at < 0 ? null : `data of an unknown kind, at byte ${at}`;
}

/** A byte before `end` that is found not to be zero; -1 when none is, as far as the diligence goes. */
function findData(device: DeviceFile, end: number, diligence: Diligence, watch: WorkWatch): number {
  const { wholeBytes, sampleCount, limitMs } = diligence;
  const runs = device.dataRuns(end);
  const totalBytes = runs.reduce((sum, run) => sum + run.end - run.start, 0);
  const isWhole = totalBytes <= Math.max(wholeBytes, sampleCount * SAMPLE_BYTES);
  const readBytes = isWhole ? SCRATCH_BYTES : SAMPLE_BYTES;
  const step = isWhole ? SCRATCH_BYTES : Math.floor(totalBytes / sampleCount / BLOCK_BYTES) * BLOCK_BYTES;
  const places: { at: number; lengthBytes: number }[] = [];
  // Bytes of data to be stepped over before the next place.
  let skipBytes = 0;
  for (const run of runs) {
    let at = run.start + skipBytes;
    for (; at < run.end; at += step) places.push({ at, lengthBytes: Math.min(readBytes, run.end - at) });
    skipBytes = isWhole ? 0 : at - run.end;
  }
  const untilMs = watch.nowMs() + limitMs;
  const passCount = isWhole ? 1 : PASS_COUNT;
  for (let pass = 0; pass < passCount; pass++) {
    for (let index = firstOfPass(pass, passCount); index < places.length; index += passCount) {
      watch.check();
      if (watch.nowMs() >= untilMs) return -1;
      const { at, lengthBytes } = places[index];
      const found = firstData(device.read(at, lengthBytes));
      if (found >= 0) return at + found;
    }
  }
  return -1;
}

/** Where each pass begins, so that every further one goes halfway between those before: 0, 8, 4, 12, 2, … of 16. */
function firstOfPass(pass: number, passCount: number): number {
  let first = 0;
  for (let half = passCount >> 1, rest = pass; half > 0; half >>= 1, rest >>= 1) first += half * (rest & 1);
  return first;
}

/** The first byte that is not zero; -1 when all are. */
function firstData(bytes: Uint8Array): number {
  return isAllZero(bytes) ? -1 : bytes.findIndex((byte) => byte !== 0);
}

/** The logical block that a new file at `path` would have. */
function blockOfDirectory(path: string): number {
  const directory = dirname(path);
  const descriptor = openFile(directory, OPEN_UNNAMED | OpenFlag.READ_WRITE);
  if (descriptor >= 0) {
    const status = statusOf(descriptor);
    closeDescriptor(descriptor);
    if (typeof status !== "number") {
      return status.directOffsetAlign > 512 || status.directOffsetAlign === 0 ? 4096 : 512;
    }
  }
  let isDirectory = false;
  const found = openFile(directory, OpenFlag.READ_ONLY);
  if (found >= 0) {
    const status = statusOf(found);
    isDirectory = typeof status !== "number" && status.kind === "directory";
    closeDescriptor(found);
  }
  if (!isDirectory) {
    throw new StoreError(
      "not-found",
      `"${path}": there is no directory "${directory}": create it, or name another path`,
    );
  }
  // A file system without unnamed files, or a directory that may not be written: creating the leg will tell.
  return 4096;
}

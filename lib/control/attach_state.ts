/**
 * What a running `brmr attach` leaves in the runtime directory, for `brmr list` and for udev: a file for each pool, written
 * when the pool is served and removed in the end. One whose process is gone tells of a device that may still be there.
 *
 * @module
 */

import * as v from "valibot";
import { ControlError } from "./control_api.ts";

const state = v.object({
  version: v.literal(1),
  poolName: v.string(),
  poolUuid: v.string(),
  pid: v.pipe(v.number(), v.integer()),
  /** "/dev/ublkb0", "/dev/nbd0"; null without a block device. */
  device: v.nullable(v.string()),
  /** Where the pool is offered, the device first. */
  uris: v.array(v.string()),
  /** The claim under which it was served last. */
  generation: v.optional(v.pipe(v.number(), v.integer())),
});

/** See the module's description. */
export type AttachState = v.InferOutput<typeof state>;

/** Path of the file of a pool. */
export function attachStatePath(dir: string, poolName: string): string {
  return `${dir}/client-${poolName}.json`;
}

/** Writes the file; whoever reads it meanwhile sees the old one or the new one whole. */
export function writeAttachState(dir: string, value: AttachState): void {
  const path = attachStatePath(dir, value.poolName);
  // One line, in this order of keys: the helper of the udev rule looks for the device with a regular expression.
  Deno.writeTextFileSync(`${path}.new`, JSON.stringify(value) + "\n", { mode: 0o600 });
  Deno.renameSync(`${path}.new`, path);
}

/** Removes the file, if it is there. */
export function removeAttachState(dir: string, poolName: string): void {
  try {
    Deno.removeSync(attachStatePath(dir, poolName));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** The file of one pool; null when there is none, or none that is whole. */
export function attachState(dir: string, poolName: string): AttachState | null {
  try {
    return parse(Deno.readTextFileSync(attachStatePath(dir, poolName)));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

/** The files in `dir`, by name of pool; those that are not whole are told to `warn`. */
export async function readAttachStates(dir: string, warn: (text: string) => void): Promise<AttachState[]> {
  const states: AttachState[] = [];
  try {
    for await (const { name } of Deno.readDir(dir)) {
      if (!/^client-.+\.json$/.test(name)) continue;
      const parsed = parse(await Deno.readTextFile(`${dir}/${name}`));
      if (parsed === null) warn(`warning: ${dir}/${name} is not of this version of brmr; remove it\n`);
      else states.push(parsed);
    }
  } catch (error) {
    if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable) throw foreignDir(dir);
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return states.sort((a, b) => a.poolName < b.poolName ? -1 : 1);
}

/** The runtime directory is another user's. */
export function foreignDir(dir: string): ControlError {
  return new ControlError(
    "refused",
    `${dir} may not be used by this user. Run this as the user of "brmr attach", or set BRMR_RUNTIME_DIR to a directory ` +
      "of your own.",
  );
}

function parse(text: string): AttachState | null {
  try {
    const parsed = v.safeParse(state, JSON.parse(text));
    return parsed.success ? parsed.output : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

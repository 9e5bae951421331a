/**
 * The state directory of a storage node: who the node is and which legs it serves.
 *
 * `node.json` and `legs.json` are replaced whole: written beside, synced, renamed, directory synced; after a crash
 * either the old or the new file stands. A lock on `lock` keeps a second node out; the kernel drops it with the process.
 * What is *on* the legs is not here: this directory may be lost, and the legs are still whole.
 *
 * @module
 */

import * as v from "valibot";
import { ControlError, type LegShape } from "../control/control_api.ts";
import { hostName } from "./host_name.ts";
import { legShapeSchema } from "./leg_schema.ts";
import type { ErasedLeg } from "./worker_messages.ts";

const nodeSchema = v.object({ version: v.literal(1), uuid: v.pipe(v.string(), v.uuid()), name: v.string() });
const legSchema = v.object({
  path: v.string(),
  poolUuid: v.string(),
  legUuid: v.string(),
  createdFile: v.boolean(),
  // What cannot be made sense of is as good as not known.
  shape: v.fallback(v.optional(legShapeSchema), undefined),
  replaced: v.optional(v.object({ path: v.string(), legUuid: v.string(), createdFile: v.boolean() })),
});
const erasingSchema = v.object({
  path: v.string(),
  poolUuid: v.string(),
  legUuid: v.string(),
  createdFile: v.boolean(),
});
const legsSchema = v.object({
  version: v.literal(1),
  legs: v.array(legSchema),
  erasing: v.optional(v.array(erasingSchema), []),
});

/** A leg that the node serves. */
export interface KnownLeg {
  readonly path: string;
  readonly poolUuid: string;
  readonly legUuid: string;
  /** Whether the node created the file, so that deleting the leg removes it. */
  readonly createdFile: boolean;
  /** What it was like when last served: when its disk is dead, nobody else at hand may know. Never trusted over a disk. */
  readonly shape?: LegShape;
  /** The leg in whose place it was made, so that this can be taken back. */
  readonly replaced?: { readonly path: string; readonly legUuid: string; readonly createdFile: boolean };
}

interface Known {
  readonly legs: KnownLeg[];
  readonly erasing: readonly ErasedLeg[];
}

/** An opened, locked state directory. */
export class NodeState {
  readonly directory: string;
  readonly nodeUuid: string;
  readonly nodeName: string;
  #legs: KnownLeg[];
  #erasing: readonly ErasedLeg[];
  readonly #lock: Deno.FsFile;

  private constructor(directory: string, lock: Deno.FsFile, nodeUuid: string, nodeName: string, known: Known) {
    this.directory = directory;
    this.#lock = lock;
    this.nodeUuid = nodeUuid;
    this.nodeName = nodeName;
    this.#legs = known.legs;
    this.#erasing = known.erasing;
  }

  /**
   * Opens `directory`, making it and a new identity when there is none.
   * @throws {ControlError} "in-use" when another node has it, "device" when it cannot be read or written
   */
  static async open(directory: string, nodeName: string | undefined): Promise<NodeState> {
    let lock: Deno.FsFile | null = null;
    try {
      await Deno.mkdir(directory, { recursive: true });
      lock = await Deno.open(`${directory}/lock`, { create: true, write: true });
      if (!(await lock.tryLock(true))) {
        throw new ControlError(
          "in-use",
          `State directory "${directory}" is used by another storage node. Stop that one or give this one its own --state`,
        );
      }
      let node = await readJson(`${directory}/node.json`, nodeSchema);
      if (node === null || (nodeName !== undefined && nodeName !== node.name)) {
        node = { version: 1, uuid: node?.uuid ?? crypto.randomUUID(), name: nodeName ?? hostName() };
        await replaceFile(directory, "node.json", node);
      }
      const legs = await readJson(`${directory}/legs.json`, legsSchema);
      return new NodeState(directory, lock, node.uuid, node.name, legs ?? { legs: [], erasing: [] });
    } catch (error) {
      lock?.close();
      if (error instanceof ControlError) throw error;
      // Deno asks for more than any command of ours has where the kernel shows itself.
      const reason = error instanceof Deno.errors.NotCapable
        ? "nothing can be kept in /proc, /sys or /dev"
        : (error as Error).message;
      throw new ControlError("device", `State directory "${directory}" cannot be used: ${reason}`);
    }
  }

  /** The legs, in the order they were added. */
  get legs(): readonly KnownLeg[] {
    return this.#legs;
  }

  /** Adds or replaces the leg at `leg.path`; durable when it resolves. */
  async addLeg(leg: KnownLeg): Promise<void> {
    // What was to be erased at that path is overwritten.
    const erasing = this.#erasing.filter((each) => each.path !== leg.path);
    await this.#store([...this.#legs.filter((known) => known.path !== leg.path), leg], erasing);
  }

  /** Forgets the leg at `path`; durable when it resolves. `erased`: the leg, when it is to be erased; kept until {@link endErasing}. */
  async removeLeg(path: string, erased?: KnownLeg): Promise<void> {
    await this.#store(this.#legs.filter((known) => known.path !== path), this.#erasingToo(erased));
  }

  /**
   * Puts `leg` in the place of the legs `legUuids`, in one step; durable when it resolves. `erased`: the one of them that is to be erased; kept
   * until {@link endErasing}.
   */
  async replaceLeg(legUuids: readonly string[], leg: KnownLeg, erased?: KnownLeg): Promise<void> {
    const others = this.#legs.filter((known) => !legUuids.includes(known.legUuid) && known.path !== leg.path);
    await this.#store([...others, leg], this.#erasingToo(erased).filter((each) => each.path !== leg.path));
  }

  /** Legs that are not known any more and of which the erasing has not ended. */
  get erasing(): readonly ErasedLeg[] {
    return this.#erasing;
  }

  /** A leg is erased, or nothing is left of it that could be; durable when it resolves. */
  async endErasing(legUuid: string): Promise<void> {
    await this.#store(this.#legs, this.#erasing.filter((leg) => leg.legUuid !== legUuid));
  }

  #erasingToo(leg: KnownLeg | undefined): readonly ErasedLeg[] {
    if (leg === undefined) return this.#erasing;
    const { path, poolUuid, legUuid, createdFile } = leg;
    return [...this.#erasing.filter((each) => each.legUuid !== legUuid), { path, poolUuid, legUuid, createdFile }];
  }

  /** Takes note of what legs are like, by UUID; durable when it resolves. */
  async noteShapes(shapes: ReadonlyMap<string, LegShape>): Promise<void> {
    const legs = this.#legs.map((leg) => {
      const shape = shapes.get(leg.legUuid);
      return shape === undefined ? leg : { ...leg, shape };
    });
    if (JSON.stringify(legs) !== JSON.stringify(this.#legs)) await this.#store(legs);
  }

  async #store(legs: KnownLeg[], erasing: readonly ErasedLeg[] = this.#erasing): Promise<void> {
    await replaceFile(this.directory, "legs.json", { version: 1, legs, erasing });
    this.#legs = legs;
    this.#erasing = erasing;
  }

  /** Gives the directory free. */
  close(): void {
    this.#lock.close();
  }
}

async function readJson<Schema extends v.GenericSchema>(
  path: string,
  schema: Schema,
): Promise<v.InferOutput<Schema> | null> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
  try {
    return v.parse(schema, JSON.parse(text));
  } catch (error) {
    throw new ControlError(
      "device",
      `"${path}" is not what a storage node wrote: ${
        (error as Error).message
      }. Restore it, or move it away to begin anew`,
    );
  }
}

async function replaceFile(directory: string, name: string, value: unknown): Promise<void> {
  const temporary = `${directory}/.${name}.new`;
  const file = await Deno.open(temporary, { create: true, write: true, truncate: true });
  try {
    const bytes = new TextEncoder().encode(JSON.stringify(value, null, 2) + "\n");
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    await file.sync();
  } finally {
    file.close();
  }
  await Deno.rename(temporary, `${directory}/${name}`);
  const parent = await Deno.open(directory, { read: true });
  try {
    await parent.sync();
  } finally {
    parent.close();
  }
}

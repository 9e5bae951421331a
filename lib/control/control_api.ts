/**
 * The control API: what the command line asks of running nodes.
 *
 * Storage nodes answer on their ordinary address: frames CONTROL_REQUEST / CONTROL_REPLY with JSON payloads
 * (`{op, ...arguments}` / `{ok: true, result}` / `{ok: false, error: {code, message}}`). Client nodes (`brmr attach`) answer on a
 * unix socket in the runtime directory, one JSON object a line, same shapes.
 *
 * @module
 */

import type { SharedEpoch } from "../disk_format/records.ts";
import type { LegChange } from "../core/leg_table_changes.ts";
import type { ClientSnapshot, LegSnapshot } from "../core/snapshot.ts";

/** Closed set of things that can go wrong with what a person asked. The CLI maps them to exit codes. */
export type ControlErrorCode =
  | "bad-request"
  | "not-found"
  | "exists"
  | "in-use"
  | "device"
  | "foreign-data"
  | "refused"
  | "unreachable"
  | "timeout"
  | "internal";

/** An error with a code and two sentences: what is wrong, what to do. */
export class ControlError extends Error {
  override name = "ControlError";
  readonly code: ControlErrorCode;
  constructor(code: ControlErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Result of `leg.probe`: what is at a path that shall become a leg. */
export interface LegProbe {
  readonly path: string;
  readonly kind: "absent" | "file" | "block-device";
  /** Size now; 0 when absent. */
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  /** Plain words: what was found on it ("an ext4 file system", "leg 1 of pool vol1"); null when empty. */
  readonly found: string | null;
  /** The leg that is on it, if it is one: whole, of this version, served or not. */
  readonly leg: { readonly poolUuid: string; readonly legUuid: string; readonly legIndex: number } | null;
}

/** What a leg is like, and the newest record that was seen with it. */
export interface LegShape {
  readonly poolUuid: string;
  readonly poolName: string;
  readonly legUuid: string;
  readonly legIndex: number;
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly logicalBlockBytes: number;
  readonly extentBytes: number;
  readonly hotExtentCount: number;
  readonly shared: SharedEpoch;
}

/** Arguments of `leg.create`. The device at `path` becomes a leg, is opened and served. */
export interface LegCreate extends LegShape {
  /** On the storage node. A file is created sparse. */
  readonly path: string;
  /** Take a device that carries data. */
  readonly force: boolean;
  /** The leg at the same index in whose place it is made. */
  readonly replacesUuid?: string;
}

/** One leg in a node's status. */
export interface LegStatus {
  readonly path: string;
  readonly snapshot: LegSnapshot;
}

/** A leg that a node knows but cannot serve. */
export interface BrokenLeg {
  readonly path: string;
  readonly legUuid: string;
  readonly message: string;
  /** What the node last knew of it; absent when it never served it since it keeps account. */
  readonly leg?: LegShape;
}

/** Operations of a storage node: arguments and results. Pools are named by name or UUID. */
export interface NodeOperations {
  "node.info": {
    request: Record<string, never>;
    result: {
      nodeName: string;
      version: string;
      address: string;
      pid: number;
      residentBytes: number;
      bufferBytes: number;
      legs: LegStatus[];
      broken: BrokenLeg[];
    };
  };
  /**
   * `signaturesOnly`: known marks are enough, so data of an unknown kind is not looked for, which may take ten seconds. A node that does not
   * know it looks for everything.
   */
  "leg.probe": { request: { path: string; signaturesOnly?: boolean }; result: LegProbe };
  "leg.create": { request: LegCreate; result: { legUuid: string } };
  /** As `leg.create`, in place of leg `replacesUuid` at the same index, which the node forgets. */
  "leg.replace": { request: LegCreate & { readonly replacesUuid: string }; result: { legUuid: string } };
  /**
   * Takes back a `leg.replace` that nothing relies on yet: leg `legUuid`, made by it, is wiped and the leg before is served again.
   * "refused" when the pool has taken the new leg in. `problem`: why the leg before cannot be served, or "".
   */
  "leg.undoReplace": {
    request: { poolUuid: string; legUuid: string };
    result: { legUuid: string; path: string; problem: string };
  };
  /** Wipes the leg's metadata and forgets it; removes the file if the node created it. */
  "leg.delete": { request: { poolUuid: string; legUuid: string; force: boolean }; result: Record<string, never> };
  /** The legs of one pool on this node. */
  "pool.status": {
    request: { pool: string };
    result: {
      legs: LegStatus[];
      /** An operator's session of the pool runs at this node. Absent from nodes that know none. */
      hasOperator?: boolean;
    };
  };
  /**
   * Begins an operator's session at this node, or joins the one there is: the node takes the pool, which nobody may have attached, to carry
   * out what `operator.ask` says. It ends when all who began it have said `client.detach` or have been silent for a minute, and when a
   * client takes the pool or a leg is lost. "refused" with the reason when the pool cannot be had.
   */
  "operator.begin": { request: { pool: string }; result: { holder: number } };
  /** An operation of a client node, asked of the session. */
  "operator.ask": {
    request: { pool: string; holder: number; operation: keyof ClientOperations; request: unknown };
    // deno-lint-ignore no-explicit-any -- that of the operation
    result: any;
  };
  /** Where leg `legIndex` lacks data, as a leg of this node knows: `buckets` counts of dirty chunks over the address space. */
  "pool.dirtyMap": {
    request: { pool: string; legIndex: number; buckets: number; maxRuns: number };
    result: {
      legIndex: number;
      chunkBytes: number;
      sizeBytes: number;
      dirtyChunks: number;
      dirtyBytes: number;
      memoryBytes: number;
      buckets: number[];
      runCount: number;
      runs: { offsetBytes: number; lengthBytes: number }[];
    };
  };
  /** For every leg of the pool on this node. `rateBytesPerSecond` 0 lifts the limit. */
  "resync.set": {
    request: { pool: string; paused?: boolean; rateBytesPerSecond?: number };
    result: { legs: number };
  };
}

/** How a client reaches a leg. */
export interface LegPath {
  readonly legIndex: number;
  readonly transport: "tcp" | "shared-memory" | "rdma";
  /** Over TCP where memory might be shared: why it is not. */
  readonly reason?: string;
  /** Over RDMA: its device, GID, path MTU, "from -> to", and what is registered for this connection. */
  readonly rdma?: {
    readonly device: string;
    readonly gid: string;
    readonly mtuBytes: number;
    readonly path: string;
    readonly registeredBytes: number;
  };
}

/** Operations of a client node. */
export interface ClientOperations {
  "client.status": {
    request: Record<string, never>;
    result: {
      uri: string;
      /** All places where the pool is offered, the device first; these three are absent from older clients. */
      uris?: readonly string[];
      /** "/dev/ublkb0"; null without a block device. */
      device?: string | null;
      /** Who uses the device, in plain words ("mounted at /mnt"). */
      uses?: readonly string[];
      pid: number;
      connections: number;
      residentBytes: number;
      /** Legs that are connected. Absent from clients that know TCP only. */
      paths?: readonly LegPath[];
      snapshot: ClientSnapshot;
    };
  };
  /** Changes the leg table by one record. Answers when it is in force; "refused" with the reason when it cannot be. */
  "client.changeLegs": { request: LegChange; result: Record<string, never> };
  /** Begins to compare the in-sync legs; `client.status` tells how far it is. `rateBytesPerSecond` 0: no limit. */
  "client.verify": { request: { repair: boolean; rateBytesPerSecond: number }; result: Record<string, never> };
  "client.verifyStop": { request: Record<string, never>; result: Record<string, never> };
  /**
   * Stops the frontend, drains, flushes, releases the pool. Answers when done. "in-use" when the device is mounted or held,
   * unless `force`. `unclean`: why the legs have to be compared at the next attach; absent where they need not.
   */
  "client.detach": { request: { force?: boolean }; result: { unclean?: string } };
}

/** Asks a node. Implemented for storage nodes (TCP frames) and client nodes (unix socket, JSON lines). */
export interface ControlClient<Operations> {
  request<Op extends keyof Operations & string>(
    op: Op,
    // deno-lint-ignore no-explicit-any -- conditional lookup of the table above
    request: Operations[Op] extends { request: infer R } ? R : any,
    // deno-lint-ignore no-explicit-any
  ): Promise<Operations[Op] extends { result: infer R } ? R : any>;
  close(): void;
  /** Whether nothing can be asked any more: by `close`, or because an answer came too late and the stream is out of step. */
  readonly isClosed: boolean;
}

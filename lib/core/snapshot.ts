/**
 * What the core tells about itself: plain data, for status commands, metrics and tests. JSON keys carry their unit.
 *
 * @module
 */

import type { EpochRecord } from "../disk_format/records.ts";

/** The state of a leg, as people see it. */
export type LegState = "in-sync" | "resyncing" | "stale" | "away";

/** A resync as its target sees it. */
export interface ResyncSnapshot {
  readonly resyncSession: number;
  readonly mode: "dirty" | "reconcile";
  readonly state: "running" | "paused" | "done" | "failed";
  /** Bytes still to copy or compare. */
  readonly missingBytes: number;
  /** Bytes that were missing when it began. */
  readonly totalBytes: number;
  /** Bytes that came over the network so far. */
  readonly copiedBytes: number;
  /** Bytes that needed no copy: overwritten by the client, or equal. */
  readonly skippedBytes: number;
  readonly rateBytesPerSecond: number;
  /** Estimated; null when nothing moves. */
  readonly etaMs: number | null;
  readonly sourceLegIndex: number;
  /** Operator's limit, 0 for none. */
  readonly limitBytesPerSecond: number;
  readonly message: string;
}

/** How much waits in a leg. */
export interface LegLoad {
  /** Operations under way, of clients and peers. */
  readonly operations: number;
  readonly clientOperations: number;
  /** Client operations that wait for something other than the disk. */
  readonly waiting: number;
  /** Reads of peers that wait for writes to end. */
  readonly waitingPeerReads: number;
  /** Connections that have greeted it, or that it has greeted on. */
  readonly connections: number;
  readonly pendingEpochs: number;
  readonly pendingMetadata: number;
  /** Memory of its largest dirty map. */
  readonly mostMapBytes: number;
}

/** How much waits in a client. */
export interface ClientLoad {
  readonly requests: number;
  readonly waiting: number;
  /** Payload bytes of writes in flight. */
  readonly writeBytes: number;
}

/** What one leg holds against another. */
export interface DirtySnapshot {
  readonly legIndex: number;
  readonly dirtyBytes: number;
  readonly dirtyChunks: number;
  /** Memory the map takes. */
  readonly memoryBytes: number;
}

/** One leg, as its storage node sees it. */
export interface LegSnapshot {
  readonly poolUuid: string;
  readonly poolName: string;
  readonly legUuid: string;
  readonly legIndex: number;
  /** The leg in whose place it was made; "" for none. */
  readonly replacesUuid: string;
  /** Where its node can be reached, best first. Absent from older nodes. */
  readonly addresses?: readonly string[];
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly logicalBlockBytes: number;
  readonly record: EpochRecord;
  /** This leg's own view of itself. */
  readonly state: LegState;
  readonly session: {
    readonly clientName: string;
    readonly generation: number;
    /** A leg's caretaker, not a client. */
    readonly isCaretaker: boolean;
    /** A caretaker that carries out an operator's orders. */
    readonly isOrdered: boolean;
  } | null;
  readonly dirty: readonly DirtySnapshot[];
  /** The resync under way. */
  readonly resync: ResyncSnapshot | null;
  /** The resync before it, as it ended; null before the first one since the leg was opened. */
  readonly lastResync: ResyncSnapshot | null;
  /** Bytes one entry of the intent log stands for. */
  readonly extentBytes: number;
  readonly hotExtents: number;
  readonly hotExtentLimit: number;
  readonly unflushedBytes: number;
  readonly counters: {
    readonly reads: number;
    readonly writes: number;
    readonly flushes: number;
    readonly readBytes: number;
    readonly writtenBytes: number;
    readonly metadataWrites: number;
    readonly pullsServed: number;
  };
}

/** One leg, as the client sees it. */
export interface ClientLegSnapshot {
  readonly legIndex: number;
  readonly legUuid: string;
  /** Where the leg table says it is. */
  readonly address: string;
  /** All addresses by which it can be reached, best first, and the one in use ("" while it is away). Absent from older clients. */
  readonly paths?: readonly string[];
  readonly path?: string;
  readonly state: LegState;
  readonly inFlight: number;
  /** Whether an operator has taken it out of the in-sync set. */
  readonly isDrained: boolean;
  /** Reads that its disk could not answer, and bytes written back to it from another leg because of that. */
  readonly readErrors: number;
  readonly repairedBytes: number;
  readonly resync:
    | { readonly missingBytes: number; readonly copiedBytes: number; readonly rateBytesPerSecond: number }
    | null;
}

/** A stretch on which in-sync legs differ, or which some cannot read. */
export interface VerifyDifference {
  readonly offset: number;
  lengthBytes: number;
  /** Bit i: leg i is not like the chosen one, or cannot be read. */
  readonly legMask: number;
  /** The leg whose data counts; -1 when none could be read. */
  readonly sourceLegIndex: number;
  /** Whether it was chosen because most legs agree with it; otherwise it is the first in-sync leg. */
  readonly isMajority: boolean;
  /** Whether the legs of `legMask` could not be read; otherwise they differ. */
  readonly isUnreadable: boolean;
  isRepaired: boolean;
}

/** The verify under way, or the last one. */
export interface VerifySnapshot {
  readonly state: "off" | "running" | "done" | "stopped" | "failed";
  readonly message: string;
  readonly isRepairing: boolean;
  /** 0 for no limit. */
  readonly rateBytesPerSecond: number;
  readonly totalBytes: number;
  readonly verifiedBytes: number;
  /** Bit i: leg i was compared, in all or in part. */
  readonly comparedMask: number;
  readonly differingBytes: number;
  readonly unreadableBytes: number;
  readonly repairedBytes: number;
  /** Bytes that no in-sync leg could read. */
  readonly lostBytes: number;
  readonly differences: number;
  /** The first of them. */
  readonly told: readonly VerifyDifference[];
}

/**
 * Why an attach was refused: "held" (another client has the pool), "no-start" (the start rule), "superseded" (another client has served the pool
 * since), "other-history" (its legs have gone on in a history that was started by force elsewhere), "unreadable" (read-only), and of caretakers
 * "nothing-to-do" and "session-lost". "" when it was not.
 */
export type RefusalCode =
  | ""
  | "held"
  | "no-start"
  | "superseded"
  | "other-history"
  | "unreadable"
  | "nothing-to-do"
  | "session-lost";

/** An attached pool, as its client sees it. */
export interface ClientSnapshot {
  readonly poolUuid: string;
  readonly poolName: string;
  readonly state: string;
  readonly refusal: string;
  readonly refusalCode: RefusalCode;
  /** Whether it is attached read-only. */
  readonly isReadOnly?: boolean;
  readonly generation: number;
  readonly epoch: number;
  readonly inSyncMask: number;
  readonly minInSync: number;
  readonly legs: readonly ClientLegSnapshot[];
  readonly inFlight: number;
  readonly waiting: number;
  readonly sequence: number;
  readonly watermark: number;
  readonly counters: {
    readonly reads: number;
    readonly writes: number;
    readonly flushes: number;
    readonly readBytes: number;
    readonly writtenBytes: number;
    readonly failed: number;
    readonly legDrops: number;
    /** Reads that met an unreadable place on one leg; it was written anew from another. */
    readonly readRepairs: number;
  };
  readonly verify: VerifySnapshot;
}

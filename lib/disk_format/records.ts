/**
 * What a leg keeps on its backing device besides data: the shapes of the records, in memory. Their encoding is in the
 * files beside this one; the rules they obey are in ARCHITECTURE.md.
 *
 * @module
 */

/** Most legs of one pool. */
export const MAX_LEGS = 8;
/** Bytes of one metadata block. */
export const BLOCK_BYTES = 4096;

/** Fixed at creation. */
export interface Superblock {
  /** UUIDs are lower-case strings with dashes throughout. */
  readonly poolUuid: string;
  readonly poolName: string;
  readonly legUuid: string;
  /** 0 .. 7: the leg's place in the leg table. */
  readonly legIndex: number;
  /** Bytes of the pool as an application sees it. */
  readonly sizeBytes: number;
  /** Bytes one dirty bit stands for: a power of two, 4096 .. 1 MiB; at most 2^32 chunks in a pool. */
  readonly chunkBytes: number;
  /** Smallest I/O of the pool: 512 or 4096. */
  readonly logicalBlockBytes: number;
  /** Bytes one entry of the intent log stands for: a power of two, 64 KiB .. 64 MiB. */
  readonly extentBytes: number;
  /** Most extents in the intent log at once. */
  readonly hotExtentCount: number;
  /** Device offsets in bytes; see layout.ts. */
  readonly epochOffset: number;
  readonly intentOffset: number;
  readonly mapOffset: number;
  readonly dataOffset: number;
  /** Wall clock, milliseconds since 1970. Information only. */
  readonly createdMs: number;
  /** UUID of the leg in whose place, at the same index, this one was made; absent when it was made in nobody's place. */
  readonly replacesUuid?: string;
}

/** One leg in the leg table of an epoch record. */
export interface LegEntry {
  readonly uuid: string;
  /** "host:port" of its storage node. */
  readonly address: string;
  /** Pages of this leg's dirty map count only when they carry this number. */
  readonly mapIncarnation: number;
  /** What a chunk is when no page of the current incarnation says otherwise: false clean, true dirty. */
  readonly mapDefaultDirty: boolean;
  /** Wall clock when it left the in-sync set, 0 while it is in it. Information for people only. */
  readonly outSinceMs: number;
  /** Whether an operator wants it out: a drained leg is not admitted to resync. */
  readonly isDrained: boolean;
  /** The leg that is to be removed once this one is in sync; absent when there is none. */
  readonly replacesIndex?: number;
}

/** The part of an epoch record that all in-sync legs share. Rank is (history number, generation, epoch). */
export interface SharedEpoch {
  /** Grows a new branch with every forced start: a leg of another history is never trusted without full resync. */
  readonly historyId: string;
  /** How many forced starts led here; two histories with the same number were forced apart from one another. uint32. */
  readonly historyNumber: number;
  /** The client claim under which this record was made. */
  readonly generation: number;
  /** The newest generation that a client claimed to serve an application, not a caretaker to repair the legs. */
  readonly clientGeneration: number;
  /** Grows with every change of the in-sync set. */
  readonly epoch: number;
  /** Bit i: leg i is in sync. */
  readonly inSyncMask: number;
  /** Fewest in-sync legs that may complete I/O. */
  readonly minInSync: number;
  /** How long I/O waits for legs before it fails. */
  readonly ioTimeoutMs: number;
  /** Index = leg index; null where no leg is configured. */
  readonly legs: readonly (LegEntry | null)[];
  /** The leg to which the other members are being made equal, after an unclean end. */
  readonly sourceIndex?: number;
}

/** An epoch record as one leg keeps it: the shared part, and what this leg promised. */
export interface EpochRecord {
  readonly shared: SharedEpoch;
  /** The newest generation this leg has promised to serve; older ones are refused. At least `shared.generation`. */
  readonly promisedGeneration: number;
  /** UUID of the client it was promised to. */
  readonly promisedTo: string;
  /**
   * Whether all that this leg ever acked was on stable storage when the record was written, and nothing has been acked
   * since.
   */
  readonly isStable: boolean;
  /**
   * The boot of the machine under which this leg holds all that it acked, flushed or not; "" when it may lack some. The
   * end of a process loses nothing that was acked, the end of a boot may.
   */
  readonly bootId: string;
}

/** Compares two records' rank: negative, 0, positive. */
export function compareRank(a: SharedEpoch, b: SharedEpoch): number {
  if (a.historyNumber !== b.historyNumber) return a.historyNumber - b.historyNumber;
  return a.generation !== b.generation ? a.generation - b.generation : a.epoch - b.epoch;
}

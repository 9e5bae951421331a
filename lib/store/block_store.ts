/**
 * The block store contract: one backing device (file or block device), opened exclusively, O_DIRECT.
 *
 * Offsets are bytes from the start of the *device*; the caller adds the data offset of the superblock. Buffers are slots
 * of the worker's pool. Every call completes exactly once through the handler given at open.
 *
 * Opening takes an exclusive `flock`. The kernel keeps it until the last in-flight I/O of a dead process is over, so a
 * successor can never read under the late writes of its predecessor.
 *
 * @module
 */

/** Told of each completion: `result` is 0 (done, whole) or a negative errno. Short reads and writes are -EIO (-5). */
export interface BlockStoreHandler {
  onBlockDone(token: number, result: number): void;
}

/** One backing device. */
export interface BlockStore {
  readonly path: string;
  /** Size of the device in bytes. */
  readonly sizeBytes: number;
  /** Smallest I/O and its alignment: 512 or 4096. */
  readonly logicalBlockBytes: number;
  read(token: number, slot: number, lengthBytes: number, offset: number): void;
  /** `durable`: on stable storage before completion. */
  write(token: number, slot: number, lengthBytes: number, offset: number, durable: boolean): void;
  /** The range reads as zeroes afterwards; frees space unless `keepSpace`. */
  zero(token: number, lengthBytes: number, offset: number, keepSpace: boolean): void;
  /** Everything completed so far is on stable storage when this completes. */
  flush(token: number): void;
  /** Only when nothing is in flight. Releases the lock. */
  close(): void;
}

/** Told of each completed metadata write: `result` is 0 or a negative errno. */
export interface MetadataStoreHandler {
  onMetadataDone(token: number, result: number): void;
}

/**
 * Writes *twin records*: a record has two 4096-byte copies on the device, at `offset` and `offset + 4096`. They are
 * written one after the other, each durable before the next begins, and only then is the write done. So a torn write
 * damages at most one copy, and either copy alone is the record that was last relied upon, or the one being written.
 */
export interface MetadataStore {
  /** Writes `block` (4096 bytes, copied at the call) to both copies at `offset`. Writes to one offset never overlap. */
  writeTwin(token: number, offset: number, block: Uint8Array): void;
}

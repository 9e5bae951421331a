/**
 * The buffer pool contract: all payload memory of one worker, bounded, page aligned, registered with the kernel.
 *
 * A *slot* is a small non-negative integer. It names a run of bytes whose address is aligned to 4096 and whose capacity
 * is at least what was asked. Slots are handed around as numbers; the bytes never enter the core.
 *
 * Size classes are powers of two from 4 KiB to 1 MiB. `allocate` never grows the pool: it returns -1 when there is no
 * memory, and the caller waits (`onFreed`).
 *
 * @module
 */

/** Fixed memory, handed out in slots. */
export interface BufferPool {
  /** A slot of at least `lengthBytes` (1 .. 1 MiB), or -1 when memory is short. */
  allocate(lengthBytes: number): number;
  /** Gives a slot back. A double free or an unknown slot is an assertion failure. */
  free(slot: number): void;
  /**
   * Whether another process may still read the slot. Freed, it is not given out again before that is over; who keeps it has to
   * see to it that nothing is written there.
   */
  isHeld(slot: number): boolean;
  /** Address of the slot's first byte, aligned to 4096. */
  address(slot: number): number;
  /** Bytes the slot can hold. */
  capacity(slot: number): number;
  /** The slot's bytes, a cached view: never keep it past `free`. Its length is the capacity. */
  bytes(slot: number): Uint8Array;
  /** Bytes handed out now. */
  readonly usedBytes: number;
  /** Bytes in all. */
  readonly totalBytes: number;
}

/**
 * The process and its threads: clock, wake-ups, names, limits.
 *
 * @module
 */

import { cString, errno, libc, resultOrErrno } from "./library.ts";
import { mapAnonymous, pointerTo } from "./memory.ts";

const CLOCK_MONOTONIC = 1;
const EFD_CLOEXEC = 0o2000000;
const PR_SET_NAME = 15;
const PR_SET_IO_FLUSHER = 57;

/** Limits that {@link getLimit} and {@link raiseLimit} know. */
export const Limit = { OPEN_FILES: 7, LOCKED_MEMORY: 8 } as const;

// One page per isolate for small words that C reads or writes. LIFETIME: the process.
let scratch: Scratch | undefined;

interface Scratch {
  readonly words: Uint32Array;
  readonly timePointer: Deno.PointerValue;
  readonly onePointer: Deno.PointerValue;
  /** write(2) takes a size_t; a pointer object of value 8 is how all 64 bits of it are passed in a fast call. */
  readonly eightBytes: Deno.PointerValue;
}

function scratchWords(): Scratch {
  if (scratch === undefined) {
    const memory = mapAnonymous(4096);
    const words = new Uint32Array(memory.buffer);
    words[8] = 1; // the u64 that a wake-up adds to an eventfd's counter
    scratch = {
      words,
      timePointer: pointerTo(memory.address),
      onePointer: pointerTo(memory.address + 32),
      eightBytes: pointerTo(8),
    };
  }
  return scratch;
}

/** The monotonic clock in milliseconds with fractions. About 30 ns, nothing allocated but the number. */
export function monotonicMs(): number {
  const { words, timePointer } = scratchWords();
  libc().clock_gettime(CLOCK_MONOTONIC, timePointer);
  return (words[1] * 4294967296 + words[0]) * 1000 + words[2] / 1e6;
}

/** Lets others run that wait for this processor (sched_yield); returns at once when there is none. */
export function letOthersRun(): void {
  libc().sched_yield();
}

/** A new eventfd with counter 0, or a negative errno. Its number is valid in every thread of the process. */
export function newEventfd(): number {
  return resultOrErrno(libc().eventfd(0, EFD_CLOEXEC));
}

/** Adds 1 to an eventfd's counter, which wakes whoever reads it. 0 or a negative errno. */
export function wakeEventfd(descriptor: number): number {
  const { onePointer, eightBytes } = scratchWords();
  const written = libc().write_word(descriptor, onePointer, eightBytes);
  return written < 0 ? -errno() : 0;
}

/** Names the calling thread (at most 15 bytes are kept), as `ps -L` and `top -H` show it. */
export function nameThread(name: string): number {
  return resultOrErrno(libc().prctl(PR_SET_NAME, cString(name)));
}

/**
 * Tells the kernel that the calling thread writes out dirty memory (PR_SET_IO_FLUSHER): what it allocates must not wait for
 * memory to be written out, which may have to go through this very thread. 0 or a negative errno; -EPERM for all but root.
 */
export function becomeIoFlusher(): number {
  return resultOrErrno(libc().prctl_words(PR_SET_IO_FLUSHER, 1n, 0n, 0n, 0n));
}

/** A resource limit in bytes or pieces; Infinity when there is none. Negative errno on failure. */
export function getLimit(limit: number): { soft: number; hard: number } | number {
  const pair = new BigUint64Array(2);
  if (libc().getrlimit64(limit, pair) < 0) return -errno();
  return { soft: fromLimit(pair[0]), hard: fromLimit(pair[1]) };
}

/** Sets a resource limit; raising `hard` needs privileges. 0 or a negative errno. */
export function setLimit(limit: number, soft: number, hard: number): number {
  return resultOrErrno(libc().setrlimit64(limit, new BigUint64Array([toLimit(soft), toLimit(hard)])));
}

/** Raises the soft limit to the hard one. Returns the soft limit now in force, or a negative errno. */
export function raiseLimit(limit: number): number {
  const now = getLimit(limit);
  if (typeof now === "number") return now;
  if (now.soft === now.hard) return now.soft;
  const result = setLimit(limit, now.hard, now.hard);
  return result < 0 ? result : now.hard;
}

const UNLIMITED = 0xffff_ffff_ffff_ffffn;

function fromLimit(value: bigint): number {
  return value === UNLIMITED ? Infinity : Number(value);
}

function toLimit(value: number): bigint {
  return value === Infinity ? UNLIMITED : BigInt(value);
}

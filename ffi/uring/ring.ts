/**
 * One io_uring: set up, mapped, probed. What is done with it is the reactor's business.
 *
 * Entries and completions are plain 32-bit words in mapped memory. The kernel and we are on the same ring indices, which
 * are read and written with `Atomics` (acquire and release, as the kernel's documentation of the rings asks).
 * A ring belongs to the thread that made it.
 *
 * @module
 */

import { assert } from "../../lib/base/assert.ts";
import { Errno, errnoName } from "../libc/errno.ts";
import { closeDescriptor } from "../libc/file.ts";
import { errno, libc } from "../libc/library.ts";
import { mapAnonymous, mapDescriptor, type MappedMemory, pointerTo } from "../libc/memory.ts";
import {
  CQE_WORDS,
  EnterFlag,
  Feature,
  POLL_FIRST,
  RegisterOp,
  SetupFlag,
  SQE_WORDS,
  SyscallNumber,
} from "./constants.ts";

/** The two system calls that set a ring up. Tests give their own, to play a kernel that has less. */
export interface UringKernel {
  /** io_uring_setup: a descriptor, or a negative errno. `params` is `struct io_uring_params`, 120 bytes. */
  setup(entries: number, params: Uint32Array<ArrayBuffer>): number;
  /** io_uring_register: >= 0, or a negative errno. */
  register(ring: number, op: number, argument: BufferSource | null, count: number): number;
}

/** The kernel that runs. */
export const runningKernel: UringKernel = {
  setup(entries, params) {
    const result = libc().io_uring_setup(SyscallNumber.SETUP, entries, params);
    return result < 0 ? -errno() : result;
  },
  register(ring, op, argument, count) {
    const result = libc().io_uring_register(SyscallNumber.REGISTER, ring, op, argument, count);
    return result < 0 ? -errno() : result;
  },
};

/** Why io_uring cannot be used. */
export type UringRefusal = "missing" | "disabled" | "too-old" | "no-memory" | "failed";

/** Thrown when io_uring cannot be used; the message says what to do. */
export class UringUnavailable extends Error {
  override name = "UringUnavailable";
  readonly reason: UringRefusal;
  constructor(reason: UringRefusal, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Flag sets to try, best first. A kernel that does not know one answers EINVAL. */
const FLAG_SETS: readonly number[] = [
  SetupFlag.SUBMIT_ALL | SetupFlag.SINGLE_ISSUER | SetupFlag.DEFER_TASKRUN | SetupFlag.NO_SQARRAY,
  SetupFlag.SUBMIT_ALL | SetupFlag.SINGLE_ISSUER | SetupFlag.DEFER_TASKRUN,
  SetupFlag.SUBMIT_ALL | SetupFlag.COOP_TASKRUN,
  SetupFlag.SUBMIT_ALL,
  0,
];

const NEEDED_FEATURES = Feature.SINGLE_MMAP | Feature.NODROP | Feature.SUBMIT_STABLE | Feature.FAST_POLL |
  Feature.EXT_ARG;
const OFFSET_RINGS = 0;
const OFFSET_ENTRIES = 0x10000000;
const PROBE_OPS = 256;
const PROBE_SUPPORTED = 1;

/** An io_uring and the words of its rings. */
export class UringRing {
  readonly descriptor: number;
  /** Flags the ring was made with (see {@link SetupFlag}). */
  readonly setupFlags: number;
  /** Whether {@link enterFor} can gather. */
  readonly canGather: boolean;
  /** `ioprio` of a receive that had better wait for data first; 0 where the kernel does not know what that is. */
  readonly pollFirst: number;
  readonly sqEntries: number;
  readonly cqEntries: number;
  /** Submission entries, {@link SQE_WORDS} words each. */
  readonly sqes: Int32Array;
  /** The memory of both rings; the indices below are indices of words in it. */
  readonly words: Int32Array;
  readonly sqTailIndex: number;
  readonly sqFlagsIndex: number;
  readonly cqHeadIndex: number;
  readonly cqTailIndex: number;
  readonly cqesIndex: number;

  readonly #kernel: UringKernel;
  readonly #enter = libc().io_uring_enter;
  #enterDescriptor: number;
  #enterFlags = 0;
  readonly #argument: Uint32Array;
  readonly #argumentPointer: Deno.PointerValue;
  readonly #argumentSize: Deno.PointerValue;
  readonly #supported: Uint8Array;

  private constructor(kernel: UringKernel, descriptor: number, params: Uint32Array) {
    this.#kernel = kernel;
    this.descriptor = descriptor;
    this.sqEntries = params[0];
    this.cqEntries = params[1];
    this.setupFlags = params[2];
    this.canGather = (params[5] & Feature.MIN_TIMEOUT) !== 0;
    // 5.19 has it, as the first of these flags. Stable kernels before that refuse an `ioprio` that is not zero, with EINVAL.
    const isNewer = (this.setupFlags & (SetupFlag.COOP_TASKRUN | SetupFlag.DEFER_TASKRUN)) !== 0;
    this.pollFirst = isNewer ? POLL_FIRST : 0;
    const hasArray = (this.setupFlags & SetupFlag.NO_SQARRAY) === 0;
    const sqBytes = hasArray ? params[16] + this.sqEntries * 4 : 0;
    const cqBytes = params[25] + this.cqEntries * CQE_WORDS * 4;
    const rings = mapRing(descriptor, Math.max(sqBytes, cqBytes), OFFSET_RINGS);
    const entries = mapRing(descriptor, this.sqEntries * SQE_WORDS * 4, OFFSET_ENTRIES);
    this.words = new Int32Array(rings.buffer, 0, rings.buffer.byteLength >> 2);
    this.sqes = new Int32Array(entries.buffer);
    this.sqTailIndex = params[11] >> 2;
    this.sqFlagsIndex = params[14] >> 2;
    this.cqHeadIndex = params[20] >> 2;
    this.cqTailIndex = params[21] >> 2;
    this.cqesIndex = params[25] >> 2;
    // The indirection array of older kernels stays the identity for ever.
    if (hasArray) { for (let i = 0; i < this.sqEntries; i++) this.words[(params[16] >> 2) + i] = i; }

    // struct io_uring_getevents_arg {u64 sigmask; u32 sigmask_sz; u32 min_wait; u64 ts} and the timespec behind it.
    // LIFETIME: read by the kernel during each io_uring_enter that waits with a limit; lives for the process.
    const memory = mapAnonymous(4096);
    this.#argument = new Uint32Array(memory.buffer, 0, 16);
    this.#argument[4] = (memory.address + 32) >>> 0;
    this.#argument[5] = Math.floor((memory.address + 32) / 4294967296);
    this.#argumentPointer = pointerTo(memory.address);
    this.#argumentSize = pointerTo(24);

    this.#enterDescriptor = descriptor;
    this.#registerRingDescriptor();
    this.#supported = this.#probe();
  }

  /** Makes a ring with room for `entries` submissions and `cqEntries` completions. Throws {@link UringUnavailable}. */
  static open(entries: number, cqEntries: number, kernel: UringKernel = runningKernel): UringRing {
    assert(
      entries > 0 && cqEntries >= entries,
      "a ring has entries, and room for their completions",
      entries,
      cqEntries,
    );
    let failure = 0;
    for (const flags of FLAG_SETS) {
      const params = new Uint32Array(30);
      params[1] = cqEntries;
      params[2] = flags | SetupFlag.CQSIZE | SetupFlag.CLAMP;
      const descriptor = kernel.setup(entries, params);
      if (descriptor >= 0) {
        if ((params[5] & NEEDED_FEATURES) !== NEEDED_FEATURES) {
          closeDescriptor(descriptor);
          throw new UringUnavailable(
            "too-old",
            "This kernel's io_uring is too old: brmr needs Linux 5.11 or newer (6.1 or newer is faster). Update the kernel",
          );
        }
        try {
          return new UringRing(kernel, descriptor, params);
        } catch (error) {
          closeDescriptor(descriptor);
          throw error;
        }
      }
      failure = descriptor;
      if (failure !== -Errno.EINVAL) break;
    }
    throw refusal(failure);
  }

  /** io_uring_enter without a time limit: entries consumed, or a negative errno. */
  enter(toSubmit: number, minComplete: number, flags: number): number {
    const result = this.#enter(
      SyscallNumber.ENTER,
      this.#enterDescriptor,
      toSubmit,
      minComplete,
      flags | this.#enterFlags,
      null,
      null,
    );
    return result < 0 ? -errno() : result;
  }

  /**
   * io_uring_enter that waits at most `timeoutMs` (> 0, finite). -ETIME when the time is over and nothing was submitted.
   * `gatherUs` (0 unless `canGather`): it returns at once when there are `minComplete` completions, and after that many
   * microseconds as soon as there is one.
   */
  enterFor(toSubmit: number, minComplete: number, flags: number, timeoutMs: number, gatherUs = 0): number {
    const argument = this.#argument;
    // The kernel does not look at the time limit before the gathering is over.
    argument[3] = Math.min(gatherUs, timeoutMs * 1000);
    const seconds = Math.floor(timeoutMs / 1000);
    argument[8] = seconds;
    argument[9] = 0;
    argument[10] = (timeoutMs - seconds * 1000) * 1e6;
    argument[11] = 0;
    const result = this.#enter(
      SyscallNumber.ENTER,
      this.#enterDescriptor,
      toSubmit,
      minComplete,
      flags | this.#enterFlags | EnterFlag.EXT_ARG,
      this.#argumentPointer,
      this.#argumentSize,
    );
    return result < 0 ? -errno() : result;
  }

  /** Whether the kernel knows an opcode. */
  supports(opcode: number): boolean {
    return this.#supported[opcode] === 1;
  }

  /** Registers memory, in pieces of at most 1 GiB (the kernel's limit of one buffer). 0, or a negative errno. */
  registerMemory(address: number, lengthBytes: number, spareCount = 0): number {
    const pieces: number[] = [];
    for (let at = 0; at < lengthBytes; at += REGISTERED_PIECE_BYTES) {
      const pieceBytes = Math.min(REGISTERED_PIECE_BYTES, lengthBytes - at);
      pieces.push((address + at) >>> 0, Math.floor((address + at) / 4294967296), pieceBytes, 0);
    }
    // Empty places for memory to come. A kernel before 5.13 has none: then there are no spares.
    const spares = new Array(4 * spareCount).fill(0);
    const all = new Uint32Array([...pieces, ...spares]);
    return this.#kernel.register(this.descriptor, RegisterOp.BUFFERS, all, all.length >> 2);
  }

  /** Puts memory (at most 1 GiB; none with a length of 0) at place `index` of the registered buffers. >= 0, or a negative errno. */
  updateMemory(index: number, address: number, lengthBytes: number): number {
    const place = new Uint32Array([address >>> 0, Math.floor(address / 4294967296), lengthBytes, 0]);
    // struct io_uring_rsrc_update2 {u32 offset, resv; u64 data, tags; u32 nr, resv2}
    const update = new Uint32Array(8);
    update[0] = index;
    const at = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(place)));
    update[2] = Number(at & 0xffffffffn);
    update[3] = Number(at >> 32n);
    update[6] = 1;
    return this.#kernel.register(this.descriptor, RegisterOp.BUFFERS_UPDATE, update, 32);
  }

  /** Registers a table of `count` empty places for files. 0, or a negative errno. */
  registerEmptyFiles(count: number): number {
    return this.#kernel.register(this.descriptor, RegisterOp.FILES, new Int32Array(count).fill(-1), count);
  }

  /** Puts `descriptor` (-1: nothing) at `index` of the file table. >= 0, or a negative errno. */
  updateFile(index: number, descriptor: number): number {
    const place = new Int32Array([descriptor]);
    const update = new Uint32Array(4);
    update[0] = index;
    const address = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(place)));
    update[2] = Number(address & 0xffffffffn);
    update[3] = Number(address >> 32n);
    return this.#kernel.register(this.descriptor, RegisterOp.FILES_UPDATE, update, 1);
  }

  /** Lets go of registered memory, files and the registered ring. What was not registered is no error. */
  unregisterAll(): void {
    this.#kernel.register(this.descriptor, RegisterOp.UNREGISTER_BUFFERS, null, 0);
    this.#kernel.register(this.descriptor, RegisterOp.UNREGISTER_FILES, null, 0);
    if (this.#enterFlags !== 0) {
      this.#kernel.register(
        this.descriptor,
        RegisterOp.UNREGISTER_RING_FDS,
        new Uint32Array([this.#enterDescriptor, 0, 0, 0]),
        1,
      );
      this.#enterDescriptor = this.descriptor;
      this.#enterFlags = 0;
    }
  }

  /** Closes the ring. Its mapped memory stays (see `MappedMemory`), and with it the empty ring. */
  close(): void {
    closeDescriptor(this.descriptor);
  }

  // With the descriptor registered, io_uring_enter does not look it up in the process's table. Only a gain, so a kernel
  // that cannot (before 5.18) is left alone.
  #registerRingDescriptor(): void {
    const update = new Uint32Array(4);
    update[0] = 0xffffffff; // any free place
    update[2] = this.descriptor;
    if (this.#kernel.register(this.descriptor, RegisterOp.RING_FDS, update, 1) === 1) {
      this.#enterDescriptor = update[0];
      this.#enterFlags = EnterFlag.REGISTERED_RING;
    }
  }

  #probe(): Uint8Array {
    const supported = new Uint8Array(PROBE_OPS);
    // struct io_uring_probe: last_op u8, ops_len u8, 14 bytes, then {op u8, resv u8, flags u16, resv u32} each.
    const probe = new Uint8Array(16 + PROBE_OPS * 8);
    const result = this.#kernel.register(this.descriptor, RegisterOp.PROBE, probe, PROBE_OPS);
    if (result < 0) throw refusal(result);
    for (let i = 0; i < probe[1]; i++) supported[probe[16 + i * 8]] = probe[16 + i * 8 + 2] & PROBE_SUPPORTED;
    return supported;
  }
}

/** Bytes of one registered buffer; a slot of the buffer pool never lies across two, since this is a multiple of its slabs. */
export const REGISTERED_PIECE_BYTES = 1 << 30;

function mapRing(descriptor: number, lengthBytes: number, offset: number): MappedMemory {
  return mapDescriptor(descriptor, (lengthBytes + 4095) & ~4095, offset);
}

function refusal(result: number): UringUnavailable {
  switch (-result) {
    case Errno.ENOSYS:
      return new UringUnavailable(
        "missing",
        "This kernel has no io_uring (ENOSYS). brmr needs Linux 5.11 or newer with CONFIG_IO_URING; inside a container, " +
          "the runtime's seccomp profile may hide it: allow io_uring_setup, io_uring_enter and io_uring_register",
      );
    case Errno.EPERM:
    case Errno.EACCES:
      return new UringUnavailable(
        "disabled",
        "io_uring is disabled for this process (EPERM). Set `sysctl kernel.io_uring_disabled=0`, or 1 together with " +
          "membership in the group of kernel.io_uring_group; inside a container also allow the io_uring calls in its " +
          "seccomp profile",
      );
    case Errno.ENOMEM:
      return new UringUnavailable(
        "no-memory",
        "The kernel has no memory for an io_uring (ENOMEM). Raise the limit of locked memory (`ulimit -l`, or " +
          "LimitMEMLOCK= of the service) or use fewer entries",
      );
    case Errno.EMFILE:
    case Errno.ENFILE:
      return new UringUnavailable(
        "failed",
        `Cannot make an io_uring: ${errnoName(result)}. Raise the limit of open files (\`ulimit -n\`)`,
      );
    default:
      return new UringUnavailable("failed", `Cannot make an io_uring: ${errnoName(result)}`);
  }
}

/**
 * The ublk frontend: the pool as `/dev/ublkbN`.
 *
 * The device has one queue, served by the thread that made it, on the reactor's own ring. Each of the queue's tags has a slot of
 * the buffer pool, as large as the largest request: the kernel copies what is written into it before it hands
 * the request over, and copies what was read out of it when the request is committed. So a request costs one entry
 * of the ring and one completion, and memory is bounded by the device's depth.
 *
 * With its commit a tag is the kernel's, which may copy the next write into the slot at once. A slot that a leg on this machine
 * may still read at that time is exchanged for another, and the commit names that one; while there is no other it waits.
 *
 * The device outlives its process: what was under way is kept by the kernel, and asked again of the next attach of the same pool,
 * which finds the device by the mark it carries and takes it over (`UblkControl.find`).
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { Errno, errnoName } from "../../ffi/libc/errno.ts";
import { openFile, OpenFlag } from "../../ffi/libc/file.ts";
import { canOpen } from "../../ffi/libc/small_file.ts";
import { mapDescriptorToRead } from "../../ffi/libc/memory.ts";
import {
  ControlCommand,
  DESCRIPTOR_WORDS,
  DeviceOperation,
  DeviceOperationFlag,
  DeviceState,
  IoCommand,
  SECTOR_SHIFT,
} from "../../ffi/ublk/abi.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { UringReactor } from "../io/uring_reactor.ts";
import { DeviceUnavailable, LeftDeviceUnavailable } from "./device_unavailable.ts";
import { type Frontend, type FrontendHost, MAX_REQUEST_BYTES, RequestFlag, RequestKind } from "./frontend.ts";
import { identityOf, type UblkControl, type UblkInfo } from "./ublk_control.ts";

/** What {@link UblkDevice} needs. */
export interface UblkDeviceOptions {
  /** Owned by the device from now on. */
  readonly control: UblkControl;
  readonly reactor: Pick<UringReactor, "register" | "command" | "nowMs">;
  readonly pool: BufferPool;
  readonly host: FrontendHost;
  readonly poolUuid: string;
  /** Why a device that the pool's former process has left may not be taken over, in the middle of a sentence; "": it may. */
  readonly leftProblem?: string;
  /** Whether a process is there; by default on this machine. */
  readonly isAlive?: (pid: number) => boolean;
  /** Bytes of the buffer pool that the device may have. */
  readonly memoryBytes: number;
  /** The device's number; -1 takes one that is free. */
  readonly index: number;
  /** Opens the device's queue; by default that of the running kernel. */
  readonly openQueue?: (index: number, lengthBytes: number) => UblkQueue | number;
}

/** A device's one queue: its descriptor, and what is asked, by tag, in memory that the kernel writes. */
export interface UblkQueue {
  readonly file: number;
  readonly descriptors: Int32Array<ArrayBuffer>;
}

const MAX_IO_BYTES = 128 << 10;
const MAX_DEPTH = 512;
/** How often a device is asked whether the kernel has noticed the death of its process. */
const RECOVERY_RETRY_MS = 50;
/**
 * How long that may take before it counts as refused. Where the dead process had every request of the queue, kernels up to 6.14 notice by
 * the time limit of a request, 30 s, which they look at now and then.
 */
const RECOVERY_LIMIT_MS = 90_000;
const TWO_32 = 4294967296;
const SECTOR_BYTES = 1 << SECTOR_SHIFT;

const Phase = { RECOVERING: 0, STARTING: 1, LIVE: 2, STOPPING: 3, OVER: 4 } as const;

/** See the module's description. */
export class UblkDevice implements Frontend {
  readonly uri: string;
  readonly #reactor: UblkDeviceOptions["reactor"];
  readonly #openQueue: (index: number, lengthBytes: number) => UblkQueue | number;
  readonly #host: FrontendHost;
  readonly #pool: BufferPool;
  readonly #control: UblkControl;
  readonly #index: number;
  readonly #depth: number;
  readonly #slotBytes: number;
  readonly isTakenOver: boolean;
  readonly #owner: number;
  /** By tag. */
  readonly #slots: Int32Array;
  readonly #results: Int32Array;
  /** Requests that wait until the host takes more, in the order in which they came. */
  readonly #waiting: Int32Array;
  #waitingHead = 0;
  #waitingCount = 0;
  /** Tags whose request is done, while a leg may still read their slot and there is no other. */
  readonly #kept: Int32Array;
  #keptCount = 0;
  #file = -1;
  #descriptors = new Int32Array(0);
  /** Tags whose command is with the kernel or whose request is with the host. */
  #liveTags = 0;
  #phase: number;
  /** It was to be stopped while the kernel was starting it. */
  #isUnwanted = false;
  /** The pool is let go of. */
  #failsAll = false;
  #failure: string | null = null;
  #retryMs = 0;
  #limitMs = 0;

  /** Makes the pool's device, or takes over the one its former process has left. Throws {@link DeviceUnavailable}. */
  static open(options: UblkDeviceOptions): UblkDevice {
    const { control } = options;
    try {
      const identity = identityOf(options.poolUuid);
      const found = control.find(identity);
      if (found !== null && !wasRemains(found, options)) return new UblkDevice(options, checked(found, options), true);
      const depth = Math.min(MAX_DEPTH, Math.floor(options.memoryBytes / MAX_IO_BYTES));
      if (depth < 1) throw new DeviceUnavailable(`a ublk device needs ${MAX_IO_BYTES} bytes of memory; raise --memory`);
      const info = control.add(options.index, identity, depth, MAX_IO_BYTES);
      try {
        control.setParameters(info.index, options.host.geometry, info.maxIoBytes);
        return new UblkDevice(options, info, false);
      } catch (error) {
        control.run(ControlCommand.DEL_DEV_ASYNC, info.index);
        throw error;
      }
    } catch (error) {
      control.close();
      throw error;
    }
  }

  private constructor(options: UblkDeviceOptions, info: UblkInfo, isTakenOver: boolean) {
    const { reactor, pool, host, control } = options;
    this.#openQueue = options.openQueue ?? openKernelQueue;
    this.#reactor = reactor;
    this.#pool = pool;
    this.#host = host;
    this.#control = control;
    this.#index = info.index;
    this.#depth = info.queueDepth;
    this.#slotBytes = info.maxIoBytes;
    this.isTakenOver = isTakenOver;
    this.uri = `/dev/ublkb${info.index}`;
    this.#slots = new Int32Array(info.queueDepth).fill(-1);
    this.#results = new Int32Array(info.queueDepth);
    this.#waiting = new Int32Array(info.queueDepth);
    this.#kept = new Int32Array(info.queueDepth);
    for (let tag = 0; tag < info.queueDepth; tag++) {
      const slot = pool.allocate(info.maxIoBytes);
      if (slot < 0) {
        this.#freeSlots();
        const Unavailable = isTakenOver ? LeftDeviceUnavailable : DeviceUnavailable;
        throw new Unavailable(`there is no memory for ${info.queueDepth} requests; raise --memory`);
      }
      this.#slots[tag] = slot;
    }
    this.#owner = reactor.register({ onCompletion: (token, result) => this.#onCompletion(token, result) });
    this.#phase = Phase.RECOVERING;
    this.#limitMs = reactor.nowMs + RECOVERY_LIMIT_MS;
    if (!isTakenOver) this.#fetchAll(ControlCommand.START_DEV);
    else this.#tryRecovery();
  }

  /** Whether the device is there for applications. */
  get isReady(): boolean {
    return this.#phase === Phase.LIVE;
  }

  /** Why it will never be, or null. */
  get failure(): string | null {
    return this.#failure;
  }

  /** When `flushSends` wants to be called at the latest. */
  get deadlineMs(): number {
    return this.#phase === Phase.RECOVERING ? this.#retryMs : Infinity;
  }

  get connectionCount(): number {
    return this.#phase === Phase.OVER ? 0 : 1;
  }

  get isEnding(): boolean {
    return this.#phase === Phase.STOPPING || (this.#phase === Phase.STARTING && this.#isUnwanted);
  }

  complete(tag: number, status: number): void {
    if (status < 0) this.#results[tag] = status;
    if (this.#ensureUnreadSlot(tag)) this.#commit(tag, this.#results[tag]);
    else this.#kept[this.#keptCount++] = tag;
  }

  onReady(): void {
    while (this.#waitingCount > 0 && this.#host.canSubmit) {
      const tag = this.#waiting[this.#waitingHead];
      this.#waitingHead = (this.#waitingHead + 1) % this.#depth;
      this.#waitingCount--;
      this.#submit(tag);
    }
  }

  /** While the kernel starts or stops a device it waits for every request, without which neither would end. */
  failAll(): void {
    this.#failsAll = true;
    while (this.#waitingCount > 0) {
      const tag = this.#waiting[this.#waitingHead];
      this.#waitingHead = (this.#waitingHead + 1) % this.#depth;
      this.#waitingCount--;
      this.#commit(tag, -Errno.EIO);
    }
  }

  /** Moves the device on: answers that were kept back, commands to the driver that are done, a take-over to be tried again. */
  flushSends(): void {
    if (this.#keptCount > 0) this.#commitKept();
    if (this.#phase === Phase.LIVE || this.#phase === Phase.OVER) return;
    if (this.#phase === Phase.RECOVERING) {
      if (this.#reactor.nowMs >= this.#retryMs) this.#tryRecovery();
      return;
    }
    const result = this.#control.poll();
    if (result === null) return;
    if (this.#phase === Phase.STARTING && result >= 0) {
      this.#phase = Phase.LIVE;
      if (this.#isUnwanted) this.stop();
    } else if (this.#phase === Phase.STARTING) {
      this.#failure = `${this.uri} does not start: ${errnoName(result)}`;
      // Applications have one open that was taken over: it stays for the next attach.
      this.#phase = this.isTakenOver ? Phase.OVER : Phase.STOPPING;
      if (!this.isTakenOver) this.#control.begin(ControlCommand.STOP_DEV, this.#index);
    } else {
      // The driver's own thread removes it when the last descriptor of it is closed, at the latest with this process.
      this.#control.run(ControlCommand.DEL_DEV_ASYNC, this.#index);
      this.#phase = Phase.OVER;
    }
  }

  /** Removes the device; over when `connectionCount` is 0. Requests under way are answered first. */
  stop(): void {
    if (this.#phase === Phase.RECOVERING) {
      this.#phase = Phase.OVER; // it stays for the next attach
    } else if (this.#phase === Phase.LIVE) {
      this.#phase = Phase.STOPPING;
      this.#control.begin(ControlCommand.STOP_DEV, this.#index);
    } else if (this.#phase === Phase.STARTING) this.#isUnwanted = true;
  }

  /** The kernel notices a death a moment after it, and refuses a take-over until then. */
  #tryRecovery(): void {
    const result = this.#control.run(ControlCommand.START_USER_RECOVERY, this.#index);
    if (result >= 0) return this.#fetchAll(ControlCommand.END_USER_RECOVERY);
    const isOver = this.#reactor.nowMs >= this.#limitMs;
    if (result !== -Errno.EBUSY || isOver) {
      this.#failure = `${this.uri} belongs to this pool and cannot be taken over: ${errnoName(result)}`;
      this.#phase = Phase.OVER;
      return;
    }
    this.#retryMs = this.#reactor.nowMs + RECOVERY_RETRY_MS;
  }

  /** Gives every tag to the kernel, and then begins the command that waits for that. */
  #fetchAll(operation: number): void {
    const queue = this.#openQueue(this.#index, (this.#depth * DESCRIPTOR_WORDS * 4 + 4095) & ~4095);
    if (typeof queue === "number") {
      this.#failure = `/dev/ublkc${this.#index} cannot be opened: ${errnoName(queue)}`;
      if (!this.isTakenOver) this.#control.run(ControlCommand.DEL_DEV_ASYNC, this.#index);
      this.#phase = Phase.OVER;
      return;
    }
    this.#file = queue.file;
    this.#descriptors = queue.descriptors;
    for (let tag = 0; tag < this.#depth; tag++) {
      this.#liveTags++;
      this.#command(IoCommand.FETCH, tag, 0);
    }
    this.#phase = Phase.STARTING;
    this.#control.begin(operation, this.#index);
  }

  #command(operation: number, tag: number, result: number): void {
    const address = this.#pool.address(this.#slots[tag]);
    this.#reactor.command(this.#owner, tag, this.#file, operation, tag << 16, result, address);
  }

  #commit(tag: number, result: number): void {
    this.#command(IoCommand.COMMIT_AND_FETCH, tag, result);
  }

  /** Whether nobody but us reads the tag's slot, which is exchanged for that if need be. False when there is no other. */
  #ensureUnreadSlot(tag: number): boolean {
    const pool = this.#pool;
    const held = this.#slots[tag];
    if (!pool.isHeld(held)) return true;
    const slot = pool.allocate(this.#slotBytes);
    if (slot < 0) return false;
    const readBytes = this.#results[tag];
    // What was read may be on its way to a leg that could not read it. The kernel takes it from the slot that the commit names.
    const isRead = (this.#descriptors[tag * DESCRIPTOR_WORDS] & 0xff) === DeviceOperation.READ;
    if (isRead && readBytes > 0) pool.bytes(slot).set(pool.bytes(held).subarray(0, readBytes));
    pool.free(held);
    this.#slots[tag] = slot;
    return true;
  }

  /** Every turn while there are any: whatever was released or freed came with one. */
  #commitKept(): void {
    const count = this.#keptCount;
    this.#keptCount = 0;
    for (let i = 0; i < count; i++) {
      const tag = this.#kept[i];
      if (this.#ensureUnreadSlot(tag)) this.#commit(tag, this.#results[tag]);
      else this.#kept[this.#keptCount++] = tag;
    }
  }

  #onCompletion(tag: number, result: number): void {
    if (result < 0) {
      // The device has ended; what a tag had under way was answered before.
      this.#liveTags--;
      if (this.#liveTags === 0 && this.#phase === Phase.LIVE) {
        this.#failure = `${this.uri} was removed by somebody else`;
        this.#phase = Phase.OVER;
      }
      return;
    }
    assert(result === 0, "a fetched request is there", result);
    if (this.#failsAll) return this.#commit(tag, -Errno.EIO);
    if (this.#waitingCount === 0 && this.#host.canSubmit) {
      this.#submit(tag);
      return;
    }
    this.#waiting[(this.#waitingHead + this.#waitingCount) % this.#depth] = tag;
    this.#waitingCount++;
  }

  #submit(tag: number): void {
    const words = this.#descriptors;
    const at = tag * DESCRIPTOR_WORDS;
    const bits = words[at];
    const sectors = words[at + 1] >>> 0;
    const lengthBytes = sectors * SECTOR_BYTES;
    const offset = ((words[at + 2] >>> 0) + (words[at + 3] >>> 0) * TWO_32) * SECTOR_BYTES;
    const fua = (bits & DeviceOperationFlag.FUA) !== 0 ? RequestFlag.FUA : 0;
    this.#results[tag] = 0;
    switch (bits & 0xff) {
      case DeviceOperation.READ:
        this.#results[tag] = lengthBytes;
        return this.#host.submit(RequestKind.READ, 0, offset, lengthBytes, this.#slots[tag], tag);
      case DeviceOperation.WRITE:
        this.#results[tag] = lengthBytes;
        return this.#host.submit(RequestKind.WRITE, fua, offset, lengthBytes, this.#slots[tag], tag);
      case DeviceOperation.FLUSH:
        return this.#host.submit(RequestKind.FLUSH, 0, 0, 0, -1, tag);
      case DeviceOperation.DISCARD:
        return this.#host.submit(RequestKind.DISCARD, fua, offset, lengthBytes, -1, tag);
      case DeviceOperation.WRITE_ZEROES: {
        const hole = (bits & DeviceOperationFlag.NO_UNMAP) !== 0 ? RequestFlag.NO_HOLE : 0;
        return this.#host.submit(RequestKind.WRITE_ZEROES, fua | hole, offset, lengthBytes, -1, tag);
      }
      default:
        this.#commit(tag, -Errno.EOPNOTSUPP);
    }
  }

  #freeSlots(): void {
    for (const slot of this.#slots) if (slot >= 0) this.#pool.free(slot);
  }
}

function openKernelQueue(index: number, lengthBytes: number): UblkQueue | number {
  // devtmpfs makes the node before ADD_DEV returns.
  const file = openFile(`/dev/ublkc${index}`, OpenFlag.READ_WRITE);
  if (file < 0) return file;
  // LIFETIME: the kernel writes what is asked there as long as the device lives; mapped for the process.
  return { file, descriptors: new Int32Array(mapDescriptorToRead(file, lengthBytes, 0).buffer) };
}

/**
 * Whether a device was but the remains of one, which are gone now: a process died that was making it or taking it away, so that it never
 * was there for applications, or is no more. Nothing waits on it, and no process can ever serve it.
 */
function wasRemains(
  { index, state, serverPid }: UblkInfo,
  { control, isAlive = isProcessAlive }: UblkDeviceOptions,
): boolean {
  if (state !== DeviceState.DEAD) return false;
  if (serverPid > 0 && isAlive(serverPid)) {
    throw new LeftDeviceUnavailable(`/dev/ublkb${index} is being made or removed by process ${serverPid}; try again`);
  }
  const result = control.run(ControlCommand.DEL_DEV_ASYNC, index);
  if (result >= 0) return true;
  throw new LeftDeviceUnavailable(
    `/dev/ublkb${index} was made for this pool and is dead, and cannot be removed: ${errnoName(result)}`,
  );
}

function isProcessAlive(pid: number): boolean {
  return canOpen(`/proc/${pid}/stat`);
}

/** A device that the pool's former process has left, if it is one that can be taken over. */
function checked(info: UblkInfo, options: UblkDeviceOptions): UblkInfo {
  const path = `/dev/ublkb${info.index}`;
  const { sizeBytes, readOnly } = options.host.geometry;
  const { memoryBytes, index, control, leftProblem } = options;
  const has = control.sizeBytes(info.index);
  if (index >= 0 && index !== info.index) {
    throw new LeftDeviceUnavailable(
      `this pool has left ${path}, which waits for it; take that, or remove it (ublk del -n ${info.index})`,
    );
  }
  if (leftProblem) throw new LeftDeviceUnavailable(`${path} was left by this pool, and ${leftProblem}`);
  if (has !== sizeBytes) {
    throw new LeftDeviceUnavailable(
      `${path} was left by this pool with ${has} bytes, and it has ${sizeBytes} now; remove it`,
    );
  }
  if (control.isReadOnly(info.index) !== readOnly) {
    throw new LeftDeviceUnavailable(
      `${path} was left by this pool ${readOnly ? "writable" : "read-only"}; attach it so again, or remove it ` +
        `(ublk del -n ${info.index})`,
    );
  }
  if (info.queueCount !== 1 || info.maxIoBytes > MAX_REQUEST_BYTES) {
    throw new LeftDeviceUnavailable(`${path} was left by another version of brmr; remove it`);
  }
  if (info.queueDepth * info.maxIoBytes > memoryBytes) {
    throw new LeftDeviceUnavailable(`${path} was left by an attach with more memory; raise --memory to what it had`);
  }
  return info;
}

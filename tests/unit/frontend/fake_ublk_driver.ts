/**
 * The kernel's ublk driver as a script: control commands on one side, a device's queue on the other, an application that
 * asks. Structures are read and written by hand, so that a wrong layout shows.
 *
 * @module
 */

import assert from "node:assert/strict";
import { pointerTo } from "../../../ffi/libc/memory.ts";
import type { CompletionHandler } from "../../../lib/io/reactor.ts";
import type { CommandPort } from "../../../lib/frontend/ublk_control.ts";
import type { UblkQueue } from "../../../lib/frontend/ublk_device.ts";
import type { MemoryPool } from "./memory_pool.ts";

/** Numbers of control commands, low byte of their ioctl encoding. */
export const Control = {
  INFO: 0x02,
  ADD: 0x04,
  DELETE: 0x05,
  START: 0x06,
  STOP: 0x07,
  SET_PARAMETERS: 0x08,
  GET_PARAMETERS: 0x09,
  START_RECOVERY: 0x10,
  END_RECOVERY: 0x11,
  DELETE_LATER: 0x14,
} as const;

/** What an application may ask for, as the low byte of `op_flags`; flags above it. */
export const Ask = {
  READ: 0,
  WRITE: 1,
  FLUSH: 2,
  DISCARD: 3,
  WRITE_ZEROES: 5,
  FUA: 1 << 13,
  NO_UNMAP: 1 << 15,
} as const;

const FETCH = 0x20, COMMIT = 0x21;
const DEAD = 0, LIVE = 1, QUIESCED = 2;

interface FakeDevice {
  info: Uint8Array;
  parameters: Uint8Array;
}

/** See the module's description. */
export class FakeUblkDriver implements CommandPort {
  readonly devices = new Map<number, FakeDevice>();
  readonly commands: number[] = [];
  isClosed = false;
  /** Results of commands by number, once each, in place of what the driver would say. */
  readonly refusals = new Map<number, number[]>();
  /** Tags whose command waits at the driver: address of its buffer. */
  readonly fetched = new Map<number, number>();
  /** Tags that the application waits for: what it is told in the end. */
  readonly #asked = new Map<number, { read: boolean; done: (result: number, data: Uint8Array) => void }>();
  readonly descriptors = new Int32Array(1024 * 6);
  readonly #pool: MemoryPool;
  readonly #clock = { nowMs: 1000 };
  #handler: CompletionHandler | null = null;
  #begun: number | null = null;

  constructor(pool: MemoryPool) {
    this.#pool = pool;
  }

  /** The part of the reactor that a device uses. */
  readonly reactor = {
    register: (handler: CompletionHandler): number => {
      this.#handler = handler;
      return 5;
    },
    command: (owner: number, token: number, file: number, operation: number, a: number, b: number, address: number) => {
      assert.deepEqual([owner, file, a], [5, 77, token << 16], "owner, queue's file, queue 0 and the tag");
      if ((operation & 0xff) === COMMIT) this.#answer(token, b, address);
      else assert.equal(operation & 0xff, FETCH);
      assert.ok(!this.fetched.has(token), "a tag is fetched once");
      this.fetched.set(token, address);
    },
    /** Settable, unlike the real one's. */
    nowMs: this.#clock.nowMs,
  };

  readonly openQueue = (index: number, lengthBytes: number): UblkQueue | number => {
    const depth = new DataView(this.devices.get(index)!.info.buffer).getUint16(2, true);
    assert.ok(lengthBytes >= depth * 24 && lengthBytes % 4096 === 0, "the queue's descriptors, in pages");
    return { file: 77, descriptors: this.descriptors };
  };

  /** A device that an earlier process has left. */
  leave(
    index: number,
    identity: string,
    change: Partial<Record<"state" | "depth" | "maxIo" | "queues" | "pid", number>> = {},
  ) {
    const info = new Uint8Array(64);
    const view = new DataView(info.buffer);
    const { state = QUIESCED, depth = 4, maxIo = 131072, queues = 1, pid = -1 } = change;
    view.setUint16(0, queues, true);
    view.setUint16(2, depth, true);
    view.setUint16(4, state, true);
    view.setUint32(8, maxIo, true);
    view.setUint32(12, index, true);
    view.setInt32(16, pid, true);
    view.setUint32(32, parseInt(identity.slice(8), 16), true);
    view.setUint32(36, parseInt(identity.slice(0, 8), 16), true);
    this.devices.set(index, { info, parameters: new Uint8Array(64) });
  }

  // ---- control ----

  run(_file: number, operation: number, argument: Int32Array): number {
    const number = operation & 0xff;
    this.commands.push(number);
    const refusal = this.refusals.get(number)?.shift();
    if (refusal !== undefined && refusal < 0) return refusal;
    const view = new DataView(argument.buffer);
    const index = view.getUint32(0, true);
    const buffer = this.#bufferOf(view);
    const device = this.devices.get(index);
    if (number === Control.ADD) return this.#add(index, buffer!);
    if (device === undefined) return -19;
    switch (number) {
      case Control.INFO:
        buffer!.set(device.info);
        return 0;
      case Control.SET_PARAMETERS:
        device.parameters = buffer!.slice();
        return 0;
      case Control.GET_PARAMETERS:
        buffer!.set(device.parameters);
        return 0;
      case Control.START_RECOVERY:
        return this.#stateOf(device) === QUIESCED ? 0 : -16;
      case Control.DELETE:
      case Control.DELETE_LATER:
        this.devices.delete(index);
        return 0;
      default:
        throw new Error(`The driver is not asked for ${number} at once`);
    }
  }

  begin(_file: number, operation: number, argument: Int32Array): void {
    const number = operation & 0xff;
    this.commands.push(number);
    const view = new DataView(argument.buffer);
    const device = this.devices.get(view.getUint32(0, true))!;
    const refusal = this.refusals.get(number)?.shift();
    if (number === Control.STOP) this.abort();
    else assert.equal(view.getUint32(16, true), Deno.pid, "who serves");
    if (refusal === undefined && number !== Control.STOP) new DataView(device.info.buffer).setUint16(4, LIVE, true);
    this.#begun = refusal ?? 0;
  }

  poll(): number | null {
    const result = this.#begun;
    this.#begun = null;
    return result;
  }

  close(): void {
    this.isClosed = true;
  }

  #add(index: number, info: Uint8Array): number {
    const view = new DataView(info.buffer, info.byteOffset, 64);
    assert.equal(view.getUint32(12, true), index, "the number is said twice");
    const made = index === 0xffffffff ? this.devices.size : index;
    if (this.devices.has(made)) return -17;
    view.setUint32(12, made, true);
    view.setUint16(4, DEAD, true);
    this.devices.set(made, { info: info.slice(0, 64), parameters: new Uint8Array(64) });
    return 0;
  }

  #bufferOf(view: DataView): Uint8Array | null {
    const lengthBytes = view.getUint16(6, true);
    if (lengthBytes === 0) return null;
    const address = view.getUint32(8, true) + view.getUint32(12, true) * 4294967296;
    return new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointerTo(address)!, lengthBytes));
  }

  #stateOf(device: FakeDevice): number {
    return new DataView(device.info.buffer).getUint16(4, true);
  }

  // ---- the application ----

  /** Asks for something, and resolves with the result and what was read. Every tag that is free may be taken. */
  ask(operation: number, offset: number, lengthBytes: number, data?: Uint8Array): Promise<[number, Uint8Array]> {
    const [tag, address] = [...this.fetched].find(([tag]) => !this.#asked.has(tag))!;
    this.fetched.delete(tag);
    if (data !== undefined) this.#slotAt(address).set(data);
    const sector = offset / 512;
    this.descriptors.set([operation, lengthBytes / 512, sector % 4294967296, Math.floor(sector / 4294967296)], tag * 6);
    const { promise, resolve } = Promise.withResolvers<[number, Uint8Array]>();
    const read = (operation & 0xff) === Ask.READ;
    this.#asked.set(tag, { read, done: (result, bytes) => resolve([result, bytes]) });
    this.#handler!.onCompletion(tag, 0, 0);
    return promise;
  }

  /** Takes every waiting command back, as the end of the device does. */
  abort(): void {
    for (const tag of [...this.fetched.keys()]) {
      this.fetched.delete(tag);
      this.#handler!.onCompletion(tag, -19, 0);
    }
  }

  /** What was read is taken from where the commit says, as the kernel does. */
  #answer(tag: number, result: number, address: number): void {
    const asked = this.#asked.get(tag);
    assert.ok(asked !== undefined, "a request is answered once");
    this.#asked.delete(tag);
    const data = asked.read && result > 0 ? this.#slotAt(address).slice(0, result) : new Uint8Array(0);
    asked.done(result, data);
  }

  #slotAt(address: number): Uint8Array {
    return this.#pool.bytes(address / (1 << 20) - 1);
  }
}

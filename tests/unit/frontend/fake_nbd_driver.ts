/**
 * The kernel's nbd driver as a script over netlink messages: devices, what they were told, and how many of their sockets are
 * dead. Messages are taken apart and put together by hand, so that a wrong layout shows.
 *
 * @module
 */

import type { KernelFiles } from "../../../lib/frontend/nbd_control.ts";
import type { NetlinkPort } from "../../../ffi/netlink/generic_netlink.ts";

const FAMILY = 27;
const CONNECT = 1, DISCONNECT = 2, RECONFIGURE = 3, STATUS = 5;

interface FakeDevice {
  index: number;
  /** Attributes of CONNECT by type, as numbers; the identity as text. */
  told: Map<number, number>;
  identity: string;
  socketCount: number;
  deadCount: number;
  isReadOnly: boolean;
  /** It was disconnected, and somebody still has it open. */
  isGoing?: boolean;
}

/** See the module's description. */
export class FakeNbdDriver implements NetlinkPort, KernelFiles {
  readonly devices = new Map<number, FakeDevice>();
  /** Commands in the order in which they came. */
  readonly commands: number[] = [];
  readonly written = new Map<string, string>();
  isLoaded = true;
  /** Devices that are there from the start, unused. */
  premadeCount = 16;
  /** Devices that another takes just before they are asked for. */
  readonly snatched = new Set<number>();
  isClosed = false;
  /** Errno of the next request, once. */
  refusal = 0;
  #answers: Uint8Array[] = [];

  /** A device that an earlier process has left, all its sockets dead unless said otherwise. */
  leave(index: number, identity: string, sizeBytes: number, rest: Partial<FakeDevice> = {}): void {
    const told = new Map([[2, sizeBytes]]);
    const device = { index, told, identity, socketCount: 1, deadCount: 1, isReadOnly: false, ...rest };
    this.devices.set(index, device);
  }

  // ---- netlink ----

  send(message: Uint8Array): number {
    const view = new DataView(message.buffer, message.byteOffset, message.length);
    const sequence = view.getUint32(8, true);
    const isController = view.getUint16(4, true) === 16;
    const command = view.getUint8(16);
    const attributes = readAttributes(message.subarray(20));
    if (view.getUint32(0, true) !== message.length || view.getUint16(6, true) !== 5) {
      this.#answer(sequence, -22, []);
    } else if (isController) {
      const name = new TextDecoder().decode(attributes[0][1]);
      const isKnown = this.isLoaded && attributes[0][0] === 2 && name === "nbd\0";
      this.#answer(sequence, isKnown ? 0 : -2, [[1, bytesOf(FAMILY, 2)]]);
    } else {
      this.commands.push(command);
      const refusal = this.refusal;
      this.refusal = 0;
      if (refusal !== 0) this.#answer(sequence, refusal, []);
      else this.#carryOut(command, attributes, sequence);
    }
    return message.length;
  }

  receive(): Uint8Array | number {
    return this.#answers.shift() ?? -11;
  }

  close(): void {
    this.isClosed = true;
  }

  #carryOut(command: number, attributes: RawAttribute[], sequence: number): void {
    const numbers = new Map(
      attributes.filter(([, value]) => value.length <= 8).map(([type, v]) => [type, numberIn(v)]),
    );
    const identity = new TextDecoder().decode(attributes.find(([type]) => type === 10)?.[1]).replace(/\0$/, "");
    const sockets = attributes.find(([type]) => type === 7);
    const socketCount = sockets === undefined ? 0 : readAttributes(sockets[1]).length;
    const index = numbers.get(1) ?? -1;
    const device = this.devices.get(index);
    switch (command) {
      case CONNECT: {
        if (device !== undefined || this.snatched.has(index)) return this.#answer(sequence, -16, []);
        const made = index >= 0 ? index : Math.max(this.premadeCount, this.devices.size);
        const isReadOnly = ((numbers.get(5) ?? 0) & 2) !== 0;
        this.devices.set(made, { index: made, told: numbers, identity, socketCount, deadCount: 0, isReadOnly });
        return this.#answer(sequence, 0, [[1, bytesOf(made, 4)]]);
      }
      case DISCONNECT:
        this.devices.delete(index);
        return this.#answer(sequence, 0, []);
      case RECONFIGURE:
        if (device === undefined || device.isGoing || device.identity !== identity) {
          return this.#answer(sequence, -22, []);
        }
        device.deadCount -= Math.min(device.deadCount, socketCount);
        return this.#answer(sequence, 0, []);
      case STATUS: {
        const numbers = new Set([...Array(this.premadeCount).keys(), ...this.devices.keys()]);
        const items = [...numbers].map((number): RawAttribute => [
          1,
          writeAttributes([[1, bytesOf(number, 4)], [2, bytesOf(this.devices.has(number) ? 1 : 0, 1)]]),
        ]);
        return this.#answer(sequence, 0, [[9, writeAttributes(items)]]);
      }
      default:
        return this.#answer(sequence, -95, []);
    }
  }

  /** What the kernel answers: attributes in a message of their own when it succeeded, then the acknowledgement. */
  #answer(sequence: number, result: number, attributes: RawAttribute[]): void {
    if (result === 0 && attributes.length > 0) {
      const body = writeAttributes(attributes);
      this.#answers.push(message(FAMILY, sequence, new Uint8Array([0, 1, 0, 0, ...body])));
    }
    this.#answers.push(message(2, sequence, new Uint8Array([...bytesOf(result >>> 0, 4), ...new Uint8Array(16)])));
  }

  // ---- files ----

  read(path: string): string | number {
    const match = /^\/sys\/block\/nbd(\d+)\/(backend|size|ro)$/.exec(path);
    const device = this.devices.get(Number(match?.[1]));
    if (match === null || device === undefined) return -2;
    if (match[2] === "backend") return device.identity;
    return match[2] === "ro" ? (device.isReadOnly ? "1" : "0") : `${(device.told.get(2) ?? 0) / 512}`;
  }

  write(path: string, text: string): number {
    this.written.set(path, text);
    return 0;
  }

  exists(path: string): boolean {
    const match = /^\/sys\/block\/nbd(\d+)\/mq\/(\d+)$/.exec(path);
    return match !== null && Number(match[2]) < (this.devices.get(Number(match[1]))?.socketCount ?? 0);
  }
}

type RawAttribute = [type: number, value: Uint8Array];

function message(type: number, sequence: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16 + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, type, true);
  view.setUint32(8, sequence, true);
  bytes.set(body, 16);
  return bytes;
}

function readAttributes(bytes: Uint8Array): RawAttribute[] {
  const found: RawAttribute[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes[at] + bytes[at + 1] * 256;
    found.push([(bytes[at + 2] + bytes[at + 3] * 256) & 0x7fff, bytes.subarray(at + 4, at + length)]);
    at += (length + 3) & ~3;
  }
  return found;
}

function writeAttributes(attributes: RawAttribute[]): Uint8Array {
  const bytes: number[] = [];
  for (const [type, value] of attributes) {
    bytes.push((4 + value.length) & 255, (4 + value.length) >> 8, type & 255, type >> 8, ...value);
    while (bytes.length % 4 !== 0) bytes.push(0);
  }
  return new Uint8Array(bytes);
}

function bytesOf(value: number, lengthBytes: number): Uint8Array {
  return Uint8Array.from({ length: lengthBytes }, (_, i) => (value / 256 ** i) & 255);
}

function numberIn(bytes: Uint8Array): number {
  return bytes.reduceRight((number, byte) => number * 256 + byte, 0);
}

/**
 * A generic netlink socket: one request at a time, answered before the call returns.
 *
 * For setting things up. The kernel carries a request out on the calling thread, so a request must not wait for what that
 * thread has to do.
 *
 * @module
 */

import { Errno } from "../libc/errno.ts";
import { closeDescriptor } from "../libc/file.ts";
import { errno, libc } from "../libc/library.ts";
import { mapAnonymous, type MappedMemory, pointerTo } from "../libc/memory.ts";
import {
  Controller,
  GENERIC_HEADER,
  MESSAGE_ERROR,
  MESSAGE_HEADER,
  MessageFlag,
  NETLINK_FAMILY,
  NETLINK_GENERIC,
} from "./abi.ts";
import { type Attribute, decodeAttributes, encodeAttributes, numberOf, text } from "./attributes.ts";

/** The system calls under it; tests put a script in their place. */
export interface NetlinkPort {
  /** Sends one datagram: bytes sent, or a negative errno. */
  send(message: Uint8Array): number;
  /** Waits for one datagram: its bytes, or a negative errno. */
  receive(): Uint8Array | number;
  close(): void;
}

const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
/** Longer than any answer to what is asked here: the list of all nbd devices has some twenty bytes for each. */
const RECEIVE_BYTES = 64 << 10;
const HEADERS_BYTES = MESSAGE_HEADER.sizeBytes + GENERIC_HEADER.sizeBytes;

/** A netlink socket of the running kernel, or a negative errno. */
export function openNetlinkPort(): NetlinkPort | number {
  const socket = libc().socket(NETLINK_FAMILY, SOCK_RAW_CLOEXEC, NETLINK_GENERIC);
  if (socket < 0) return -errno();
  return new KernelPort(socket);
}

class KernelPort implements NetlinkPort {
  readonly #socket: number;
  // LIFETIME: the kernel reads and writes it within calls only; mapped for the process.
  readonly #memory: MappedMemory = mapAnonymous(RECEIVE_BYTES);

  constructor(socket: number) {
    this.#socket = socket;
  }

  send(message: Uint8Array): number {
    new Uint8Array(this.#memory.buffer).set(message);
    // A netlink socket that was connected to nobody speaks to the kernel.
    const result = Number(libc().write(this.#socket, pointerTo(this.#memory.address), BigInt(message.length)));
    return result < 0 ? -errno() : result;
  }

  receive(): Uint8Array | number {
    for (;;) {
      const result = Number(libc().read(this.#socket, pointerTo(this.#memory.address), BigInt(RECEIVE_BYTES)));
      if (result >= 0) return new Uint8Array(this.#memory.buffer, 0, result).slice();
      const failure = -errno();
      if (failure !== -Errno.EINTR) return failure;
    }
  }

  close(): void {
    closeDescriptor(this.#socket);
  }
}

/** A family of requests, by its name. */
export class GenericNetlink {
  readonly #port: NetlinkPort;
  readonly #family: number;
  readonly #version: number;
  #sequence: number;

  private constructor(port: NetlinkPort, family: number, version: number, sequence: number) {
    this.#port = port;
    this.#family = family;
    this.#version = version;
    this.#sequence = sequence;
  }

  /** Looks up the family `name`. A negative errno when there is none (-ENOENT: its driver is not loaded). */
  static open(name: string, version: number, port: NetlinkPort): GenericNetlink | number {
    const controller = new GenericNetlink(port, Controller.FAMILY, Controller.VERSION, 0);
    const answer = controller.request(Controller.GET_FAMILY, [text(Controller.FAMILY_NAME, name)]);
    if (typeof answer === "number") return answer;
    const family = numberOf(answer, Controller.FAMILY_ID);
    return family < 0 ? -Errno.EPROTO : new GenericNetlink(port, family, version, controller.#sequence);
  }

  /** Asks, and waits for the end of it: the attributes of the answer (none where there is but success), or a negative errno. */
  request(command: number, attributes: readonly Attribute[]): Attribute[] | number {
    const sequence = ++this.#sequence;
    const sent = this.#port.send(this.#encode(command, attributes, sequence));
    if (sent < 0) return sent;
    let answer: Attribute[] = [];
    for (;;) {
      const datagram = this.#port.receive();
      if (typeof datagram === "number") return datagram;
      const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
      for (let at = 0; at + MESSAGE_HEADER.sizeBytes <= datagram.length;) {
        const length = view.getUint32(at + MESSAGE_HEADER.length, true);
        if (length < MESSAGE_HEADER.sizeBytes || at + length > datagram.length) return -Errno.EPROTO;
        if (view.getUint32(at + MESSAGE_HEADER.sequence, true) === sequence) {
          if (view.getUint16(at + MESSAGE_HEADER.type, true) === MESSAGE_ERROR) {
            const result = view.getInt32(at + MESSAGE_HEADER.sizeBytes, true);
            return result < 0 ? result : answer;
          }
          answer = decodeAttributes(datagram.subarray(at + HEADERS_BYTES, at + length));
        }
        at += (length + 3) & ~3;
      }
    }
  }

  close(): void {
    this.#port.close();
  }

  #encode(command: number, attributes: readonly Attribute[], sequence: number): Uint8Array {
    const body = encodeAttributes(attributes);
    const message = new Uint8Array(HEADERS_BYTES + body.length);
    const view = new DataView(message.buffer);
    view.setUint32(MESSAGE_HEADER.length, message.length, true);
    view.setUint16(MESSAGE_HEADER.type, this.#family, true);
    view.setUint16(MESSAGE_HEADER.flags, MessageFlag.REQUEST | MessageFlag.ACKNOWLEDGE, true);
    view.setUint32(MESSAGE_HEADER.sequence, sequence, true);
    view.setUint8(MESSAGE_HEADER.sizeBytes + GENERIC_HEADER.command, command);
    view.setUint8(MESSAGE_HEADER.sizeBytes + GENERIC_HEADER.version, this.#version);
    message.set(body, HEADERS_BYTES);
    return message;
  }
}

/**
 * One attempt to connect to a TCP or unix socket, on a reactor.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { Errno } from "../../ffi/libc/errno.ts";
import { closeDescriptor } from "../../ffi/libc/file.ts";
import { mapAnonymous, type MappedMemory } from "../../ffi/libc/memory.ts";
import { newSocket } from "../../ffi/libc/socket.ts";
import { tuneBeforeUse, tuneConnection } from "./listen_socket.ts";
import { parseSocketAddress, type SocketAddress } from "./socket_address.ts";
import type { UringReactor } from "./uring_reactor.ts";

/** Told how an attempt ended; exactly one of the two, once, from within a turn. */
export interface ConnectHandler {
  /** Connected. The handler owns the descriptor now. */
  onConnected(socket: number): void;
  /** `result` is a negative errno; -ECANCELED after `cancel()`. */
  onConnectFailed(result: number): void;
}

const TOKEN_CONNECT = 1;
const TOKEN_FAILED_EARLY = 2;
const SOCKADDR_BYTES = 128;

// Cells for socket addresses, taken and given back. LIFETIME: the kernel reads a cell until its connect completes; the
// pages live for the process.
const freeCells: { memory: MappedMemory; at: number }[] = [];

/** A connection being made. It starts at once; its outcome comes in a later turn. */
export class ConnectAttempt {
  readonly #reactor: UringReactor;
  readonly #handler: ConnectHandler;
  readonly #owner: number;
  readonly #family: number;
  readonly #cell: { memory: MappedMemory; at: number };
  readonly #socket: number;
  #over = false;
  #cancelled = false;

  /** Throws `AddressError` when `address` is no address; all else is told through `handler`. */
  constructor(reactor: UringReactor, address: string | SocketAddress, handler: ConnectHandler) {
    const target = typeof address === "string" ? parseSocketAddress(address) : address;
    this.#reactor = reactor;
    this.#handler = handler;
    this.#family = target.family;
    this.#owner = reactor.register(this);
    this.#cell = takeCell();
    this.#socket = newSocket(target.family);
    if (this.#socket < 0) {
      reactor.nop(this.#owner, TOKEN_FAILED_EARLY);
      return;
    }
    tuneBeforeUse(this.#socket, target);
    new Uint8Array(this.#cell.memory.buffer, this.#cell.at, SOCKADDR_BYTES).set(target.bytes);
    const cellAddress = this.#cell.memory.address + this.#cell.at;
    reactor.connect(this.#owner, TOKEN_CONNECT, this.#socket, cellAddress, target.bytes.length);
  }

  /** Gives up, unless it is over already. The handler hears -ECANCELED (or that it had connected in time). */
  cancel(): void {
    if (this.#over || this.#cancelled) return;
    this.#cancelled = true;
    this.#reactor.cancel(this.#owner, TOKEN_CONNECT);
  }

  /** From the reactor. */
  onCompletion(token: number, result: number, _flags: number): void {
    assert(!this.#over, "an attempt ends once");
    this.#over = true;
    this.#reactor.unregister(this.#owner);
    freeCells.push(this.#cell);
    if (token === TOKEN_FAILED_EARLY) {
      this.#handler.onConnectFailed(this.#socket);
    } else if (result < 0) {
      closeDescriptor(this.#socket);
      // A cancelled connect may end as an interrupted one.
      this.#handler.onConnectFailed(this.#cancelled ? -Errno.ECANCELED : result);
    } else {
      tuneConnection(this.#socket, this.#family);
      this.#handler.onConnected(this.#socket);
    }
  }
}

function takeCell(): { memory: MappedMemory; at: number } {
  if (freeCells.length === 0) {
    const memory = mapAnonymous(4096);
    for (let at = 0; at < 4096; at += SOCKADDR_BYTES) freeCells.push({ memory, at });
  }
  return freeCells.pop()!;
}

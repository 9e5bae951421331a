/**
 * A listening socket (TCP or unix): opened synchronously, so that what is wrong with the address is told at once, then
 * accepting on a reactor.
 *
 * A unix socket file left behind by a process that died is removed, but only when nobody listens on it. When descriptors
 * run out, accepting pauses briefly instead of spinning.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { Errno, errnoName } from "../../ffi/libc/errno.ts";
import { closeDescriptor, kindOfPath, unlinkPath } from "../../ffi/libc/file.ts";
import { mapAnonymous } from "../../ffi/libc/memory.ts";
import {
  bindSocket,
  connectNow,
  Family,
  listenOn,
  localAddressOf,
  newSocket,
  peerAddressOf,
  setCongestionControl,
  setSocketOption,
  SocketOption,
} from "../../ffi/libc/socket.ts";
import { formatSocketAddress, parseSocketAddress, type SocketAddress } from "./socket_address.ts";
import type { UringReactor } from "./uring_reactor.ts";

/** Thrown when an address cannot be listened on; names the address and says what to do. */
export class ListenFailed extends Error {
  override name = "ListenFailed";
  /** Negative errno. */
  readonly result: number;
  constructor(message: string, result: number) {
    super(message);
    this.result = result;
  }
}

/** Told of connections. */
export interface AcceptHandler {
  /** A peer connected. The handler owns the descriptor now. `peerAddress` as {@link formatSocketAddress} writes it. */
  onAccepted(socket: number, peerAddress: string): void;
}

const BACKLOG = 512;
const TOKEN_ACCEPT = 1;
const TOKEN_PAUSE = 2;
const TOKEN_CLOSE = 3;
/** How long accepting rests when the process or the system is out of descriptors or memory. */
const PAUSE_MS = 100;

/** A socket that accepts connections. */
export class ListenSocket {
  /** Where it listens: with the port the kernel chose when 0 was asked. */
  readonly boundAddress: string;
  readonly descriptor: number;
  readonly #address: SocketAddress;
  #reactor: UringReactor | null = null;
  #handler: AcceptHandler | null = null;
  #owner = -1;
  #pauseAddress = 0;
  #armedToken = 0;
  #closing = false;
  /** Accepts that failed, by whatever cause; for status. */
  failedCount = 0;

  private constructor(address: SocketAddress, descriptor: number, boundAddress: string) {
    this.#address = address;
    this.descriptor = descriptor;
    this.boundAddress = boundAddress;
  }

  /** Binds and listens. Throws {@link ListenFailed} or `AddressError`. */
  static open(where: string | SocketAddress): ListenSocket {
    const address = typeof where === "string" ? parseSocketAddress(where) : where;
    const socket = newSocket(address.family);
    if (socket < 0) throw listenFailed(address, "make a socket for", socket);
    if (address.family !== Family.UNIX) setSocketOption(socket, SocketOption.REUSE_ADDRESS, 1);
    let result = bindSocket(socket, address.bytes);
    if (result === -Errno.EADDRINUSE && address.path !== "" && isStale(address)) {
      result = unlinkPath(address.path);
      if (result >= 0) result = bindSocket(socket, address.bytes);
    }
    tuneBeforeUse(socket, address);
    if (result >= 0) result = listenOn(socket, BACKLOG);
    if (result < 0) {
      closeDescriptor(socket);
      throw listenFailed(address, "listen on", result);
    }
    const local = localAddressOf(socket);
    assert(typeof local !== "number", "a bound socket has an address", local);
    return new ListenSocket(address, socket, address.path !== "" ? address.text : formatSocketAddress(local));
  }

  /** Starts to accept. */
  start(reactor: UringReactor, handler: AcceptHandler): void {
    assert(this.#reactor === null && !this.#closing, "a listening socket is started once");
    this.#reactor = reactor;
    this.#handler = handler;
    this.#owner = reactor.register(this);
    this.#arm();
  }

  /** Stops listening and removes the file of a unix socket. Accepted connections stay. */
  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    // First the name, while it is surely still ours.
    if (this.#address.path !== "") unlinkPath(this.#address.path);
    if (this.#reactor === null) closeDescriptor(this.descriptor);
    else this.#reactor.cancel(this.#owner, this.#armedToken);
  }

  /** From the reactor. */
  onCompletion(token: number, result: number, _flags: number): void {
    const reactor = this.#reactor!;
    if (token === TOKEN_CLOSE) {
      reactor.unregister(this.#owner);
      return;
    }
    if (token === TOKEN_ACCEPT && result >= 0) {
      if (this.#closing) closeDescriptor(result);
      else this.#accepted(result);
    }
    if (this.#closing) {
      reactor.close(this.#owner, TOKEN_CLOSE, this.descriptor);
    } else if (token === TOKEN_ACCEPT && result < 0 && mustPause(result)) {
      this.failedCount++;
      this.#pause();
    } else {
      if (result < 0 && token === TOKEN_ACCEPT) this.failedCount++;
      this.#arm();
    }
  }

  #accepted(socket: number): void {
    tuneConnection(socket, this.#address.family);
    const peer = peerAddressOf(socket);
    // A peer may be gone before its name was asked.
    this.#handler!.onAccepted(socket, typeof peer === "number" ? "a peer that is gone" : formatSocketAddress(peer));
  }

  #arm(): void {
    this.#armedToken = TOKEN_ACCEPT;
    this.#reactor!.accept(this.#owner, TOKEN_ACCEPT, this.descriptor);
  }

  #pause(): void {
    if (this.#pauseAddress === 0) {
      // LIFETIME: the kernel reads this timespec when the pause is submitted; lives for the process.
      const memory = mapAnonymous(4096);
      new Uint32Array(memory.buffer)[2] = PAUSE_MS * 1e6;
      this.#pauseAddress = memory.address;
    }
    this.#armedToken = TOKEN_PAUSE;
    this.#reactor!.delay(this.#owner, TOKEN_PAUSE, this.#pauseAddress);
  }
}

/**
 * What a TCP socket gets before it connects or listens (accepted connections inherit it). Within one machine nothing is
 * lost and nothing congests, but a congestion control that paces its packets (bbr, where that is the system's default)
 * still does so by timers, and halves the throughput of large messages. Reno, which every kernel has, does not pace.
 */
export function tuneBeforeUse(socket: number, address: SocketAddress): void {
  if (address.family === Family.UNIX || !address.isLocal) return;
  setCongestionControl(socket, "reno"); // if it cannot be had, the system's default does as well, only slower
}

/** What every stream connection gets: small frames leave at once, and a peer that vanished is noticed in the end. */
export function tuneConnection(socket: number, family: number): void {
  if (family === Family.UNIX) return;
  // Both can only fail on a connection that is already gone, which the first receive tells.
  setSocketOption(socket, SocketOption.NO_DELAY, 1);
  setSocketOption(socket, SocketOption.KEEP_ALIVE, 1);
}

function mustPause(result: number): boolean {
  return result === -Errno.EMFILE || result === -Errno.ENFILE || result === -Errno.ENOMEM || result === -Errno.ENOBUFS;
}

/** Whether a unix socket file exists on which nobody listens. Connecting to a plain file is refused, too: look first. */
function isStale(address: SocketAddress): boolean {
  if (kindOfPath(address.path) !== "socket") return false;
  const probe = newSocket(Family.UNIX);
  if (probe < 0) return false;
  const result = connectNow(probe, address.bytes);
  closeDescriptor(probe);
  return result === -Errno.ECONNREFUSED;
}

function listenFailed(address: SocketAddress, doing: string, result: number): ListenFailed {
  const advice: Record<number, string> = {
    [Errno.EADDRINUSE]: address.path === ""
      ? "another process listens there; stop it or choose another port"
      : "another process listens there, or the path is taken by something that is not a socket; choose another path",
    [Errno.EADDRNOTAVAIL]: "no interface of this machine has that address; `ip addr` lists what there is",
    [Errno.EACCES]: address.path === ""
      ? "ports below 1024 need privileges; choose a higher one"
      : "the directory is not writable for this user",
    [Errno.ENOENT]: "the directory does not exist; make it first",
    [Errno.EROFS]: "the directory is on a read-only file system",
    [Errno.EMFILE]: "raise the limit of open files (`ulimit -n`)",
  };
  const hint = advice[-result];
  return new ListenFailed(
    `Cannot ${doing} ${address.text}: ${errnoName(result)}${hint === undefined ? "" : `: ${hint}`}`,
    result,
  );
}

/**
 * Sockets, synchronously: making, naming and tuning them. Bytes go through io_uring.
 *
 * Functions return what the system call returns (>= 0), or a negative errno. Addresses are raw `sockaddr` bytes.
 *
 * @module
 */

import { errno, libc, resultOrErrno } from "./library.ts";

/** Address families. */
export const Family = { UNIX: 1, INET: 2, INET6: 10 } as const;

/** Options of {@link setSocketOption}: level and name (the generic values, which x86-64 and aarch64 share). */
export const SocketOption = {
  REUSE_ADDRESS: { level: 1, name: 2 },
  SEND_BUFFER: { level: 1, name: 7 },
  RECEIVE_BUFFER: { level: 1, name: 8 },
  KEEP_ALIVE: { level: 1, name: 9 },
  NO_DELAY: { level: 6, name: 1 },
  USER_TIMEOUT: { level: 6, name: 18 },
  V6_ONLY: { level: 41, name: 26 },
} as const;

const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SO_ERROR = 4;
const MSG_DONTWAIT_NOSIGNAL = 0x4040;
const IPPROTO_TCP = 6;
const TCP_CONGESTION = 13;
const SOL_SOCKET = 1;

/** A new stream socket. Returns a descriptor or a negative errno. */
export function newSocket(family: number): number {
  return resultOrErrno(libc().socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

/** Two connected unix stream sockets, or a negative errno. */
export function newSocketPair(): [number, number] | number {
  const pair = new Int32Array(2);
  if (libc().socketpair(1, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return -errno();
  return [pair[0], pair[1]];
}

/** bind(2). */
export function bindSocket(socket: number, address: Uint8Array<ArrayBuffer>): number {
  return resultOrErrno(libc().bind(socket, address, address.length));
}

/** listen(2). */
export function listenOn(socket: number, backlog: number): number {
  return resultOrErrno(libc().listen(socket, backlog));
}

/** connect(2), which waits. For unix sockets and probes only. */
export function connectNow(socket: number, address: Uint8Array<ArrayBuffer>): number {
  return resultOrErrno(libc().connect(socket, address, address.length));
}

/**
 * sendmsg(2) of a `struct msghdr` without waiting: the bytes taken, which may be fewer than there are, or a negative errno;
 * -EAGAIN when the socket has no room. For the data path: a fast call without allocation.
 */
export function sendNow(socket: number, message: Deno.PointerValue): number {
  const result = libc().sendmsg(socket, message, MSG_DONTWAIT_NOSIGNAL);
  return result < 0 ? -errno() : result;
}

/** shutdown(2), both directions. */
export function shutdownNow(socket: number): number {
  return resultOrErrno(libc().shutdown(socket, 2));
}

/** setsockopt(2) with an integer value. */
export function setSocketOption(socket: number, option: { level: number; name: number }, value: number): number {
  return resultOrErrno(libc().setsockopt(socket, option.level, option.name, new Int32Array([value]), 4));
}

/** Chooses the congestion control of a TCP socket by its name in the kernel, e.g. "reno". 0 or a negative errno. */
export function setCongestionControl(socket: number, name: string): number {
  const bytes = new TextEncoder().encode(name);
  return resultOrErrno(libc().setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, bytes, bytes.length));
}

/** getsockopt(2) of an integer option: a value >= 0, or a negative errno. */
export function getSocketOption(socket: number, option: { level: number; name: number }): number {
  const value = new Int32Array(1);
  const result = libc().getsockopt(socket, option.level, option.name, value, new Uint32Array([4]));
  return result < 0 ? -errno() : value[0];
}

/** The pending error of a socket, taken: 0 or a negative errno. */
export function takeSocketError(socket: number): number {
  const value = getSocketOption(socket, { level: SOL_SOCKET, name: SO_ERROR });
  return value > 0 ? -value : value;
}

/** The socket's own address, or a negative errno. */
export function localAddressOf(socket: number): Uint8Array<ArrayBuffer> | number {
  return name(libc().getsockname, socket);
}

/** The peer's address, or a negative errno. */
export function peerAddressOf(socket: number): Uint8Array<ArrayBuffer> | number {
  return name(libc().getpeername, socket);
}

function name(
  call: (socket: number, address: BufferSource, length: BufferSource) => number,
  socket: number,
): Uint8Array<ArrayBuffer> | number {
  const address = new Uint8Array(128);
  const length = new Uint32Array([address.length]);
  if (call(socket, address, length) < 0) return -errno();
  return address.slice(0, Math.min(length[0], address.length));
}

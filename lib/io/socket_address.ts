/**
 * Socket addresses as text and as the bytes (`struct sockaddr_*`) the kernel takes.
 *
 * Text forms: `127.0.0.1:7701`, `[::1]:7701`, `localhost:7701`, each also with `tcp://` before it; and paths of unix
 * sockets: `/run/brmr/vol1.sock`, `./vol1.sock`, `unix:vol1.sock`. Host names are not looked up: a node must not depend on
 * a name server to find its peers.
 *
 * @module
 */

import { Family } from "../../ffi/libc/socket.ts";

/** An address, ready for the kernel. */
export interface SocketAddress {
  readonly family: number;
  /** `struct sockaddr_in`, `sockaddr_in6` or `sockaddr_un`. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The canonical text. */
  readonly text: string;
  /** Reached from this machine only: loopback, or a unix socket. */
  readonly isLocal: boolean;
  /** The path of a unix socket, else "". */
  readonly path: string;
}

/** Thrown for text that is no address; says what is wrong and shows the right form. */
export class AddressError extends Error {
  override name = "AddressError";
}

/** Longest path of a unix socket: `sun_path` has 108 bytes with the NUL at the end. */
const MAX_UNIX_PATH_BYTES = 107;

/** Reads an address. Throws {@link AddressError}. */
export function parseSocketAddress(text: string): SocketAddress {
  if (text.startsWith("unix:")) return unixAddress(text.slice(5).replace(/^\/\/(?=\/)/, ""));
  if (text.startsWith("/") || text.startsWith("./") || text.startsWith("../")) return unixAddress(text);
  const plain = text.startsWith("tcp://") ? text.slice(6) : text;
  const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(plain);
  if (match === null) {
    throw new AddressError(
      `"${text}" is not an address; write HOST:PORT ("127.0.0.1:7701", "[::1]:7701") or the path of a unix socket`,
    );
  }
  const port = Number(match[3]);
  if (port > 65535) throw new AddressError(`"${text}" has port ${match[3]}; ports go up to 65535`);
  if (match[1] !== undefined) {
    const groups = parseV6(match[1]);
    if (groups === null) throw new AddressError(`"${text}": "${match[1]}" is not an IPv6 address, such as "::1"`);
    return v6Address(groups, port);
  }
  const octets = parseV4(match[2] === "localhost" ? "127.0.0.1" : match[2]);
  if (octets === null) {
    throw new AddressError(
      `"${text}": "${match[2]}" is not an IPv4 address. Host names are not looked up; give the address itself`,
    );
  }
  return v4Address(octets, port);
}

/** Text of what getsockname, getpeername or accept gave. An unnamed unix socket is "unix:". */
export function formatSocketAddress(bytes: Uint8Array<ArrayBuffer>): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = bytes.length >= 2 ? view.getUint16(0, true) : 0;
  if (family === Family.INET && bytes.length >= 8) {
    return `${bytes.subarray(4, 8).join(".")}:${view.getUint16(2)}`;
  }
  if (family === Family.INET6 && bytes.length >= 24) {
    const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(8 + i * 2));
    return `[${formatV6(groups)}]:${view.getUint16(2)}`;
  }
  if (family === Family.UNIX) {
    const end = bytes.indexOf(0, 2);
    const path = new TextDecoder().decode(bytes.subarray(2, end < 0 ? bytes.length : end));
    return path.startsWith("/") ? path : `unix:${path}`;
  }
  return `unknown address family ${family}`;
}

/**
 * A name in Linux's abstract namespace of unix sockets (unix(7)). It has no file: it is there while its socket is open, for
 * the same network namespace in which a TCP address would be. Who owns it is asked of the socket (SO_PEERCRED).
 */
export function abstractAddress(name: string): SocketAddress {
  const encoded = new TextEncoder().encode(name);
  if (encoded.length === 0 || encoded.length > MAX_UNIX_PATH_BYTES) {
    throw new AddressError(`The name "${name}" of a unix socket has ${encoded.length} bytes; it can have 1 to 107`);
  }
  const bytes = new Uint8Array(3 + encoded.length);
  bytes[0] = Family.UNIX;
  bytes.set(encoded, 3);
  return { family: Family.UNIX, bytes, text: `unix:@${name}`, isLocal: true, path: "" };
}

function unixAddress(path: string): SocketAddress {
  const encoded = new TextEncoder().encode(path);
  if (encoded.length === 0) throw new AddressError('A unix socket needs a path, such as "/run/brmr/vol1.sock"');
  if (encoded.includes(0)) throw new AddressError(`The path of a unix socket cannot contain a NUL character`);
  if (encoded.length > MAX_UNIX_PATH_BYTES) {
    throw new AddressError(
      `The path "${path}" has ${encoded.length} bytes; a unix socket's path has at most ${MAX_UNIX_PATH_BYTES}. Use a shorter one`,
    );
  }
  const bytes = new Uint8Array(2 + encoded.length + 1);
  bytes[0] = Family.UNIX;
  bytes.set(encoded, 2);
  return { family: Family.UNIX, bytes, text: path.startsWith("/") ? path : `unix:${path}`, isLocal: true, path };
}

function v4Address(octets: number[], port: number): SocketAddress {
  const bytes = new Uint8Array(16);
  bytes[0] = Family.INET;
  new DataView(bytes.buffer).setUint16(2, port);
  bytes.set(octets, 4);
  return { family: Family.INET, bytes, text: `${octets.join(".")}:${port}`, isLocal: octets[0] === 127, path: "" };
}

function v6Address(groups: number[], port: number): SocketAddress {
  const bytes = new Uint8Array(28);
  const view = new DataView(bytes.buffer);
  bytes[0] = Family.INET6;
  view.setUint16(2, port);
  groups.forEach((group, i) => view.setUint16(8 + i * 2, group));
  const isLoopback = groups.slice(0, 7).every((group) => group === 0) && groups[7] === 1;
  const isMappedLoopback = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff &&
    groups[6] >> 8 === 127;
  return {
    family: Family.INET6,
    bytes,
    text: `[${formatV6(groups)}]:${port}`,
    isLocal: isLoopback || isMappedLoopback,
    path: "",
  };
}

function parseV4(text: string): number[] | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return null;
  const octets = match.slice(1).map(Number);
  return octets.every((octet) => octet <= 255) ? octets : null;
}

function parseV6(text: string): number[] | null {
  let head = text;
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (dotted !== null) {
    const octets = parseV4(dotted[2]);
    if (octets === null) return null;
    head = `${dotted[1]}${(octets[0] * 256 + octets[1]).toString(16)}:${(octets[2] * 256 + octets[3]).toString(16)}`;
  }
  const halves = head.split("::");
  if (halves.length > 2) return null;
  const parts = halves.map((half) => half === "" ? [] : half.split(":"));
  const given = parts.flat();
  if (!given.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return null;
  const missing = 8 - given.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null;
  const fill = halves.length === 1 ? [] : Array<string>(missing).fill("0");
  return [...parts[0], ...fill, ...(parts[1] ?? [])].map((group) => parseInt(group, 16));
}

/** RFC 5952: lower case, the longest run of two or more zero groups shortened, the first of equals. */
function formatV6(groups: number[]): string {
  let bestAt = -1;
  let bestCount = 1;
  for (let at = 0; at < 8; at++) {
    let count = 0;
    while (at + count < 8 && groups[at + count] === 0) count++;
    if (count > bestCount) {
      bestAt = at;
      bestCount = count;
    }
    at += count;
  }
  const hex = groups.map((group) => group.toString(16));
  if (bestAt < 0) return hex.join(":");
  return `${hex.slice(0, bestAt).join(":")}::${hex.slice(bestAt + bestCount).join(":")}`;
}

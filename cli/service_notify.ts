/**
 * Tells a service supervisor how far we are: the datagrams of sd_notify(3) on $NOTIFY_SOCKET. Without that variable
 * nothing happens, so commands may call it always.
 *
 * Deno has no stable unix datagram sockets; the C library has.
 *
 * @module
 */

import { libc } from "../ffi/libc/library.ts";

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 0o2000002;
/** `sun_path` of unix(7). */
const PATH_BYTES = 108;

/** Sends `state` ("READY=1\nSTATUS=..."). Returns whether somebody was told; a supervisor that is gone is no error of ours. */
export function notifyService(state: string, socketPath = Deno.env.get("NOTIFY_SOCKET")): boolean {
  if (socketPath === undefined || socketPath === "") return false;
  const path = new TextEncoder().encode(socketPath);
  if (path.length >= PATH_BYTES) return false;
  const address = new Uint8Array(2 + path.length + 1);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(path, 2);
  const isAbstract = socketPath.startsWith("@");
  if (isAbstract) address[2] = 0; // an abstract name begins with a zero, written as "@"
  const c = libc();
  const socket = c.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
  if (socket < 0) return false;
  try {
    // The closing zero belongs to a path, but not to an abstract name, whose length counts.
    if (c.connect(socket, address, isAbstract ? address.length - 1 : address.length) < 0) return false;
    const bytes = new TextEncoder().encode(state);
    // LIFETIME: `bytes` is read within the call only.
    const sent = c.write(socket, Deno.UnsafePointer.of(bytes), BigInt(bytes.length));
    return Number(sent) === bytes.length;
  } finally {
    c.close(socket);
  }
}

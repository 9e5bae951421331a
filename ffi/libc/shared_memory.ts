/**
 * Memory that is shared with another process of this machine, and how it gets there: a sealed memfd, sent over a unix
 * socket (SCM_RIGHTS, see unix(7)).
 *
 * The seal keeps the memory from shrinking: whoever maps it can touch all of it for as long as it likes. Without it, a peer
 * could truncate the file and kill its reader by SIGBUS.
 *
 * @module
 */

import { statusOf } from "./file.ts";
import { cString, errno, libc, resultOrErrno } from "./library.ts";
import { mapAnonymous, mapDescriptor, type MappedMemory, pointerTo } from "./memory.ts";

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;
const O_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT_NOSIGNAL = 0x4040;
const MSG_DONTWAIT_CLOEXEC = 0x4000_0040;
const MSG_CTRUNC = 8;
const EINVAL = 22;

/** Memory that can be shared. LIFETIME: the process. */
export interface ShareableMemory extends MappedMemory {
  readonly descriptor: number;
}

/** New zeroed memory of `lengthBytes` (a multiple of 4096), sealed in its size; a negative errno when there is none to be had. */
export function newShareableMemory(lengthBytes: number): ShareableMemory | number {
  const descriptor = resultOrErrno(libc().memfd_create(cString("brmr-buffers"), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (descriptor < 0) return descriptor;
  const sized = resultOrErrno(libc().ftruncate64(descriptor, BigInt(lengthBytes)));
  const seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  const sealed = sized < 0 ? sized : resultOrErrno(libc().fcntl(descriptor, F_ADD_SEALS, seals));
  if (sealed < 0) {
    libc().close(descriptor);
    return sealed;
  }
  return { ...mapDescriptor(descriptor, lengthBytes, 0), descriptor };
}

/** Bytes of the memory behind `descriptor`; -EINVAL unless it is a memfd that cannot shrink. */
export function sealedSizeOf(descriptor: number): number {
  const seals = libc().fcntl(descriptor, F_GET_SEALS, 0);
  if (seals < 0 || (seals & F_SEAL_SHRINK) === 0) return -EINVAL;
  const status = statusOf(descriptor);
  return typeof status === "number" ? status : status.sizeBytes;
}

/** A pipe: [read end, write end], or a negative errno. */
export function newPipe(): [number, number] | number {
  const ends = new Int32Array(2);
  return libc().pipe2(ends, O_CLOEXEC) < 0 ? -errno() : [ends[0], ends[1]];
}

/** The user that this process acts as. */
export function effectiveUser(): number {
  return libc().geteuid();
}

/** The user at the other end of a unix socket, at the time it connected or listened; a negative errno. */
export function peerUserOf(socket: number): number {
  const credentials = new Uint32Array(3); // struct ucred: pid, uid, gid
  if (libc().getsockopt(socket, SOL_SOCKET, SO_PEERCRED, credentials, new Uint32Array([12])) < 0) return -errno();
  return credentials[1];
}

// struct msghdr (56 bytes), iovec (16), control (64) and data (128) in one page. LIFETIME: read and written by the kernel only
// during the synchronous calls below; lives for the process.
let page: { words: Uint32Array; bytes: Uint8Array; pointer: Deno.PointerValue } | undefined;
const IOVEC_AT = 64;
const CONTROL_AT = 128;
const DATA_AT = 256;
const CONTROL_BYTES = 64;
const MOST_DATA_BYTES = 128;

function messagePage(dataBytes: number, controlBytes: number) {
  if (page === undefined) {
    const { address, buffer } = mapAnonymous(4096);
    page = { words: new Uint32Array(buffer), bytes: new Uint8Array(buffer), pointer: pointerTo(address) };
  }
  const { words } = page;
  const address = Number(Deno.UnsafePointer.value(page.pointer));
  words.fill(0, 0, DATA_AT / 4);
  const setAddress = (at: number, value: number) => {
    words[at / 4] = value >>> 0;
    words[at / 4 + 1] = Math.floor(value / 4294967296);
  };
  setAddress(16, address + IOVEC_AT);
  words[24 / 4] = 1;
  setAddress(32, controlBytes === 0 ? 0 : address + CONTROL_AT);
  words[40 / 4] = controlBytes;
  setAddress(IOVEC_AT, address + DATA_AT);
  words[IOVEC_AT / 4 + 2] = dataBytes;
  return page;
}

/** Sends up to 128 bytes, and descriptors with them, without waiting. Bytes sent or a negative errno. */
export function sendDescriptors(socket: number, bytes: Uint8Array, descriptors: readonly number[]): number {
  // CMSG_SPACE: the header of 16 bytes and the descriptors, rounded up to 8.
  const controlBytes = descriptors.length === 0 ? 0 : 16 + ((descriptors.length * 4 + 7) & ~7);
  const { words, bytes: memory, pointer } = messagePage(bytes.length, controlBytes);
  words[CONTROL_AT / 4] = 16 + descriptors.length * 4;
  words[CONTROL_AT / 4 + 2] = SOL_SOCKET;
  words[CONTROL_AT / 4 + 3] = SCM_RIGHTS;
  descriptors.forEach((descriptor, i) => words[CONTROL_AT / 4 + 4 + i] = descriptor);
  memory.set(bytes, DATA_AT);
  return resultOrErrno(libc().sendmsg(socket, pointer, MSG_DONTWAIT_NOSIGNAL));
}

/**
 * Receives up to `lengthBytes` (128 at most), and descriptors that came with them, without waiting: a negative errno, -EAGAIN when
 * nothing is there. The caller owns the descriptors.
 */
export function receiveDescriptors(
  socket: number,
  lengthBytes: number,
): { readonly bytes: Uint8Array; readonly descriptors: readonly number[] } | number {
  const { words, bytes, pointer } = messagePage(Math.min(lengthBytes, MOST_DATA_BYTES), CONTROL_BYTES);
  const result = libc().recvmsg(socket, pointer, MSG_DONTWAIT_CLOEXEC);
  if (result < 0) return -errno();
  const descriptors: number[] = [];
  const controlBytes = words[40 / 4];
  for (let at = 0; at + 16 <= controlBytes;) {
    const lengthOfOne = words[(CONTROL_AT + at) / 4];
    if (lengthOfOne < 16) break;
    if (words[(CONTROL_AT + at) / 4 + 2] === SOL_SOCKET && words[(CONTROL_AT + at) / 4 + 3] === SCM_RIGHTS) {
      for (let i = 16; i + 4 <= lengthOfOne; i += 4) descriptors.push(words[(CONTROL_AT + at + i) / 4]);
    }
    at += (lengthOfOne + 7) & ~7;
  }
  if ((words[48 / 4] & MSG_CTRUNC) !== 0) {
    for (const descriptor of descriptors) libc().close(descriptor);
    return -EINVAL;
  }
  return { bytes: bytes.slice(DATA_AT, DATA_AT + result), descriptors };
}

/**
 * Requests to the kernel's nbd driver: making, finding, taking over and ending devices.
 *
 * @module
 */

import { Errno, errnoName } from "../../ffi/libc/errno.ts";
import { canOpen, readSmallFile, writeSmallFile } from "../../ffi/libc/small_file.ts";
import {
  DEVICE_ITEM,
  DeviceAttribute,
  NBD_FAMILY_NAME,
  NBD_FAMILY_VERSION,
  NbdAttribute,
  NbdCommand,
  SOCKET_DESCRIPTOR,
  SOCKET_ITEM,
} from "../../ffi/nbd/abi.ts";
import { type Attribute, decodeAttributes, nested, numberOf, text, u32, u64 } from "../../ffi/netlink/attributes.ts";
import { GenericNetlink, type NetlinkPort, openNetlinkPort } from "../../ffi/netlink/generic_netlink.ts";
import { DeviceUnavailable } from "./device_unavailable.ts";

/** What a new device is told. */
export interface NbdDeviceShape {
  /** The device's number; -1 lets the driver choose. */
  readonly index: number;
  readonly sizeBytes: number;
  readonly blockBytes: number;
  /** Transmission flags, as in the NBD handshake. */
  readonly serverFlags: number;
  /** Marks it, so that it is found again. */
  readonly identity: string;
  /** A request without answer for so long is sent again over another socket; 0: never, while its own lives. */
  readonly timeoutSeconds: number;
  /** How long requests wait for a process to take the device over. */
  readonly deadSeconds: number;
}

/** A device, as the kernel tells of it. */
export interface NbdInfo {
  readonly index: number;
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  /** Sockets that it was made with. */
  readonly socketCount: number;
}

/** The files of the kernel that tell of devices; tests put others in their place. */
export interface KernelFiles {
  read(path: string): string | number;
  write(path: string, text: string): number;
  exists(path: string): boolean;
}

const kernelFiles: KernelFiles = { read: readSmallFile, write: writeSmallFile, exists: canOpen };

/** Another has the device that was asked for. */
export class DeviceInUse extends DeviceUnavailable {}

/** The driver makes a queue for each socket, and no more than there are CPUs. */
const MAX_QUEUES = 64;

/** The driver. */
export class NbdControl {
  readonly #netlink: GenericNetlink;
  readonly #files: KernelFiles;

  private constructor(netlink: GenericNetlink, files: KernelFiles) {
    this.#netlink = netlink;
    this.#files = files;
  }

  /** Throws {@link DeviceUnavailable}, which says what to do. */
  static open(port: NetlinkPort | number = openNetlinkPort(), files = kernelFiles): NbdControl {
    if (typeof port === "number") {
      throw new DeviceUnavailable(`this kernel has no generic netlink: ${errnoName(port)}`);
    }
    const netlink = GenericNetlink.open(NBD_FAMILY_NAME, NBD_FAMILY_VERSION, port);
    if (typeof netlink !== "number") return new NbdControl(netlink, files);
    port.close();
    if (netlink === -Errno.ENOENT) {
      throw new DeviceUnavailable("this kernel has no nbd: load it with `modprobe nbd` (Linux 5.14 or newer)");
    }
    throw new DeviceUnavailable(`the nbd driver cannot be asked: ${errnoName(netlink)}`);
  }

  /** Makes a device of `sockets` (descriptors, which stay the caller's). Its index. Throws {@link DeviceUnavailable}. */
  connect(shape: NbdDeviceShape, sockets: readonly number[]): number {
    const attributes = [
      u64(NbdAttribute.SIZE_BYTES, shape.sizeBytes),
      u64(NbdAttribute.BLOCK_SIZE_BYTES, shape.blockBytes),
      u64(NbdAttribute.SERVER_FLAGS, shape.serverFlags),
      // Neither destroyed when it is disconnected, for others use its number too, nor disconnected when it is closed.
      u64(NbdAttribute.CLIENT_FLAGS, 0),
      u64(NbdAttribute.DEAD_CONN_TIMEOUT, shape.deadSeconds),
      socketList(sockets),
      text(NbdAttribute.BACKEND_IDENTIFIER, shape.identity),
    ];
    // To tell of no limit would undo `setRetryMs`, which has to come first.
    if (shape.timeoutSeconds > 0) attributes.push(u64(NbdAttribute.TIMEOUT, shape.timeoutSeconds));
    if (shape.index >= 0) attributes.unshift(u32(NbdAttribute.INDEX, shape.index));
    const answer = this.#netlink.request(NbdCommand.CONNECT, attributes);
    if (answer === -Errno.EPERM) throw new DeviceUnavailable("making an nbd device takes root (CAP_SYS_ADMIN)");
    if (answer === -Errno.EBUSY) throw new DeviceInUse(`/dev/nbd${shape.index} is in use; choose another`);
    if (typeof answer === "number") throw new DeviceUnavailable(`the kernel makes no nbd device: ${errnoName(answer)}`);
    const index = numberOf(answer, NbdAttribute.INDEX);
    if (index < 0) throw new DeviceUnavailable("the nbd driver does not say which device it has made");
    return index;
  }

  /** Puts sockets in the place of dead ones; those for which there is no place are left out. 0 or a negative errno. */
  reconnect(index: number, identity: string, sockets: readonly number[]): number {
    const attributes = [u32(NbdAttribute.INDEX, index), text(NbdAttribute.BACKEND_IDENTIFIER, identity)];
    if (sockets.length > 0) attributes.push(socketList(sockets));
    const answer = this.#netlink.request(NbdCommand.RECONFIGURE, attributes);
    return typeof answer === "number" ? answer : 0;
  }

  /**
   * Whether a device bears `identity` and may get sockets. One that was disconnected bears it until the last one who has it open
   * closes it.
   */
  isServable(index: number, identity: string): boolean {
    if (this.#files.read(`/sys/block/nbd${index}/backend`) !== identity) return false;
    return this.reconnect(index, identity, []) !== -Errno.EINVAL;
  }

  /**
   * Ends a device; what is under way fails. 0 or a negative errno. The driver says goodbye on every socket: they must be
   * dead, or be read by another thread than this.
   */
  disconnect(index: number): number {
    const answer = this.#netlink.request(NbdCommand.DISCONNECT, [u32(NbdAttribute.INDEX, index)]);
    return typeof answer === "number" ? answer : 0;
  }

  /** The device that bears `identity` and may get sockets, or null. Throws {@link DeviceUnavailable}. */
  find(identity: string): NbdInfo | null {
    for (const { index, isConnected } of this.#devices()) {
      if (isConnected && this.isServable(index, identity)) return this.#info(index);
    }
    return null;
  }

  /** Numbers of devices that nobody uses. Throws {@link DeviceUnavailable}. */
  free(): number[] {
    return this.#devices().filter(({ isConnected }) => !isConnected).map(({ index }) => index);
  }

  /**
   * After how many ms the driver looks at a request again whose socket has died. 0 or a negative errno. The kernel waits for
   * all I/O of the device to end, so this is for devices that nobody can use, or for other threads than their server's.
   */
  setRetryMs(index: number, retryMs: number): number {
    return this.#files.write(`/sys/block/nbd${index}/queue/io_timeout`, `${retryMs}`);
  }

  close(): void {
    this.#netlink.close();
  }

  #devices(): { readonly index: number; readonly isConnected: boolean }[] {
    const answer = this.#netlink.request(NbdCommand.STATUS, []);
    if (typeof answer === "number") throw new DeviceUnavailable(`the nbd driver tells nothing: ${errnoName(answer)}`);
    const list = answer.find(({ type }) => type === NbdAttribute.DEVICE_LIST);
    if (list === undefined) return [];
    return decodeAttributes(list.value)
      .filter(({ type }) => type === DEVICE_ITEM)
      .map(({ value }) => decodeAttributes(value))
      .map((device) => ({
        index: numberOf(device, DeviceAttribute.INDEX),
        isConnected: numberOf(device, DeviceAttribute.CONNECTED) === 1,
      }))
      .filter(({ index }) => index >= 0);
  }

  #info(index: number): NbdInfo {
    const directory = `/sys/block/nbd${index}`;
    let socketCount = 0;
    while (socketCount < MAX_QUEUES && this.#files.exists(`${directory}/mq/${socketCount}`)) socketCount++;
    return {
      index,
      sizeBytes: Number(this.#files.read(`${directory}/size`)) * 512,
      isReadOnly: this.#files.read(`${directory}/ro`) === "1",
      socketCount: Math.max(1, socketCount),
    };
  }
}

function socketList(sockets: readonly number[]): Attribute {
  return nested(
    NbdAttribute.SOCKETS,
    sockets.map((descriptor) => nested(SOCKET_ITEM, [u32(SOCKET_DESCRIPTOR, descriptor)])),
  );
}

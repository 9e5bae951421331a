/**
 * Commands to the kernel's ublk driver: making, finding, taking over and ending devices.
 *
 * Those that answer at once are run at once. Starting, taking over and stopping a device wait for I/O that this very thread
 * serves, so they are begun here, and told of by the reactor's wake-up.
 *
 * @module
 */

import { Errno, errnoName } from "../../ffi/libc/errno.ts";
import { closeDescriptor, openFile, OpenFlag } from "../../ffi/libc/file.ts";
import { mapAnonymous } from "../../ffi/libc/memory.ts";
import { CommandRing } from "../../ffi/uring/command_ring.ts";
import {
  Attribute,
  CONTROL_COMMAND,
  ControlCommand,
  DEVICE_INFO,
  DeviceFlag,
  ParameterKind,
  PARAMETERS,
  SECTOR_SHIFT,
} from "../../ffi/ublk/abi.ts";
import { MAX_DEVICE_INDEX } from "./device_choice.ts";
import { DeviceUnavailable } from "./device_unavailable.ts";
import type { PoolGeometry } from "./frontend.ts";

/** A device, as the kernel tells of it. */
export interface UblkInfo {
  readonly index: number;
  readonly state: number;
  readonly queueDepth: number;
  readonly queueCount: number;
  readonly maxIoBytes: number;
  /** What its server has put there: see `identityOf`. */
  readonly identity: string;
  readonly serverPid: number;
}

/** Devices have small numbers, given from 0 on, or the one that was asked for (`device_choice.ts`), of which none is larger. */
const DEVICES_SEARCHED = MAX_DEVICE_INDEX + 1;
const NEW_DEVICE = 0xffffffff;
const TWO_32 = 4294967296;
/** The kernel counts what a device may discard at once in sectors, as a u32. */
const MAX_RANGE_BYTES = 2 ** 40;

/** What marks the devices of a pool in the kernel: half of its UUID. */
export function identityOf(poolUuid: string): string {
  return poolUuid.replaceAll("-", "").slice(0, 16);
}

/** How commands reach the driver: a ring of the running kernel; tests put a script in its place. */
export interface CommandPort {
  /** Begins a command that may wait. */
  begin(file: number, operation: number, argument: Int32Array): void;
  /** Its result when it is done, else null. */
  poll(): number | null;
  /** Carries out a command that is answered at once. */
  run(file: number, operation: number, argument: Int32Array): number;
  close(): void;
}

/** The driver. */
export class UblkControl {
  readonly #file: number;
  readonly #ring: CommandPort;
  readonly #argument = new DataView(new ArrayBuffer(CONTROL_COMMAND.sizeBytes));
  // LIFETIME: the kernel reads and writes it while a command is under way; lives for the process.
  readonly #memory = mapAnonymous(4096);
  readonly #buffer = new DataView(this.#memory.buffer);

  /** `file`: descriptor of the driver, owned from now on; -1 for none. */
  constructor(file: number, ring: CommandPort) {
    this.#file = file;
    this.#ring = ring;
  }

  /** Throws {@link DeviceUnavailable}, which says what to do. `wakeDescriptor` is told when a command is done. */
  static open(wakeDescriptor: number): UblkControl {
    const file = openFile("/dev/ublk-control", OpenFlag.READ_WRITE);
    if (file === -Errno.ENOENT || file === -Errno.ENXIO) {
      throw new DeviceUnavailable("this kernel has no ublk: load it with `modprobe ublk_drv` (Linux 6.8 or newer)");
    }
    if (file < 0) throw new DeviceUnavailable(`/dev/ublk-control cannot be opened: ${errnoName(file)}; be root`);
    const ring = CommandRing.open(wakeDescriptor);
    if (typeof ring === "number") {
      closeDescriptor(file);
      throw new DeviceUnavailable(`no ring for commands to ublk can be made: ${errnoName(ring)}`);
    }
    return new UblkControl(file, ring);
  }

  /** The device `index`, or null when there is none. */
  info(index: number): UblkInfo | null {
    const result = this.#run(ControlCommand.GET_DEV_INFO, index, DEVICE_INFO.sizeBytes);
    return result < 0 ? null : this.#readInfo();
  }

  /** The device that belongs to a pool, or null. */
  find(identity: string): UblkInfo | null {
    for (let index = 0; index < DEVICES_SEARCHED; index++) {
      const info = this.info(index);
      if (info?.identity === identity) return info;
    }
    return null;
  }

  /** Makes a device with one queue; `index` -1 takes a number that is free. Throws {@link DeviceUnavailable}. */
  add(index: number, identity: string, queueDepth: number, maxIoBytes: number): UblkInfo {
    const wanted = index < 0 ? NEW_DEVICE : index;
    const buffer = this.#buffer;
    for (let i = 0; i < DEVICE_INFO.sizeBytes; i++) buffer.setUint8(i, 0);
    buffer.setUint16(DEVICE_INFO.queueCount, 1, true);
    buffer.setUint16(DEVICE_INFO.queueDepth, queueDepth, true);
    buffer.setUint32(DEVICE_INFO.maxIoBytes, maxIoBytes, true);
    buffer.setUint32(DEVICE_INFO.deviceId, wanted, true);
    buffer.setInt32(DEVICE_INFO.serverPid, Deno.pid, true);
    const flags = DeviceFlag.USER_RECOVERY | DeviceFlag.USER_RECOVERY_REISSUE | DeviceFlag.CMD_IOCTL_ENCODE;
    buffer.setUint32(DEVICE_INFO.flags, flags, true);
    buffer.setUint32(DEVICE_INFO.serverFlags, parseInt(identity.slice(8), 16), true);
    buffer.setUint32(DEVICE_INFO.serverFlags + 4, parseInt(identity.slice(0, 8), 16), true);
    const result = this.#run(ControlCommand.ADD_DEV, wanted, DEVICE_INFO.sizeBytes);
    if (result === -Errno.EEXIST) throw new DeviceUnavailable(`/dev/ublkb${index} is in use; choose another`);
    if (result < 0) throw new DeviceUnavailable(`the kernel makes no ublk device: ${errnoName(result)}`);
    return this.#readInfo();
  }

  /** Tells what the device is like. Throws {@link DeviceUnavailable}. */
  setParameters(index: number, geometry: PoolGeometry, maxIoBytes: number): void {
    const buffer = this.#buffer;
    for (let i = 0; i < PARAMETERS.sizeBytes; i++) buffer.setUint8(i, 0);
    const logicalShift = 31 - Math.clz32(geometry.logicalBlockBytes);
    const rangeSectors = Math.floor(Math.min(geometry.maxRangeBytes, MAX_RANGE_BYTES) / 4096) * 8;
    buffer.setUint32(PARAMETERS.length, PARAMETERS.sizeBytes, true);
    buffer.setUint32(PARAMETERS.kinds, ParameterKind.BASIC | (geometry.readOnly ? 0 : ParameterKind.DISCARD), true);
    buffer.setUint32(
      PARAMETERS.attributes,
      Attribute.VOLATILE_CACHE | Attribute.FUA | (geometry.readOnly ? Attribute.READ_ONLY : 0),
      true,
    );
    buffer.setUint8(PARAMETERS.logicalShift, logicalShift);
    // The unit in which a pool tracks what a leg has missed: smaller writes cost more than they save.
    buffer.setUint8(PARAMETERS.physicalShift, Math.max(12, logicalShift));
    buffer.setUint8(PARAMETERS.minimumShift, Math.max(12, logicalShift));
    buffer.setUint8(PARAMETERS.optimalShift, 31 - Math.clz32(maxIoBytes));
    buffer.setUint32(PARAMETERS.maxSectors, maxIoBytes >> SECTOR_SHIFT, true);
    const sectors = geometry.sizeBytes / 512;
    buffer.setUint32(PARAMETERS.deviceSectors, sectors % TWO_32, true);
    buffer.setUint32(PARAMETERS.deviceSectors + 4, Math.floor(sectors / TWO_32), true);
    if (!geometry.readOnly) {
      buffer.setUint32(PARAMETERS.discardGranularity, Math.max(4096, geometry.logicalBlockBytes), true);
      buffer.setUint32(PARAMETERS.maxDiscardSectors, rangeSectors, true);
      buffer.setUint32(PARAMETERS.maxWriteZeroesSectors, rangeSectors, true);
      buffer.setUint16(PARAMETERS.maxDiscardSegments, 1, true);
    }
    const result = this.#run(ControlCommand.SET_PARAMS, index, PARAMETERS.sizeBytes);
    if (result < 0) throw new DeviceUnavailable(`ublk refuses the pool's geometry: ${errnoName(result)}`);
  }

  /** Bytes of a device, or a negative errno. */
  sizeBytes(index: number): number {
    this.#buffer.setUint32(PARAMETERS.length, PARAMETERS.sizeBytes, true);
    const result = this.#run(ControlCommand.GET_PARAMS, index, PARAMETERS.sizeBytes);
    const high = this.#buffer.getUint32(PARAMETERS.deviceSectors + 4, true);
    return result < 0 ? result : (high * TWO_32 + this.#buffer.getUint32(PARAMETERS.deviceSectors, true)) * 512;
  }

  /** Whether a device is read-only. */
  isReadOnly(index: number): boolean {
    this.#buffer.setUint32(PARAMETERS.length, PARAMETERS.sizeBytes, true);
    const result = this.#run(ControlCommand.GET_PARAMS, index, PARAMETERS.sizeBytes);
    return result >= 0 && (this.#buffer.getUint32(PARAMETERS.attributes, true) & Attribute.READ_ONLY) !== 0;
  }

  /** Runs a command without argument that answers at once. */
  run(operation: number, index: number): number {
    return this.#run(operation, index, 0);
  }

  /** Begins a command that may wait for I/O; {@link poll} tells its result. */
  begin(operation: number, index: number): void {
    this.#fill(index, 0);
    this.#ring.begin(this.#file, operation, new Int32Array(this.#argument.buffer));
  }

  poll(): number | null {
    return this.#ring.poll();
  }

  close(): void {
    this.#ring.close();
    if (this.#file >= 0) closeDescriptor(this.#file);
  }

  #run(operation: number, index: number, lengthBytes: number): number {
    this.#fill(index, lengthBytes);
    return this.#ring.run(this.#file, operation, new Int32Array(this.#argument.buffer));
  }

  #fill(index: number, lengthBytes: number): void {
    const argument = this.#argument;
    const address = lengthBytes > 0 ? this.#memory.address : 0;
    argument.setUint32(CONTROL_COMMAND.deviceId, index, true);
    argument.setUint16(CONTROL_COMMAND.queueId, 0xffff, true);
    argument.setUint16(CONTROL_COMMAND.length, lengthBytes, true);
    argument.setUint32(CONTROL_COMMAND.address, address >>> 0, true);
    argument.setUint32(CONTROL_COMMAND.address + 4, Math.floor(address / TWO_32), true);
    // Starting and taking over are told who serves.
    argument.setUint32(CONTROL_COMMAND.data, Deno.pid, true);
  }

  #readInfo(): UblkInfo {
    const buffer = this.#buffer;
    return {
      index: buffer.getUint32(DEVICE_INFO.deviceId, true),
      state: buffer.getUint16(DEVICE_INFO.state, true),
      queueDepth: buffer.getUint16(DEVICE_INFO.queueDepth, true),
      queueCount: buffer.getUint16(DEVICE_INFO.queueCount, true),
      maxIoBytes: buffer.getUint32(DEVICE_INFO.maxIoBytes, true),
      identity: [4, 0].map((at) => buffer.getUint32(DEVICE_INFO.serverFlags + at, true).toString(16).padStart(8, "0"))
        .join(""),
      serverPid: buffer.getInt32(DEVICE_INFO.serverPid, true),
    };
  }
}

/**
 * The numbers and layouts of ublk, the kernel's driver for block devices whose I/O is done by a process.
 * Source: include/uapi/linux/ublk_cmd.h of Linux 6.12. Commands are in their ioctl encoding (6.4).
 *
 * @module
 */

const READ = 2;
const READ_WRITE = 3;

/** `_IOC(direction, 'u', number, size)`, as a signed word. */
function command(direction: number, number: number, sizeBytes: number): number {
  return (direction << 30) | (sizeBytes << 16) | (0x75 << 8) | number;
}

/** Commands to /dev/ublk-control; `struct ublksrv_ctrl_cmd` has 32 bytes. */
export const ControlCommand = {
  GET_DEV_INFO: command(READ, 0x02, 32),
  ADD_DEV: command(READ_WRITE, 0x04, 32),
  DEL_DEV: command(READ_WRITE, 0x05, 32),
  START_DEV: command(READ_WRITE, 0x06, 32),
  STOP_DEV: command(READ_WRITE, 0x07, 32),
  SET_PARAMS: command(READ_WRITE, 0x08, 32),
  GET_PARAMS: command(READ, 0x09, 32),
  START_USER_RECOVERY: command(READ_WRITE, 0x10, 32),
  END_USER_RECOVERY: command(READ_WRITE, 0x11, 32),
  GET_FEATURES: command(READ, 0x13, 32),
  DEL_DEV_ASYNC: command(READ, 0x14, 32),
} as const;

/** Commands to /dev/ublkcN; `struct ublksrv_io_cmd` has 16 bytes. */
export const IoCommand = {
  FETCH: command(READ_WRITE, 0x20, 16),
  COMMIT_AND_FETCH: command(READ_WRITE, 0x21, 16),
} as const;

/** `struct ublksrv_io_cmd`: the queue and tag are a word, as two halves. */
export const IO_COMMAND = { sizeBytes: 16, result: 4, address: 8 } as const;

/** Features of a device. */
export const DeviceFlag = {
  /** The device outlives its process, and another may take it over. */
  USER_RECOVERY: 1 << 3,
  /** What was under way when the process died is asked again of its successor. */
  USER_RECOVERY_REISSUE: 1 << 4,
  CMD_IOCTL_ENCODE: 1 << 6,
} as const;

/** `state` of a device. */
export const DeviceState = { DEAD: 0, LIVE: 1, QUIESCED: 2, FAIL_IO: 3 } as const;

/** Low byte of `op_flags` of a request. */
export const DeviceOperation = { READ: 0, WRITE: 1, FLUSH: 2, DISCARD: 3, WRITE_ZEROES: 5 } as const;
/** Bits of `op_flags`. */
export const DeviceOperationFlag = { FUA: 1 << 13, NO_UNMAP: 1 << 15 } as const;

/** Kinds of parameters, and attributes of the basic ones. */
export const ParameterKind = { BASIC: 1, DISCARD: 2 } as const;
export const Attribute = { READ_ONLY: 1, VOLATILE_CACHE: 4, FUA: 8 } as const;

/** `struct ublksrv_ctrl_cmd`, in bytes from its start. */
export const CONTROL_COMMAND = { sizeBytes: 32, deviceId: 0, queueId: 4, length: 6, address: 8, data: 16 } as const;

/** `struct ublksrv_ctrl_dev_info`. */
export const DEVICE_INFO = {
  sizeBytes: 64,
  queueCount: 0,
  queueDepth: 2,
  state: 4,
  maxIoBytes: 8,
  deviceId: 12,
  serverPid: 16,
  flags: 24,
  /** Kept by the kernel for the server: brmr puts the identity of the pool there. */
  serverFlags: 32,
} as const;

/** `struct ublk_params` as far as the discard parameters, which end at byte 60. */
export const PARAMETERS = {
  sizeBytes: 64,
  length: 0,
  kinds: 4,
  attributes: 8,
  logicalShift: 12,
  physicalShift: 13,
  optimalShift: 14,
  minimumShift: 15,
  maxSectors: 16,
  deviceSectors: 24,
  discardGranularity: 44,
  maxDiscardSectors: 48,
  maxWriteZeroesSectors: 52,
  maxDiscardSegments: 56,
} as const;

/** `struct ublksrv_io_desc`, in words: op_flags, nr_sectors, start_sector (two words), addr (two words). */
export const DESCRIPTOR_WORDS = 6;
/** Result of a FETCH that the device's end, or that of its server, has taken back. */
export const RESULT_ABORTED = -19;
export const SECTOR_SHIFT = 9;

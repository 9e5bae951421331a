/**
 * The numbers by which the kernel's nbd driver is asked for devices over generic netlink.
 * Source: include/uapi/linux/nbd-netlink.h.
 *
 * @module
 */

export const NBD_FAMILY_NAME = "nbd";
export const NBD_FAMILY_VERSION = 1;

/** Requests. */
export const NbdCommand = { CONNECT: 1, DISCONNECT: 2, RECONFIGURE: 3, STATUS: 5 } as const;

/** Attributes of requests and answers. */
export const NbdAttribute = {
  INDEX: 1,
  SIZE_BYTES: 2,
  BLOCK_SIZE_BYTES: 3,
  /** Seconds. */
  TIMEOUT: 4,
  SERVER_FLAGS: 5,
  CLIENT_FLAGS: 6,
  SOCKETS: 7,
  /** Seconds. */
  DEAD_CONN_TIMEOUT: 8,
  DEVICE_LIST: 9,
  BACKEND_IDENTIFIER: 10,
} as const;

/** Within SOCKETS, and within each of its items. */
export const SOCKET_ITEM = 1;
export const SOCKET_DESCRIPTOR = 1;

/** Within DEVICE_LIST, and within each of its items. */
export const DEVICE_ITEM = 1;
export const DeviceAttribute = { INDEX: 1, CONNECTED: 2 } as const;

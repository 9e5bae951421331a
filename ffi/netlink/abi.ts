/**
 * The numbers and layouts of generic netlink, in which processes ask kernel drivers for things by named families.
 * Source: include/uapi/linux/netlink.h and genetlink.h.
 *
 * @module
 */

export const NETLINK_FAMILY = 16;
export const NETLINK_GENERIC = 16;

/** `struct nlmsghdr`, in bytes from its start. */
export const MESSAGE_HEADER = { sizeBytes: 16, length: 0, type: 4, flags: 6, sequence: 8, port: 12 } as const;

/** `struct genlmsghdr`, which follows it. */
export const GENERIC_HEADER = { sizeBytes: 4, command: 0, version: 1 } as const;

/** `struct nlattr`; attributes begin at multiples of four bytes. */
export const ATTRIBUTE = { sizeBytes: 4, length: 0, type: 2 } as const;

/** `nlmsg_type` of an answer that says how a request went: a negative errno, or 0. */
export const MESSAGE_ERROR = 2;
export const MessageFlag = { REQUEST: 1, ACKNOWLEDGE: 4 } as const;
export const NESTED = 0x8000;

/** The family that tells the numbers of the others. */
export const Controller = { FAMILY: 16, GET_FAMILY: 3, VERSION: 1, FAMILY_ID: 1, FAMILY_NAME: 2 } as const;

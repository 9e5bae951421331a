/**
 * Numbers of the io_uring interface that are used here. Source: include/uapi/linux/io_uring.h of the kernel.
 *
 * @module
 */

/** System call numbers, the same on every architecture. */
export const SyscallNumber = { SETUP: 425, ENTER: 426, REGISTER: 427 } as const;

/** Flags of io_uring_setup. In brackets: the kernel that brought them. */
export const SetupFlag = {
  CQSIZE: 1 << 3,
  CLAMP: 1 << 4,
  /** [5.18] One bad entry does not stop the submission of those behind it. */
  SUBMIT_ALL: 1 << 7,
  /** [5.19] Completions do not interrupt a running thread. */
  COOP_TASKRUN: 1 << 8,
  /** [5.19] Submission entries of 128 bytes. */
  SQE128: 1 << 10,
  /** [6.0] Only one thread ever submits. */
  SINGLE_ISSUER: 1 << 12,
  /** [6.1] Completion work runs only inside io_uring_enter of that thread. */
  DEFER_TASKRUN: 1 << 13,
  /** [6.6] No indirection array between the submission ring and its entries. */
  NO_SQARRAY: 1 << 16,
} as const;

/** Features that io_uring_setup reports. */
export const Feature = {
  SINGLE_MMAP: 1 << 0,
  NODROP: 1 << 1,
  SUBMIT_STABLE: 1 << 2,
  FAST_POLL: 1 << 5,
  EXT_ARG: 1 << 8,
  /** io_uring_enter takes a time to gather completions in (6.12). */
  MIN_TIMEOUT: 1 << 15,
} as const;

/** Flags of io_uring_enter. */
export const EnterFlag = { GETEVENTS: 1, EXT_ARG: 1 << 3, REGISTERED_RING: 1 << 4 } as const;

/** Opcodes of submission entries. */
export const Opcode = {
  NOP: 0,
  FSYNC: 3,
  READ_FIXED: 4,
  WRITE_FIXED: 5,
  POLL_ADD: 6,
  SENDMSG: 9,
  TIMEOUT: 11,
  ACCEPT: 13,
  ASYNC_CANCEL: 14,
  CONNECT: 16,
  FALLOCATE: 17,
  CLOSE: 19,
  READ: 22,
  WRITE: 23,
  SEND: 26,
  RECV: 27,
  SHUTDOWN: 34,
  /** [5.19] A command of a device driver's own. */
  URING_CMD: 46,
} as const;

/** Flags of a submission entry. */
export const EntryFlag = { FIXED_FILE: 1 } as const;

/** Flags of a completion. */
export const CompletionFlag = {
  /** More completions of the same entry follow. */
  MORE: 1 << 1,
  /** A receive left bytes in the socket. */
  SOCKET_NONEMPTY: 1 << 2,
} as const;

/** Flags in the submission ring that the kernel sets. */
export const RingFlag = { CQ_OVERFLOW: 1 << 1 } as const;

/** [5.19] `ioprio` of a send or receive: wait for readiness first instead of trying at once. */
export const POLL_FIRST = 1;

/** Opcodes of io_uring_register. */
export const RegisterOp = {
  BUFFERS: 0,
  UNREGISTER_BUFFERS: 1,
  FILES: 2,
  UNREGISTER_FILES: 3,
  EVENTFD: 4,
  FILES_UPDATE: 6,
  PROBE: 8,
  BUFFERS_UPDATE: 16,
  RING_FDS: 20,
  UNREGISTER_RING_FDS: 21,
} as const;

/** Words (u32) of a submission entry and of a completion. */
export const SQE_WORDS = 16;
export const CQE_WORDS = 4;

/** Opcodes without which there is no data plane. */
export const NEEDED_OPCODES: readonly (keyof typeof Opcode)[] = [
  "NOP",
  "FSYNC",
  "READ_FIXED",
  "WRITE_FIXED",
  "SENDMSG",
  "TIMEOUT",
  "ACCEPT",
  "ASYNC_CANCEL",
  "CONNECT",
  "FALLOCATE",
  "CLOSE",
  "READ",
  "WRITE",
  "SEND",
  "RECV",
  "SHUTDOWN",
];

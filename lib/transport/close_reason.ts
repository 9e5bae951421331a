/**
 * Why the transports themselves end a connection: the negative errnos of `onClosed`. Others come from the kernel as they are.
 *
 * @module
 */

/** Linux errno values, negated. */
export const CloseReason = {
  /** Closed in order, by either side, between frames. */
  ORDERLY: 0,
  /** EIO: the device failed. */
  IO_ERROR: -5,
  /** ENODEV: the device is gone. */
  NO_DEVICE: -19,
  /** EINVAL: the address to connect to is malformed. */
  BAD_ADDRESS: -22,
  /** EPROTO: the peer broke the rules of framing, or `placePayload` refused. */
  PROTOCOL: -71,
  /** EBADMSG: a checksum does not match. */
  BAD_MESSAGE: -74,
  /** ECONNRESET: the connection ended in the middle of a frame. */
  RESET: -104,
  /** ENOBUFS: the peer takes too little of what is sent; the bound on what may wait was reached. */
  QUEUE_FULL: -105,
  /** ETIMEDOUT: the peer's machine does not answer. */
  TIMED_OUT: -110,
  /** ECONNREFUSED: nobody listens there. */
  REFUSED: -111,
} as const;

/**
 * Everything that can happen in a simulated world.
 *
 * @module
 */

/** Kinds of events. The comment says what `target`, `a`, `b` and `data` are. */
export const EventKind = {
  /** Connection; data: frame. */
  FRAME: 0,
  /** Connection; data: frame whose payload begins to arrive. */
  PLACE: 1,
  /** Connector; a: its tag; data: the process it wants to reach. */
  CONNECT_ARRIVES: 2,
  /** Connector; a: tag; data: connection. */
  CONNECTED: 3,
  /** Connector; a: tag. */
  CONNECT_FAILED: 4,
  /** Process; a: connection number that the process itself closed. */
  CLOSED: 5,
  /** Connection; a: side that hears of its end. */
  CLOSED_BY_PEER: 6,
  /** Leg process; data: disk operation that is done. */
  DISK_DONE: 7,
  /** Process; a: serial of the alarm. */
  ALARM: 8,
  /** Process: carry out what its core wants. */
  DRAIN: 9,
  /** Client process: the application submits what it can. */
  APPLICATION: 10,
  /** Process: it starts. */
  START: 11,
  /** World; a: which fault. */
  FAULT: 12,
  /** World: the time of faults is over. */
  CALM: 13,
  /** World: look whether the pool has become whole. */
  INSPECT: 14,
} as const;

/** Names, for traces. */
export const EVENT_NAMES = Object.keys(EventKind);

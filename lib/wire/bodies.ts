/**
 * The JSON payloads of control frames, and their validation. These frames are rare; clarity and room to grow matter more
 * than bytes. Everything a peer sends passes through `parseBody` before the core sees it: unknown keys are ignored (a
 * newer peer may say more), missing or ill-typed ones refuse the frame.
 *
 * @module
 */

import * as v from "valibot";
import { isUuid } from "../base/uuid.ts";

const uint = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const mask = v.pipe(uint, v.maxValue(255));
const legIndex = v.pipe(uint, v.maxValue(7));
const uuid = v.pipe(v.string(), v.check(isUuid, "Not a lower-case UUID"));
const text = v.pipe(v.string(), v.maxLength(1024));

/** Most addresses that a node may tell of itself. */
export const MOST_NODE_ADDRESSES = 16;

const nodeAddresses = v.pipe(v.array(v.pipe(v.string(), v.maxBytes(266))), v.maxLength(MOST_NODE_ADDRESSES));

/** A leg takes the connection of a session that has said nothing for this long for lost, in ms. */
export const SESSION_SILENCE_MS = 10_000;

/** Most that a claimant may ask a leg to keep its session for while it is away, in ms. */
export const MOST_RETURN_MS = 60_000;

const legEntry = v.object({
  uuid,
  /** A host name of at most 253 characters, a colon, a port: what fits in an epoch record on disk. */
  address: v.pipe(v.string(), v.maxBytes(259)),
  mapIncarnation: uint,
  mapDefaultDirty: v.boolean(),
  outSinceMs: uint,
  isDrained: v.boolean(),
  replacesIndex: v.optional(legIndex),
});

/** See `SharedEpoch` in lib/disk_format/records.ts. */
const sharedEpoch = v.object({
  historyId: uuid,
  historyNumber: v.pipe(uint, v.maxValue(0xffffffff)),
  generation: uint,
  clientGeneration: uint,
  epoch: uint,
  inSyncMask: mask,
  minInSync: v.pipe(uint, v.maxValue(8)),
  ioTimeoutMs: uint,
  legs: v.pipe(v.array(v.nullable(legEntry)), v.maxLength(8)),
  sourceIndex: v.optional(legIndex),
});

/** First words of the side that connected. */
export const helloSchema = v.object({
  protocol: uint,
  /** Feature bits the sender knows; unknown ones are dropped by the receiver. */
  features: uint,
  role: v.picklist(["client", "reader", "peer", "control"]),
  /** Pool and leg that are wanted; absent for role control. */
  poolUuid: v.optional(uuid),
  legIndex: v.optional(legIndex),
  /** Client: its UUID. Peer: the UUID of its own leg. */
  senderUuid: v.optional(uuid),
  /** Peer: index of its own leg. */
  senderLegIndex: v.optional(legIndex),
  /** For people: host name and process. */
  senderName: v.optional(text),
});
/** First words of the side that listens. */
export const welcomeSchema = v.object({
  protocol: uint,
  features: uint,
  /** Random, new each time the leg is opened: a change means it may have lost what was not flushed. */
  instance: uuid,
  legUuid: v.optional(uuid),
  /** The leg in whose place, at the same index, this one was made. */
  replacesUuid: v.optional(uuid),
  record: v.optional(v.object({ shared: sharedEpoch, promisedGeneration: uint, promisedTo: text })),
  /** What the receiver of this frame may have in flight. */
  creditRequests: uint,
  creditBytes: uint,
  /** The client that holds the pool now, for people; absent when none does. */
  heldBy: v.optional(text),
  /** Leg: whether it surely holds all that it ever acked, flushed or not. */
  whole: v.optional(v.boolean()),
  /** Leg: where its node can be reached, "host:port" or "rdma://host:port", best first. */
  addresses: v.optional(nodeAddresses),
  /** Leg: whether parts of it may differ from other members, because the last session ended uncleanly. */
  unclean: v.optional(v.boolean()),
});
/** Why a control frame was refused. */
export const refusalSchema = v.object({
  code: v.picklist([
    "bad-request",
    "unknown-pool",
    "unknown-leg",
    "protocol-version",
    "features",
    "stale-generation",
    "held",
    "not-in-sync",
    "busy",
    "io-error",
  ]),
  message: text,
  /** For stale-generation: what the leg has promised. */
  generation: v.optional(uint),
});
/** Claims a generation. */
export const claimSchema = v.object({
  generation: uint,
  clientUuid: uuid,
  clientName: text,
  /** Takes the pool from a live session of another client. */
  takeover: v.boolean(),
  /** The claimant serves no application; any client's claim ends its session. */
  caretaker: v.optional(v.boolean()),
  /** A caretaker that carries out an operator's orders: its claim ends the session of one that does not. */
  ordered: v.optional(v.boolean()),
  /** How long the claimant may take to RETURN when its connection is lost; absent when it will not. */
  returnMs: v.optional(v.pipe(uint, v.maxValue(MOST_RETURN_MS))),
});
/** Goes on with a session on another connection. */
export const returnSchema = v.object({
  generation: uint,
  clientUuid: uuid,
  /** The epoch in force. */
  epoch: uint,
});
/** The session goes on. */
export const returnedSchema = v.object({
  /** Sequences of writes that the leg has under way: they are answered on the new connection. */
  underWay: v.pipe(v.array(uint), v.maxLength(8192)),
});
/** The claim stands: the old session is drained, the leg flushed. */
export const grantSchema = v.object({
  generation: uint,
  record: v.object({ shared: sharedEpoch, promisedGeneration: uint, promisedTo: text }),
  /** Extents of the intent log: what may have been mid-write. */
  intents: v.pipe(v.array(uint), v.maxLength(65536)),
  /** A block of the intent log was unreadable: the list is incomplete, anything may have been mid-write. */
  intentsLost: v.boolean(),
  /** Whether this leg has been up since the last session began, so that it holds all it acked, flushed or not. */
  unbroken: v.boolean(),
  /** Since the legs were equal last, the disk of this one has failed a flush: what it acknowledged may never become stable. */
  flushFailed: v.optional(v.boolean()),
  /** The boot of its machine, where that is known. */
  bootId: v.optional(text),
});
/** A new epoch. */
export const epochChangeSchema = v.object({
  shared: sharedEpoch,
  /** Legs that left since the record before: the receiver's unflushed set becomes dirty for them. */
  droppedMask: mask,
  /** Extents that become dirty for every leg outside the new in-sync set (after an unclean end). */
  suspectExtents: v.pipe(v.array(uint), v.maxLength(65536)),
});
/** Orders a leg to pull what it lacks. */
export const resyncOrderSchema = v.object({
  resyncSession: uint,
  /** "dirty": by the dirty map the sources keep for it. "reconcile": compare `extents` by checksum, copy what differs. */
  mode: v.picklist(["dirty", "reconcile"]),
  /** Leg indices that may serve as source, best first. */
  sources: v.pipe(v.array(legIndex), v.minLength(1), v.maxLength(8)),
  extents: v.pipe(v.array(uint), v.maxLength(65536)),
  /** Record in force: gives the sources' addresses. */
  shared: sharedEpoch,
  /** By leg index: all addresses of a source, best first, where the client knows of more than the record's. */
  addresses: v.optional(v.pipe(v.array(nodeAddresses), v.maxLength(8))),
});
/** Where a resync stands. */
export const resyncReportSchema = v.object({
  resyncSession: uint,
  /** The epoch the leg has seen when it reports. A "done" under an older epoch than the client's is not yet done. */
  epoch: uint,
  state: v.picklist(["running", "paused", "done", "failed"]),
  missingBytes: uint,
  copiedBytes: uint,
  rateBytesPerSecond: uint,
  message: v.optional(text),
  /** For failed: the leg that could not read what it is the source of. */
  unreadableLeg: v.optional(legIndex),
});

export type Hello = v.InferOutput<typeof helloSchema>;
export type Welcome = v.InferOutput<typeof welcomeSchema>;
export type Refusal = v.InferOutput<typeof refusalSchema>;
export type Claim = v.InferOutput<typeof claimSchema>;
export type Return = v.InferOutput<typeof returnSchema>;
export type Returned = v.InferOutput<typeof returnedSchema>;
export type Grant = v.InferOutput<typeof grantSchema>;
export type EpochChange = v.InferOutput<typeof epochChangeSchema>;
export type ResyncOrder = v.InferOutput<typeof resyncOrderSchema>;
export type ResyncReport = v.InferOutput<typeof resyncReportSchema>;

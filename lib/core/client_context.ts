/**
 * The state of an attached pool that the parts of the client core share. One owner each: client_links.ts the links, client_io.ts the
 * requests, client_membership.ts who is in and the phase.
 *
 * @module
 */

import { MAX_LEGS, type SharedEpoch } from "../disk_format/records.ts";
import { type Grant, type ResyncReport, SESSION_SILENCE_MS, type Welcome } from "../wire/bodies.ts";
import { MAX_PAYLOAD_BYTES } from "../wire/message.ts";
import { type Dialect, OUR_DIALECT } from "../wire/negotiate.ts";
import type { ForceOrder } from "./forced_start.ts";
import { pathsOf, type Reach, TCP_ONLY } from "./leg_addresses.ts";
import { type CoreEvent, type Output, OutputKind, OutputQueue } from "./output.ts";
import { RequestKind } from "./request_kind.ts";
import type { RefusalCode } from "./snapshot.ts";

/** What a client starts from. */
export interface ClientPoolOptions {
  readonly poolUuid: string;
  readonly poolName: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly extentBytes: number;
  readonly hotExtentCount: number;
  /** Bytes of a chunk of the pool; 4096 when absent. */
  readonly chunkBytes?: number;
  /** Random UUID of this client, new each time. */
  readonly clientUuid: string;
  /** For people: host and process. */
  readonly clientName: string;
  /** Where the legs are, as told by any leg's record. */
  readonly legs: readonly {
    readonly legIndex: number;
    readonly address: string;
    /** What its node tells of its addresses, if it has been asked. */
    readonly told?: readonly string[];
  }[];
  /** By what legs can be reached; TCP alone when absent. */
  readonly reach?: Reach;
  /** An attempt to connect that takes longer is given up, by output GIVE_UP; none is when absent. */
  readonly connectLimitMs?: number;
  readonly nowMs: number;
  /** Wall clock at `nowMs`, in ms since 1970: for what people are told only. */
  readonly wallMs?: number;
  /** A number in [0, 1): for back-off only. */
  readonly nextRandom: () => number;
  /** Requests in flight at most: a power of two. */
  readonly maxRequests?: number;
  /** Payload bytes of writes in flight at most. */
  readonly maxWriteBytes?: number;
  /** A leg silent for longer is dropped. */
  readonly heartbeatLimitMs?: number;
  /** A leg that has not answered a request for longer is dropped, if others have the data. */
  readonly legTimeoutMs?: number;
  /** How long requests wait for legs before they fail; the record's value when absent. */
  readonly ioTimeoutMs?: number;
  /** How long the first assembly may take before it is refused. */
  readonly assembleTimeoutMs?: number;
  /** How often written data is flushed without being asked. */
  readonly flushIntervalMs?: number;
  /** Serves nobody: makes the legs equal if they are not, and lets go (care_rules.ts). */
  readonly isCaretaker?: boolean;
  /** Protocol versions and features it speaks; this version's when absent. */
  readonly dialect?: Dialect;
  /**
   * A caretaker that carries out an operator's orders while nobody has the pool attached: it takes the pool from other caretakers, whether
   * or not there is something to care for, and keeps it until it is told to let go, a client comes, or a member is lost.
   */
  readonly isOrdered?: boolean;
}

/** How far a link to a leg is. */
export type LinkState = "down" | "connecting" | "greeting" | "greeted" | "claiming" | "claimed" | "returning";

/** The link to one leg. */
export interface LegLink {
  readonly legIndex: number;
  /** Where the leg table says it is. */
  address: string;
  /** All addresses by which it can be reached, best first; at least one. */
  paths: string[];
  /** The path in use or tried; how many are left in this round (link_paths.ts). */
  pathIndex: number;
  pathsLeft: number;
  /** Counts attempts to connect; what is told of an older one is not heeded. */
  attempt: number;
  connectUntilMs: number;
  /** Until when it may be reached by another path and stay in the in-sync set; 0 when it need not. */
  changeUntilMs: number;
  /** The run of the leg that has our session, while its path changes. */
  instance: string;
  legUuid: string;
  state: LinkState;
  connection: number;
  /** Whether a connection attempt has failed in this assembly. */
  hasFailed: boolean;
  lastHeardMs: number;
  lastPingMs: number;
  retryAtMs: number;
  backoffMs: number;
  welcome: Welcome | null;
  grant: Grant | null;
  /** Whether it has ever granted a claim of ours. */
  hasGranted: boolean;
  /**
   * Epoch from which on the extents of this leg's intent log, as it was granted, are suspicions against it on the in-sync legs; 0 when
   * they are no longer needed (it was a member when the pool was established), -1 when that has not been arranged yet.
   */
  suspectedFrom: number;
  /** The resync under way on this leg, 0 when none. */
  resyncSession: number;
  report: ResyncReport | null;
  /**
   * Sequence of the last write before its admission. It joins only when the watermark is there: until then a write that it never got as
   * such (it pulled the data) may be unflushed on another leg, and its own unflushed set would not tell.
   */
  admittedAfter: number;
  /** Epoch under which it has reported its resync done, or -1. */
  doneEpoch: number;
  /** Not admitted to resync before this time. */
  admitAtMs: number;
  admitBackoffMs: number;
  readsInFlight: number;
  /** Reads that its disk could not answer, and bytes written back to it because of that. */
  readErrors: number;
  repairedBytes: number;
  lastRefusal: string;
  /** Why its connection was lost last, in words. */
  lostReason: string;
  /** Whether it holds a history that ours may not overwrite: then it is left alone. */
  isRival: boolean;
  /** The newest round of questions (read_confirmation.ts) that it has answered as our leg. */
  confirmedRound: number;
}

/** Where the client stands as a whole. */
export type ClientPhase =
  | "idle"
  | "greet"
  | "claim"
  | "establish"
  | "reconcile"
  | "ready"
  | "refused"
  | "detaching"
  | "detached";

/** What a client knows of the legs that it served last: under which generation, and by UUID under which boots of their machines. */
export interface LastServed {
  generation: number;
  readonly boots: Map<string, string | undefined>;
  /** Whether legs have told since of a record that a caretaker has made. */
  hadCaretaker: boolean;
  /** Generation of the newest record that this client has made, whether it came to serve or not. */
  made: number;
  /** Before it came to serve: the newest generation under which another has served, as far as legs have told. */
  byOthers: number;
}

/** See the module comment. */
export class ClientContext {
  readonly options: ClientPoolOptions;
  readonly outputs: OutputQueue;
  readonly links: (LegLink | null)[] = new Array(MAX_LEGS).fill(null);
  nowMs: number;
  phase: ClientPhase = "idle";
  refusal = "";
  refusalCode: RefusalCode = "";
  takeover = false;
  /** An operator's order to start in spite of the start rule, until a history was founded by it or the pool has been ready. */
  force: ForceOrder | null = null;
  /** Whether it has ever been ready: then loss of legs makes requests wait rather than the attach fail. */
  wasReady = false;
  generation = 0;
  /** Caretaker: the legs have told that there is nothing to do. */
  foundAllWell = false;
  /** What was served last, also before the legs were forgotten. */
  readonly lastServed: LastServed = { generation: 0, boots: new Map(), hadCaretaker: false, made: 0, byOthers: 0 };
  /** The record in force (confirmed by all members). */
  record: SharedEpoch | null = null;
  /** Legs whose acks complete writes and which may serve reads. */
  inSyncMask = 0;
  /** Legs that get every write: in-sync and resyncing ones. */
  activeMask = 0;
  /** Active legs that are lost; they leave with the next epoch. */
  lostMask = 0;
  /** In-sync legs whose connection is lost and that are looked for by other paths; legs that are lost for good meanwhile (path_changes.ts). */
  changingMask = 0;
  failedMask = 0;
  /** Most payload bytes of writes in flight: what there is room for here, and at the leg that has the least. */
  writeLimitBytes: number;
  sequence = 1;
  watermark = 0;
  counters = { reads: 0, writes: 0, flushes: 0, readBytes: 0, writtenBytes: 0, failed: 0, legDrops: 0, readRepairs: 0 };

  constructor(options: ClientPoolOptions) {
    this.options = options;
    this.nowMs = options.nowMs;
    this.writeLimitBytes = this.#maxWriteBytes;
    this.outputs = new OutputQueue(32768);
    for (const { legIndex, address, told } of options.legs) {
      const link = newLink(legIndex, address);
      if (told !== undefined) link.paths = pathsOf(address, told, options.reach ?? TCP_ONLY);
      link.pathsLeft = link.paths.length;
      this.links[legIndex] = link;
    }
  }

  get isCaretaker(): boolean {
    return this.options.isCaretaker === true;
  }

  get dialect(): Dialect {
    return this.options.dialect ?? OUR_DIALECT;
  }

  /** A caretaker that acts on an operator's orders. */
  get isOrdered(): boolean {
    return this.options.isOrdered === true;
  }

  /** How long a leg may take to be reached by another path: with what it takes to notice its silence, less than four seconds by default. */
  get pathChangeMs(): number {
    return this.heartbeatLimitMs / 5;
  }

  /** Active legs that take no frames now. */
  get unreachableMask(): number {
    return this.changingMask | this.failedMask;
  }

  get heartbeatLimitMs(): number {
    return this.options.heartbeatLimitMs ?? 3000;
  }

  /** How often a leg hears from us, and answers: three times within the limits of both ends, of which the leg knows only its own. */
  get pingMs(): number {
    return Math.min(this.heartbeatLimitMs, SESSION_SILENCE_MS) / 3;
  }

  /** Wall clock as of the last tick; never 0. */
  get wallMs(): number {
    return Math.max(1, Math.floor((this.options.wallMs ?? 0) + this.nowMs - this.options.nowMs));
  }

  /** Most bytes of one zeroing or discarding request: all its extents must fit the intent log together. */
  get maxRangeBytes(): number {
    const { extentBytes, hotExtentCount } = this.options;
    return Math.min(32 * 1024 * 1024, extentBytes * Math.max(1, Math.floor(hotExtentCount / 4)));
  }

  /**
   * Most bytes of one reading or writing request. A leg refuses what is larger than half of its intent log; a read may have to be written back.
   */
  get maxPayloadBytes(): number {
    const { extentBytes, hotExtentCount } = this.options;
    return Math.min(MAX_PAYLOAD_BYTES, extentBytes * Math.max(1, Math.floor(hotExtentCount / 2)));
  }

  /** Extents of the pool. */
  get extentCount(): number {
    return Math.ceil(this.options.sizeBytes / this.options.extentBytes);
  }

  /** All configured legs. */
  get configuredMask(): number {
    let mask = 0;
    for (const link of this.links) if (link !== null) mask |= 1 << link.legIndex;
    return mask;
  }

  /** The legs that were claimed, or one of them, have told how much they take at once. */
  noteCredits(): void {
    this.writeLimitBytes = this.#maxWriteBytes;
    for (const link of this.links) {
      if (link === null || link.grant === null || link.welcome === null) continue;
      this.writeLimitBytes = Math.min(this.writeLimitBytes, link.welcome.creditBytes);
    }
  }

  get #maxWriteBytes(): number {
    return this.options.maxWriteBytes ?? 32 * 1024 * 1024;
  }

  /** No leg counts as active any more. */
  forgetLegs(): void {
    this.inSyncMask = 0;
    this.activeMask = 0;
    this.lostMask = 0;
    this.changingMask = 0;
    this.failedMask = 0;
    for (const link of this.links) if (link !== null) link.changeUntilMs = 0;
  }

  /** A frame to leg `link`. */
  send(link: LegLink, type: number, requestId: number): Output {
    const output = this.outputs.push(OutputKind.SEND);
    output.connection = link.connection;
    output.legIndex = link.legIndex;
    const message = output.message.reset(type);
    message.requestId = requestId;
    message.watermark = this.watermark;
    return output;
  }

  /** Counts a request of an application. */
  count(kind: number, lengthBytes: number): void {
    const counters = this.counters;
    if (kind === RequestKind.READ) {
      counters.reads++;
      counters.readBytes += lengthBytes;
    } else if (kind === RequestKind.FLUSH) counters.flushes++;
    else {
      counters.writes++;
      counters.writtenBytes += lengthBytes;
    }
  }

  /** How long requests wait for legs, in ms. */
  get ioTimeoutMs(): number {
    return this.options.ioTimeoutMs ?? this.record?.ioTimeoutMs ?? 30_000;
  }

  event(level: CoreEvent["level"], name: string, message: string, legIndex?: number): void {
    this.outputs.push(OutputKind.EVENT).body = { level, name, message, legIndex } satisfies CoreEvent;
  }
}

/** A link that is to be connected. */
export function newLink(legIndex: number, address: string): LegLink {
  return {
    legIndex,
    address,
    paths: [address],
    pathIndex: 0,
    pathsLeft: 1,
    attempt: 0,
    connectUntilMs: Infinity,
    changeUntilMs: 0,
    instance: "",
    legUuid: "",
    state: "down",
    connection: -1,
    hasFailed: false,
    lastHeardMs: 0,
    lastPingMs: 0,
    retryAtMs: 0,
    backoffMs: 50,
    welcome: null,
    grant: null,
    hasGranted: false,
    suspectedFrom: -1,
    resyncSession: 0,
    report: null,
    admittedAfter: 0,
    doneEpoch: -1,
    admitAtMs: 0,
    admitBackoffMs: 100,
    readsInFlight: 0,
    readErrors: 0,
    repairedBytes: 0,
    lastRefusal: "",
    lostReason: "",
    isRival: false,
    confirmedRound: 0,
  };
}

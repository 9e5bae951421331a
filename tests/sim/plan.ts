/**
 * What kind of world a seed makes (swarm testing): sizes, tempers and which faults strike, each drawn anew. Most worlds have
 * only some faults, since a world in which everything fails at once never gets far.
 *
 * @module
 */

import { Prng } from "../../lib/base/prng.ts";
import { between, happens, part, under } from "./chance.ts";
import type { PoolShape } from "./disk_image.ts";
import { MOST_PATHS, type NetworkOptions } from "./network.ts";

/** Faults that strike at random moments. */
export const Fault = {
  KILL_LEG: 0,
  POWER_LEG: 1,
  KILL_CLIENT: 2,
  KILL_CLIENT_AND_LEG: 3,
  POWER_ALL: 4,
  KILL_ALL: 5,
  BREAK_CONNECTION: 6,
  CUT_ONE_WAY: 7,
  CUT_BOTH_WAYS: 8,
  PAUSE_LEG: 9,
  PAUSE_CLIENT: 10,
  SLOW_LEG: 11,
  DETACH: 12,
  ROT: 13,
  THROTTLE: 14,
  POWER_CLIENT_AND_LEG: 15,
  TAKE_OVER: 16,
  ROT_INTENTS: 17,
  ISOLATE_CLIENT: 18,
  DRAIN: 19,
  UNDRAIN: 20,
  ADD_LEG: 21,
  REMOVE_LEG: 22,
  REPLACE_HOT: 23,
  REPLACE_COLD: 24,
  VERIFY: 25,
  LATENT: 26,
  POWER_AFTER_DROP: 27,
  STRANGER: 28,
  STRAY: 29,
  FULL_DISK: 30,
  CLOCK: 31,
  SUSPEND: 32,
  VERSION: 33,
  ROT_MAPS: 34,
  TAKE_OVER_APART: 35,
  CUT_PATH: 36,
  FORCE_START: 37,
  HANG_DISK: 38,
  CHANGE_ALONE: 39,
} as const;

/** Names, for traces. */
export const FAULT_NAMES = Object.keys(Fault);

/** All that is drawn at the start. */
export interface Plan {
  readonly seed: number;
  /** Places for a leg. */
  readonly legCount: number;
  /** Places that are blank at first, for legs to be added: the last ones. */
  readonly spareCount: number;
  /** The disk on which sectors become unreadable: always the same, so that nothing is lost everywhere. */
  readonly weakLeg: number;
  readonly shape: PoolShape;
  readonly network: NetworkOptions;
  readonly diskMeanMs: number;
  /** 0: every operation takes the mean; 1: from 0.3 to 2.3 times as long. */
  readonly diskVariance: number;
  readonly diskSpikeChance: number;
  readonly diskSpikeMs: number;
  /** By kind of disk operation: read, write, zero, flush, metadata. */
  readonly eioChance: readonly number[];
  /** Faults that strike in this world, likelier ones more often. */
  readonly faults: readonly number[];
  readonly faultMeanMs: number;
  readonly downMeanMs: number;
  readonly turnMs: number;
  /** Whether a storage node can tell a restart of its process from one of its machine. */
  readonly bootsAreKnown: boolean;
  /** Nodes that have the pool attached read-only. */
  readonly readerCount: number;
  /** Whether legs look after themselves while no client has the pool, and operators may give orders then. */
  readonly caretakers: boolean;
  /** Whether, when faults end, the legs must become whole without any client, before one comes back. */
  readonly clientless: boolean;
  readonly requestCount: number;
  readonly queueDepth: number;
  readonly thinkMeanMs: number;
  readonly mostSectors: number;
  /** Sectors that requests touch. */
  readonly spanSectors: number;
  /** Of 100 requests: writes, zeroes, discards, flushes; the rest are reads. */
  readonly writeShare: number;
  readonly zeroShare: number;
  readonly discardShare: number;
  readonly flushShare: number;
  readonly fuaChance: number;
  readonly legOptions: {
    readonly creditRequests: number;
    readonly creditBytes: number;
    readonly sessionSilenceMs: number;
    readonly pullBytes: number;
    readonly pullsInFlight: number;
  };
  readonly clientOptions: {
    readonly maxRequests: number;
    readonly maxWriteBytes: number;
    readonly heartbeatLimitMs: number;
    readonly legTimeoutMs: number;
    readonly flushIntervalMs: number;
    readonly connectLimitMs?: number;
  };
  /** By leg: the paths by which its node can be reached and says so; none are told where this is empty. */
  readonly pathCounts: readonly number[];
}

const KIB = 1024;

/** Draws a plan. */
export function drawPlan(seed: number): Plan {
  const prng = new Prng(seed);
  const unforced = drawUnforced(prng, seed);
  // Drawn last, one after the other: the other worlds stay what they were.
  const plan = happens(prng, 0.1) ? { ...unforced, ...forcedPlan(unforced.faults, prng) } : unforced;
  const hanging = happens(prng, 0.3) ? new Array(between(prng, 1, 3)).fill(Fault.HANG_DISK) : [];
  const creditBytes = happens(prng, 0.2) ? between(prng, 1, 16) * 4 * KIB : plan.legOptions.creditBytes;
  const isChanged = plan === unforced && plan.legCount > 2 && happens(prng, 0.25);
  const alone = isChanged ? new Array(between(prng, 1, 3)).fill(Fault.CHANGE_ALONE) : [];
  return { ...plan, faults: [...plan.faults, ...hanging, ...alone], legOptions: { ...plan.legOptions, creditBytes } };
}

/**
 * Where an operator starts the pool by force, nobody changes the leg table, and nobody reads but the client that is started. The load lasts
 * for long enough that legs can miss something, and a start can give up waiting for them.
 */
function forcedPlan(faults: readonly number[], prng: Prng): Partial<Plan> {
  const left = faults.filter((fault) => fault < Fault.DRAIN || fault === Fault.LATENT || fault === Fault.CUT_PATH);
  const forced = new Array(2 + Math.floor(left.length / 4)).fill(Fault.FORCE_START);
  return {
    faults: [...left, ...forced],
    faultMeanMs: 1500 + 4000 * part(prng),
    requestCount: between(prng, 200, 500),
    thinkMeanMs: 50 + 200 * part(prng),
    readerCount: 0,
    // Of histories that were forced apart only an operator can say which one goes.
    clientless: false,
  };
}

/** A plan in which nobody starts by force. */
function drawUnforced(prng: Prng, seed: number): Plan {
  const plan = drawSinglePaths(prng, seed);
  // Drawn after all that was there before: those worlds stay what they were.
  if (!happens(prng, 0.4)) return plan;
  const pathCounts = Array.from({ length: plan.legCount }, () => between(prng, 1, MOST_PATHS));
  const faults = [...plan.faults];
  for (let i = under(prng, 4); i > 0; i--) faults.push(Fault.CUT_PATH);
  const connectLimitMs = happens(prng, 0.7) ? plan.clientOptions.heartbeatLimitMs : undefined;
  return { ...plan, pathCounts, faults, clientOptions: { ...plan.clientOptions, connectLimitMs } };
}

/** A plan in which every leg has one path, of which nothing is told. */
function drawSinglePaths(prng: Prng, seed: number): Plan {
  const firstCount = happens(prng, 0.5) ? 2 : happens(prng, 0.7) ? 3 : between(prng, 4, 5);
  const chunkCount = happens(prng, 0.7) ? between(prng, 4, 16) * 16 : between(prng, 16, 64) * 16;
  const legUuids = Array.from({ length: firstCount }, () => drawUuid(prng));
  const extentChunks = happens(prng, 0.8) ? 16 : 32;
  const sizeBytes = chunkCount * 4 * KIB;
  const drawn = <T>(chance: number, value: T, other: T): T => happens(prng, chance) ? value : other;
  const faults: number[] = [];
  for (const fault of Object.values(Fault)) {
    // Drawn last: worlds without caretakers stay what they were.
    if (fault === Fault.ISOLATE_CLIENT || (fault >= Fault.STRANGER && fault !== Fault.TAKE_OVER_APART)) continue;
    if (!happens(prng, 0.45)) continue;
    for (let i = between(prng, 1, 4); i > 0; i--) faults.push(fault);
  }
  const eio = happens(prng, 0.25);
  const eioChance = () => (eio && happens(prng, 0.5) ? 0.002 + 0.02 * part(prng) * part(prng) : 0);
  const sectors = sizeBytes / 512;
  const spareCount = happens(prng, 0.4) ? between(prng, 1, 2) : 0;
  const legCount = firstCount + spareCount;
  // A client that is slow to notice its legs' silence, where a pool may start without one of them.
  const isApart = firstCount > 2 && faults.includes(Fault.TAKE_OVER_APART);
  const plan = {
    seed,
    legCount,
    spareCount,
    weakLeg: under(prng, legCount),
    readerCount: happens(prng, 0.3) ? between(prng, 1, 2) : 0,
    caretakers: false,
    clientless: false,
    pathCounts: [],
    shape: {
      poolUuid: drawUuid(prng),
      legUuids,
      historyId: drawUuid(prng),
      sizeBytes,
      chunkBytes: happens(prng, 0.8) ? 4 * KIB : 8 * KIB,
      extentBytes: extentChunks * 4 * KIB,
      hotExtentCount: happens(prng, 0.5) ? between(prng, 2, 6) : between(prng, 7, 20),
      minInSync: firstCount === 2 ? between(prng, 0, 1) : isApart ? 2 : between(prng, 1, 2),
      ioTimeoutMs: drawn(0.5, 30_000, between(prng, 2, 10) * 1000),
    },
    network: {
      baseDelayMs: 0.02 + 0.2 * part(prng),
      meanDelayMs: drawn(0.7, 0.2, 2),
      spikeChance: drawn(0.5, 0, 0.02),
      spikeMs: drawn(0.7, 20, 500),
      heldPayloadChance: drawn(0.5, 0, 0.3),
      earlyPlacementChance: drawn(0.5, 0, 0.5),
      silentBreakChance: drawn(0.5, 0, 0.3),
    },
    diskMeanMs: drawn(0.7, 0.2, 2),
    diskVariance: 1,
    diskSpikeChance: drawn(0.5, 0, 0.02),
    diskSpikeMs: drawn(0.7, 50, 1000),
    eioChance: [eioChance(), eioChance(), eioChance(), eioChance(), eioChance()],
    faults,
    faultMeanMs: 300 + 4000 * part(prng) * part(prng),
    downMeanMs: drawn(0.5, 300, 4000),
    bootsAreKnown: happens(prng, 0.8),
    turnMs: drawn(0.5, 0, 0.1),
    requestCount: between(prng, 60, 200),
    queueDepth: drawn(0.3, 1, between(prng, 2, 16)),
    thinkMeanMs: drawn(0.4, 0.5, 40 * part(prng)),
    mostSectors: drawn(0.5, 8, between(prng, 1, 40)),
    spanSectors: drawn(0.3, Math.min(sectors, 64), drawn(0.3, Math.min(sectors, 512), sectors)),
    writeShare: drawn(0.5, 50, between(prng, 20, 80)),
    zeroShare: drawn(0.5, 0, 6),
    discardShare: drawn(0.5, 0, 6),
    flushShare: drawn(0.7, 5, 0),
    fuaChance: drawn(0.5, 0, 0.15),
    legOptions: {
      creditRequests: drawn(0.7, 32, between(prng, 4, 16)),
      creditBytes: 4 * 1024 * KIB,
      sessionSilenceMs: 10_000,
      pullBytes: drawn(0.5, 32 * KIB, 8 * KIB),
      pullsInFlight: between(prng, 1, 4),
    },
    clientOptions: {
      maxRequests: 32,
      maxWriteBytes: drawn(0.7, 1024 * KIB, 32 * KIB),
      heartbeatLimitMs: isApart ? 12_000 : drawn(0.5, 3000, 1000),
      legTimeoutMs: drawn(0.7, 20_000, 4000),
      flushIntervalMs: drawn(0.5, 2000, between(prng, 20, 500)),
    },
  };
  if (!happens(prng, 0.5)) {
    faults.push(...drawStrangeFaults(prng));
    return plan;
  }
  if (happens(prng, 0.4)) { for (let i = between(prng, 1, 3); i > 0; i--) faults.push(Fault.ISOLATE_CLIENT); }
  const clientless = happens(prng, 0.5);
  return { ...plan, faults: [...faults, ...drawStrangeFaults(prng)], caretakers: true, clientless };
}

/** Strange faults (strange_faults.ts): none in half of the worlds. */
function drawStrangeFaults(prng: Prng): number[] {
  const faults: number[] = [];
  if (happens(prng, 0.5)) return faults;
  for (
    const fault of [
      Fault.STRANGER,
      Fault.STRAY,
      Fault.FULL_DISK,
      Fault.CLOCK,
      Fault.SUSPEND,
      Fault.VERSION,
      Fault.ROT_MAPS,
    ]
  ) {
    if (!happens(prng, 0.4)) continue;
    for (let i = between(prng, 1, 2); i > 0; i--) faults.push(fault);
  }
  return faults;
}

/** A random UUID. */
export function drawUuid(prng: Prng): string {
  const hex = (prng.next().toString(16).padStart(8, "0") + prng.next().toString(16).padStart(8, "0")) +
    (prng.next().toString(16).padStart(8, "0") + prng.next().toString(16).padStart(8, "0"));
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/**
 * What a client sends to have a leg resynced: JOIN to those who know what it lacks, RESYNC to the leg itself.
 *
 * @module
 */

import type { SharedEpoch } from "../disk_format/records.ts";
import type { ResyncOrder } from "../wire/bodies.ts";
import { MessageType } from "../wire/message.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import { surestMask } from "./epoch_changes.ts";
import { CONTROL_REQUEST_IDS } from "./request_table.ts";

/** Request id of both. */
export const RESYNC_ORDER_ID = CONTROL_REQUEST_IDS + 1;

/** Numbers the resync sessions of a client: unique within the pool's life, by the generation and a counter under it. */
export class ResyncSessions {
  #counter = 0;

  next(generation: number): number {
    this.#counter = this.#counter % 0xfff + 1; // never 0, and never the one before
    return (((generation & 0xfffff) << 12) | this.#counter) >>> 0;
  }
}

/** No resync is under way on this leg any more, and none has ended. */
export function forgetResync(link: LegLink): void {
  link.resyncSession = 0;
  link.report = null;
  link.doneEpoch = -1;
}

/** Announces the resync session of `target` to another leg. */
export function sendJoin(pool: ClientContext, to: LegLink, target: LegLink): void {
  const message = pool.send(to, MessageType.JOIN, RESYNC_ORDER_ID).message;
  message.legIndex = target.legIndex;
  message.resyncSession = target.resyncSession;
  message.sequence = target.admittedAfter;
}

/** Orders `target` to pull what it lacks. */
export function sendResync(
  pool: ClientContext,
  target: LegLink,
  order: { mode: ResyncOrder["mode"]; sources: number[]; extents: number[]; shared: SharedEpoch },
): void {
  const { mode, sources, extents, shared } = order;
  const output = pool.send(target, MessageType.RESYNC, RESYNC_ORDER_ID);
  output.message.sequence = target.admittedAfter;
  output.body = {
    resyncSession: target.resyncSession,
    mode,
    sources,
    extents,
    shared,
    addresses: addressesTold(pool),
  };
}

/** By leg index: what the legs' nodes have told of their addresses; undefined when none has told anything. */
function addressesTold(pool: ClientContext): string[][] | undefined {
  if (!pool.links.some((link) => link?.welcome?.addresses !== undefined)) return undefined;
  return pool.links.map((link) => [...link?.welcome?.addresses ?? []]);
}

/**
 * The member that the others are made equal to. One that has been up since it acked lacks nothing that was acked; of those rather one that
 * knows itself to be a member: one whose joining never reached it may have been told of less.
 */
export function reconcileSource(members: readonly LegLink[], unreadableMask: number): LegLink {
  const sources = possibleSources(members);
  const isMember = ({ grant, legIndex }: LegLink) => ((grant?.record.shared.inSyncMask ?? 0) & (1 << legIndex)) !== 0;
  const isReadable = ({ legIndex }: LegLink) => (unreadableMask & (1 << legIndex)) === 0;
  const readable = sources.filter(isReadable);
  return readable.find(isMember) ?? readable[0] ?? sources.find(isMember) ?? sources[0];
}

/** The members that lack nothing which any of them is sure to have. */
export function possibleSources(members: readonly LegLink[]): LegLink[] {
  const unbroken = members.filter(({ grant }) => grant?.unbroken === true);
  // One whose disk has failed a flush still has all that it acknowledged, but perhaps not for long.
  const sound = unbroken.filter(({ grant }) => grant?.flushFailed !== true);
  if (sound.length > 0) return sound;
  if (unbroken.length > 0) return unbroken;
  const told = members.map(({ legIndex, grant }) => ({ legIndex, shared: grant?.record.shared as SharedEpoch }));
  const mask = surestMask(told);
  return members.filter(({ legIndex }) => (mask & (1 << legIndex)) !== 0);
}

/**
 * After an unclean end: all members but `source` are made equal to that one on `extents`. Returns the mask of those that have to report.
 */
export function orderReconcile(
  pool: ClientContext,
  sessions: ResyncSessions,
  members: readonly LegLink[],
  source: LegLink,
  extents: number[],
  shared: SharedEpoch,
): number {
  const targets = members.filter((link) => link !== source);
  let mask = 0;
  for (const link of targets) {
    mask |= 1 << link.legIndex;
    link.resyncSession = sessions.next(pool.generation);
    link.admittedAfter = pool.sequence;
    sendJoin(pool, source, link);
  }
  for (const link of targets) {
    sendResync(pool, link, { mode: "reconcile", sources: [source.legIndex], extents, shared });
  }
  return mask;
}

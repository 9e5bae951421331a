/**
 * How legs come back: admitted to resync from a position of the write stream on, and taken into the in-sync set when they are complete.
 *
 * @module
 */

import type { SharedEpoch } from "../disk_format/records.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import type { ClientIo } from "./client_io.ts";
import { withLegsJoined, withLegUnknown } from "./epoch_changes.ts";
import { type ResyncSessions, sendJoin, sendResync } from "./resync_orders.ts";
import { indicesOf } from "./start_rule.ts";

/** What admission needs of the membership. */
export interface AdmissionHost {
  /** The newest record sent or taken over. */
  readonly latest: SharedEpoch | null;
  /** Whether a record is on its way. */
  readonly isProposing: boolean;
  /** Sends a record that drops nobody. */
  propose(shared: SharedEpoch, suspectExtents: number[]): void;
}

/** Whether the leg that has greeted on this link is the one of the leg table. */
export function isOfTable(link: LegLink, record: SharedEpoch | null): boolean {
  return link.welcome?.legUuid === record?.legs[link.legIndex]?.uuid;
}

/** The admission of one client's legs. */
export class Admission {
  readonly #pool: ClientContext;
  readonly #io: ClientIo;
  readonly #sessions: ResyncSessions;
  readonly #host: AdmissionHost;

  constructor(pool: ClientContext, io: ClientIo, sessions: ResyncSessions, host: AdmissionHost) {
    this.#pool = pool;
    this.#io = io;
    this.#sessions = sessions;
    this.#host = host;
  }

  /** Every claimed leg of the table that is not active, and not drained, is admitted to resync. */
  admitAll(): void {
    const pool = this.#pool;
    if (pool.phase !== "ready" || pool.unreachableMask !== 0) return;
    for (const link of pool.links) {
      if (link === null || link.state !== "claimed" || (pool.activeMask & (1 << link.legIndex)) !== 0) continue;
      const latest = this.#host.latest;
      if (latest?.legs[link.legIndex]?.isDrained !== false || !isOfTable(link, latest)) continue;
      // One that is coming into the table comes when the record that says so is in force.
      if (!isOfTable(link, pool.record)) continue;
      if (pool.nowMs >= link.admitAtMs) this.#admit(link, latest);
    }
  }

  /**
   * From this position in the stream on the leg gets every write; it pulls the rest from the others. Not while a record is on its way: the
   * leg would have it on disk perhaps before any member, and a record that drops a member speaks for what others have flushed before.
   */
  #admit(link: LegLink, latest: SharedEpoch): void {
    const pool = this.#pool;
    const bit = 1 << link.legIndex;
    if (this.#host.isProposing) return;
    const sources = indicesOf(pool.inSyncMask & ~pool.lostMask);
    if (sources.length === 0) return;
    if (!this.#areIntentsSuspected(link, latest)) return;
    link.resyncSession = this.#sessions.next(pool.generation);
    link.doneEpoch = -1;
    link.admittedAfter = pool.sequence;
    link.report = null;
    for (const index of indicesOf(pool.activeMask & ~pool.lostMask)) sendJoin(pool, pool.links[index] as LegLink, link);
    pool.activeMask |= bit;
    sendResync(pool, link, { mode: "dirty", sources, extents: [], shared: latest });
    pool.event("info", "resync-started", `Leg ${link.legIndex} (${link.address}) is back and resyncs`, link.legIndex);
  }

  /**
   * What a leg wrote last in a session that ended uncleanly may be on no other leg: before it is admitted, the extents of its intent log
   * become suspicions against it, durable on the in-sync legs. A leg that we dropped ourselves needs no more than what was marked then.
   */
  #areIntentsSuspected(link: LegLink, latest: SharedEpoch): boolean {
    const pool = this.#pool;
    if (link.suspectedFrom === 0 || link.grant === null) return true;
    const isUnknown = link.grant.intentsLost || link.grant.record.shared.historyId !== latest.historyId;
    if (link.suspectedFrom < 0 && link.grant.intents.length === 0 && !isUnknown) {
      link.suspectedFrom = 0;
      return true;
    }
    if (link.suspectedFrom > 0) return (pool.record?.epoch ?? 0) >= link.suspectedFrom;
    if (this.#host.isProposing) return false;
    const shared = withLegUnknown(latest, isUnknown ? link.legIndex : -1);
    link.suspectedFrom = shared.epoch;
    this.#host.propose(shared, link.grant.intents);
    return false;
  }

  /**
   * Takes a leg that has reported done, under the newest epoch, into the in-sync set. Readers are told what all members have done, acked or
   * not, and it stays true: so a leg becomes a member when it has done all that was sent to them before the record. For that moment further
   * writes are held back. What a member has yet to do is not waited for, which may hang with its disk; that leg can be
   * dropped then. Unless the one that joins waits for it itself: for room in its intent log, which what all have flushed makes.
   */
  maybeJoin(): void {
    const readyMask = this.#readyMask();
    const joinMask = readyMask & ~this.#io.holdWrites(readyMask);
    if (joinMask === 0) return;
    this.#host.propose(withLegsJoined(this.#host.latest as SharedEpoch, joinMask), []);
    this.#io.holdWrites(0);
  }

  /** The legs that could be taken in now, as a mask. */
  #readyMask(): number {
    const pool = this.#pool;
    const latest = this.#host.latest;
    if (this.#host.isProposing || latest === null || pool.lostMask !== 0 || pool.phase !== "ready") return 0;
    let joinMask = 0;
    for (const link of pool.links) {
      if (link === null || link.resyncSession === 0 || link.doneEpoch !== latest.epoch) continue;
      if (pool.watermark < link.admittedAfter) {
        this.#io.handleWantFlush();
        continue;
      }
      if ((pool.activeMask & (1 << link.legIndex)) !== 0) joinMask |= 1 << link.legIndex;
    }
    return joinMask;
  }
}

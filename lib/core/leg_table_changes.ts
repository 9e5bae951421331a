/**
 * Changes of the leg table that an operator asks for: draining a leg, adding, removing and replacing one.
 *
 * Each is one epoch record, made from the record in force as any other change of the in-sync set is, and carried out step by step
 * towards a goal that is read off the record: a step that is lost with its client is simply taken again by whoever asks again. A leg
 * that is in sync leaves the in-sync set (drained, in the record by which it leaves) before it leaves the table. A leg that comes
 * into the table does so all dirty, under an incarnation that no leg at its index ever had; ordinary resync does the rest.
 *
 * Two things follow by themselves, from what is on record: a leg that replaces another removes it once it is in sync itself, and a leg
 * that was made in place of one at the same index is taken for it when it greets, while that one is out of the set.
 *
 * @module
 */

import { type LegEntry, MAX_LEGS, type SharedEpoch } from "../disk_format/records.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import { newIncarnation } from "./incarnations.ts";
import { OutputKind } from "./output.ts";
import { bitCount } from "./start_rule.ts";

/** What is asked for. */
export type LegChange =
  /** Out of the in-sync set, and not admitted to resync until undrained. */
  | { readonly kind: "drain"; readonly legIndex: number }
  | { readonly kind: "undrain"; readonly legIndex: number }
  /** A leg that has been formatted. `replacesIndex`: the leg that goes once this one is in sync; -1 for none. */
  | {
    readonly kind: "add";
    readonly legIndex: number;
    readonly legUuid: string;
    readonly address: string;
    readonly replacesIndex: number;
  }
  /** Out of the in-sync set, then out of the table. */
  | { readonly kind: "remove"; readonly legIndex: number }
  /** The leg at this index has another UUID from now on, and is all dirty. */
  | { readonly kind: "adopt"; readonly legIndex: number; readonly legUuid: string };

/** Operators' changes that are not done after this long are given up. */
const LIMIT_MS = 20_000;

/** What the changes need of the membership. */
export interface LegTableHost {
  /** The newest record sent or taken over. */
  readonly latest: SharedEpoch | null;
  /** Whether a new record may be made now: the pool is served, and no other record is on its way. */
  readonly isSettled: boolean;
  /** Sends a record that drops nobody. */
  propose(shared: SharedEpoch): void;
  /** Drops an active leg; the record that does so is made from `latest` with `entry` for this leg. */
  dropLeg(legIndex: number, entry: LegEntry, reason: string): void;
}

/** A change under way. */
interface PendingChange {
  readonly change: LegChange;
  /** Of the operator who waits; -1 for what follows by itself. */
  readonly token: number;
  readonly deadlineMs: number;
}

/** The changes of one client: one at a time. */
export class LegTableChanges {
  readonly #pool: ClientContext;
  readonly #host: LegTableHost;
  #pending: PendingChange | null = null;

  constructor(pool: ClientContext, host: LegTableHost) {
    this.#pool = pool;
    this.#host = host;
  }

  /** Whether no change is under way. */
  get isIdle(): boolean {
    return this.#pending === null;
  }

  /** Takes up a change. Output CHANGE_DONE with `token` tells its end. */
  request(change: LegChange, token: number): void {
    if (this.#pending !== null && this.#pending.token >= 0) {
      this.#tell(token, "Another change of the leg table is under way; try again in a moment");
      return;
    }
    this.#pending = { change, token, deadlineMs: this.#pool.nowMs + LIMIT_MS };
    this.advance();
  }

  /** A leg has greeted that is not the one of the table. Whether it will be taken for it. */
  mayAdopt(link: LegLink): boolean {
    const latest = this.#host.latest;
    const entry = latest?.legs[link.legIndex] ?? null;
    const bit = 1 << link.legIndex;
    const { legUuid, replacesUuid } = link.welcome ?? {};
    if (latest === null || entry === null || legUuid === undefined || replacesUuid !== entry.uuid) return false;
    if ((latest.inSyncMask & bit) !== 0 || (this.#pool.activeMask & bit) !== 0) return false;
    if (this.#pending === null) {
      const change: LegChange = { kind: "adopt", legIndex: link.legIndex, legUuid };
      this.#pending = { change, token: -1, deadlineMs: this.#pool.nowMs + LIMIT_MS };
      this.advance();
    }
    return true;
  }

  /** Goes on where it can. Called when a record is in force, and as time passes. */
  advance(): void {
    const pool = this.#pool;
    if (this.#pending === null) this.#takeUpRemoval();
    const pending = this.#pending;
    if (pending === null) return;
    const latest = this.#host.latest;
    if (pool.phase === "refused" || pool.phase === "detached" || pool.phase === "detaching") {
      this.#end("The pool is not being served any more");
    } else if (!this.#host.isSettled || latest === null) {
      if (pool.nowMs >= pending.deadlineMs) {
        this.#end(`Not done within ${LIMIT_MS / 1000} s: the pool is ${pool.phase}`);
      }
    } else if (isDone(pending.change, latest)) this.#end("");
    else {
      const problem = this.problemOf(pending.change, latest);
      if (problem === null) this.#step(pending.change, latest);
      else this.#end(problem);
    }
  }

  /** Why a change cannot be made to this record; null when it can. */
  problemOf(change: LegChange, record: SharedEpoch): string | null {
    return changeProblem(change, record);
  }

  #step(change: LegChange, latest: SharedEpoch): void {
    const { legIndex } = change;
    const entry = latest.legs[legIndex] ?? null;
    const isActive = (this.#pool.activeMask & (1 << legIndex)) !== 0;
    if ((change.kind === "drain" || change.kind === "remove") && isActive && entry !== null) {
      this.#host.dropLeg(
        legIndex,
        { ...entry, isDrained: true },
        change.kind === "drain" ? "it is to be drained" : "it is to be removed",
      );
    } else this.#host.propose(withChange(latest, change, this.#pool.wallMs));
  }

  /** A leg that replaces another is in sync: that one is not needed any more. */
  #takeUpRemoval(): void {
    const latest = this.#host.latest;
    if (latest === null || !this.#host.isSettled) return;
    for (let index = 0; index < latest.legs.length; index++) {
      const change = removalDue(latest, index);
      if (change === null) continue;
      this.#pending = { change, token: -1, deadlineMs: this.#pool.nowMs + LIMIT_MS };
      return;
    }
  }

  #end(problem: string): void {
    const { change, token } = this.#pending as PendingChange;
    this.#pending = null;
    const { legIndex } = change;
    if (problem === "") this.#pool.event("info", `leg-${change.kind}`, DONE[change.kind](legIndex), legIndex);
    else this.#pool.event("warning", `leg-${change.kind}-refused`, problem, legIndex);
    if (token >= 0) this.#tell(token, problem);
  }

  #tell(token: number, problem: string): void {
    const output = this.#pool.outputs.push(OutputKind.CHANGE_DONE);
    output.token = token;
    output.body = problem;
  }
}

const DONE: Record<LegChange["kind"], (legIndex: number) => string> = {
  drain: (legIndex) => `Leg ${legIndex} is drained: out of the set until it is undrained`,
  undrain: (legIndex) => `Leg ${legIndex} is undrained and resyncs when it can`,
  add: (legIndex) => `Leg ${legIndex} is in the leg table; it copies everything`,
  remove: (legIndex) => `Leg ${legIndex} is out of the leg table`,
  adopt: (legIndex) => `The disk of leg ${legIndex} is a new one; it copies everything`,
};

/** The removal that follows from leg `legIndex` being in sync: it replaces another, which can go. Null when none does. */
export function removalDue(record: SharedEpoch, legIndex: number): LegChange & { kind: "remove" } | null {
  const replacesIndex = record.legs[legIndex]?.replacesIndex;
  if (replacesIndex === undefined || (record.inSyncMask & (1 << legIndex)) === 0) return null;
  const change = { kind: "remove", legIndex: replacesIndex } as const;
  return changeProblem(change, record) === null ? change : null;
}

/** Whether the record has what was asked for. */
export function isDone(change: LegChange, record: SharedEpoch): boolean {
  const entry = record.legs[change.legIndex] ?? null;
  const isInSync = (record.inSyncMask & (1 << change.legIndex)) !== 0;
  switch (change.kind) {
    case "drain":
      return entry !== null && entry.isDrained && !isInSync;
    case "undrain":
      return entry !== null && !entry.isDrained;
    case "add":
    case "adopt":
      return entry !== null && entry.uuid === change.legUuid;
    case "remove":
      return entry === null;
  }
}

/** Why a change cannot be made to this record, in a sentence that says what to do; null when it can. */
export function changeProblem(change: LegChange, record: SharedEpoch): string | null {
  const { legIndex } = change;
  const entry = record.legs[legIndex] ?? null;
  const bit = 1 << legIndex;
  if (change.kind === "add") return addProblem(change, record);
  if (entry === null) {
    const indices = record.legs.flatMap((each, index) => each === null ? [] : [index]);
    return `The pool has no leg ${legIndex}; its legs are ${indices.join(", ")}`;
  }
  if (change.kind === "undrain") return null;
  if (change.kind === "adopt") {
    return (record.inSyncMask & bit) === 0 ? null : `Leg ${legIndex} is in sync; its UUID cannot change`;
  }
  if ((record.inSyncMask & bit) === 0) {
    const rest = record.legs.filter((each, index) => each !== null && index !== legIndex).length;
    return change.kind === "remove" && rest === 0 ? `Leg ${legIndex} is the only one; delete the pool instead` : null;
  }
  const remaining = bitCount(record.inSyncMask & ~bit);
  if (remaining === 0) {
    return `Leg ${legIndex} is the last one in sync and holds the only good copy; get another leg in sync first`;
  }
  if (remaining < record.minInSync) {
    return `Without leg ${legIndex} only ${remaining} would be in sync, and the pool needs ${record.minInSync} ` +
      `(min-in-sync); get another leg in sync first`;
  }
  return null;
}

function addProblem(change: LegChange & { kind: "add" }, record: SharedEpoch): string | null {
  const { legIndex, legUuid, replacesIndex } = change;
  if (legIndex >= MAX_LEGS) return `A pool has at most ${MAX_LEGS} legs`;
  if (record.legs.some((entry) => entry?.uuid === legUuid)) return `Leg ${legUuid} is in the leg table already`;
  if ((record.legs[legIndex] ?? null) !== null) return `Index ${legIndex} is taken by another leg`;
  if (replacesIndex >= 0 && (record.legs[replacesIndex] ?? null) === null) {
    return `The pool has no leg ${replacesIndex}`;
  }
  return null;
}

/** The record after `latest` with the change made. For drain and remove the leg is out of the in-sync set already. */
export function withChange(latest: SharedEpoch, change: LegChange, wallMs: number): SharedEpoch {
  const legs = latest.legs.slice();
  while (legs.length <= change.legIndex) legs.push(null);
  const entry = legs[change.legIndex];
  const epoch = latest.epoch + 1;
  switch (change.kind) {
    case "drain":
    case "undrain":
      if (entry !== null) legs[change.legIndex] = { ...entry, isDrained: change.kind === "drain" };
      break;
    case "add":
      legs[change.legIndex] = {
        uuid: change.legUuid,
        address: change.address,
        mapIncarnation: newIncarnation(latest),
        mapDefaultDirty: true,
        outSinceMs: wallMs,
        isDrained: false,
        ...(change.replacesIndex >= 0 ? { replacesIndex: change.replacesIndex } : {}),
      };
      break;
    case "adopt":
      if (entry !== null) {
        const mapIncarnation = newIncarnation(latest);
        const isNew = { uuid: change.legUuid, mapIncarnation, mapDefaultDirty: true, isDrained: false };
        legs[change.legIndex] = { ...entry, ...isNew };
      }
      break;
    case "remove":
      legs[change.legIndex] = null;
      legs.forEach((each, index) => {
        if (each?.replacesIndex !== change.legIndex) return;
        const { replacesIndex: _gone, ...rest } = each;
        legs[index] = rest;
      });
      while (legs.at(-1) === null) legs.pop();
      break;
  }
  return { ...latest, epoch, legs };
}

/**
 * What the legs have told when greeted: the evidence for a start, before any claim, and what follows from it.
 *
 * @module
 */

import type { SharedEpoch } from "../disk_format/records.ts";
import type { AssemblyClock } from "./assembly_clock.ts";
import { mayCare } from "./care_rules.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import type { GrantedLeg } from "./epoch_changes.ts";
import { decideForced, forcedText, forceRiskText } from "./forced_start.ts";
import { isLeftAlone, type OwnHistory, SUPERSEDED_TEXT } from "./own_history.ts";
import type { RefusalCode } from "./snapshot.ts";
import { decideStart, type LegEvidence } from "./start_rule.ts";

/** What an assembly is to do with what the legs have said so far. */
export type GreetingStep =
  | { readonly next: "wait" | "ask-again" | "claim" }
  | { readonly next: "refuse"; readonly code: RefusalCode; readonly reason: string };

/** Decides whether the pool may be claimed, by the start rule or, when it is overdue, by force. */
export function stepAfterGreeting(pool: ClientContext, own: OwnHistory, clock: AssemblyClock): GreetingStep {
  const { evidence, unresolvedCount } = greetingsOf(pool);
  if (evidence.some(({ shared }) => own.isSupersededBy(shared))) {
    return { next: "refuse", code: "superseded", reason: SUPERSEDED_TEXT };
  }
  if (unresolvedCount > 0 && !clock.isGraceOver(pool.nowMs)) return { next: "wait" };
  const decision = decideStart(evidence.filter(({ shared }) => !own.isOutlived(shared)));
  if (pool.isCaretaker && !mayCare(pool, decision)) {
    return { next: "refuse", code: "nothing-to-do", reason: "there is nothing to do" };
  }
  if (decision.ok) return { next: "claim" };
  const isOverdue = clock.isOverdue(pool.nowMs);
  // Force is for what does not come in time either.
  const forced = pool.force === null || !isOverdue ? null : decideForced(evidence, pool.force.withoutMask);
  if (forced?.ok) return { next: "claim" };
  if (pool.wasReady || !isOverdue) {
    if (!pool.isCaretaker && clock.tellsOfWaiting()) {
      pool.event("warning", "waiting", `The pool waits for legs: ${decision.reason}`);
    }
    return { next: "ask-again" };
  }
  const { reason } = forced ?? decision;
  const risk = forced === null ? forceRiskText(evidence) : "";
  return { next: "refuse", code: "no-start", reason: `${reason}.${risk}${refusalsOf(pool)}` };
}

/** The evidence so far, and how many legs may still add to it. What is left alone says nothing about our history. */
function greetingsOf(pool: ClientContext): { evidence: LegEvidence[]; unresolvedCount: number } {
  const evidence: LegEvidence[] = [];
  let unresolvedCount = 0;
  for (const link of pool.links) {
    if (link === null || link.isRival) continue;
    const { record, legUuid } = link.welcome ?? {};
    if (link.state === "greeted" && record !== undefined && legUuid !== undefined) {
      evidence.push({
        legIndex: link.legIndex,
        legUuid,
        shared: record.shared as SharedEpoch,
        isWhole: link.welcome?.whole ?? true,
      });
    } else if (!link.hasFailed) unresolvedCount++;
  }
  return { evidence, unresolvedCount };
}

/** The legs that have granted the claim. */
export function grantsOf(pool: ClientContext): GrantedLeg[] {
  const granted: GrantedLeg[] = [];
  for (const link of pool.links) {
    if (link === null || link.state !== "claimed" || link.grant === null) continue;
    granted.push({ legIndex: link.legIndex, legUuid: link.welcome?.legUuid ?? "", grant: link.grant });
  }
  return granted;
}

/** The active legs hold `shared` by now: what they have granted is that. */
export function noteSpread(pool: ClientContext, shared: SharedEpoch): void {
  for (const link of pool.links) {
    if (link === null || link.grant === null || (pool.activeMask & (1 << link.legIndex)) === 0) continue;
    link.grant = { ...link.grant, record: { ...link.grant.record, shared: { ...shared, legs: [...shared.legs] } } };
  }
}

/**
 * Why a leg that greets while the pool is served is not taken: it is none of the leg table, or holds a history that ours may not overwrite.
 * Says so, once a connection.
 */
export function objectionTo(pool: ClientContext, link: LegLink, latest: SharedEpoch): "foreign" | "rival" | null {
  if (link.welcome?.legUuid !== latest.legs[link.legIndex]?.uuid) {
    pool.event("warning", "foreign-leg", `The leg at ${link.address} is not the one of the leg table`, link.legIndex);
    return "foreign";
  }
  return isLeftAlone(pool, link, latest) ? "rival" : null;
}

/** Says that the pool starts by force, and at what price. */
export function tellForced(
  pool: ClientContext,
  plan: { readonly record: SharedEpoch; readonly memberMask: number },
  isMixture: boolean,
  minInSync: number,
): void {
  pool.event("warning", "forced-start", forcedText(plan.record, plan.memberMask, minInSync, isMixture));
}

/** What legs have said when they refused us, in words. */
export function refusalsOf(pool: ClientContext): string {
  return pool.links.filter((link) => link !== null && link.lastRefusal !== "")
    .map((link) => ` Leg ${link?.legIndex}: ${link?.lastRefusal}.`).join("");
}

/**
 * What the legs have told when greeted: the evidence for a start, before any claim.
 *
 * @module
 */

import type { SharedEpoch } from "../disk_format/records.ts";
import type { ClientContext } from "./client_context.ts";
import type { LegEvidence } from "./start_rule.ts";

/** The evidence so far, and how many legs may still add to it. */
export function greetingsOf(pool: ClientContext): { evidence: LegEvidence[]; unresolvedCount: number } {
  const evidence: LegEvidence[] = [];
  let unresolvedCount = 0;
  for (const link of pool.links) {
    if (link === null) continue;
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

/** What legs have said when they refused us, in words. */
export function refusalsOf(pool: ClientContext): string {
  return pool.links.filter((link) => link !== null && link.lastRefusal !== "")
    .map((link) => ` Leg ${link?.legIndex}: ${link?.lastRefusal}.`).join("");
}

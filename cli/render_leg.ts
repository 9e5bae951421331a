/**
 * What `leg`, `replace` and `verify` show. Pure.
 *
 * @module
 */

import { formatBytes, formatRate } from "../lib/base/units.ts";
import type { ChangedLeg } from "../lib/control/leg_changes.ts";
import type { Replacement } from "../lib/control/leg_replacement.ts";
import type { VerifyDifference, VerifySnapshot } from "../lib/core/snapshot.ts";

/** A leg that is new in the table. */
export function renderAddedLeg(leg: ChangedLeg): string {
  return `${leg.poolName}: leg ${leg.legIndex} is ${leg.address}:${leg.path}. ${leg.note}\n`;
}

/** A leg that is out of the table. */
export function renderRemovedLeg(leg: ChangedLeg): string {
  const text = `${leg.poolName}: leg ${leg.legIndex} (${leg.address}) is removed`;
  return leg.note === "" ? `${text}, and erased\n` : `${text}. ${leg.note}\n`;
}

/** A replacement that has begun. */
export function renderReplacement(leg: Replacement): string {
  return `${leg.poolName}: leg ${leg.replacedIndex} is being replaced by ${leg.address}:${leg.path}, leg ${leg.legIndex}. ` +
    `${leg.note}\n`;
}

/** A verify under way, in a line. */
export function renderVerifyProgress(verify: VerifySnapshot): string {
  const percent = verify.totalBytes === 0 ? 100 : Math.floor(verify.verifiedBytes * 100 / verify.totalBytes);
  const limit = verify.rateBytesPerSecond === 0 ? "" : `, at most ${formatRate(verify.rateBytesPerSecond)}`;
  return `${percent} %  ${formatBytes(verify.verifiedBytes)} of ${formatBytes(verify.totalBytes)} compared${limit}, ` +
    `${verify.differences} differences`;
}

/** What a verify has found. */
export function renderVerify(poolName: string, verify: VerifySnapshot): string {
  const legs = `legs ${legsOf(verify.comparedMask).join(", ")}`;
  const end = verify.state === "done" ? "" : ` before it ended (${verify.message})`;
  let text = `${poolName}: ${formatBytes(verify.verifiedBytes)} of ${legs} compared${end}\n`;
  if (verify.differences === 0) {
    const rest = formatBytes(verify.totalBytes - verify.verifiedBytes);
    return text + (verify.state === "done" ? "  equal\n" : `  no difference so far; ${rest} not compared\n`);
  }
  for (const difference of verify.told) text += `  ${sentenceOf(difference)}\n`;
  const untold = verify.differences - verify.told.length;
  if (untold > 0) text += `  and ${untold} more\n`;
  text += `  ${formatBytes(verify.differingBytes)} differ, ${formatBytes(verify.unreadableBytes)} could not be read, ` +
    `${formatBytes(verify.repairedBytes)} are repaired\n`;
  if (verify.lostBytes > 0) text += `  ${formatBytes(verify.lostBytes)} cannot be read from any leg in sync\n`;
  return text;
}

function sentenceOf(difference: VerifyDifference): string {
  const where = `at ${difference.offset}, ${formatBytes(difference.lengthBytes)}:`;
  const legs = legsOf(difference.legMask).map((index) => `leg ${index}`).join(" and ");
  if (difference.sourceLegIndex < 0) return `${where} ${legs} cannot be read`;
  const choice = `leg ${difference.sourceLegIndex} (${difference.isMajority ? "as most" : "the first in sync"})`;
  const isOne = legsOf(difference.legMask).length === 1;
  const what = difference.isUnreadable ? "cannot be read; the data is that of" : `differ${isOne ? "s" : ""} from`;
  return `${where} ${legs} ${what} ${choice}${difference.isRepaired ? "; repaired" : ""}`;
}

function legsOf(mask: number): number[] {
  return [0, 1, 2, 3, 4, 5, 6, 7].filter((index) => (mask >> index & 1) === 1);
}

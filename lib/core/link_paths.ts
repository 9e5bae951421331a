/**
 * The paths to a leg: every address at which its storage node says it can be reached. They are tried in rounds, in order of preference
 * (RDMA first where this end has it), each once; only when a whole round has failed is the leg left alone for a while. After a loss the
 * round begins with the path after the one that was lost.
 *
 * A leg tells its addresses with each greeting. One that tells none, being older, has one path: where the leg table leads.
 *
 * @module
 */

import type { ClientContext, LegLink } from "./client_context.ts";
import { bare, pathsOf, TCP_ONLY } from "./leg_addresses.ts";
import { OutputKind } from "./output.ts";

/** The path that a link uses, or tries next. */
export function pathInUse(link: LegLink): string {
  return link.paths[link.pathIndex];
}

/** The leg table leads elsewhere now. */
export function movePaths(link: LegLink, address: string): void {
  link.address = address;
  link.paths = [address];
  link.pathIndex = 0;
  link.pathsLeft = 1;
}

/** A leg has greeted, and told its addresses (undefined: an older node). The path that it greeted on stays the one in use. */
export function learnPaths(pool: ClientContext, link: LegLink, told: readonly string[] | undefined): void {
  const inUse = pathInUse(link);
  const paths = pathsOf(link.address, told ?? [], pool.options.reach ?? TCP_ONLY);
  let index = paths.indexOf(inUse);
  if (index < 0) index = paths.findIndex((path) => bare(path) === bare(inUse));
  if (index < 0) index = paths.push(inUse) - 1;
  link.paths = paths;
  link.pathIndex = index;
  link.pathsLeft = paths.length;
}

/** Begins to connect by the path that is next. */
export function connectLink(pool: ClientContext, link: LegLink): void {
  link.state = "connecting";
  link.attempt++;
  link.connectUntilMs = pool.nowMs + (pool.options.connectLimitMs ?? Infinity);
  const output = pool.outputs.push(OutputKind.CONNECT);
  output.legIndex = link.legIndex;
  output.token = link.attempt;
  output.address = pathInUse(link);
}

/** Gives up an attempt that takes too long: nobody may be there to refuse it. True if there was one. */
export function giveUpOverdue(pool: ClientContext, link: LegLink): boolean {
  if (link.state !== "connecting" || pool.nowMs < link.connectUntilMs) return false;
  const output = pool.outputs.push(OutputKind.GIVE_UP);
  output.legIndex = link.legIndex;
  output.token = link.attempt;
  link.attempt++;
  return true;
}

/** The path in use is down. True if another is to be tried at once: the round is not over. */
export function nextPath(link: LegLink): boolean {
  const hasGreeted = link.state !== "connecting" && link.state !== "greeting";
  const count = link.paths.length;
  if (!hasGreeted && link.pathsLeft > 1) {
    link.pathsLeft--;
    link.pathIndex = (link.pathIndex + 1) % count;
    return true;
  }
  // A round that has failed is followed by one in order of preference.
  link.pathIndex = hasGreeted ? (link.pathIndex + 1) % count : 0;
  link.pathsLeft = count;
  return false;
}

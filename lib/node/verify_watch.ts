/**
 * What a verify speaks of is one set of legs. So it ends when a leg leaves that set or comes into it, and one that is to repair does not begin
 * while a leg is away: that leg may be the one that tells which of the others is right, and would get what is written meanwhile.
 *
 * @module
 */

import type { CoreEvent } from "../core/output.ts";
import type { ClientSnapshot } from "../core/snapshot.ts";

/** Of a core, what is needed here; see `ClientPool`. */
export interface VerifyingCore {
  snapshot(): ClientSnapshot;
  startVerify(options: { readonly repair: boolean; readonly rateBytesPerSecond: number }): string;
  stopVerify(): void;
}

/** Begins verifies of one core, and watches over them. */
export class VerifyWatch {
  #inSyncMask = 0;

  /** Begins one. Returns why it cannot, or "". */
  start(core: VerifyingCore, options: { readonly repair: boolean; readonly rateBytesPerSecond: number }): string {
    const { legs, inSyncMask } = core.snapshot();
    const away = legs.find(({ legIndex, isDrained }) => !isDrained && (inSyncMask & (1 << legIndex)) === 0);
    if (options.repair && away !== undefined) {
      return `Leg ${away.legIndex} is not in sync. It may be the one that tells which of the others is right: wait until it is, ` +
        "drain or remove it, or verify without --repair";
    }
    const problem = core.startVerify(options);
    if (problem === "") this.#inSyncMask = inSyncMask;
    return problem;
  }

  /** To be told of each event of the core. Returns what is to be told of in turn, or null. */
  heard(core: VerifyingCore, { name }: CoreEvent): CoreEvent | null {
    if (name !== "leg-dropped" && name !== "leg-in-sync") return null;
    const { inSyncMask, verify } = core.snapshot();
    if (verify.state !== "running" || inSyncMask === this.#inSyncMask) return null;
    core.stopVerify();
    const message = "The verify ends: the set of legs that it was begun with has changed. Begin it anew";
    return { level: "warning", name: "verify-outdated", message };
  }
}

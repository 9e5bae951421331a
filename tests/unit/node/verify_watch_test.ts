/** A verify speaks of one set of legs: when it may begin, and when it ends. */

import assert from "node:assert/strict";
import type { ClientSnapshot } from "../../../lib/core/snapshot.ts";
import { type VerifyingCore, VerifyWatch } from "../../../lib/node/verify_watch.ts";

const EVENT = { level: "info", message: "" } as const;

/** A core of three legs that verifies whatever it is asked to. */
class Core implements VerifyingCore {
  inSyncMask = 0b111;
  drainedMask = 0;
  state = "off";
  problem = "";

  snapshot(): ClientSnapshot {
    const legs = [0, 1, 2].map((legIndex) => ({ legIndex, isDrained: (this.drainedMask & (1 << legIndex)) !== 0 }));
    return { legs, inSyncMask: this.inSyncMask, verify: { state: this.state } } as unknown as ClientSnapshot;
  }

  startVerify(): string {
    if (this.problem === "") this.state = "running";
    return this.problem;
  }

  stopVerify(): void {
    this.state = "stopped";
  }
}

const REPAIR = { repair: true, rateBytesPerSecond: 0 };
const COMPARE = { repair: false, rateBytesPerSecond: 0 };

Deno.test("a verify repairs only where no leg is away that is not drained; it may compare the others", () => {
  const core = new Core();
  const watch = new VerifyWatch();
  core.inSyncMask = 0b101;
  assert.match(watch.start(core, REPAIR), /^Leg 1 is not in sync/);
  assert.equal(core.state, "off");
  assert.equal(watch.start(core, COMPARE), "");
  core.drainedMask = 0b010;
  assert.equal(watch.start(core, REPAIR), "");
  core.problem = "A verify of this pool is running already";
  assert.equal(watch.start(core, REPAIR), core.problem);
});

Deno.test("a verify ends when a leg leaves the set or comes into it, and with nothing else", () => {
  for (const [before, name, after] of [[0b111, "leg-dropped", 0b011], [0b011, "leg-in-sync", 0b111]] as const) {
    const core = new Core();
    const watch = new VerifyWatch();
    core.inSyncMask = before;
    watch.start(core, COMPARE);
    assert.equal(watch.heard(core, { ...EVENT, name: "read-failed" }), null);
    assert.equal(watch.heard(core, { ...EVENT, name: "leg-dropped" }), null, "one that was not in the set");
    assert.equal(core.state, "running");
    core.inSyncMask = after;
    assert.equal(watch.heard(core, { ...EVENT, name })?.name, "verify-outdated");
    assert.equal(core.state, "stopped");
    assert.equal(watch.heard(core, { ...EVENT, name }), null, "it is told once");
  }
});

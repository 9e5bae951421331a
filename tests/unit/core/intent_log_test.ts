/** What the intent log takes over from the disk. */

import assert from "node:assert/strict";
import { FREE_SLOT, IntentLog } from "../../../lib/core/intent_log.ts";

Deno.test("an extent that is twice on the disk is gone from there when the log says that it is saved", () => {
  const slots = new Uint32Array(8).fill(FREE_SLOT);
  slots[1] = 7; // in block 0
  slots[6] = 7; // in block 1
  const disk = slots.slice();
  const log = new IntentLog(slots, 4, 100);
  assert.deepEqual(log.extents(), [7]);
  log.forget(Infinity, Infinity, false, () => true);
  for (let block = log.nextBlockToWrite(true); block >= 0; block = log.nextBlockToWrite(true)) {
    disk.set(log.beginWrite(block), 4 * block);
    log.endWrite(block, true);
  }
  assert.ok(log.isSaved);
  assert.deepEqual([...disk], new Array(8).fill(FREE_SLOT));
});

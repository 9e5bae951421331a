/** How far the newest write of a client may be ahead of the oldest that is unfinished. */

import assert from "node:assert/strict";
import { SequenceWindow } from "../../../lib/core/sequence_window.ts";

/** As many requests as a client may have (request_table.ts). */
const MOST_REQUESTS = 4096;

Deno.test("a write that hangs holds back the watermark, also when reads that are under way at a full window become writes", () => {
  const window = new SequenceWindow();
  const hung = 2;
  let sequence = hung;
  while (!window.isFull(sequence)) window.markDone(++sequence);
  assert.equal(window.stable, hung - 1);
  for (let count = 0; count < MOST_REQUESTS; count++) window.markDone(++sequence);
  assert.equal(window.stable, hung - 1, "nothing after the write that hangs is vouched for");
  window.markDone(hung);
  assert.equal(window.stable, sequence);
  window.markDone(sequence + 1);
  assert.equal(window.stable, sequence + 1, "nothing is left over of the round before");
});

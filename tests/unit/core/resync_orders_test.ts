/** The numbers of resync sessions. */

import assert from "node:assert/strict";
import { ResyncSessions } from "../../../lib/core/resync_orders.ts";

Deno.test("resync sessions under one generation have 4095 numbers in turn, none of them 0", () => {
  const sessions = new ResyncSessions();
  const first = Array.from({ length: 4095 }, () => sessions.next(7));
  assert.equal(new Set(first).size, 4095);
  assert.ok(first.every((number) => (number & 0xfff) !== 0 && number >>> 12 === 7));
  assert.deepEqual(Array.from({ length: 4095 }, () => sessions.next(7)), first);
});

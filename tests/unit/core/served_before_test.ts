/** Whether another client has served a pool since: what the legs' records say, before this one comes to serve. */

import assert from "node:assert/strict";
import type { ClientContext } from "../../../lib/core/client_context.ts";
import { noteRecordOf } from "../../../lib/core/leg_masks.ts";
import type { SharedEpoch } from "../../../lib/disk_format/records.ts";

Deno.test("the newest generation that served counts, but for records that this client has made itself", () => {
  const lastServed = { generation: 0, boots: new Map(), hadCaretaker: false, made: 0, byOthers: 0 };
  const tell = (generation: number, clientGeneration: number) =>
    noteRecordOf({ lastServed } as unknown as ClientContext, { generation, clientGeneration } as SharedEpoch);
  tell(9, 7); // a caretaker has had the legs since
  tell(4, 4); // a leg that was away
  assert.equal(lastServed.byOthers, 7);
  lastServed.made = 10;
  tell(10, 10); // a claim of ours that did not come to serve
  assert.equal(lastServed.byOthers, 7);
  lastServed.generation = 11;
  tell(12, 12); // from now on OwnHistory tells
  assert.equal(lastServed.byOthers, 7);
});

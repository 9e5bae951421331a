/** What the client core does with a leg that answers in a dialect it did not offer. */

import assert from "node:assert/strict";
import { ClientPool } from "../../../lib/core/client_pool.ts";
import { type Output, OutputKind } from "../../../lib/core/output.ts";
import { Message, MessageType, PROTOCOL_VERSION } from "../../../lib/wire/message.ts";
import { clientOptions, welcomeBody } from "./client_fixture.ts";

function greetedWith(protocol: number, features: number): { pool: ClientPool; kinds: number[] } {
  const pool = new ClientPool(clientOptions({ assembleTimeoutMs: 1000 }));
  pool.start({ takeover: false });
  pool.handleConnected(0, 7);
  drain(pool);
  const message = new Message().reset(MessageType.WELCOME);
  pool.handleMessage(7, message, -1, welcomeBody({ protocol, features }));
  return { pool, kinds: drain(pool) };
}

function drain(pool: ClientPool): number[] {
  const kinds: number[] = [];
  for (let output: Output | null = pool.poll(); output !== null; output = pool.poll()) kinds.push(output.kind);
  return kinds;
}

Deno.test("a leg that answers in our version is kept", () => {
  const { kinds } = greetedWith(PROTOCOL_VERSION, 0);
  assert.equal(kinds.includes(OutputKind.CLOSE), false);
});

for (
  const [what, protocol, features] of [["a newer version", 99, 0], ["unknown features", PROTOCOL_VERSION, 4]] as const
) {
  Deno.test(`a leg that answers with ${what} is let go, and the refusal says why`, () => {
    const { pool, kinds } = greetedWith(protocol, features);
    assert.equal(kinds.includes(OutputKind.CLOSE), true);
    pool.handleConnectionClosed(7);
    for (let nowMs = 0; nowMs <= 2000; nowMs += 100) {
      pool.handleTick(nowMs);
      drain(pool);
    }
    assert.equal(pool.state, "refused");
    assert.match(pool.refusal, what === "unknown features" ? /features/ : /version/);
  });
}

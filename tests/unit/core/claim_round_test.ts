/** What a client's claim says, as a leg reads it. */

import assert from "node:assert/strict";
import { ClaimRound } from "../../../lib/core/claim_round.ts";
import { ClientContext, type LegLink } from "../../../lib/core/client_context.ts";
import type { Claim, Welcome } from "../../../lib/wire/bodies.ts";
import { encodeBody, parseBody } from "../../../lib/wire/body_codec.ts";
import { MessageType } from "../../../lib/wire/message.ts";
import { Feature } from "../../../lib/wire/negotiate.ts";
import { clientOptions, welcomeBody } from "./client_fixture.ts";

/** The claim of a leg with two paths, by a client with this heartbeat limit. */
function claimWith(heartbeatLimitMs: number): Claim {
  const pool = new ClientContext(clientOptions({
    legs: [{ legIndex: 0, address: "10.0.0.1:1", told: ["10.0.0.1:1", "10.0.1.1:1"] }],
    heartbeatLimitMs,
  }));
  const link = pool.links[0] as LegLink;
  link.welcome = welcomeBody({ features: Feature.RETURN }) as Welcome;
  link.connection = 1;
  new ClaimRound(pool).send(link);
  const body = parseBody(MessageType.CLAIM, encodeBody(MessageType.CLAIM, pool.outputs.poll()!.body));
  assert.ok(body.ok, body.ok ? "" : body.message);
  return body.body as Claim;
}

Deno.test("a client asks for the time that it takes to notice a loss, and to come back", () => {
  assert.equal(claimWith(3000).returnMs, 3600);
});

Deno.test("a client with a very long heartbeat asks for no more than a leg grants", () => {
  assert.equal(claimWith(600_000).returnMs, 60_000);
});

Deno.test("rounds that are not enough are repeated less and less often, and are hopeless after a while", () => {
  const pool = new ClientContext(clientOptions({}));
  const claims = new ClaimRound(pool);
  const pauses = Array.from({ length: 30 }, () => claims.failed(false));
  assert.deepEqual(pauses.slice(0, 3), [0, 100, 200]);
  assert.equal(pauses[29], 2000);
  assert.ok(!claims.isHopeless);
  pool.nowMs += 16_000;
  assert.ok(claims.isHopeless);
  claims.succeeded();
  assert.ok(!claims.isHopeless);
  assert.equal(claims.failed(true), 1000);
});

Deno.test("who would wait longer for a leg that does not greet waits as long for one that does not answer", () => {
  const pool = new ClientContext(clientOptions({ assembleTimeoutMs: 60_000 }));
  const claims = new ClaimRound(pool);
  claims.failed(false);
  pool.nowMs += 59_000;
  assert.ok(!claims.isHopeless);
  pool.nowMs += 1000;
  assert.ok(claims.isHopeless);
});

/** How often a client comes back to a leg that answers. */

import assert from "node:assert/strict";
import { ClientContext, type LegLink } from "../../../lib/core/client_context.ts";
import { LegLinks } from "../../../lib/core/leg_links.ts";
import type { Welcome } from "../../../lib/wire/bodies.ts";
import { clientOptions, welcomeBody } from "./client_fixture.ts";

/** How often in 10 s a leg is greeted that welcomes the client, and whose connection then ends. */
function greetingsIn10s(isTaken: boolean): number {
  const pool = new ClientContext(clientOptions({}));
  const links = new LegLinks(pool, "client");
  const link = pool.links[0] as LegLink;
  let count = 0;
  for (; pool.nowMs < 10_000; pool.nowMs += 10) {
    links.connect();
    if (link.state !== "connecting") continue;
    links.connected(0, ++count, link.attempt, true);
    assert.ok(links.welcomed(link, welcomeBody({ features: pool.dialect.features }) as Welcome));
    if (isTaken) links.taken(link);
    links.down(link);
  }
  return count;
}

Deno.test("a leg that greets and is not taken is asked once a second in the end", () => {
  const count = greetingsIn10s(false);
  assert.ok(count >= 10 && count <= 16, String(count));
});

Deno.test("a leg that was taken is connected to soon after each loss", () => {
  const count = greetingsIn10s(true);
  assert.ok(count >= 150, String(count));
});

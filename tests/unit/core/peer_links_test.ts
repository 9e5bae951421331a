/** What late news of a connect may do to a link between legs, and what a leg still waits for when a source is gone. */

import assert from "node:assert/strict";
import { PeerLinks } from "../../../lib/core/peer_links.ts";

function linkThatIsUp(): PeerLinks {
  const links = new PeerLinks();
  links.want(1, ["127.0.0.1:1"]);
  links.connecting(1, 0);
  assert.ok(links.connected(1, 7, 0));
  links.greeted(1);
  return links;
}

Deno.test("the failure of a connect that an earlier order began does not harm a link that is up", () => {
  const links = linkThatIsUp();
  links.connectFailed(1, 10);
  assert.ok(links.isUp(1));
  assert.equal(links.connectionOf(1), 7);
});

Deno.test("a connect that fails is tried again after a pause", () => {
  const links = new PeerLinks();
  links.want(1, ["127.0.0.1:1"]);
  links.connecting(1, 0);
  links.connectFailed(1, 10);
  assert.equal(links.mayConnect(1, 10), false);
  assert.equal(links.mayConnect(1, 1000), true);
});

Deno.test("a link that has broken is no link, and its connection is nobody's", () => {
  const links = linkThatIsUp();
  links.lost(1, 10);
  assert.equal(links.isUp(1), false);
  assert.equal(links.indexOf(7), -1);
});

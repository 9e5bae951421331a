/** Two ends of any age agree on the same thing, or both know that they cannot. */

import assert from "node:assert/strict";
import { answerOffer, checkAnswer, type Dialect, intersect, OUR_DIALECT } from "../../../lib/wire/negotiate.ts";
import { PROTOCOL_VERSION } from "../../../lib/wire/message.ts";

function dialect(oldestProtocol: number, newestProtocol: number, features = 0, requiredFeatures = 0): Dialect {
  return { oldestProtocol, newestProtocol, features, requiredFeatures };
}

/** What both ends make of it: the version and features, or the code of the first refusal. */
function talk(connecting: Dialect, listening: Dialect): string {
  const answer = answerOffer(listening, { protocol: connecting.newestProtocol, features: connecting.features });
  if (!answer.ok) return answer.code;
  const check = checkAnswer(connecting, answer);
  if (!check.ok) return check.code;
  assert.deepEqual(check, answer, "Both ends agree on one thing");
  return `${check.protocol}/${check.features}`;
}

Deno.test("this code agrees with itself", () => {
  assert.equal(talk(OUR_DIALECT, OUR_DIALECT), `${PROTOCOL_VERSION}/${OUR_DIALECT.features}`);
});

Deno.test("the highest common version is taken, whoever connects", () => {
  for (let oldestA = 1; oldestA <= 4; oldestA++) {
    for (let newestA = oldestA; newestA <= 5; newestA++) {
      for (let oldestB = 1; oldestB <= 4; oldestB++) {
        for (let newestB = oldestB; newestB <= 5; newestB++) {
          const common = Math.min(newestA, newestB);
          const expected = common >= Math.max(oldestA, oldestB) ? `${common}/0` : "protocol-version";
          assert.equal(talk(dialect(oldestA, newestA), dialect(oldestB, newestB)), expected);
        }
      }
    }
  }
});

Deno.test("feature bits intersect, also above bit 31", () => {
  const high = 2 ** 52;
  assert.equal(talk(dialect(1, 1, high + 0x80000001), dialect(1, 1, high + 0x80000002)), `1/${high + 0x80000000}`);
  assert.equal(intersect(Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER), Number.MAX_SAFE_INTEGER);
  assert.equal(intersect(Number.MAX_SAFE_INTEGER, 0), 0);
  assert.equal(intersect(0xffffffff, 0x80000000), 0x80000000);
});

Deno.test("a required feature that is missing is refused by the end that needs it", () => {
  assert.equal(talk(dialect(1, 1, 6, 2), dialect(1, 1, 2)), "1/2");
  assert.equal(talk(dialect(1, 1, 6, 4), dialect(1, 1, 2)), "features");
  assert.equal(talk(dialect(1, 1, 2), dialect(1, 1, 6, 4)), "features");
});

Deno.test("an answer outside of what was offered is refused", () => {
  const ours = dialect(2, 3, 1);
  for (const protocol of [0, 1, 4]) {
    const check = checkAnswer(ours, { protocol, features: 0 });
    assert.ok(!check.ok && check.code === "protocol-version");
    assert.match(check.message, protocol < 2 ? /upgrade the other end/ : /upgrade this end/);
  }
  const check = checkAnswer(ours, { protocol: 3, features: 3 });
  assert.ok(!check.ok && check.code === "features");
});

Deno.test("old and new, every pair: both ends agree on the same, or part in words", () => {
  const dialects: Dialect[] = [];
  for (let oldest = 1; oldest <= 4; oldest++) {
    for (let newest = oldest; newest <= 4; newest++) {
      for (const features of [0, 0b01, 0b11, 2 ** 40 + 1]) {
        for (const required of [0, 0b01]) {
          if (intersect(features, required) !== required) continue;
          dialects.push({ oldestProtocol: oldest, newestProtocol: newest, features, requiredFeatures: required });
        }
      }
    }
  }
  let agreed = 0;
  for (const connector of dialects) {
    for (const listener of dialects) {
      const answer = answerOffer(listener, { protocol: connector.newestProtocol, features: connector.features });
      const common = Math.min(connector.newestProtocol, listener.newestProtocol);
      const both = intersect(connector.features, listener.features);
      const isPossible = common >= Math.max(connector.oldestProtocol, listener.oldestProtocol) &&
        [connector, listener].every(({ requiredFeatures }) => intersect(both, requiredFeatures) === requiredFeatures);
      // What the listener cannot know the connector checks: what it needs, and the oldest version that it speaks.
      const outcome = answer.ok ? checkAnswer(connector, answer) : answer;
      assert.equal(outcome.ok, isPossible);
      if (outcome.ok && answer.ok) {
        agreed++;
        assert.deepEqual([outcome.protocol, outcome.features], [common, both]);
        assert.deepEqual([answer.protocol, answer.features], [common, both]);
      } else if (!outcome.ok) assert.match(outcome.message, /upgrade/);
    }
  }
  assert.ok(agreed > 500, `${agreed} pairs agree`);
});

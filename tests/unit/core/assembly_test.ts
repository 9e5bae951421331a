/** What a client does while nothing can be decided from what the legs have said. */

import assert from "node:assert/strict";
import { ClientPool } from "../../../lib/core/client_pool.ts";
import { type Output, OutputKind } from "../../../lib/core/output.ts";
import type { SharedEpoch } from "../../../lib/disk_format/records.ts";
import type { Welcome } from "../../../lib/wire/bodies.ts";
import { Message, MessageType } from "../../../lib/wire/message.ts";
import { clientOptions, sharedEpoch, UUID, uuidOf, welcomeBody } from "./client_fixture.ts";

type Shared = NonNullable<Welcome["record"]>["shared"];

const record = (changed: Partial<SharedEpoch>) => sharedEpoch({ historyNumber: 1, ...changed }, 2);

/** A client of two legs, and what it wants of them. */
class Asking {
  readonly pool = new ClientPool(clientOptions({
    legs: [0, 1].map((legIndex) => ({ legIndex, address: `h${legIndex}:1` })),
    assembleTimeoutMs: 60_000,
    heartbeatLimitMs: 600_000,
  }));
  readonly closed: number[] = [];
  readonly claimed: number[] = [];
  #connection = 0;

  constructor() {
    this.pool.start({ takeover: false });
  }

  /** A leg is reached, and says this. */
  greets(legIndex: number, shared: SharedEpoch): number {
    const connection = this.#connection++;
    this.pool.handleConnected(legIndex, connection);
    const body = welcomeBody({
      legUuid: uuidOf(legIndex),
      whole: true,
      record: { shared: shared as Shared, promisedGeneration: shared.generation, promisedTo: UUID },
    });
    this.pool.handleMessage(connection, new Message().reset(MessageType.WELCOME), -1, body);
    this.#drain();
    return connection;
  }

  /** Time passes in small steps; connections that were closed are told to be. */
  runTo(nowMs: number, fromMs: number): void {
    for (let at = fromMs; at <= nowMs; at += 100) {
      this.pool.handleTick(at);
      this.#drain();
    }
  }

  #drain(): void {
    for (let output: Output | null = this.pool.poll(); output !== null; output = this.pool.poll()) {
      if (output.kind === OutputKind.CLOSE) this.closed.push(output.connection);
      else if (output.kind === OutputKind.SEND && output.message.type === MessageType.CLAIM) {
        this.claimed.push(output.connection);
      }
    }
  }
}

Deno.test("legs that disagree are all asked again; what they say then decides, and nothing before all have", () => {
  const client = new Asking();
  client.greets(0, record({ historyId: "a", inSyncMask: 0b01 }));
  client.greets(1, record({ historyId: "b", inSyncMask: 0b10 }));
  client.runTo(4_900, 0);
  assert.deepEqual([client.closed, client.claimed], [[], []]);
  client.runTo(5_500, 5_000);
  assert.deepEqual(client.closed, [0, 1]);
  // One of them alone would do, if the other were not known to hold another history.
  client.greets(1, record({ historyId: "b", inSyncMask: 0b10 }));
  client.runTo(6_000, 5_600);
  assert.deepEqual(client.claimed, []);
  client.greets(0, record({ historyId: "b", inSyncMask: 0b10, epoch: 8 }));
  client.runTo(6_200, 6_100);
  assert.deepEqual(client.claimed, [3, 2]);
});

Deno.test("they are asked more and more seldom, and refused when the time to wait is over", () => {
  const client = new Asking();
  const greet = () => {
    client.greets(0, record({ historyId: "a", inSyncMask: 0b01 }));
    client.greets(1, record({ historyId: "b", inSyncMask: 0b10 }));
  };
  greet();
  const askedAtMs: number[] = [];
  for (let nowMs = 0; nowMs < 60_000; nowMs += 100) {
    const { length } = client.closed;
    client.runTo(nowMs, nowMs);
    if (client.closed.length === length) continue;
    askedAtMs.push(nowMs);
    // Their connections are made anew a moment later.
    client.runTo(nowMs + 100, nowMs + 100);
    greet();
  }
  assert.deepEqual(askedAtMs, [5_000, 15_000, 35_000]);
  client.runTo(60_000, 60_000);
  assert.equal(client.pool.state, "refused");
  assert.match(client.pool.refusal, /more than once, apart, after a start by force/);
});

/**
 * Bytes of every kind at the server: noise, broken sessions, and random sound sessions compared with a plain array.
 * Whatever comes, nothing throws, nothing hangs, every slot and table entry comes back, and what the server says is
 * well-formed. Every case has a seed of its own, which a failure names.
 */

import { Buffer } from "node:buffer";
import { deepStrictEqual, strictEqual } from "node:assert/strict";
import { Cmd, Flag, NbdClient, NbdHarness, Opt, pattern } from "../unit/frontend/nbd_harness.ts";
import { MemoryStream } from "../unit/frontend/memory_stream.ts";
import {
  be32,
  concat,
  contextData,
  infoData,
  option,
  readAnswer,
  request,
  text,
  WireReader,
} from "../unit/frontend/nbd_wire.ts";

/** xorshift32: small, seeded, good enough to choose with. */
class Chooser {
  #state: number;
  constructor(seed: number) {
    this.#state = (Math.imul(seed + 1, 2654435761) >>> 0) || 1;
    for (let i = 0; i < 4; i++) this.below(2);
  }
  below(limit: number): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state >>> 0;
    return this.#state % limit;
  }
  of<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }
  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

const SIZE_BYTES = 1 << 20;

/** One server for many cases: what a case leaves behind, the next one trips over. */
function smallHarness(): NbdHarness {
  return new NbdHarness({
    poolBytes: 1 << 20,
    geometry: { sizeBytes: SIZE_BYTES },
    limits: { connections: 4, requests: 12, requestsPerConnection: 8 },
  });
}

function connect(harness: NbdHarness, chooser: Chooser): NbdClient {
  harness.clients.length = 0;
  const client = new NbdClient(harness);
  harness.server.addConnection((protocol) =>
    client.stream = new MemoryStream(protocol, {
      stagingBytes: chooser.of([64, 200, 4096]),
      sendAreaBytes: chooser.of([1500, 4096]),
      copyBytes: chooser.of([0, 512]),
      sendQueueCount: chooser.of([4, 64]),
      arrivalBytes: chooser.of([17, 100, 1 << 20]),
    })
  );
  harness.clients.push(client);
  return client;
}

/** Lets `input` run through a new connection, with the host and the socket at a random pace; then everything ends. */
function runCase(harness: NbdHarness, chooser: Chooser, input: Uint8Array): Uint8Array {
  const client = connect(harness, chooser);
  harness.hostCompletes = chooser.below(2) === 0;
  harness.sendsComplete = chooser.below(4) > 0;
  harness.host.limit = chooser.of([1, 3, 1000]);
  const failing = chooser.below(4) === 0;
  harness.host.failure = () => failing && chooser.below(3) === 0 ? -5 : 0;
  const cut = chooser.below(input.length + 1);
  client.send(input.subarray(0, cut));
  harness.turn();
  while (!harness.hostCompletes && harness.host.pending.length > 0 && chooser.below(3) > 0) {
    harness.host.complete(chooser.below(harness.host.pending.length));
  }
  client.send(input.subarray(cut));
  harness.turn();
  if (chooser.below(3) > 0) {
    harness.hostCompletes = true;
    harness.sendsComplete = true;
    harness.settle();
  }
  const output = client.stream.takeDelivered();
  if (!client.stream.isClosed) client.stream.close();
  harness.settle();
  strictEqual(client.stream.isClosed, true);
  harness.hostCompletes = true;
  harness.sendsComplete = true;
  harness.settle();
  harness.host.log.length = 0;
  strictEqual(harness.server.connectionCount, 0);
  harness.assertIdle();
  return output;
}

function forSeeds(count: number, run: (seed: number) => void): void {
  for (let seed = 0; seed < count; seed++) {
    try {
      run(seed);
    } catch (error) {
      throw new Error(`Seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
  }
}

function handshake(chooser: Chooser): Uint8Array {
  const parts = [be32(3)];
  const options = [
    () => option(Opt.LIST),
    () => option(Opt.STRUCTURED),
    () => option(Opt.LIST_META, contextData("vol1", "base:")),
    () => option(Opt.SET_META, contextData("vol1", "base:allocation")),
    () => option(Opt.INFO, infoData("vol1", 1, 2, 3)),
    () => option(Opt.STARTTLS),
    () => option(chooser.below(20), chooser.bytes(chooser.below(40))),
  ];
  for (let left = chooser.below(4); left > 0; left--) parts.push(chooser.of(options)());
  parts.push(chooser.below(5) === 0 ? option(Opt.EXPORT_NAME, text("vol1")) : option(Opt.GO, infoData("", 3)));
  return concat(...parts);
}

function someRequest(chooser: Chooser): Uint8Array {
  const command = chooser.below(8);
  const flags = chooser.of([0, 0, 0, 1, 2, 4, 8, 16]);
  const length = command === Cmd.FLUSH ? 0 : chooser.of([0, 100, 512, 4096, 65536, SIZE_BYTES]);
  const offset = command === Cmd.FLUSH ? 0 : chooser.of([0, 512, 4096, SIZE_BYTES - 512, 77, 2 ** 40]);
  const head = request({ command, flags, cookie: chooser.below(1000), offset, length });
  // Long payloads are rare: they cost time and find little.
  if (command !== Cmd.WRITE) return head;
  return concat(head, new Uint8Array(length <= 4096 || chooser.below(50) === 0 ? length : 600));
}

function mutate(chooser: Chooser, input: Uint8Array): Uint8Array {
  let bytes: Uint8Array = input.slice();
  for (let left = 1 + chooser.below(3); left > 0 && bytes.length > 0; left--) {
    const at = chooser.below(bytes.length);
    const to = Math.min(bytes.length, at + chooser.below(40));
    switch (chooser.below(5)) {
      case 0:
        bytes[at] ^= 1 << chooser.below(8);
        break;
      case 1:
        bytes[at] = chooser.of([0, 255, 127, 128]);
        break;
      case 2:
        bytes = bytes.slice(0, at);
        break;
      case 3:
        bytes = concat(bytes.subarray(0, at), bytes.subarray(to));
        break;
      default:
        bytes = concat(bytes.subarray(0, at), chooser.bytes(chooser.below(30)), bytes.subarray(at));
    }
  }
  return bytes;
}

Deno.test("40,000 connections of noise harm nothing", () => {
  const harness = smallHarness();
  forSeeds(40_000, (seed) => {
    const chooser = new Chooser(seed);
    const noise = chooser.bytes(chooser.below(120));
    const start = chooser.of([new Uint8Array(0), be32(3), concat(be32(3), text("IHAVEOPT"))]);
    runCase(harness, chooser, concat(start, noise));
  });
});

Deno.test("60,000 mutated sessions harm nothing", () => {
  const harness = smallHarness();
  forSeeds(60_000, (seed) => {
    const chooser = new Chooser(seed);
    const requests = Array.from({ length: 1 + chooser.below(6) }, () => someRequest(chooser));
    runCase(harness, chooser, mutate(chooser, concat(handshake(chooser), ...requests)));
  });
});

Deno.test("20,000 sessions with mutated requests: every answer is well-formed", () => {
  const harness = smallHarness();
  const opening = concat(
    be32(3),
    option(Opt.STRUCTURED),
    option(Opt.SET_META, contextData("vol1", "base:allocation")),
    option(Opt.GO, infoData("vol1")),
  );
  const openingAnswerBytes = 18 + 20 + (20 + 4 + 15 + 20) + (20 + 12 + 20 + 14 + 20);
  let answers = 0;
  forSeeds(20_000, (seed) => {
    const chooser = new Chooser(seed);
    const requests = Array.from({ length: 1 + chooser.below(6) }, () => someRequest(chooser));
    const output = runCase(harness, chooser, concat(opening, mutate(chooser, concat(...requests))));
    const reader = new WireReader(output);
    if (reader.left < openingAnswerBytes) return;
    reader.bytes(openingAnswerBytes);
    while (reader.left > 0) {
      try {
        readAnswer(reader, () => 0);
        answers++;
      } catch (error) {
        if (error instanceof RangeError) return; // cut off by the end of the connection
        throw error;
      }
    }
  });
  strictEqual(answers > 10_000, true, `${answers}`);
});

Deno.test("800 random sound sessions on several connections equal a plain array", () => {
  forSeeds(800, (seed) => {
    const chooser = new Chooser(seed);
    const clientCount = 1 + chooser.below(3);
    const shareBytes = 512 * 1024;
    const memoryBytes = chooser.of([1 << 20, 2 << 20, 16 << 20]);
    const harness = new NbdHarness({
      poolBytes: 16 << 20,
      geometry: { sizeBytes: shareBytes * clientCount + (4 << 20) },
      limits: {
        requests: chooser.of([3, 20, 1000]),
        requestsPerConnection: chooser.of([2, 100]),
        memoryBytes,
        memoryBytesPerConnection: Math.max(1 << 20, memoryBytes / 2),
      },
      stream: {
        stagingBytes: chooser.of([200, 70000]),
        sendQueueCount: chooser.of([4, 64]),
        arrivalBytes: chooser.of([1000, 1 << 20]),
      },
    });
    harness.host.limit = chooser.of([1, 4, 1000]);
    const model = new Uint8Array(harness.host.geometry.sizeBytes);
    const clients = Array.from({ length: clientCount }, () => harness.open({ structured: chooser.below(2) === 0 }));
    const expected = clients.map(() => new Map<number, { offset: number; data: Uint8Array }>());
    const counts = clients.map(() => 0);
    for (let left = 12; left > 0; left--) {
      const index = chooser.below(clientCount);
      const client = clients[index];
      // Each client has a share of its own, so that the order between connections does not matter.
      const offset = index * shareBytes + 512 * chooser.below(500);
      const limit = (index + 1) * shareBytes - offset;
      const length = Math.min(limit, 512 * (1 + chooser.below(chooser.of([8, 600]))));
      const flags = chooser.below(3) === 0 ? Flag.FUA : 0;
      counts[index]++;
      const range = model.subarray(offset, offset + length);
      switch (chooser.below(5)) {
        case 0: {
          const wide = chooser.below(6) === 0 ? 3 << 20 : length;
          // A wide read reaches into other shares: only its own part is compared.
          const cookie = client.request(Cmd.READ, { offset, length: wide });
          expected[index].set(cookie, { offset, data: range.slice() });
          break;
        }
        case 1:
          client.request(Cmd.WRITE_ZEROES, { offset, length, flags });
          range.fill(0);
          break;
        case 2:
          client.request(Cmd.FLUSH);
          break;
        default: {
          const payload = pattern(length, chooser.below(1 << 30));
          client.request(Cmd.WRITE, { offset, payload, flags });
          range.set(payload);
        }
      }
      if (chooser.below(3) === 0) harness.turn();
    }
    harness.settle();
    clients.forEach((client, index) => {
      let done = 0;
      for (const answer of client.answers()) {
        strictEqual(answer.error, 0);
        if (answer.done) done++;
        const wanted = expected[index].get(answer.cookie);
        if (wanted === undefined) continue;
        const start = (answer.kind === "simple" ? wanted.offset : answer.offset) - wanted.offset;
        const ends = Math.min(wanted.data.length, start + answer.data.length);
        deepStrictEqual(answer.data.subarray(0, Math.max(0, ends - start)), wanted.data.subarray(start, ends));
      }
      strictEqual(done, counts[index]);
    });
    strictEqual(Buffer.compare(model, harness.host.disk), 0, "the disk equals the model");
    harness.assertIdle();
  });
});

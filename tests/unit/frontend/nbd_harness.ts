/**
 * An NBD server over memory: a pool, a host and any number of clients, moved on by hand.
 *
 * @module
 */

import { strictEqual } from "node:assert/strict";
import type { NbdLimits } from "../../../lib/frontend/nbd_admission.ts";
import { NbdServer } from "../../../lib/frontend/nbd_server.ts";
import type { PoolGeometry } from "../../../lib/frontend/frontend.ts";
import { MemoryPool } from "./memory_pool.ts";
import { MemoryStream, type MemoryStreamOptions } from "./memory_stream.ts";
import { type Answer, be32, concat, contextData, infoData, option, readAnswer, WireReader } from "./nbd_wire.ts";
import { request as encodeRequest } from "./nbd_wire.ts";
import { RamHost } from "./ram_host.ts";

/** Numbers of the protocol that tests use; written out again, so that a wrong constant in the server shows. */
export const Cmd = { READ: 0, WRITE: 1, DISC: 2, FLUSH: 3, TRIM: 4, CACHE: 5, WRITE_ZEROES: 6, BLOCK_STATUS: 7 };
export const Flag = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16 };
export const Opt = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED: 8,
  LIST_META: 9,
  SET_META: 10,
};

export interface HarnessOptions {
  poolBytes?: number;
  geometry?: Partial<PoolGeometry>;
  limits?: Partial<NbdLimits>;
  stream?: MemoryStreamOptions;
}

/** Server, pool, host, clients. */
export class NbdHarness {
  readonly pool: MemoryPool;
  readonly host: RamHost;
  readonly server: NbdServer;
  readonly clock = { nowMs: 1000 };
  readonly clients: NbdClient[] = [];
  /** When false, requests stay at the host until the test completes them. */
  hostCompletes = true;
  /** When false, sends stay in flight. */
  sendsComplete = true;
  readonly #stream: MemoryStreamOptions;

  constructor(options: HarnessOptions = {}) {
    this.pool = new MemoryPool(options.poolBytes ?? 128 << 20);
    this.host = new RamHost(this.pool, options.geometry);
    this.#stream = options.stream ?? {};
    this.server = new NbdServer({
      host: this.host,
      pool: this.pool,
      clock: this.clock,
      uri: "nbd://test",
      limits: options.limits,
    });
    this.host.frontend = this.server;
  }

  /** A client that has connected and not yet said anything. */
  connect(): NbdClient {
    const client = new NbdClient(this);
    const taken = this.server.addConnection((protocol) => client.stream = new MemoryStream(protocol, this.#stream));
    strictEqual(taken, true);
    this.clients.push(client);
    return client;
  }

  /** A client in transmission. */
  open(terms: { structured?: boolean; context?: boolean } = {}): NbdClient {
    const client = this.connect();
    const { structured = true, context = false } = terms;
    client.structured = structured;
    client.send(be32(3));
    if (structured) client.send(option(Opt.STRUCTURED));
    if (context) client.send(option(Opt.SET_META, contextData("vol1", "base:allocation")));
    client.send(option(Opt.GO, infoData("vol1")));
    this.settle();
    client.takeBytes();
    return client;
  }

  /** One turn of the loop. Returns whether anything moved. */
  turn(): boolean {
    let moved = false;
    for (const client of this.clients) moved = client.stream.pump() || moved;
    if (this.hostCompletes && this.host.completeAll() > 0) moved = true;
    if (moved) this.server.onReady();
    this.server.flushSends();
    if (this.sendsComplete) {
      for (const client of this.clients) moved = client.stream.completeSend() || moved;
    }
    return moved;
  }

  /** Turns until nothing moves, twice in a row: the last thing a turn does may be to close a stream. */
  settle(): void {
    let turns = 0;
    for (let quiet = 0; quiet < 2;) {
      quiet = this.turn() ? 0 : quiet + 1;
      if (++turns > 100000) throw new Error("The server does not come to rest");
    }
  }

  /** Asserts that nothing is held and nothing waits. */
  assertIdle(): void {
    strictEqual(this.pool.usedBytes, 0, "all slots are free");
    strictEqual(this.server.usedBytes, 0, "no memory is accounted for");
    strictEqual(this.server.requestCount, 0, "the request table is empty");
    strictEqual(this.server.waitingCount, 0, "nobody waits");
    strictEqual(this.host.pending.length, 0, "nothing is at the host");
  }
}

/** One client. */
export class NbdClient {
  stream!: MemoryStream;
  structured = false;
  readonly #harness: NbdHarness;
  readonly #readLengths = new Map<number, number>();
  #cookie = 0;
  #received: Uint8Array = new Uint8Array(0);

  constructor(harness: NbdHarness) {
    this.#harness = harness;
  }

  send(...parts: Uint8Array[]): void {
    this.stream.feed(concat(...parts));
  }

  /** Everything received and not read yet. */
  takeBytes(): Uint8Array {
    const all = concat(this.#received, this.stream.takeDelivered());
    this.#received = new Uint8Array(0);
    return all;
  }

  /** Sends one request and returns its cookie, a number that needs all 64 bits. */
  request(
    command: number,
    options: { flags?: number; offset?: number; length?: number; payload?: Uint8Array } = {},
  ): number {
    const cookie = 0x1234500000000 + ++this.#cookie;
    const { flags = 0, offset = 0, payload, length = payload?.length ?? 0 } = options;
    if (command === Cmd.READ) this.#readLengths.set(cookie, length);
    this.send(encodeRequest({ command, flags, cookie, offset, length }), payload ?? new Uint8Array(0));
    return cookie;
  }

  /** All whole answers received so far. */
  answers(): Answer[] {
    const reader = new WireReader(this.takeBytes());
    const answers: Answer[] = [];
    while (reader.left > 0) {
      const at = reader.at;
      try {
        answers.push(readAnswer(reader, (cookie) => this.#readLengths.get(cookie) ?? 0));
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        reader.at = at;
        this.#received = reader.bytes(reader.left);
      }
    }
    return answers;
  }

  /** Sends a request, lets everything settle, and returns its one answer. */
  ask(
    command: number,
    options: { flags?: number; offset?: number; length?: number; payload?: Uint8Array } = {},
  ): Answer {
    const cookie = this.request(command, options);
    this.#harness.settle();
    const answers = this.answers();
    strictEqual(answers.length, 1, "one answer");
    strictEqual(answers[0].cookie, cookie);
    strictEqual(answers[0].done, true);
    return answers[0];
  }

  /** Puts the chunks of a read together; asserts that they cover it exactly, in any order. */
  readData(offset: number, length: number, flags = 0): Uint8Array {
    const cookie = this.request(Cmd.READ, { offset, length, flags });
    this.#harness.settle();
    const data = new Uint8Array(length);
    let covered = 0;
    const answers = this.answers();
    answers.forEach((answer, i) => {
      strictEqual(answer.cookie, cookie);
      strictEqual(answer.error, 0);
      strictEqual(answer.done, i === answers.length - 1, "the last chunk says so");
      data.set(answer.data, answer.kind === "simple" ? 0 : answer.offset - offset);
      covered += answer.data.length;
    });
    strictEqual(covered, length);
    return data;
  }
}

/** `length` bytes that differ from place to place and from seed to seed. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = (seed * 2654435761) >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
  return bytes;
}

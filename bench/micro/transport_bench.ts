/**
 * Frames per second of the TCP transport: two transports in one thread on one io_uring reactor, over loopback TCP, so the
 * figures are of both ends together. Run: `deno run --allow-ffi bench/micro/transport_bench.ts`.
 *
 * A round keeps `depth` requests under way for a while: side A sends, side B answers each with an ACK (or with DATA), as in
 * replication. Rounds of all cases are interleaved and the median is shown, since machines are shared.
 *
 * @module
 */

import process from "node:process";
import { SlabBufferPool } from "../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../lib/io/uring_reactor.ts";
import { TcpTransport } from "../../lib/transport/tcp_transport.ts";
import type { TransportHandler } from "../../lib/transport/transport.ts";
import { UringNetwork } from "../../lib/transport/uring_network.ts";
import { Message, MessageType } from "../../lib/wire/message.ts";

interface Case {
  readonly name: string;
  readonly payloadBytes: number;
  readonly depth: number;
  readonly checksums: boolean;
}

interface Result {
  readonly perSecond: number;
  readonly cpuMicrosEach: number;
  readonly userMicrosEach: number;
}

const CASES: readonly Case[] = [
  { name: "ping", payloadBytes: 0, depth: 1, checksums: true },
  { name: "ping", payloadBytes: 0, depth: 64, checksums: true },
  { name: "write 4 KiB", payloadBytes: 4096, depth: 1, checksums: true },
  { name: "write 4 KiB", payloadBytes: 4096, depth: 32, checksums: true },
  { name: "write 4 KiB", payloadBytes: 4096, depth: 32, checksums: false },
  { name: "write 128 KiB", payloadBytes: 131072, depth: 16, checksums: true },
  { name: "write 1 MiB", payloadBytes: 1 << 20, depth: 8, checksums: true },
];
const ROUNDS = 3;
const ROUND_MS = 300;

/** Sends requests and counts answers. */
class Asker implements TransportHandler {
  transport!: TcpTransport;
  connection = -1;
  answers = 0;
  readonly #pool: SlabBufferPool;
  readonly #payloadBytes: number;
  readonly #slots: number[] = [];
  readonly #message = new Message();

  constructor(pool: SlabBufferPool, payloadBytes: number, depth: number) {
    this.#pool = pool;
    this.#payloadBytes = payloadBytes;
    for (let i = 0; payloadBytes > 0 && i < depth; i++) {
      const slot = pool.allocate(payloadBytes);
      pool.bytes(slot).fill(i);
      this.#slots.push(slot);
    }
  }

  ask(index: number): void {
    const message = this.#message.reset(this.#payloadBytes === 0 ? MessageType.PING : MessageType.WRITE);
    message.requestId = index;
    message.length = this.#payloadBytes;
    message.payloadLength = this.#payloadBytes;
    if (this.#payloadBytes === 0) this.transport.send(this.connection, message, -1, -1);
    else this.transport.send(this.connection, message, this.#slots[index], index);
  }

  onConnected(connection: number): void {
    this.connection = connection;
  }
  onMessage(_connection: number, message: Message): void {
    this.answers++;
    this.ask(message.requestId);
  }
  placePayload(): number {
    return -2;
  }
  onAccepted(): void {}
  onSent(): void {}
  onClosed(): void {}

  dispose(): void {
    for (const slot of this.#slots) this.#pool.free(slot);
  }
}

/** Takes requests and answers. */
class Answerer implements TransportHandler {
  transport!: TcpTransport;
  readonly #pool: SlabBufferPool;
  readonly #message = new Message();

  constructor(pool: SlabBufferPool) {
    this.#pool = pool;
  }

  placePayload(_connection: number, message: Message): number {
    return this.#pool.allocate(message.payloadLength);
  }
  onMessage(connection: number, message: Message, slot: number): void {
    if (slot >= 0) this.#pool.free(slot);
    const answer = this.#message.reset(slot >= 0 ? MessageType.ACK : MessageType.PONG);
    answer.requestId = message.requestId;
    this.transport.send(connection, answer, -1, -1);
  }
  onAccepted(): void {}
  onConnected(): void {}
  onSent(): void {}
  onClosed(): void {}
}

function runRound(reactor: UringReactor, network: UringNetwork, pool: SlabBufferPool, what: Case): Result {
  const asker = new Asker(pool, what.payloadBytes, what.depth);
  const answerer = new Answerer(pool);
  const a = asker.transport = new TcpTransport(network, pool, asker, { checksums: what.checksums });
  const b = answerer.transport = new TcpTransport(network, pool, answerer, { checksums: what.checksums });
  a.connect(b.listen("127.0.0.1:0").boundAddress);
  const turn = () => {
    a.flushSends();
    b.flushSends();
    reactor.turn(Infinity);
  };
  while (asker.connection < 0) turn();
  for (let i = 0; i < what.depth; i++) asker.ask(i);
  // What is compiled and cached once does not count.
  const warmUntilMs = reactor.clockMs() + ROUND_MS / 3;
  while (reactor.nowMs < warmUntilMs) turn();
  const startMs = reactor.clockMs();
  const startAnswers = asker.answers;
  const startCpu = process.cpuUsage();
  while (reactor.nowMs < startMs + ROUND_MS) turn();
  const elapsedMs = reactor.clockMs() - startMs;
  const cpu = process.cpuUsage(startCpu);
  const count = asker.answers - startAnswers;
  a.closeAll();
  b.closeAll();
  while (a.connectionCount + b.connectionCount > 0) turn();
  asker.dispose();
  return {
    perSecond: count / elapsedMs * 1000,
    cpuMicrosEach: (cpu.user + cpu.system) / count,
    userMicrosEach: cpu.user / count,
  };
}

function median(results: readonly Result[], key: keyof Result): number {
  const sorted = results.map((result) => result[key]).sort((x, y) => x - y);
  return sorted[sorted.length >> 1];
}

if (import.meta.main) {
  const pool = new SlabBufferPool({ totalBytes: 64 << 20 });
  const reactor = UringReactor.create({ pool });
  const network = new UringNetwork(reactor);
  const results: Result[][] = CASES.map(() => []);
  for (let round = 0; round < ROUNDS; round++) {
    CASES.forEach((what, i) => results[i].push(runRound(reactor, network, pool, what)));
  }
  console.log("request, answered        depth  sums   requests/s     GB/s   CPU µs each  of it user");
  CASES.forEach((what, i) => {
    const perSecond = median(results[i], "perSecond");
    console.log(
      what.name.padEnd(24),
      String(what.depth).padStart(5),
      (what.checksums ? "on" : "off").padStart(5),
      Math.round(perSecond).toLocaleString("en").padStart(12),
      (perSecond * what.payloadBytes / 1e9).toFixed(2).padStart(8),
      median(results[i], "cpuMicrosEach").toFixed(2).padStart(13),
      median(results[i], "userMicrosEach").toFixed(2).padStart(11),
    );
  });
}

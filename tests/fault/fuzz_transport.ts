/**
 * Fuzzing the receiving side of the TCP transport over a stream in memory: runs of frames, sound and spoiled, and noise, cut
 * into pieces at random places.
 *
 * An oracle that knows only the table in message.ts reads the same bytes slowly. What the transport delivers must be
 * exactly the frames that the oracle finds before the first bad one, to the byte; at a bad one the connection must end,
 * else it must stand.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import type { Prng } from "../../lib/base/prng.ts";
import { MemoryBufferPool } from "../../lib/io/memory_buffer_pool.ts";
import { TcpTransport } from "../../lib/transport/tcp_transport.ts";
import type { TransportHandler } from "../../lib/transport/transport.ts";
import { bodyKind, maxBodyBytes } from "../../lib/wire/body_codec.ts";
import { encodeHeader, type Message, MessageType } from "../../lib/wire/message.ts";
import { type MemoryStream, MemoryStreamNetwork } from "../unit/transport/memory_stream.ts";
import { fillRandom, soundFrame, spoilBytes, spoilHeader } from "./fuzz_frames.ts";

const POOL_BYTES = 4 << 20;
const LARGE_PAYLOAD_BYTES = 70_000;
const KNOWN_TYPES = new Set<number>(Object.values(MessageType));

/** Frames the transport has to deliver of `bytes`, and what must become of the connection. */
interface Verdict {
  /** Offsets of the sound frames, and where the last one ends. */
  readonly starts: number[];
  readonly end: number;
  readonly isBad: boolean;
}

/** Reads `bytes` as the protocol says, slowly. */
function judge(bytes: Uint8Array): Verdict {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const starts: number[] = [];
  let at = 0;
  while (bytes.length - at >= 64) {
    const lengthBytes = view.getUint32(at + 48, true);
    if (!isHeaderSound(bytes.subarray(at, at + 64))) return { starts, end: at, isBad: true };
    if (bytes.length - at - 64 < lengthBytes) break;
    const summed = (view.getUint8(at + 5) & 2) === 0 && lengthBytes > 0;
    if (summed && crc32(bytes.subarray(at + 64, at + 64 + lengthBytes)) !== view.getUint32(at + 52, true)) {
      return { starts, end: at, isBad: true };
    }
    starts.push(at);
    at += 64 + lengthBytes;
  }
  return { starts, end: at, isBad: false };
}

function isHeaderSound(header: Uint8Array): boolean {
  const view = new DataView(header.buffer, header.byteOffset, 64);
  if (Buffer.from(header.subarray(0, 4)).toString("latin1") !== "BRM1") return false;
  if (crc32(header.subarray(0, 60)) !== view.getUint32(60, true)) return false;
  const type = view.getUint8(4);
  if (!KNOWN_TYPES.has(type)) return false;
  if (type === MessageType.RELEASED || (view.getUint8(5) & 8) !== 0) return false; // no memory is shared here
  for (const at of [16, 24, 40]) if (view.getBigUint64(at, true) > BigInt(Number.MAX_SAFE_INTEGER)) return false;
  const lengthBytes = view.getUint32(48, true);
  if (lengthBytes > maxBodyBytes(type)) return false;
  const kind = bodyKind(type);
  if (kind === "json") return lengthBytes >= 2;
  if (kind === "words") return lengthBytes % 8 === 0;
  if (type === MessageType.WRITE) return lengthBytes > 0 && lengthBytes === view.getUint32(32, true);
  if (kind === "data" && lengthBytes > 0) {
    return view.getInt32(12, true) === 0 && lengthBytes === view.getUint32(32, true);
  }
  return true;
}

/** Compares what is delivered with the bytes that were fed. */
class Witness implements TransportHandler {
  readonly pool = new MemoryBufferPool(POOL_BYTES);
  transport!: TcpTransport;
  fed: Uint8Array = new Uint8Array(0);
  starts: number[] = [];
  deliveredCount = 0;
  closedReason: number | null = null;
  /** How placements are answered before a slot is given; emptied from the front. */
  answers: number[] = [];
  /** The connection is closed from within the news of this frame. */
  closesAt = -1;
  #placed = -1;
  readonly #header = new Uint8Array(64);
  readonly #view = new DataView(this.#header.buffer);

  begin(fed: Uint8Array, starts: number[]): void {
    assert.equal(this.pool.usedBytes, 0);
    this.fed = fed;
    this.starts = starts;
    this.deliveredCount = 0;
    this.closedReason = null;
    this.answers = [];
    this.closesAt = -1;
  }

  placePayload(_connection: number, message: Message): number {
    assert.ok(message.payloadLength > 0 && message.payloadLength <= maxBodyBytes(message.type));
    assert.equal(this.#placed, -1);
    const answer = this.answers.shift();
    if (answer !== undefined) return answer;
    this.#placed = this.pool.allocate(message.payloadLength);
    assert.ok(this.#placed >= 0, "One payload at a time fits");
    return this.#placed;
  }

  onMessage(connection: number, message: Message, slot: number): void {
    assert.equal(this.closedReason, null);
    assert.equal(slot, this.#placed);
    assert.ok(this.deliveredCount < this.starts.length, "A frame is delivered that is not sound");
    const at = this.starts[this.deliveredCount];
    encodeHeader(message, this.#view, 0);
    assert.ok(
      Buffer.compare(this.#header, this.fed.subarray(at, at + 64)) === 0,
      "The header is the one that was sent",
    );
    if (slot >= 0) {
      const payload = this.fed.subarray(at + 64, at + 64 + message.payloadLength);
      assert.ok(Buffer.compare(this.pool.bytes(slot).subarray(0, message.payloadLength), payload) === 0);
    } else {
      assert.equal(message.payloadLength, 0);
    }
    this.#release();
    if (this.deliveredCount++ === this.closesAt) this.transport.close(connection);
  }

  onClosed(_connection: number, reason: number): void {
    assert.equal(this.closedReason, null);
    this.#release();
    this.closedReason = reason;
  }

  onAccepted(): void {}
  onConnected(): void {}
  onSent(): void {
    assert.fail("Nothing was sent");
  }

  #release(): void {
    if (this.#placed >= 0) this.pool.free(this.#placed);
    this.#placed = -1;
  }
}

/** Returns a function that plays one case: one connection, from its beginning to its end. */
export function transportTarget(): (random: Prng) => void {
  const network = new MemoryStreamNetwork({ areaBytes: 256, stagingBytes: 1024, copyBytes: 64, maxPieces: 2 });
  const witness = new Witness();
  const transport = new TcpTransport(network, witness.pool, witness, { report: () => {}, maxConnections: 2 });
  witness.transport = transport;
  const { boundAddress } = transport.listen("memory:0");
  const sink = { onBytes: () => 0, onPayload: () => {}, onSent: () => {}, onClosed: () => {} };

  return (random) => {
    let attacker: MemoryStream | null = null;
    network.connect(boundAddress, {
      protocol: sink,
      onConnected: (stream) => attacker = stream as MemoryStream,
      onConnectFailed: (reason) => assert.fail(`The transport listens, ${reason}`),
    });
    network.run();
    const far = attacker!.peer!;
    const fed = anyStream(random);
    const verdict = judge(fed);
    witness.begin(fed, verdict.starts);
    const isInterfering = random.below(6) === 0;
    if (isInterfering) interfere(random, witness);
    feed(random, network, transport, far, fed);
    check(witness, verdict, isInterfering);
    // The end of the stream, wherever it stands.
    if (witness.closedReason === null) {
      attacker!.close();
      network.run();
      assert.notEqual(witness.closedReason, null, "The end is told");
      const inFrame = verdict.end < fed.length;
      if (!isInterfering) assert.equal(witness.closedReason, inFrame ? -104 : 0);
    }
    network.run();
    assert.equal(transport.connectionCount, 0);
    assert.equal(network.streams.length, 0);
    assert.equal(witness.pool.usedBytes, 0);
  };
}

function check(witness: Witness, verdict: Verdict, isInterfering: boolean): void {
  if (isInterfering) return; // what was delivered was compared; how much of it depends on who interfered
  assert.equal(witness.deliveredCount, verdict.starts.length, "All sound frames are delivered");
  if (verdict.isBad) assert.ok(witness.closedReason === -71 || witness.closedReason === -74, `${witness.closedReason}`);
  else assert.equal(witness.closedReason, null, "A connection without fault stands");
}

/** The user of the transport gets in the way: no memory for a while, a refusal, a close. */
function interfere(random: Prng, witness: Witness): void {
  if (random.below(2) === 0) witness.answers = [-1, -1, random.pick([-1, -2])].slice(random.below(3));
  else witness.closesAt = random.below(3);
}

function feed(
  random: Prng,
  network: MemoryStreamNetwork,
  transport: TcpTransport,
  far: MemoryStream,
  fed: Uint8Array,
): void {
  const isWhole = random.below(2) === 0;
  let stuckCount = 0;
  for (let at = 0; at < fed.length && !far.ended;) {
    const most = Math.min(fed.length - at, far.room);
    if (most === 0) {
      assert.ok(stuckCount++ < 10, "The stream goes on");
      transport.resume();
      network.run();
      continue;
    }
    const pieceBytes = isWhole ? most : 1 + random.below(most);
    far.receive(fed.subarray(at, at + pieceBytes));
    at += pieceBytes;
  }
  for (let i = 0; i < 4; i++) {
    transport.resume();
    network.run();
  }
}

/** A few frames, most of them sound, or noise. */
function anyStream(random: Prng): Uint8Array {
  if (random.below(20) === 0) {
    const noise = new Uint8Array(4 + random.below(300));
    fillRandom(random, noise);
    if (random.below(2) === 0) noise.set(Buffer.from("BRM1"));
    return noise;
  }
  const frames: Uint8Array[] = [];
  const count = 1 + random.below(4);
  for (let i = 0; i < count; i++) {
    const frame = soundFrame(random, LARGE_PAYLOAD_BYTES);
    const fate = random.below(8);
    if (fate <= 1) spoilHeader(random, frame);
    frames.push(fate === 2 ? spoilBytes(random, frame) : frame);
  }
  return Buffer.concat(frames);
}

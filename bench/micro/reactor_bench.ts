/**
 * What a turn of the reactor, a message on a stream and a slot of the pool cost. Run: `deno bench --allow-ffi --allow-read --allow-write --allow-env bench/micro`.
 *
 * The figures are of one thread doing both ends; an operation "per 32" is a batch, so divide.
 *
 * @module
 */

import { newSocketPair } from "../../ffi/libc/socket.ts";
import { ConnectAttempt } from "../../lib/io/connect_attempt.ts";
import { ListenSocket } from "../../lib/io/listen_socket.ts";
import { SlabBufferPool } from "../../lib/io/slab_buffer_pool.ts";
import type { StreamProtocol } from "../../lib/io/stream_socket.ts";
import { UringReactor } from "../../lib/io/uring_reactor.ts";
import { UringStreamSocket } from "../../lib/io/uring_stream_socket.ts";

const HEADER_BYTES = 64;
const BATCH = 32;
const pool = new SlabBufferPool({ totalBytes: 64 << 20 });
const reactor = UringReactor.create({ entries: 256, pool });

let nops = 0;
const nopOwner = reactor.register({ onCompletion: () => nops++ });

Deno.bench("reactor: one no-op, one turn", { group: "turn" }, () => {
  reactor.nop(nopOwner, 1);
  reactor.turn(Infinity);
});

Deno.bench("reactor: 32 no-ops, one turn", { group: "turn" }, () => {
  for (let i = 0; i < BATCH; i++) reactor.nop(nopOwner, i);
  reactor.turn(Infinity);
});

Deno.bench("pool: allocate and free 4 KiB", { group: "pool" }, () => pool.free(pool.allocate(4096)));

/** Frames of a length and that many bytes; the far end answers each with a bare header. */
class Peer implements StreamProtocol {
  stream!: UringStreamSocket;
  received = 0;
  readonly #answers: boolean;
  readonly #slot = pool.allocate(1 << 20);

  constructor(answers: boolean) {
    this.#answers = answers;
  }

  onBytes(_staging: Uint8Array, view: DataView, start: number, end: number): number {
    if (end - start < HEADER_BYTES) return 0;
    const lengthBytes = view.getUint32(start, true);
    if (lengthBytes === 0) this.#take();
    else this.stream.expectPayload(pool.bytes(this.#slot), pool.address(this.#slot), lengthBytes);
    return HEADER_BYTES;
  }

  onPayload(): void {
    this.#take();
  }

  #take(): void {
    this.received++;
    if (this.#answers) this.sendFrame(0, -1);
  }

  sendFrame(lengthBytes: number, slot: number): void {
    this.stream.sendView.setUint32(this.stream.reserve(HEADER_BYTES), lengthBytes, true);
    if (lengthBytes > 0) this.stream.queuePayload(pool.bytes(slot), pool.address(slot), lengthBytes, 1);
  }

  onSent(): void {}
  onClosed(): void {}
}

function connectedSockets(kind: string): [number, number] {
  if (kind === "unix") return newSocketPair() as [number, number];
  const listener = ListenSocket.open("127.0.0.1:0");
  let accepted = -1;
  let connected = -1;
  listener.start(reactor, { onAccepted: (socket) => accepted = socket });
  new ConnectAttempt(reactor, listener.boundAddress, {
    onConnected: (socket) => connected = socket,
    onConnectFailed: (result) => {
      throw new Error(`connect: ${result}`);
    },
  });
  while (accepted < 0 || connected < 0) reactor.turn(Infinity);
  listener.close();
  return [accepted, connected];
}

for (const kind of ["unix", "tcp"]) {
  const sockets = connectedSockets(kind);
  const near = new Peer(false);
  const far = new Peer(true);
  near.stream = new UringStreamSocket({ reactor, socket: sockets[0], protocol: near });
  far.stream = new UringStreamSocket({ reactor, socket: sockets[1], protocol: far });
  const slot = pool.allocate(1 << 20);
  for (const [lengthBytes, depth] of [[0, 1], [4096, 1], [4096, BATCH], [131072, 8]]) {
    const name = `stream: ${depth} × ${lengthBytes / 1024} KiB and answer, ${kind}`;
    Deno.bench(name, { group: `stream ${lengthBytes} ${depth}` }, () => {
      near.received = 0;
      for (let i = 0; i < depth; i++) near.sendFrame(lengthBytes, slot);
      near.stream.flushSends();
      while (near.received < depth) {
        reactor.turn(Infinity);
        far.stream.flushSends();
      }
    });
  }
}

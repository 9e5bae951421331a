/**
 * RDMA links in memory: what queue pairs do, without a device, one completion at a time. Strict where a device would be:
 * a write outside the peer's landing, or a packet for which no receive is posted, fails the test.
 *
 * @module
 */

import assert from "node:assert/strict";
import type {
  AcceptLink,
  LinkListener,
  LinkUser,
  PendingLink,
  RdmaLink,
  RdmaNetwork,
} from "../../../lib/transport/rdma/link.ts";
import { RECEIVE_COUNT, SEND_REQUEST_COUNT } from "../../../lib/transport/rdma/link.ts";
import type { LendingPool } from "../../../lib/transport/rdma/landing_memory.ts";

interface Request {
  readonly workId: number;
  readonly bytes: Uint8Array;
  /** Page of the peer's landing, -1 for a SEND. */
  readonly page: number;
}

const NOT_ARMED = 0;
const FOR_PACKETS = 1;
const FOR_EVERYTHING = 2;

/** The network of one transport. */
export interface MemoryNetwork extends RdmaNetwork {
  memory(address: number, lengthBytes: number): Uint8Array;
  /** Something has happened that its reactor is woken for. */
  isWoken: boolean;
}

class MemoryLink implements RdmaLink {
  readonly inlineBytes = 0;
  readonly description = { device: "memory", gid: "::", mtuBytes: 4096, path: "here -> there", registeredBytes: 0 };
  peer: MemoryLink | null = null;
  isClosed = false;
  readonly #fabric: MemoryFabric;
  readonly #memory: (address: number, lengthBytes: number) => Uint8Array;
  readonly user: LinkUser;
  readonly #chain: Request[] = [];
  readonly #sending: Request[] = [];
  readonly #receives: { workId: number; bytes: Uint8Array }[] = [];
  readonly #done: { workId: number; lengthBytes: number; status: number }[] = [];
  #shown: { workId: number; lengthBytes: number; status: number }[] = [];
  #isPosted = true;
  #isStopped = false;
  #armed = NOT_ARMED;
  readonly #network: MemoryNetwork;

  constructor(fabric: MemoryFabric, user: LinkUser, network: MemoryNetwork) {
    this.#fabric = fabric;
    this.user = user;
    this.#network = network;
    this.#memory = network.memory;
    for (let i = 0; i < RECEIVE_COUNT; i++) this.addReceive(i, user.landing.packetAddress + i * 4096, 4096);
  }

  addWrite(address: number, lengthBytes: number, remotePage: number): void {
    this.#isPosted = false;
    this.#chain.push({ workId: -1, bytes: this.#memory(address, lengthBytes), page: remotePage });
  }
  addSend(workId: number, address: number, lengthBytes: number): void {
    this.#isPosted = false;
    this.#chain.push({ workId, bytes: this.#memory(address, lengthBytes), page: -1 });
  }
  addReceive(workId: number, address: number, lengthBytes: number): void {
    this.#receives.push({ workId, bytes: this.#memory(address, lengthBytes) });
  }
  post(): number {
    assert.ok(!this.isClosed);
    this.#sending.push(...this.#chain.splice(0));
    this.#isPosted = true;
    assert.ok(this.#sending.length <= SEND_REQUEST_COUNT, "The send queue does not overflow");
    return 0;
  }
  /** Carries out the oldest request. False when there is none. */
  step(): boolean {
    const request = this.#sending.shift();
    if (request === undefined || this.isClosed) return false;
    const peer = this.peer!;
    if (peer.isClosed) {
      this.#complete({ workId: request.workId, lengthBytes: 0, status: 12 });
      return true;
    }
    if (request.page >= 0) {
      const { landing } = peer.user;
      assert.ok(request.page * 4096 + request.bytes.length <= landing.pageCount * 4096, "A write stays in the landing");
      this.#fabric.write(peer, landing.address + request.page * 4096, request.bytes);
      return true;
    }
    const receive = peer.#receives.shift();
    assert.ok(receive !== undefined, "A receive is posted for every packet");
    receive.bytes.set(request.bytes);
    this.#fabric.damage?.(receive.bytes.subarray(0, request.bytes.length));
    peer.#complete({ workId: receive.workId, lengthBytes: request.bytes.length, status: 0 });
    this.#fabric.acknowledge(() => this.#complete({ workId: request.workId, lengthBytes: 0, status: 0 }));
    return true;
  }
  /** As strict as a device: wakes the transport only for what it asked to be woken for, and once. */
  #complete(completion: { workId: number; lengthBytes: number; status: number }): void {
    this.#done.push(completion);
    const isPacket = completion.workId >= 0 && completion.workId < RECEIVE_COUNT;
    if (this.#armed < (isPacket ? FOR_PACKETS : FOR_EVERYTHING)) return;
    this.#armed = NOT_ARMED;
    this.#network.isWoken = true;
  }
  write(address: number, bytes: Uint8Array): void {
    this.#memory(address, bytes.length).set(bytes);
  }
  poll(): number {
    this.#shown = this.#done.splice(0, 3);
    return this.#shown.length;
  }
  workId(index: number): number {
    return this.#shown[index].workId;
  }
  status(index: number): number {
    return this.#shown[index].status;
  }
  byteLength(index: number): number {
    return this.#shown[index].lengthBytes;
  }
  arm(everything: boolean): boolean {
    assert.ok(this.#isPosted, "All that was added is posted before the reactor waits");
    const wanted = everything ? FOR_EVERYTHING : FOR_PACKETS;
    if (this.#armed >= wanted) return false;
    this.#armed = wanted;
    return true;
  }
  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#isPosted = true;
    for (const { workId } of this.#sending.splice(0)) this.#complete({ workId, lengthBytes: 0, status: 5 });
  }
  close(): void {
    assert.ok(!this.isClosed);
    this.isClosed = true;
    this.#fabric.ended(this);
  }
  abandon(released: () => void): void {
    this.close();
    this.#fabric.released(released);
  }
}

/** All transports of a test. */
export class MemoryFabric {
  /** May change a packet as it arrives. */
  damage: ((packet: Uint8Array) => void) | null = null;
  readonly #links: MemoryLink[] = [];
  readonly #listeners = new Map<string, AcceptLink>();
  readonly #events: (() => void)[] = [];
  readonly #networks: MemoryNetwork[] = [];
  /** While set, devices do not let go of links that are abandoned. */
  isHeldUp = false;
  readonly #heldUp: (() => void)[] = [];
  /** While set, a sender hears that its packet was taken only when nothing else is under way. */
  acknowledgesLate = false;
  readonly #acknowledgements: (() => void)[] = [];
  #nextPort = 1000;

  /** The network of one transport, whose memory is `pool`. */
  network(pool: LendingPool & { readonly baseAddress: number }, buffer: () => Uint8Array): MemoryNetwork {
    const memory = (address: number, lengthBytes: number) =>
      buffer().subarray(address - pool.baseAddress, address - pool.baseAddress + lengthBytes);
    const network: MemoryNetwork = {
      memory,
      isWoken: false,
      onReadable: () => {},
      listen: (address, accept): LinkListener => {
        const boundAddress = address.replace(/:0$/, () => `:${this.#nextPort++}`);
        this.#listeners.set(boundAddress, (peer, pending) => accept(peer, pending));
        this.#makers.set(boundAddress, network);
        return { boundAddress, close: () => this.#listeners.delete(boundAddress) };
      },
      turn: () => {},
      connect: (address, user): PendingLink => {
        if (!/:\d+$/.test(address)) throw new Error(`"${address}" is not an address`);
        let isCancelled = false;
        this.#events.push(() => isCancelled || this.#join(address, user, network));
        return { cancel: () => isCancelled = true };
      },
    };
    this.#networks.push(network);
    return network;
  }
  readonly #makers = new Map<string, MemoryNetwork>();

  /** Moves one thing, and lets the transports look that are woken by it. False when nothing moves. */
  step(): boolean {
    const event = this.#events.shift() ?? (this.isHeldUp ? undefined : this.#heldUp.shift());
    let moved = event !== undefined || this.#links.some((link) => link.step());
    event?.();
    if (!moved && this.#acknowledgements.length > 0) {
      this.#acknowledgements.shift()!();
      moved = true;
    }
    for (const network of this.#networks) {
      if (event !== undefined) network.isWoken = true;
      if (network.isWoken) network.onReadable();
    }
    return moved;
  }

  get hasReleasedAll(): boolean {
    return this.#heldUp.length === 0;
  }

  acknowledge(tell: () => void): void {
    if (this.acknowledgesLate) this.#acknowledgements.push(tell);
    else tell();
  }

  released(tell: () => void): void {
    this.#heldUp.push(tell);
  }

  write(peer: MemoryLink, address: number, bytes: Uint8Array): void {
    const copy = bytes.slice();
    this.damage?.(copy);
    peer.write(address, copy);
  }

  ended(link: MemoryLink): void {
    const peer = link.peer!;
    if (!peer.isClosed) this.#events.push(() => peer.isClosed || peer.user.onDisconnected(0));
  }

  #join(address: string, user: LinkUser, network: MemoryNetwork): void {
    const accept = this.#listeners.get(address);
    const far = accept?.("memory:peer", { cancel: () => {} }) ?? null;
    if (far === null) return user.onFailed(-111);
    const near = new MemoryLink(this, user, network);
    const other = new MemoryLink(this, far, this.#makers.get(address)!);
    near.peer = other;
    other.peer = near;
    this.#links.push(near, other);
    const offer = (link: MemoryLink) => ({
      receives: RECEIVE_COUNT,
      landingAddress: link.user.landing.address,
      landingPages: link.user.landing.pageCount,
      landingKey: 1,
    });
    far.onEstablished(other, offer(near));
    user.onEstablished(near, offer(other));
  }
}

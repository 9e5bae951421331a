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
import type { Landing, LendingPool } from "../../../lib/transport/rdma/landing_memory.ts";
import type { Offer } from "../../../lib/transport/rdma/packet.ts";

/** IBV_WC_*: of what was under way on a queue pair that has failed; of what a peer did not acknowledge. */
const FLUSHED = 5;
const NOT_ACKNOWLEDGED = 12;

interface Request {
  readonly workId: number;
  readonly bytes: Uint8Array;
  /** Page of the peer's landing, -1 for a SEND. */
  readonly page: number;
}

interface Completion {
  readonly workId: number;
  readonly lengthBytes: number;
  readonly status: number;
}

/** What a link is made for. */
export interface LinkEnd {
  readonly landing: Landing;
  /** Memory of its transport. */
  memory(address: number, lengthBytes: number): Uint8Array;
  /** There is a completion that was asked for. */
  wake(): void;
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

/** One end of a connection. */
export class MemoryLink implements RdmaLink {
  readonly inlineBytes = 0;
  readonly description = { device: "memory", gid: "::", mtuBytes: 4096, path: "here -> there", registeredBytes: 0 };
  peer: MemoryLink | null = null;
  isClosed = false;
  /** Its device is gone: it moves and completes nothing. */
  isDead = false;
  readonly #fabric: MemoryFabric;
  readonly #end: LinkEnd;
  readonly #chain: Request[] = [];
  readonly #sending: Request[] = [];
  readonly #receives: { workId: number; bytes: Uint8Array }[] = [];
  readonly #done: Completion[] = [];
  #shown: Completion[] = [];
  #isPosted = true;
  #isStopped = false;
  #armed = NOT_ARMED;

  constructor(fabric: MemoryFabric, end: LinkEnd) {
    this.#fabric = fabric;
    this.#end = end;
    for (let i = 0; i < RECEIVE_COUNT; i++) this.addReceive(i, end.landing.packetAddress + i * 4096, 4096);
  }

  /** What the peer is told. */
  get offer(): Offer {
    const { address, pageCount } = this.#end.landing;
    return { receives: RECEIVE_COUNT, landingAddress: address, landingPages: pageCount, landingKey: 1 };
  }
  addWrite(address: number, lengthBytes: number, remotePage: number): void {
    this.#isPosted = false;
    this.#chain.push({ workId: 0, bytes: this.#end.memory(address, lengthBytes), page: remotePage });
  }
  addSend(workId: number, address: number, lengthBytes: number): void {
    this.#isPosted = false;
    this.#chain.push({ workId, bytes: this.#end.memory(address, lengthBytes), page: -1 });
  }
  addReceive(workId: number, address: number, lengthBytes: number): void {
    this.#receives.push({ workId, bytes: this.#end.memory(address, lengthBytes) });
  }
  post(): number {
    assert.ok(!this.isClosed);
    this.#sending.push(...this.#chain.splice(0));
    this.#isPosted = true;
    assert.ok(this.#sending.length <= SEND_REQUEST_COUNT, "The send queue does not overflow");
    if (this.#isStopped) this.#flush();
    return 0;
  }
  /** Requests that were posted and have not completed. */
  get sendingCount(): number {
    return this.#sending.length;
  }
  /** Carries out the oldest request. False when there is none. */
  step(): boolean {
    if (this.isClosed || this.isDead || this.#sending.length === 0) return false;
    const peer = this.peer!;
    if (peer.isClosed || peer.isDead) {
      this.fail(NOT_ACKNOWLEDGED);
      return true;
    }
    // It takes nothing any more, and soon is gone: long before a device gives up.
    if (peer.#isStopped) return false;
    const request = this.#sending.shift()!;
    if (request.page >= 0) {
      const { landing } = peer.#end;
      assert.ok(request.page * 4096 + request.bytes.length <= landing.pageCount * 4096, "A write stays in the landing");
      this.#fabric.write(peer, landing.address + request.page * 4096, request.bytes);
      return true;
    }
    const receive = peer.#receives.shift();
    assert.ok(receive !== undefined, "A receive is posted for every packet");
    receive.bytes.set(request.bytes);
    this.#fabric.damage?.(receive.bytes.subarray(0, request.bytes.length));
    peer.#complete({ workId: receive.workId, lengthBytes: request.bytes.length, status: 0 }, true);
    this.#fabric.acknowledge(() => this.#complete({ workId: request.workId, lengthBytes: 0, status: 0 }, false));
    return true;
  }
  /** The device gives up the oldest request for `status`, which ends the queue pair: everything after it is flushed. */
  fail(status: number): void {
    const { workId } = this.#sending.shift()!;
    this.#complete({ workId, lengthBytes: 0, status }, false);
    this.#flush();
  }
  /** From now on everything that is posted completes at once, in vain. */
  #flush(): void {
    this.#isStopped = true;
    for (const { workId } of this.#sending.splice(0)) {
      this.#complete({ workId, lengthBytes: 0, status: FLUSHED }, false);
    }
    for (const { workId } of this.#receives.splice(0)) {
      this.#complete({ workId, lengthBytes: 0, status: FLUSHED }, true);
    }
  }
  /** As strict as a device: wakes the transport only for what it asked to be woken for, and once. */
  #complete(completion: Completion, isPacket: boolean): void {
    this.#done.push(completion);
    if (this.#armed < (isPacket ? FOR_PACKETS : FOR_EVERYTHING)) return;
    this.#armed = NOT_ARMED;
    this.#end.wake();
  }
  write(address: number, bytes: Uint8Array): void {
    this.#end.memory(address, bytes.length).set(bytes);
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
    this.#isPosted = true;
    if (!this.isDead) this.#flush();
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
  readonly links: MemoryLink[] = [];
  readonly #users = new Map<MemoryLink, LinkUser>();
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
    let moved = event !== undefined || this.links.some((link) => link.step());
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
    if (!peer.isClosed) this.#events.push(() => peer.isClosed || this.#users.get(peer)?.onDisconnected(0));
  }

  /** Two ends of one connection, which from now on move. */
  pair(near: MemoryLink, far: MemoryLink): void {
    near.peer = far;
    far.peer = near;
    this.links.push(near, far);
  }

  #join(address: string, user: LinkUser, network: MemoryNetwork): void {
    const accept = this.#listeners.get(address);
    const far = accept?.("memory:peer", { cancel: () => {} }) ?? null;
    if (far === null) return user.onFailed(-111);
    const make = ({ landing }: LinkUser, owner: MemoryNetwork) =>
      new MemoryLink(this, { landing, memory: owner.memory, wake: () => owner.isWoken = true });
    const near = make(user, network);
    const other = make(far, this.#makers.get(address)!);
    this.pair(near, other);
    this.#users.set(near, user).set(other, far);
    far.onEstablished(other, near.offer);
    user.onEstablished(near, other.offer);
  }
}

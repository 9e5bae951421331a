/**
 * A link of a real queue pair: protection domain, registrations, completion queue and queue pair of one connection.
 *
 * The domain is the connection's own, so that the peer reaches nothing but what was registered in it for remote access: its
 * landing. The whole pool is registered in it once more, for this end to send from; the peer has no access to that. It is
 * when the connection stands: to pin so much takes milliseconds, which attempts in vain are not to cost, one after the other.
 *
 * @module
 */

import { assert } from "../../base/assert.ts";
import type { CmId } from "../../../ffi/rdmacm/cm_id.ts";
import type { CompletionChannel } from "../../../ffi/verbs/completion_channel.ts";
import { CompletionQueue } from "../../../ffi/verbs/completion_queue.ts";
import type { VerbsContext } from "../../../ffi/verbs/device.ts";
import { VERBS_LAYOUT } from "../../../ffi/verbs/layout.ts";
import { RdmaUnavailable } from "../../../ffi/verbs/library.ts";
import { MemoryRegion } from "../../../ffi/verbs/memory_region.ts";
import { ProtectionDomain } from "../../../ffi/verbs/protection_domain.ts";
import { makeQueuePair, QueuePair } from "../../../ffi/verbs/queue_pair.ts";
import { errnoName } from "../../../ffi/libc/errno.ts";
import type { HeldMemory } from "../../../ffi/libc/held_memory.ts";
import { formatSocketAddress } from "../../io/socket_address.ts";
import { CloseReason } from "../close_reason.ts";
import type { Landing } from "./landing_memory.ts";
import type { LinkDescription } from "./link_description.ts";
import { RECEIVE_COUNT, SEND_REQUEST_COUNT } from "./link.ts";
import { type Offer, PACKET_BYTES, PAGE_BYTES } from "./packet.ts";
import type { DeviceInUse, LinkHost, SendMemory, StackLink } from "./rdma_stack.ts";

/** Requests posted with one call. */
const CHAIN_LENGTH = 128;
/** Packets up to this long take their bytes along in the request, where the device can do that. */
const INLINE_BYTES = 256;
const EIO = -CloseReason.IO_ERROR;
/** A completion queue has slack: a device may be late to notice that entries were taken. */
const SLACK = 64;

/** What the completion channel has been asked to tell of. */
const NOT_ARMED = 0;
const FOR_PACKETS = 1;
const FOR_EVERYTHING = 2;

/** The device of a link. */
export interface LinkDevice extends DeviceInUse {
  readonly context: VerbsContext;
  readonly channel: CompletionChannel;
}

/** See the module's description. */
export class VerbsLink implements StackLink {
  readonly inlineBytes: number;
  readonly offer: Offer;
  readonly #id: CmId;
  readonly #device: LinkDevice;
  readonly #host: LinkHost;
  readonly #domain: ProtectionDomain;
  readonly #memory: SendMemory;
  /** Null until the connection stands. */
  #pool: MemoryRegion | null = null;
  readonly #packets: MemoryRegion;
  readonly #landing: MemoryRegion;
  readonly #queue: CompletionQueue;
  readonly #pair: QueuePair;
  #peer: Offer | null = null;
  readonly #lent: Landing;
  #armed = NOT_ARMED;
  #isStopped = false;
  #isClosed = false;
  #released: () => void = () => undefined;
  /** An errno of a chain that had to be posted because it was full. */
  #postResult = 0;
  #description: LinkDescription | null = null;

  /** Throws `RdmaUnavailable`; nothing is left behind then. */
  constructor(id: CmId, device: LinkDevice, memory: SendMemory, landing: Landing, host: LinkHost) {
    this.#id = id;
    this.#device = device;
    this.#host = host;
    this.#lent = landing;
    this.#memory = memory;
    const made: { close(): number }[] = [];
    const keep = <T extends { close(): number }>(object: T): T => {
      made.push(object);
      return object;
    };
    try {
      this.#domain = keep(new ProtectionDomain(device.context));
      const { IBV_ACCESS_LOCAL_WRITE: LOCAL, IBV_ACCESS_REMOTE_WRITE: REMOTE } = VERBS_LAYOUT;
      this.#packets = keep(new MemoryRegion(this.#domain, landing.packetAddress, landing.packets.length, LOCAL));
      const landingBytes = landing.pageCount * PAGE_BYTES;
      this.#landing = keep(new MemoryRegion(this.#domain, landing.address, landingBytes, LOCAL | REMOTE));
      const capacity = SEND_REQUEST_COUNT + RECEIVE_COUNT + SLACK;
      this.#queue = keep(new CompletionQueue(device.context, capacity, device.channel));
      const limits = { sendRequests: SEND_REQUEST_COUNT, receiveRequests: RECEIVE_COUNT, inlineBytes: INLINE_BYTES };
      const create = (attributes: HeldMemory) => id.createQueuePair(this.#domain, attributes);
      const { address, inlineBytes } = makeQueuePair(this.#queue, limits, create);
      if (address < 0) throw new RdmaUnavailable("failed", `rdma_create_qp failed: ${errnoName(address)}`);
      this.#pair = new QueuePair(device.context, address, CHAIN_LENGTH);
      this.inlineBytes = inlineBytes;
    } catch (error) {
      for (const object of made.reverse()) object.close();
      throw error;
    }
    this.offer = {
      receives: RECEIVE_COUNT,
      landingAddress: landing.address,
      landingPages: landing.pageCount,
      landingKey: this.#landing.remoteKey,
    };
    for (let i = 0; i < RECEIVE_COUNT; i++) this.addReceive(i, landing.packetAddress + i * PACKET_BYTES, PACKET_BYTES);
    this.post();
  }

  begin(peer: Offer): void {
    const { baseAddress, totalBytes } = this.#memory;
    this.#pool = new MemoryRegion(this.#domain, baseAddress, totalBytes, VERBS_LAYOUT.IBV_ACCESS_LOCAL_WRITE);
    this.#peer = peer;
    this.#description = this.#describe();
  }

  /** As it was when the connection stood: nothing is asked of a queue pair that another thread may be destroying. */
  get description(): LinkDescription {
    const description = this.#description;
    assert(description !== null, "a link is described once it stands");
    return description;
  }

  addWrite(address: number, lengthBytes: number, remotePage: number): void {
    const { landingAddress, landingKey } = this.#peer!;
    const remoteAddress = landingAddress + remotePage * PAGE_BYTES;
    this.#roomToSend();
    this.#pair.sends.addWrite(address, lengthBytes, this.#pool!.localKey, remoteAddress, landingKey);
  }

  addSend(workId: number, address: number, lengthBytes: number): void {
    this.#roomToSend();
    this.#pair.sends.addSend(workId, address, lengthBytes, this.#packets.localKey, lengthBytes <= this.inlineBytes);
  }

  addReceive(workId: number, address: number, lengthBytes: number): void {
    if (this.#pair.receives.isFull) this.#postResult ||= this.#pair.postReceives();
    this.#pair.receives.add(workId, address, lengthBytes, this.#packets.localKey);
  }

  post(): number {
    // Receives first: what is sent may bring an answer.
    this.#postResult ||= this.#pair.postReceives();
    this.#postResult ||= this.#pair.postSends();
    return this.#postResult;
  }

  poll(): number {
    return this.#queue.poll();
  }

  workId(index: number): number {
    return this.#queue.workId(index);
  }

  status(index: number): number {
    return this.#queue.status(index);
  }

  byteLength(index: number): number {
    return this.#queue.byteLength(index);
  }

  arm(everything: boolean): boolean {
    const wanted = everything ? FOR_EVERYTHING : FOR_PACKETS;
    if (this.#armed >= wanted || this.#isClosed) return false;
    this.#armed = wanted;
    if (everything) this.#queue.arm();
    else this.#queue.armSolicited();
    return true;
  }

  get queueAddress(): number {
    return this.#queue.address;
  }

  get isArmed(): boolean {
    return this.#armed !== NOT_ARMED;
  }

  disarmed(): void {
    this.#armed = NOT_ARMED;
  }

  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    // Puts the queue pair into its error state too.
    this.#id.disconnect();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.stop();
    this.#id.destroyQueuePair();
    this.#letGo();
  }

  abandon(released: () => void): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.stop();
    this.#released = released;
    this.#id.destroyQueuePairAside();
    this.#host.ending(this);
  }

  progressEnd(): boolean {
    if (this.#id.hasQueuePair) return false;
    this.#letGo();
    this.#released();
    return true;
  }

  /** LIFETIME: from when the queue pair is destroyed and the registrations are taken back, no device reaches the memory. */
  #letGo(): void {
    // Closing the queue waits for its events to be acknowledged, which is done when they are taken.
    this.#device.drainEvents();
    for (const object of [this.#landing, this.#packets, this.#pool, this.#queue, this.#domain]) {
      const result = object?.close() ?? 0;
      // A device that is being removed answers nothing but EIO. The kernel ends by itself what was made on it, in a moment.
      assert(result === 0 || result === EIO, "What a link made can be closed", result);
      if (result === EIO) this.#lent.mayStillBeReached();
    }
    this.#id.close();
    this.#host.closed();
  }

  #roomToSend(): void {
    if (this.#pair.sends.isFull) this.post();
  }

  #describe(): LinkDescription {
    const id = this.#id;
    const groups = Array.from({ length: 8 }, (_, i) => (id.gid[2 * i] << 8 | id.gid[2 * i + 1]).toString(16));
    return {
      device: this.#device.context.name,
      gid: groups.join(":"),
      mtuBytes: this.#pair.pathMtuBytes(),
      path: `${formatSocketAddress(id.localAddress)} -> ${formatSocketAddress(id.peerAddress)}`,
      registeredBytes: this.#memory.totalBytes + this.#landing.lengthBytes + this.#packets.lengthBytes,
    };
  }
}

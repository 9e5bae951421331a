/**
 * A connection manager's id: a listener, or one end of a connection with its queue pair.
 *
 * Calls return 0 or a negative errno; what they begin ends with an event on the channel.
 *
 * @module
 */

import { HeldMemory, readAddress } from "../libc/held_memory.ts";
import { resultOrErrno } from "../libc/library.ts";
import type { ProtectionDomain } from "../verbs/protection_domain.ts";
import type { CmEventChannel } from "./event_channel.ts";
import { RDMACM_LAYOUT as AT } from "./layout.ts";
import { rdmaCm } from "./library.ts";

/** Longest address of a socket in `struct rdma_addr`. */
const SOCKADDR_BYTES = 28;
/** Retries of a packet that is not acknowledged, 3 bits. The core's heartbeat is what decides; this is the device's own end. */
const RETRY_COUNT = 7;
/** Retries when the receiver has posted nothing. Credits make that impossible between sound peers, so few; 7 would mean for ever. */
const RECEIVER_NOT_READY_RETRY_COUNT = 6;

/** Owns one `struct rdma_cm_id` and the queue pair made for it. */
export class CmId {
  readonly address: number;
  readonly #pointer: Deno.PointerObject;
  /** LIFETIME: read by the library during `connect` and `accept`. */
  readonly #parameters = new HeldMemory(AT["sizeof(rdma_conn_param)"]);
  #hasQueuePair = false;
  #isClosed = false;

  /** @param address of an id that came with an event, or that `create` has made */
  constructor(address: number) {
    this.address = address;
    this.#pointer = Deno.UnsafePointer.create(BigInt(address))!;
  }

  /** A new id whose events come over `channel`; a negative errno when there is none to be had. */
  static create(channel: CmEventChannel): CmId | number {
    const out = new HeldMemory(8);
    const result = resultOrErrno(rdmaCm().rdma_create_id(channel.pointer, out.pointer, null, AT.RDMA_PS_TCP));
    return result < 0 ? result : new CmId(Number(out.view.getBigUint64(0, true)));
  }

  bind(socketAddress: Uint8Array<ArrayBuffer>): number {
    return resultOrErrno(rdmaCm().rdma_bind_addr(this.#pointer, socketAddress));
  }

  listen(backlog: number): number {
    return resultOrErrno(rdmaCm().rdma_listen(this.#pointer, backlog));
  }

  /** The port that is listened on. */
  get port(): number {
    const port = rdmaCm().rdma_get_src_port(this.#pointer);
    return (port & 0xff) << 8 | port >> 8;
  }

  /** Others may listen at the same address once this one is gone, without waiting. */
  allowReuse(): number {
    const value = new Uint8Array(new Int32Array([1]).buffer);
    return resultOrErrno(
      rdmaCm().rdma_set_option(this.#pointer, AT.RDMA_OPTION_ID, AT.RDMA_OPTION_ID_REUSEADDR, value, 4n),
    );
  }

  /** How long the device waits for an acknowledgement before it sends again: 4.096 µs times 2 to the power of `exponent`. */
  setAckTimeout(exponent: number): number {
    const value = new Uint8Array([exponent]);
    return resultOrErrno(
      rdmaCm().rdma_set_option(this.#pointer, AT.RDMA_OPTION_ID, AT.RDMA_OPTION_ID_ACK_TIMEOUT, value, 1n),
    );
  }

  resolveAddress(socketAddress: Uint8Array<ArrayBuffer>, limitMs: number): number {
    return resultOrErrno(rdmaCm().rdma_resolve_addr(this.#pointer, null, socketAddress, limitMs));
  }

  resolveRoute(limitMs: number): number {
    return resultOrErrno(rdmaCm().rdma_resolve_route(this.#pointer, limitMs));
  }

  /** Address of the `struct ibv_context` of the device that the address belongs to; 0 before that is known. */
  get context(): number {
    return readAddress(this.#pointer, AT["rdma_cm_id.verbs"]);
  }

  /** Sixteen bytes. */
  get gid(): Uint8Array {
    return this.#copy(AT["rdma_cm_id.route.addr.addr.ibaddr.sgid"], 16);
  }

  /** A `struct sockaddr`. */
  get localAddress(): Uint8Array<ArrayBuffer> {
    return this.#copy(AT["rdma_cm_id.route.addr.src_addr"], SOCKADDR_BYTES);
  }

  get peerAddress(): Uint8Array<ArrayBuffer> {
    return this.#copy(AT["rdma_cm_id.route.addr.dst_addr"], SOCKADDR_BYTES);
  }

  /** Makes the queue pair. Its address, or a negative errno. */
  createQueuePair(domain: ProtectionDomain, attributes: HeldMemory): number {
    const result = resultOrErrno(rdmaCm().rdma_create_qp(this.#pointer, domain.pointer, attributes.pointer));
    if (result < 0) return result;
    this.#hasQueuePair = true;
    return readAddress(this.#pointer, AT["rdma_cm_id.qp"]);
  }

  connect(privateData: HeldMemory): number {
    return resultOrErrno(rdmaCm().rdma_connect(this.#pointer, this.#connectionParameters(privateData)));
  }

  accept(privateData: HeldMemory): number {
    return resultOrErrno(rdmaCm().rdma_accept(this.#pointer, this.#connectionParameters(privateData)));
  }

  reject(): number {
    return resultOrErrno(rdmaCm().rdma_reject(this.#pointer, null, 0));
  }

  disconnect(): number {
    return resultOrErrno(rdmaCm().rdma_disconnect(this.#pointer));
  }

  /** From when it returns the device neither reads nor writes memory for this queue pair. */
  destroyQueuePair(): void {
    if (!this.#hasQueuePair) return;
    this.#hasQueuePair = false;
    rdmaCm().rdma_destroy_qp(this.#pointer);
  }

  /**
   * The same without waiting: a device may take seconds, because a packet is still queued for a machine that is gone.
   * `hasQueuePair` tells when it is done. Until then nothing else may be asked of the id.
   */
  destroyQueuePairAside(): void {
    if (!this.#hasQueuePair) return;
    // The promise is of no use: a data plane does not return to its event loop. The library clears the field when it is done.
    rdmaCm().destroyQueuePairAside(this.#pointer);
    this.#hasQueuePair = false;
  }

  /** Whether the queue pair exists, as the library has it. */
  get hasQueuePair(): boolean {
    return readAddress(this.#pointer, AT["rdma_cm_id.qp"]) !== 0;
  }

  /** 0 or a negative errno. After what was made with it, but for its queue pair. */
  close(): number {
    if (this.#isClosed) return 0;
    this.#isClosed = true;
    this.destroyQueuePair();
    return resultOrErrno(rdmaCm().rdma_destroy_id(this.#pointer));
  }

  #copy(offset: number, lengthBytes: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(lengthBytes);
    new Deno.UnsafePointerView(this.#pointer).copyInto(bytes, offset);
    return bytes;
  }

  #connectionParameters(privateData: HeldMemory): Deno.PointerObject {
    const { view } = this.#parameters;
    this.#parameters.setAddress(AT["rdma_conn_param.private_data"], privateData.address);
    view.setUint8(AT["rdma_conn_param.private_data_len"], privateData.bytes.length);
    // Nobody reads the peer's memory, so none of the resources for that are asked for.
    view.setUint8(AT["rdma_conn_param.responder_resources"], 0);
    view.setUint8(AT["rdma_conn_param.initiator_depth"], 0);
    view.setUint8(AT["rdma_conn_param.flow_control"], 1);
    view.setUint8(AT["rdma_conn_param.retry_count"], RETRY_COUNT);
    view.setUint8(AT["rdma_conn_param.rnr_retry_count"], RECEIVER_NOT_READY_RETRY_COUNT);
    return this.#parameters.pointer;
  }
}

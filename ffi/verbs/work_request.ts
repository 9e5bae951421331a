/**
 * Chains of work requests as C has them, built in memory that is used again and again: requests follow each other in an
 * array, each linked to the next, and one call posts them all.
 *
 * @module
 */

import { HeldMemory } from "../libc/held_memory.ts";
import { VERBS_LAYOUT as AT } from "./layout.ts";

const SEND_BYTES = AT["sizeof(ibv_send_wr)"];
const RECEIVE_BYTES = AT["sizeof(ibv_recv_wr)"];
const PIECE_BYTES = AT["sizeof(ibv_sge)"];

/** Requests to send. The provider copies what it is given, so the chain is free again once it was posted. */
export class SendChain {
  readonly capacity: number;
  count = 0;
  readonly #requests: HeldMemory;
  readonly #pieces: HeldMemory;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#requests = new HeldMemory(SEND_BYTES * capacity);
    this.#pieces = new HeldMemory(PIECE_BYTES * capacity);
    for (let i = 0; i < capacity; i++) {
      this.#requests.setAddress(i * SEND_BYTES + AT["ibv_send_wr.sg_list"], this.#pieces.address + i * PIECE_BYTES);
      this.#requests.view.setInt32(i * SEND_BYTES + AT["ibv_send_wr.num_sge"], 1, true);
    }
  }

  /** Address of the first request. */
  get address(): number {
    return this.#requests.address;
  }

  get isFull(): boolean {
    return this.count === this.capacity;
  }

  /** Adds an RDMA WRITE without a completion of its own. */
  addWrite(address: number, lengthBytes: number, localKey: number, remoteAddress: number, remoteKey: number): void {
    const at = this.#add(0, AT.IBV_WR_RDMA_WRITE, 0, address, lengthBytes, localKey);
    this.#requests.setAddress(at + AT["ibv_send_wr.wr.rdma.remote_addr"], remoteAddress);
    this.#requests.view.setUint32(at + AT["ibv_send_wr.wr.rdma.rkey"], remoteKey, true);
  }

  /**
   * Adds a SEND that completes with `workId`, and wakes a peer that waits for packets only. Inline: the bytes are taken from
   * memory when it is posted.
   */
  addSend(workId: number, address: number, lengthBytes: number, localKey: number, inline: boolean): void {
    const flags = AT.IBV_SEND_SIGNALED | AT.IBV_SEND_SOLICITED | (inline ? AT.IBV_SEND_INLINE : 0);
    this.#add(workId, AT.IBV_WR_SEND, flags, address, lengthBytes, localKey);
  }

  /** Empties the chain. */
  clear(): void {
    this.count = 0;
  }

  #add(workId: number, opcode: number, flags: number, address: number, lengthBytes: number, localKey: number): number {
    const requests = this.#requests;
    const at = this.count * SEND_BYTES;
    if (this.count > 0) requests.setAddress(at - SEND_BYTES + AT["ibv_send_wr.next"], requests.address + at);
    requests.setAddress(at + AT["ibv_send_wr.wr_id"], workId);
    requests.setAddress(at + AT["ibv_send_wr.next"], 0);
    requests.view.setInt32(at + AT["ibv_send_wr.opcode"], opcode, true);
    requests.view.setInt32(at + AT["ibv_send_wr.send_flags"], flags, true);
    const piece = this.count * PIECE_BYTES;
    this.#pieces.setAddress(piece + AT["ibv_sge.addr"], address);
    this.#pieces.view.setUint32(piece + AT["ibv_sge.length"], lengthBytes, true);
    this.#pieces.view.setUint32(piece + AT["ibv_sge.lkey"], localKey, true);
    this.count++;
    return at;
  }
}

/** Requests to receive. */
export class ReceiveChain {
  readonly capacity: number;
  count = 0;
  readonly #requests: HeldMemory;
  readonly #pieces: HeldMemory;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#requests = new HeldMemory(RECEIVE_BYTES * capacity);
    this.#pieces = new HeldMemory(PIECE_BYTES * capacity);
    for (let i = 0; i < capacity; i++) {
      this.#requests.setAddress(i * RECEIVE_BYTES + AT["ibv_recv_wr.sg_list"], this.#pieces.address + i * PIECE_BYTES);
      this.#requests.view.setInt32(i * RECEIVE_BYTES + AT["ibv_recv_wr.num_sge"], 1, true);
    }
  }

  /** Address of the first request. */
  get address(): number {
    return this.#requests.address;
  }

  get isFull(): boolean {
    return this.count === this.capacity;
  }

  /** Adds a receive that completes with `workId`. */
  add(workId: number, address: number, lengthBytes: number, localKey: number): void {
    const requests = this.#requests;
    const at = this.count * RECEIVE_BYTES;
    if (this.count > 0) requests.setAddress(at - RECEIVE_BYTES + AT["ibv_recv_wr.next"], requests.address + at);
    requests.setAddress(at + AT["ibv_recv_wr.wr_id"], workId);
    requests.setAddress(at + AT["ibv_recv_wr.next"], 0);
    const piece = this.count * PIECE_BYTES;
    this.#pieces.setAddress(piece + AT["ibv_sge.addr"], address);
    this.#pieces.view.setUint32(piece + AT["ibv_sge.length"], lengthBytes, true);
    this.#pieces.view.setUint32(piece + AT["ibv_sge.lkey"], localKey, true);
    this.count++;
  }

  /** Empties the chain. */
  clear(): void {
    this.count = 0;
  }
}

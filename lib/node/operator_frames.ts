/**
 * What a storage node's data plane says to operators. Their requests are not answered here: they go to the main isolate, and the replies come
 * back by mailbox.
 *
 * @module
 */

import type { BufferPool } from "../io/buffer_pool.ts";
import type { Refusal, Welcome } from "../wire/bodies.ts";
import { encodeBody } from "../wire/body_codec.ts";
import { Message, MessageType } from "../wire/message.ts";
import type { ConnectionTable } from "./connection_table.ts";
import type { ControlReply, WorkerReport } from "./worker_messages.ts";

/** Requests of one operator that may wait for an answer; the main isolate keeps them in memory. */
const PENDING_LIMIT = 16;
/** Of all operators together: fewer than messages that may wait on their way to the data plane, so that every answer finds room. */
const MOST_PENDING = 128;
/** Largest control payload: an operator's or a peer's JSON. */
export const CONTROL_PAYLOAD_LIMIT_BYTES = 1 << 20;

/** The data plane. */
export interface OperatorFramesHost {
  readonly pool: BufferPool;
  freeSlot(slot: number): void;
  sendFrame(connection: number, message: Message, payload: Uint8Array | null): void;
}

/** See the module comment. */
export class OperatorFrames {
  readonly #host: OperatorFramesHost;
  readonly #connections: ConnectionTable;
  readonly #instance: string;
  readonly #report: (report: WorkerReport) => void;
  readonly #reply = new Message();
  /** Requests that the main isolate has not answered. */
  #pendingCount = 0;

  constructor(
    host: OperatorFramesHost,
    connections: ConnectionTable,
    instance: string,
    report: (report: WorkerReport) => void,
  ) {
    this.#host = host;
    this.#connections = connections;
    this.#instance = instance;
    this.#report = report;
  }

  /** Answers an operator's HELLO. */
  welcome(connection: number, requestId: number, protocol: number, features: number): void {
    const welcome: Welcome = {
      protocol,
      features,
      instance: this.#instance,
      creditRequests: PENDING_LIMIT,
      creditBytes: CONTROL_PAYLOAD_LIMIT_BYTES,
    };
    const message = this.#answer(MessageType.WELCOME, requestId);
    this.#host.sendFrame(connection, message, encodeBody(message.type, welcome));
  }

  /** Refuses a request, or a HELLO of whomever. */
  refuse(connection: number, requestId: number, refusal: Refusal): void {
    const message = this.#answer(MessageType.REFUSE, requestId);
    this.#host.sendFrame(connection, message, encodeBody(message.type, refusal));
  }

  /** A frame of an operator. Takes over `slot`. */
  message(connection: number, message: Message, slot: number): void {
    const requestId = message.requestId;
    if (message.type === MessageType.PING) {
      this.#host.sendFrame(connection, this.#answer(MessageType.PONG, requestId), null);
      return;
    }
    if (message.type !== MessageType.CONTROL_REQUEST || slot < 0) {
      if (slot >= 0) this.#host.freeSlot(slot);
      this.refuse(connection, requestId, { code: "bad-request", message: "An operator sends CONTROL_REQUEST" });
      return;
    }
    if (this.#connections.pendingCount(connection) >= PENDING_LIMIT || this.#pendingCount >= MOST_PENDING) {
      this.#host.freeSlot(slot);
      const text =
        `At most ${PENDING_LIMIT} requests of one operator, and ${MOST_PENDING} in all, may wait for an answer`;
      this.refuse(connection, requestId, { code: "busy", message: text });
      return;
    }
    this.#connections.addPending(connection, 1);
    this.#pendingCount++;
    const text = new TextDecoder().decode(this.#host.pool.bytes(slot).slice(0, message.payloadLength));
    this.#host.freeSlot(slot);
    this.#report({ kind: "control", key: this.#connections.keys.keyOf(connection), requestId, text });
  }

  /** Sends an operator the main isolate's reply, unless the operator has gone meanwhile. */
  reply({ key, requestId, reply }: ControlReply): void {
    this.#pendingCount--;
    const connection = this.#connections.keys.connectionOf(key);
    if (connection === -1) return;
    this.#connections.addPending(connection, -1);
    let payload = new TextEncoder().encode(JSON.stringify(reply));
    if (payload.length > CONTROL_PAYLOAD_LIMIT_BYTES) {
      const error = { code: "internal", message: "The answer is too long for one frame; ask for less at a time" };
      payload = new TextEncoder().encode(JSON.stringify({ ok: false, error }));
    }
    this.#host.sendFrame(connection, this.#answer(MessageType.CONTROL_REPLY, requestId), payload);
  }

  #answer(type: number, requestId: number): Message {
    const message = this.#reply.reset(type);
    message.requestId = requestId;
    return message;
  }
}

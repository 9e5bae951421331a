/**
 * Speaks to a storage node: control frames on its ordinary TCP address.
 *
 * One request at a time is in flight; calls made meanwhile wait in order. Whatever the node sends is checked (header
 * CRC, payload CRC, shape of the envelope); what does not hold up closes the connection and becomes a ControlError.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { decodeHeader, encodeHeader, HEADER_BYTES, Message, MessageFlag, MessageType } from "../wire/message.ts";
import type { Refusal, Welcome } from "../wire/bodies.ts";
import { maxBodyBytes, parseBody } from "../wire/body_codec.ts";
import { checkAnswer, OUR_DIALECT } from "../wire/negotiate.ts";
import { type ControlClient, ControlError, type NodeOperations } from "./control_api.ts";
import { decodeReply } from "./control_reply.ts";
import { formatNodeAddress, type NodeAddress, parseNodeAddress } from "./node_address.ts";

/** How long to wait for a node. */
export interface NodeControlOptions {
  /** For the connection and the handshake. */
  readonly timeoutMs: number;
  /** For the answer to a request; `timeoutMs` if absent. */
  readonly requestTimeoutMs?: number;
  /** For requests that look at, make or erase a leg's device, which may be slow or have work before them; `requestTimeoutMs` if absent. */
  readonly deviceTimeoutMs?: number;
}

/** Requests that wait for a device that is not served. */
const DEVICE_REQUESTS: ReadonlySet<string> = new Set<keyof NodeOperations>([
  "leg.probe",
  "leg.create",
  "leg.replace",
  "leg.undoReplace",
  "leg.delete",
]);

interface Frame {
  readonly type: number;
  readonly requestId: number;
  readonly payload: Uint8Array;
}

/**
 * Connects to the storage node at `address` ("host:port").
 * @throws {ControlError} "bad-request" (no address), "unreachable", "timeout", "refused" (the node speaks another protocol).
 */
export async function connectNode(
  address: string,
  options: NodeControlOptions,
): Promise<ControlClient<NodeOperations>> {
  const target = parseNodeAddress(address);
  const connection = await openConnection(target, options.timeoutMs);
  const client = new NodeControlClient(connection, formatNodeAddress(target), options);
  try {
    await client.handshake();
  } catch (error) {
    client.close();
    throw error;
  }
  return client;
}

async function openConnection(target: NodeAddress, timeoutMs: number): Promise<Deno.Conn> {
  const name = formatNodeAddress(target);
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), timeoutMs);
  try {
    return await Deno.connect({ hostname: target.host, port: target.port, signal: abort.signal });
  } catch (error) {
    if (abort.signal.aborted) throw timedOut(name, "accept a connection", timeoutMs);
    throw new ControlError(
      "unreachable",
      `The storage node ${name} cannot be reached (${reasonOf(error)}). ` +
        `Is "brmr serve" running there, and is this the address it listens on?`,
    );
  } finally {
    clearTimeout(timer);
  }
}

class NodeControlClient implements ControlClient<NodeOperations> {
  readonly #connection: Deno.Conn;
  readonly #name: string;
  readonly #timeoutMs: number;
  readonly #requestTimeoutMs: number;
  readonly #deviceTimeoutMs: number;
  readonly #message = new Message();
  #nextRequestId = 1;
  #isClosed = false;
  /** Resolves when the request before has its answer, whatever that is. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(connection: Deno.Conn, name: string, options: NodeControlOptions) {
    this.#connection = connection;
    this.#name = name;
    this.#timeoutMs = options.timeoutMs;
    this.#requestTimeoutMs = options.requestTimeoutMs ?? options.timeoutMs;
    this.#deviceTimeoutMs = options.deviceTimeoutMs ?? this.#requestTimeoutMs;
  }

  async handshake(): Promise<void> {
    const hello = {
      protocol: OUR_DIALECT.newestProtocol,
      features: OUR_DIALECT.features,
      role: "control",
      senderName: `brmr control ${Deno.pid}`,
    };
    const frame = await this.#withTimeout(this.#timeoutMs, "answer the greeting", async () => {
      await this.#send(MessageType.HELLO, 0, hello);
      return await this.#receive();
    });
    const body = this.#parse(frame);
    if (frame.type === MessageType.REFUSE) {
      const { message } = body as Refusal;
      throw new ControlError("refused", `The storage node ${this.#name} refused this command: ${message}`);
    }
    if (frame.type !== MessageType.WELCOME) throw this.#notANode("its greeting makes no sense");
    const agreement = checkAnswer(OUR_DIALECT, body as Welcome);
    if (!agreement.ok) {
      throw new ControlError(
        "refused",
        `This command cannot talk to the storage node ${this.#name}: ${agreement.message}`,
      );
    }
  }

  // deno-lint-ignore no-explicit-any -- the interface types the results; here they are what the node answered
  request(op: string, request: unknown): Promise<any> {
    const answer = this.#turn.then(() => this.#requestNow(op, request));
    this.#turn = answer.catch(() => undefined);
    return answer;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#connection.close();
  }

  async #requestNow(op: string, request: unknown): Promise<unknown> {
    if (this.#isClosed) {
      throw new ControlError("unreachable", `The connection to the storage node ${this.#name} is closed. Try again.`);
    }
    const requestId = this.#nextRequestId++;
    const timeoutMs = DEVICE_REQUESTS.has(op) ? this.#deviceTimeoutMs : this.#requestTimeoutMs;
    const frame = await this.#withTimeout(timeoutMs, `answer "${op}"`, async () => {
      await this.#send(MessageType.CONTROL_REQUEST, requestId, { op, ...(request as Record<string, unknown>) });
      return await this.#receive();
    });
    if (frame.type !== MessageType.CONTROL_REPLY || frame.requestId !== requestId) {
      this.close();
      throw this.#notANode("it answered something that was not asked");
    }
    return decodeReply(this.#parse(frame), `storage node ${this.#name}`);
  }

  async #send(type: number, requestId: number, body: unknown): Promise<void> {
    const payload = new TextEncoder().encode(JSON.stringify(body));
    if (payload.length > maxBodyBytes(type)) {
      throw new ControlError(
        "bad-request",
        `The request is ${payload.length} bytes long, ${maxBodyBytes(type)} are allowed. Ask for less at once.`,
      );
    }
    const frame = new Uint8Array(HEADER_BYTES + payload.length);
    const message = this.#message.reset(type);
    message.requestId = requestId;
    message.payloadLength = payload.length;
    message.payloadCrc = crc32(payload);
    encodeHeader(message, new DataView(frame.buffer), 0);
    frame.set(payload, HEADER_BYTES);
    for (let sent = 0; sent < frame.length;) sent += await this.#connection.write(frame.subarray(sent));
  }

  async #receive(): Promise<Frame> {
    const header = await this.#readExactly(HEADER_BYTES);
    const message = this.#message;
    const fault = decodeHeader(new DataView(header.buffer), 0, message);
    if (fault !== null) throw this.#notANode(`the ${fault} of its frame is wrong`);
    const { type, requestId, payloadCrc, flags } = message;
    const payload = await this.#readExactly(message.payloadLength);
    const isChecked = payload.length > 0 && (flags & MessageFlag.NO_PAYLOAD_CRC) === 0;
    if (isChecked && crc32(payload) !== payloadCrc) {
      throw new ControlError(
        "unreachable",
        `A frame from the storage node ${this.#name} arrived damaged. Try again; if it stays, check the network.`,
      );
    }
    return { type, requestId, payload };
  }

  async #readExactly(lengthBytes: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(lengthBytes);
    for (let have = 0; have < lengthBytes;) {
      const count = await this.#connection.read(bytes.subarray(have));
      if (count === null) {
        throw new ControlError(
          "unreachable",
          `The storage node ${this.#name} closed the connection. Does it run, and is it a brmr of this version?`,
        );
      }
      have += count;
    }
    return bytes;
  }

  /** Runs `work`; whatever fails in it, a late answer included, leaves the stream out of step, so the connection is closed. */
  async #withTimeout<T>(timeoutMs: number, what: string, work: () => Promise<T>): Promise<T> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.close();
    }, timeoutMs);
    try {
      return await work();
    } catch (error) {
      if (isLate) throw timedOut(this.#name, what, timeoutMs);
      this.close();
      if (error instanceof ControlError) throw error;
      throw new ControlError(
        "unreachable",
        `The connection to the storage node ${this.#name} broke (${reasonOf(error)}). Is the node up?`,
      );
    } finally {
      clearTimeout(timer);
    }
  }

  /** The validated body of a frame. */
  #parse(frame: Frame): unknown {
    const parsed = parseBody(frame.type, frame.payload);
    if (parsed.ok) return parsed.body;
    this.close();
    throw this.#notANode(parsed.message);
  }

  #notANode(detail: string): ControlError {
    return new ControlError(
      "unreachable",
      `What listens on ${this.#name} is not a brmr storage node, or of another version (${detail}). Check the address.`,
    );
  }
}

function timedOut(name: string, what: string, timeoutMs: number): ControlError {
  return new ControlError(
    "timeout",
    `The storage node ${name} did not ${what} within ${timeoutMs} ms. Is it overloaded, or the network cut?`,
  );
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
